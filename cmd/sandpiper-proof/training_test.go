package main

import (
	"encoding/json"
	"io"
	"math"
	"os/exec"
	"strings"
	"testing"
)

// Two degrees of freedom, for which the quantile is (2p−1)/√(2p(1−p)): 4.3027.
func TestWelchOfTwoPairs(t *testing.T) {
	difference, half := welch([]float64{0, 2}, []float64{10, 12}, 0.95)
	if want := 0.95 / math.Sqrt(2*0.975*0.025) * math.Sqrt2; difference != -10 || math.Abs(half-want) > 1e-9 {
		t.Errorf("welch = %v ± %v, want -10 ± %v", difference, half, want)
	}
}

func TestRaceComparesWithThePeersBestThreads(t *testing.T) {
	r := &race{peer: "peer", racers: []*racer{
		{name: "avx2", threads: 1, seconds: []float64{0.7, 0.8, 0.9}, peak: 20},
		{name: "avx2", threads: 2, seconds: []float64{0.4, 0.5, 9}, peak: 21},
		{name: "peer", threads: 1, seconds: []float64{1.9, 2, 2.1}, peak: 270},
		{name: "peer", threads: 2, first: 3, peak: 280}, // took no more turns
		{name: "peer", threads: 2, first: 30, peak: 280},
	}}
	table := r.String()
	for _, row := range []string{"sandpiper avx2 0.800 0.500 1/4.0 21", "peer 2.000 3.000 1 280"} {
		if !strings.Contains(strings.Join(strings.Fields(table), " "), row) {
			t.Errorf("the table lacks %q:\n%s", row, table)
		}
	}
	if _, err := epochOn("avx2", 1/3.9)(t.Context(), &house{raced: r}); err != nil {
		t.Errorf("epoch of a quarter: %v", err)
	}
	if _, err := epochOn("avx2", 1/4.1)(t.Context(), &house{raced: r}); err == nil {
		t.Error("epoch of a quarter is below 1/4.1")
	}
}

// Who is three times as slow as the best of its name trains one epoch, the
// others one that does not count and five that do.
func TestRaceLetsTheHopelessSitOut(t *testing.T) {
	scripted := func(name, epochs string) *racer {
		return &racer{name: name, threads: 1, trainer: &trainer{cmd: &exec.Cmd{}, in: discard{io.Discard}, out: json.NewDecoder(strings.NewReader(epochs))}}
	}
	second, fast, slow := `{"seconds": 1, "peak_mib": 5}`, `{"seconds": 0.1}`, `{"seconds": 4}`
	r := &race{peer: "peer", racers: []*racer{
		scripted("avx2", fast+strings.Repeat(fast, turns)),
		scripted("peer", `{"seconds": 2}`+strings.Repeat(second, turns)),
		scripted("peer", `{"seconds": 7}`),
		scripted("peer", slow+strings.Repeat(slow, turns)),
	}}
	if err := r.run(); err != nil {
		t.Fatal(err)
	}
	for i, want := range []float64{0.1, 1, 7, 4} {
		if got := r.racers[i].median(); got != want {
			t.Errorf("racer %d: median %v s, want %v", i, got, want)
		}
	}
	if best := r.best("peer", 0); best != r.racers[1] || best.peak != 5 {
		t.Errorf("best peer is %+v, want the one of 1 s", best)
	}
}

type discard struct{ io.Writer }

func (discard) Close() error { return nil }
