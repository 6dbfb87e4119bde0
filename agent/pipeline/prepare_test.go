package pipeline

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// moded is a model of flow, a mode that is a text, and the hour, with a window of 2.
func moded(t *testing.T, state string, words ...string) *predictor.Predictor {
	t.Helper()
	inputs := 1 + len(words) + 1 + 2
	w, err := kernel.NewWeights(kernel.Graph{Features: inputs, Layers: []kernel.Layer{
		{Kind: kernel.LSTM, Units: 8}, {Kind: kernel.Dense, Units: 1, Activation: kernel.Linear},
	}})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 1))
	for _, l := range w.Layers {
		for _, tensor := range [][]float32{l.Kernel, l.Recurrent, l.Bias} {
			for i := range tensor {
				tensor[i] = rng.Float32() - 0.5
			}
		}
	}
	q, err := kernel.Quantize(w)
	if err != nil {
		t.Fatal(err)
	}
	prep := artifact.NewPreparation()
	prep.Categories = []artifact.Category{{Feature: 1, Values: words}}
	prep.Calendar, prep.PeriodMS = []string{"hour"}, 1000
	s := kernel.Scaler{Mean: []float32{10}, Std: []float32{2}, Inv: []float32{0.5}, OutMean: []float32{10}, OutStd: []float32{2}}
	for range inputs - 1 {
		s.Mean, s.Std, s.Inv = append(s.Mean, 0), append(s.Std, 1), append(s.Inv, 1)
	}
	m, err := predictor.FromQuant(q, artifact.Schema{
		Features: []artifact.Column{{Name: "flow"}, {Name: "mode"}}, Targets: []artifact.Column{{Name: "flow"}},
		Window: 2, State: state, Warmup: 2, Horizon: 1, Prepare: prep,
	}, artifact.TaskForecast, s)
	if err != nil {
		t.Fatal(err)
	}
	m.Pipeline = &artifact.Pipeline{
		Inputs:   []artifact.Input{{Column: "flow"}, {Column: "mode", Topic: "plant/+", Pointer: "/m"}},
		PeriodMS: 1000, ToleranceMS: 1500, GapMS: 10_000, Stride: 1,
	}
	p, err := predictor.Open(m)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// wanted predicts from flows, modes and the times of the rows.
func wanted(t *testing.T, p *predictor.Predictor, flow []float32, mode []float32, at []time.Time) []float32 {
	t.Helper()
	var rows []float32
	for i := range flow {
		var err error
		if rows, err = p.Plan().AppendRow(rows, []float32{flow[i], mode[i]}, at[i].UnixMilli()); err != nil {
			t.Fatal(err)
		}
	}
	if !p.Stateful() {
		y, err := p.PredictAppend(nil, rows)
		if err != nil {
			t.Fatal(err)
		}
		return y
	}
	s, err := p.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	y, width := make([]float32, 1), p.Plan().Width()
	for ; len(rows) > 0; rows = rows[width:] {
		if err := s.Step(y, rows[:width]); err != nil {
			t.Fatal(err)
		}
	}
	return y
}

func TestRowsHaveTextsAndTimes(t *testing.T) {
	for _, state := range []string{artifact.StateWindow, artifact.StateStream} {
		p := moded(t, state, "idle", "run")
		f := New(p, "d1")
		sample := func(v float32, ms int64, now time.Duration) {
			if err := f.Sample("a", protocol.Sample{T: ms, V: map[string]float32{"flow": v}}, now); err != nil {
				t.Fatal(err)
			}
		}
		mode := func(s string, now time.Duration) {
			if _, err := f.Receive("plant/a", []byte(`{"m":"`+s+`"}`), now); err != nil {
				t.Fatal(err)
			}
		}
		// Without a time, the device's clock counts; with one, that and what passed.
		gateway := noon.Add(-5 * time.Hour)
		sample(9, 0, 0)
		mode("run", 0)
		f.Tick(time.Second, noon)
		sample(11, gateway.UnixMilli(), 1500*time.Millisecond)
		mode("broken", 1500*time.Millisecond)
		r := f.Tick(2*time.Second, noon.Add(time.Second))[0]
		want := wanted(t, p, []float32{9, 11}, []float32{1, 2}, []time.Time{noon, gateway.Add(500 * time.Millisecond)})
		if r.Err[0] != nil || !slices.Equal(r.Y[0], want) {
			t.Errorf("%s: %v, %v, want %v", state, r.Y[0], r.Err[0], want)
		}
		d := protocol.Digest{1}
		saved, err := f.AppendBinary(nil, d, 2*time.Second, noon.Add(time.Second))
		if err != nil {
			t.Fatal(err)
		}
		again := New(p, "d1")
		if err := again.Restore(saved, d, 0, noon.Add(2*time.Second)); err != nil {
			t.Fatal(err)
		}
		f = again
		sample(12, gateway.UnixMilli(), 0)
		mode("idle", 0)
		r = f.Tick(time.Second, noon)[0]
		flow, modes := []float32{9, 11, 12}, []float32{1, 2, 0}
		times := []time.Time{noon, gateway.Add(500 * time.Millisecond), gateway.Add(time.Second)}
		if state == artifact.StateWindow {
			flow, modes, times = flow[1:], modes[1:], times[1:]
		}
		if want := wanted(t, p, flow, modes, times); !slices.Equal(r.Y[0], want) {
			t.Errorf("%s after a restart: %v, %v, want %v", state, r.Y[0], r.Err[0], want)
		}
	}
}

func TestTextsAndNumbersAreNotMixed(t *testing.T) {
	f := New(moded(t, artifact.StateWindow, "idle", "run"), "d1")
	for _, m := range []protocol.Sample{
		{Texts: map[string]string{"flow": "9"}},
		{V: map[string]float32{"other": 1}, Texts: map[string]string{"flow": "9"}},
	} {
		if err := f.Sample("a", m, 0); err == nil || !strings.Contains(err.Error(), `"flow"`) {
			t.Errorf("Sample(%v) = %v, want an error of flow", m, err)
		}
	}
	if err := f.Sample("a", protocol.Sample{Texts: map[string]string{"other": "x"}}, 0); err != nil || f.Streams() != 0 {
		t.Errorf("a text of another column: %v, %d streams", err, f.Streams())
	}
	if _, err := f.Receive("plant/a", []byte(`{"m":3}`), 0); err == nil {
		t.Error("a number passes for a mode")
	}
}

// TestOtherTextsAreOtherRows: numbers that stand for texts mean something else to a
// version with another dictionary.
func TestOtherTextsAreOtherRows(t *testing.T) {
	p := moded(t, artifact.StateWindow, "idle", "run")
	if !Fits(p, moded(t, artifact.StateWindow, "idle", "run")) || Fits(p, moded(t, artifact.StateWindow, "idle", "walk")) {
		t.Error("models fit by the number of their texts")
	}
	plain, _ := model(t, 1, artifact.StateWindow, spec())
	if !Fits(plain, plain) || Fits(plain, p) {
		t.Error("a model without texts fits one with them")
	}
}

func TestAStreamInTheFarFutureIsRefused(t *testing.T) {
	f := New(moded(t, artifact.StateWindow, "idle"), "d1")
	if err := f.Sample("a", protocol.Sample{T: protocol.MaxInteger, V: map[string]float32{"flow": 1}}, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Receive("plant/a", []byte(`{"m":"idle"}`), 0); err != nil {
		t.Fatal(err)
	}
	if r := f.Tick(time.Second, noon)[0]; r.Err[0] == nil || r.Y[0] != nil {
		t.Errorf("%v, %v, want an error", r.Y[0], r.Err[0])
	}
}
