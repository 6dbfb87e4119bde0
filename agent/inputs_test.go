package agent

import (
	"fmt"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// referenced is a version with a reference of some bins for each of two features.
func referenced(name string, digest byte, bins int) *served {
	h := artifact.Histogram{Parts: make([]uint16, bins)}
	for k := range bins - 1 {
		h.Edges = append(h.Edges, float32(k))
	}
	v := &served{name: name, reference: &artifact.Reference{Features: []artifact.Histogram{h, h}}}
	v.Digest[0] = digest
	return v
}

func TestInputsAreCountedAndTold(t *testing.T) {
	var in inputs
	now := time.Unix(1_700_000_000, 0)
	if got := in.due(now); got != nil {
		t.Errorf("at the start: %v", got)
	}
	a, b := referenced("a", 1, 3), referenced("b", 1, 2)
	in.count(a, []float32{0, 5})
	in.count(a, []float32{0.5, 5})
	in.count(b, []float32{1, 1})
	in.count(&served{name: "plain"}, []float32{1})
	if got := in.due(now.Add(59 * time.Minute)); got != nil {
		t.Errorf("before an hour: %v", got)
	}
	for hour, want := range []string{
		"[{a 0100 [1 1 0 0 0 2]}]", "[{b 0100 [0 1 0 1]}]", "[]", // nothing new
	} {
		got := in.due(now.Add(time.Duration(hour+1) * time.Hour))
		var s []string
		for _, c := range got {
			s = append(s, fmt.Sprintf("{%s %x %v}", c.Model, c.Version[:2], c.Bins))
		}
		if fmt.Sprint(s) != want {
			t.Errorf("hour %d: %v, want %s", hour+1, s, want)
		}
	}
	// Cumulative, and another version begins anew.
	in.count(a, []float32{9, 9})
	if got := in.due(now.Add(5 * time.Hour)); len(got) != 1 || got[0].Bins[2] != 1 || got[0].Bins[5] != 3 {
		t.Errorf("more of a: %v", got)
	}
	in.count(referenced("a", 2, 3), []float32{9, 9})
	if got := in.due(now.Add(6 * time.Hour)); len(got) != 1 || got[0].Version[0] != 2 || got[0].Bins[5] != 1 {
		t.Errorf("another version: %v", got)
	}
	if n := testing.AllocsPerRun(100, func() { in.count(b, []float32{1, 1}) }); n != 0 {
		t.Errorf("%v allocations a row", n)
	}
	if got := in.due(now.Add(-time.Hour)); got != nil {
		t.Errorf("after the clock was set back: %v", got)
	}
}

// TestInputsTakeLessThanAKilobyte of an hour's report, whatever was counted.
func TestInputsTakeLessThanAKilobyte(t *testing.T) {
	c := protocol.InputCount{Model: "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm", Bins: make([]uint64, protocol.MaxInputBins)}
	for i := range c.Bins {
		c.Bins[i] = 1<<32 - 1 // rows of 136 years, one a second
	}
	with, err := protocol.Usage{Format: protocol.Format, Boot: 1, Inputs: []protocol.InputCount{c}}.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	without, err := protocol.Usage{Format: protocol.Format, Boot: 1}.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(with) - len(without); n > 1000 {
		t.Errorf("%d bytes", n)
	}
}
