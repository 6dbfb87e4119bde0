package bench

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

func TestRunMeasuresEveryCombination(t *testing.T) {
	rows, err := Run(t.Context(), Options{Hidden: []int{16, 20}, Features: 3, Rounds: 2, Round: 50 * time.Microsecond})
	if err != nil {
		t.Fatal(err)
	}
	if want := 2 * 2 * len(kernel.Tiers()) * 3; len(rows) != want {
		t.Fatalf("%d rows, want %d", len(rows), want)
	}
	seen := map[string]bool{}
	for _, r := range rows {
		if r.US <= 0 || r.LineUS <= 0 || r.Ratio <= 0 || r.Features != 3 {
			t.Errorf("%+v: want times above 0", r)
		}
		r.US, r.LineUS, r.Ratio, r.Allocs = 0, 0, 0, 0
		b, err := json.Marshal(r)
		if err != nil || seen[string(b)] {
			t.Errorf("%s: twice, or %v", b, err)
		}
		seen[string(b)] = true
	}
	var table strings.Builder
	if err := WriteTable(&table, rows); err != nil || strings.Count(table.String(), "\n") != len(rows)+1 {
		t.Errorf("table of %d lines, %v; want %d", strings.Count(table.String(), "\n"), err, len(rows)+1)
	}
}

func TestBatchOverPeakNeedsTheTier(t *testing.T) {
	r, err := BatchOverPeak(64)
	if !slices.Contains(kernel.Tiers(), "avx512vnni") {
		if !errors.Is(err, kernel.ErrTier) {
			t.Errorf("%v, want ErrTier", err)
		}
		return
	}
	if err != nil || r.US <= 0 || r.LineUS <= 0 || r.Ratio <= 0 || r.Hidden != 64 || r.Mode != Batch {
		t.Errorf("%+v, %v; want times above 0", r, err)
	}
}

func TestRowIsTheJSONHarnessesRead(t *testing.T) {
	b, err := json.Marshal(Row{Mode: Step, Type: "int8", Hidden: 128, Features: 8, Tier: "generic", US: 20, LineUS: 2.5, Ratio: 8})
	want := `{"mode":"step","type":"int8","hidden":128,"features":8,"tier":"generic","us":20,"line_us":2.5,"ratio":8,"allocs":0}`
	if err != nil || string(b) != want {
		t.Errorf("%s, %v; want %s", b, err, want)
	}
}

func TestRunRefuses(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		o    Options
		want string
	}{
		"type":      {t.Context(), Options{Types: []string{"int4"}}, "want int8 or float32"},
		"tier":      {t.Context(), Options{Tiers: []string{"avx9"}}, "kernel tier"},
		"mode":      {t.Context(), Options{Modes: []string{"jog"}}, "want step, window or batch"},
		"hidden":    {t.Context(), Options{Hidden: []int{1 << 20}}, "units"},
		"features":  {t.Context(), Options{Features: -1}, "features"},
		"cancelled": {cancelled, Options{}, "canceled"},
	} {
		if _, err := Run(c.ctx, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
}

// writeModel writes a model of hidden units and 8 features to dir.
func writeModel(t *testing.T, dir string, hidden int) *kernel.Weights {
	t.Helper()
	w, err := randomWeights(hidden, 8)
	if err != nil {
		t.Fatal(err)
	}
	l := w.Layers
	var all []float32
	for _, v := range [][]float32{l[0].Kernel, l[0].Recurrent, l[0].Bias, l[1].Kernel, l[1].Bias} {
		all = append(all, v...)
	}
	writeFloats(t, filepath.Join(dir, "lstm_20.bin"), all)
	writeFloats(t, filepath.Join(dir, "input_20.bin"), randomRows(WindowSteps*8))
	return w
}

func writeFloats(t *testing.T, name string, v []float32) {
	t.Helper()
	var b []byte
	for _, f := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestPeerPredictsTheModelInTheFiles(t *testing.T) {
	dir := t.TempDir()
	w := writeModel(t, dir, 20)
	m, err := kernel.NewFloat32(w)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]float32, 1)
	if err := m.Predict(m.NewState(), want, randomRows(WindowSteps*8)); err != nil {
		t.Fatal(err)
	}
	for _, typ := range []string{"", "float32"} {
		for _, o := range []PeerOptions{{Mode: "seq"}, {Mode: "step"}, {Batch: 5}} {
			o.Dir, o.Hidden, o.Type, o.Runs = dir, 20, typ, 3
			r, err := RunPeer(o)
			if err != nil {
				t.Fatal(err)
			}
			if diff := math.Abs(float64(r.Y - want[0])); diff > 0.02 || typ == "float32" && diff != 0 {
				t.Errorf("%+v: y = %v, want %v", o, r.Y, want[0])
			}
			if r.MedianUS <= 0 || r.P95US < r.MedianUS || r.FirstMS <= 0 || !strings.HasPrefix(r.Peer, "sandpiper ") {
				t.Errorf("%+v: %+v", o, r)
			}
		}
	}
}

func TestPeerRefuses(t *testing.T) {
	dir := t.TempDir()
	writeModel(t, dir, 20)
	for name, o := range map[string]PeerOptions{
		"mode":       {Dir: dir, Hidden: 20, Mode: "jog"},
		"type":       {Dir: dir, Hidden: 20, Type: "int4"},
		"tier":       {Dir: dir, Hidden: 20, Tier: "avx9"},
		"batch":      {Dir: dir, Hidden: 20, Batch: -1},
		"step batch": {Dir: dir, Hidden: 20, Mode: "step", Batch: 2},
		"no units":   {Dir: dir},
		"no file":    {Dir: dir, Hidden: 21},
	} {
		if _, err := RunPeer(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	model, input := filepath.Join(dir, "lstm_20.bin"), filepath.Join(dir, "input_20.bin")
	for name, damage := range map[string]func() error{
		"one byte more": func() error { return os.Truncate(model, 4*(80*8+80*20+80+20+1)+1) },
		"one value":     func() error { return os.Truncate(model, 4) },
		"nothing":       func() error { return os.Truncate(model, 0) },
		"short input":   func() error { return os.Truncate(input, 4*49*8) },
		"too large":     func() error { return os.Truncate(model, maxFile+4) },
	} {
		writeModel(t, dir, 20)
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := LoadDir(dir, 20); !errors.Is(err, ErrFile) {
			t.Errorf("%s: %v, want ErrFile", name, err)
		}
	}
}
