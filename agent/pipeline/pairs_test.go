package pipeline

import (
	"fmt"
	"math"
	"slices"
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

// paired is Pairs and its Sums, of outputs in std.
func paired(std []float32, targets int, arrives bool) (*Pairs, *Sums) {
	s := NewSums(std, len(std))
	return NewPairs(s, targets, arrives), s
}

// say is what both versions say of a stream at a tick, whose time is the same.
func say(p *Pairs, stream string, tick uint64, a, b []float32, last ...float32) {
	p.Add(Name{Stream: stream, T: int64(tick)}, tick, p.sums.Said(a, b), values(last...))
}

func TestPairsOfForecasts(t *testing.T) {
	p, s := paired([]float32{2, 4}, 1, true) // two steps ahead of one target
	type told struct {
		lane     int
		e, naive float64
	}
	var heard []told
	s.Told = func(lane int, e, naive float64) { heard = append(heard, told{lane, e, naive}) }
	say(p, "a", 1, []float32{10, 20}, []float32{12, 24}, 16)
	say(p, "b", 1, []float32{1, 1}, nil, nan)
	p.Arrived("a", 2, values(12), 7)
	if n := s.Quality().Pairs; n != 0 {
		t.Fatalf("%d pairs before the horizon is over", n)
	}
	p.Arrived("b", 2, values(1), 7)
	p.Arrived("b", 3, values(3), 8)
	p.Arrived("a", 3, values(28), 9)
	q := s.Quality()
	// A: |10-12|/2 and |20-28|/4, mean 1.5. B: 0 and |24-28|/4, mean 0.5.
	if q.Pairs != 1 || q.SumA != 1.5 || q.SumB != 0.5 || q.SquareA != 2.25 || q.SquareB != 0.25 || q.MaxA != 1.5 || q.MaxB != 0.5 {
		t.Errorf("sums %+v", q)
	}
	// |10-12|/2 and |20-24|/4, mean 1.
	if q.Disagreement != 1 || q.Skipped != 1 || q.BadA != 0 || q.BadB != 1 || q.FirstS != 9 || q.LastS != 9 {
		t.Errorf("sums %+v", q)
	}
	// Of b alone |1-1|/2 and |1-3|/4. As before: |16-12|/2 and |16-28|/4, mean 2.5.
	if want := []told{{0, 0.25, -1}, {0, 1.5, 2.5}, {1, 0.5, 2.5}}; !slices.Equal(heard, want) {
		t.Errorf("told %v, want %v", heard, want)
	}
	if p.waiting != 0 || len(p.by) != 0 || len(p.queue) != 0 {
		t.Errorf("%d bytes still wait", p.waiting)
	}
}

func TestPairsNeedEveryTruth(t *testing.T) {
	for name, arrive := range map[string]func(p *Pairs){
		"a value is missing": func(p *Pairs) { p.Arrived("a", 2, values(nan), 0); p.Arrived("a", 3, values(1), 0) },
		"a tick is missing":  func(p *Pairs) { p.Arrived("a", 3, values(1), 0); p.Arrived("a", 4, values(1), 0) },
	} {
		p, s := paired([]float32{1, 1}, 1, true)
		say(p, "a", 1, []float32{1, 1}, []float32{2, 2})
		arrive(p)
		if q := s.Quality(); q.Pairs != 0 || q.Skipped != 0 || p.waiting != 0 {
			t.Errorf("%s: sums %+v, %d bytes wait", name, q, p.waiting)
		}
	}
}

func TestPairsOfLabels(t *testing.T) {
	p, s := paired([]float32{5}, 1, false)
	say(p, "a", 100, []float32{1}, []float32{3})
	say(p, "a", 200, []float32{nan}, []float32{3})
	for _, n := range []Name{{Stream: "a", T: 101}, {Stream: "b", T: 100}, {Corr: "a"}, {}} {
		if p.Label(n, []float32{1}, 0) {
			t.Errorf("a label of %+v was taken", n)
		}
	}
	at := func(t int64) Name { return Name{Stream: "a", T: t} }
	if p.Label(at(100), []float32{1, 2}, 0) {
		t.Error("a label of another shape was taken")
	}
	if !p.Label(at(100), []float32{2.5}, 4) || p.Label(at(100), []float32{2.5}, 4) {
		t.Error("a label counts once")
	}
	p.Label(at(200), []float32{3}, 5)
	q := s.Quality()
	if q.Pairs != 1 || q.SumA != 1.5 || q.SumB != 0.5 || q.BadA != 1 || q.Skipped != 1 || q.Disagreement != 2 {
		t.Errorf("sums %+v", q)
	}
}

func TestLabelsOfRequests(t *testing.T) {
	for _, tc := range []struct {
		name  string
		label Name
		taken bool
		sumA  float64 // the truth is 0, so it says which output was taken
	}{
		{"of one user", Name{Corr: "7"}, true, 1},
		{"of a named user", Name{User: "ann", Corr: "1"}, true, 4},
		{"of another", Name{User: "bob", Corr: "1"}, true, 3},
		{"of two users, not named", Name{Corr: "1"}, false, 0},
		{"of a user who did not ask", Name{User: "eve", Corr: "7"}, false, 0},
		{"by stream and time", Name{Stream: "m1", T: 60}, true, 5},
		{"by stream, at another time", Name{Stream: "m1", T: 61}, false, 0},
		{"the same by its id", Name{Corr: "9"}, true, 5},
	} {
		p, s := paired([]float32{1}, 1, false)
		for i, n := range []Name{
			{User: "ann", Corr: "7"}, {User: "ann", Corr: "1"}, {User: "bob", Corr: "1"},
			{User: "ann", Corr: "1"}, // once more: it takes the place of the second
			{Stream: "m1", T: 60, User: "ann", Corr: "9"},
		} {
			p.Add(n, 0, s.Said([]float32{float32(i + 1)}, []float32{0}), nil)
		}
		if p.live != 4 {
			t.Errorf("%d outputs wait, want 4", p.live)
		}
		if taken := p.Label(tc.label, []float32{0}, 0); taken != tc.taken || s.Quality().SumA != tc.sumA {
			t.Errorf("%s: taken %t, error %v, want %t, %v", tc.name, taken, s.Quality().SumA, tc.taken, tc.sumA)
		}
		p.Add(Name{}, 0, s.Said([]float32{1}, []float32{1}), nil) // what no label can name does not wait
		p.Clear()
		if p.waiting != 0 || p.live != 0 || p.Label(Name{Corr: "7"}, []float32{0}, 0) {
			t.Error("something waits after Clear")
		}
	}
}

func TestPairsAreBounded(t *testing.T) {
	for _, arrives := range []bool{true, false} {
		p, _ := paired([]float32{1}, 1, arrives)
		const each = waitingCost + 4*3
		for i := range 2 * maxWaiting / each { // all at one tick
			p.Add(Name{Stream: fmt.Sprint(i % 7), T: int64(i)}, 1, [2][]float32{{1}, {1}}, nil)
		}
		if p.waiting > maxWaiting || p.live != maxWaiting/each || len(p.queue) != p.live {
			t.Fatalf("%d bytes and %d forecasts wait, want %d and %d", p.waiting, p.live, maxWaiting, maxWaiting/each)
		}
		oldest := p.queue[0].name.T
		if arrives != (oldest == 0) {
			t.Errorf("the oldest is of %d; truth arrives by itself: %v", oldest, arrives)
		}
	}
}

// TestPairsForgetSilentStreams: one that never gets its truth holds nothing up.
func TestPairsForgetSilentStreams(t *testing.T) {
	for _, arrives := range []bool{true, false} {
		p, _ := paired([]float32{1}, 1, arrives)
		say(p, "silent", 0, []float32{1}, []float32{1})
		for i := range 1000 {
			tick := uint64(i + 1)
			p.Arrived("a", tick, values(1), 0)
			say(p, "a", tick, []float32{1}, []float32{1})
			if !arrives {
				p.Label(Name{Stream: "a", T: int64(tick)}, []float32{1}, 0)
			}
		}
		if len(p.queue) > 70 || (p.by["silent"] == nil) != arrives {
			t.Errorf("%d forecasts kept, truth arrives by itself: %v", len(p.queue), arrives)
		}
	}
}

func TestPairsFitTheirMessage(t *testing.T) {
	p, s := paired([]float32{1}, 1, false)
	for i := range 70_000 { // more than a counter of 16 bits
		say(p, "a", uint64(i), []float32{math.MaxFloat32}, nil)
	}
	say(p, "a", 70_000, []float32{math.MaxFloat32}, []float32{-math.MaxFloat32})
	p.Label(Name{Stream: "a", T: 70_000}, []float32{-math.MaxFloat32}, 1)
	s.Skip(math.MaxUint32)
	s.Skip(1)
	q := s.Quality()
	if b, err := q.AppendBinary(nil); err != nil || q.BadB != math.MaxUint16 || q.Skipped != math.MaxUint32 || q.Pairs != 1 {
		t.Errorf("AppendBinary(%+v) = %x, %v", q, b, err)
	}
}

// TestStdOfAnotherShape: what does not say how the outputs spread is not used.
func TestStdOfAnotherShape(t *testing.T) {
	more := NewSums([]float32{2, 2}, 2)
	more.Compare([2][]float32{nil, {1, 1, 1}}, nil, []float32{1, 1, 4}, 0) // of a version that says more than A
	s := NewSums([]float32{2, 2}, 1)                                       // a detector's score, of two outputs
	s.Compare([2][]float32{{1}, {3}}, nil, []float32{2}, 0)
	if q := s.Quality(); q.SumA != 1 || q.SumB != 1 {
		t.Errorf("sums %+v", q)
	}
}
