package pipeline

import (
	"fmt"
	"math"
	"testing"
)

func values(v ...float32) []Value {
	var out []Value
	for _, x := range v {
		out = append(out, Value{x, x == x})
	}
	return out
}

var nan = float32(math.NaN())

func TestPairsOfForecasts(t *testing.T) {
	p := NewPairs([]float32{2, 4}, 1, true) // two steps ahead of one target
	p.Add("a", 1, 1, []float32{10, 20}, []float32{12, 24})
	p.Add("b", 1, 1, []float32{1, 1}, nil)
	p.Arrived("a", 2, values(12), 7)
	if n := p.Sums().Pairs; n != 0 {
		t.Fatalf("%d pairs before the horizon is over", n)
	}
	p.Arrived("b", 2, values(1), 7)
	p.Arrived("b", 3, values(1), 8)
	p.Arrived("a", 3, values(28), 9)
	q := p.Sums()
	// A: |10-12|/2 and |20-28|/4, mean 1.5. B: 0 and |24-28|/4, mean 0.5.
	if q.Pairs != 1 || q.SumA != 1.5 || q.SumB != 0.5 || q.SquareA != 2.25 || q.SquareB != 0.25 || q.MaxA != 1.5 || q.MaxB != 0.5 {
		t.Errorf("sums %+v", q)
	}
	// |10-12|/2 and |20-24|/4, mean 1.
	if q.Disagreement != 1 || q.Skipped != 1 || q.BadA != 0 || q.BadB != 1 || q.FirstS != 9 || q.LastS != 9 {
		t.Errorf("sums %+v", q)
	}
	if p.waiting != 0 || len(p.streams) != 0 || len(p.queue) != 0 {
		t.Errorf("%d outputs still wait", p.waiting)
	}
}

func TestPairsNeedEveryTruth(t *testing.T) {
	for name, arrive := range map[string]func(p *Pairs){
		"a value is missing": func(p *Pairs) { p.Arrived("a", 2, values(nan), 0); p.Arrived("a", 3, values(1), 0) },
		"a tick is missing":  func(p *Pairs) { p.Arrived("a", 3, values(1), 0); p.Arrived("a", 4, values(1), 0) },
	} {
		p := NewPairs([]float32{1, 1}, 1, true)
		p.Add("a", 1, 1, []float32{1, 1}, []float32{2, 2})
		arrive(p)
		if q := p.Sums(); q.Pairs != 0 || q.Skipped != 0 || p.waiting != 0 {
			t.Errorf("%s: sums %+v, %d wait", name, q, p.waiting)
		}
	}
}

func TestPairsOfLabels(t *testing.T) {
	p := NewPairs([]float32{5}, 1, false)
	p.Add("a", 100, 1, []float32{1}, []float32{3})
	p.Add("a", 200, 2, []float32{nan}, []float32{3})
	if p.Label("a", 101, []float32{1}, 0) || p.Label("b", 100, []float32{1}, 0) || p.Label("a", 100, []float32{1, 2}, 0) {
		t.Error("a label of something else was taken")
	}
	if !p.Label("a", 100, []float32{2.5}, 4) || p.Label("a", 100, []float32{2.5}, 4) {
		t.Error("a label counts once")
	}
	p.Label("a", 200, []float32{3}, 5)
	q := p.Sums()
	if q.Pairs != 1 || q.SumA != 1.5 || q.SumB != 0.5 || q.BadA != 1 || q.Skipped != 1 || q.Disagreement != 2 {
		t.Errorf("sums %+v", q)
	}
}

func TestPairsAreBounded(t *testing.T) {
	for _, arrives := range []bool{true, false} {
		p := NewPairs([]float32{1}, 1, arrives)
		for i := range maxWaiting { // all at one tick
			p.Add(fmt.Sprint(i%7), int64(i), 1, []float32{1}, []float32{1})
		}
		if p.waiting != maxWaiting || len(p.queue) != maxWaiting/2 {
			t.Fatalf("%d outputs and %d forecasts wait, want %d and %d", p.waiting, len(p.queue), maxWaiting, maxWaiting/2)
		}
		oldest := p.queue[0].t
		if arrives != (oldest == 0) {
			t.Errorf("the oldest is of %d; truth arrives by itself: %v", oldest, arrives)
		}
	}
}

// TestPairsForgetSilentStreams: one that never gets its truth holds nothing up.
func TestPairsForgetSilentStreams(t *testing.T) {
	for _, arrives := range []bool{true, false} {
		p := NewPairs([]float32{1}, 1, arrives)
		p.Add("silent", 0, 0, []float32{1}, []float32{1})
		for i := range 1000 {
			tick := uint64(i + 1)
			p.Arrived("a", tick, values(1), 0)
			p.Add("a", int64(tick), tick, []float32{1}, []float32{1})
			if !arrives {
				p.Label("a", int64(tick), []float32{1}, 0)
			}
		}
		if len(p.queue) > 70 || (p.streams["silent"] == nil) != arrives {
			t.Errorf("%d forecasts kept, truth arrives by itself: %v", len(p.queue), arrives)
		}
	}
}

func TestPairsFitTheirMessage(t *testing.T) {
	p := NewPairs([]float32{1}, 1, false)
	for i := range 70_000 { // more than a counter of 16 bits
		p.Add("a", int64(i), uint64(i), []float32{math.MaxFloat32}, nil)
	}
	p.Add("a", -1, 1, []float32{math.MaxFloat32}, []float32{-math.MaxFloat32})
	p.Label("a", -1, []float32{-math.MaxFloat32}, 1)
	if b, err := p.Sums().AppendBinary(nil); err != nil {
		t.Errorf("AppendBinary = %x, %v", b, err)
	}
}
