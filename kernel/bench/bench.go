// Package bench measures the kernel on the machine it runs on, beside the
// line: the time to read the same packed weights once and do nothing with
// them, in the same process, in turns with what is measured.
package bench

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

// The modes of a Row.
const (
	Step   = "step"   // one streaming step
	Window = "window" // Predict over WindowSteps
	Batch  = "batch"  // PredictBatch of BatchWindows such windows
)

// Sizes of what is measured.
const (
	WindowSteps  = 50
	BatchWindows = 32
)

// Options choose what Run measures. The zero value is everything this machine
// has.
type Options struct {
	Hidden   []int         // default 32, 64, 128, 256
	Features int           // default 8
	Types    []string      // default int8, float32
	Tiers    []string      // default kernel.Tiers()
	Modes    []string      // default step, window, batch
	Rounds   int           // the median is of so many; default 25
	Round    time.Duration // time for one side of a round; default 1 ms
}

// A Row is one measurement: medians over the rounds, the ratio being the
// median of the rounds' own ratios.
type Row struct {
	Mode     string  `json:"mode"`
	Type     string  `json:"type"` // int8 or float32
	Hidden   int     `json:"hidden"`
	Features int     `json:"features"`
	Tier     string  `json:"tier"`
	US       float64 `json:"us"`      // µs a call
	LineUS   float64 `json:"line_us"` // µs to read the weights once for every step of the call
	Ratio    float64 `json:"ratio"`
	Allocs   float64 `json:"allocs"` // a call
}

// Run measures every combination of o. It needs the machine to itself: it
// runs for about 2·Rounds·Round a row. A tier this CPU lacks is an error that
// matches kernel.ErrTier.
func Run(ctx context.Context, o Options) ([]Row, error) {
	o = o.withDefaults()
	var rows []Row
	for _, hidden := range o.Hidden {
		w, err := randomWeights(hidden, o.Features)
		if err != nil {
			return nil, err
		}
		for _, typ := range o.Types {
			for _, tier := range o.Tiers {
				m, err := newModel(typ, tier, w)
				if err != nil {
					return nil, err
				}
				for _, mode := range o.Modes {
					if err := context.Cause(ctx); err != nil {
						return nil, err
					}
					r, err := measure(m, mode, o)
					if err != nil {
						return nil, err
					}
					r.Type, r.Hidden, r.Features, r.Tier = typ, hidden, o.Features, tier
					rows = append(rows, r)
				}
			}
		}
	}
	return rows, nil
}

func (o Options) withDefaults() Options {
	def := func(v *[]string, d ...string) {
		if len(*v) == 0 {
			*v = d
		}
	}
	def(&o.Types, "int8", "float32")
	def(&o.Tiers, kernel.Tiers()...)
	def(&o.Modes, Step, Window, Batch)
	if len(o.Hidden) == 0 {
		o.Hidden = []int{32, 64, 128, 256}
	}
	if o.Features == 0 {
		o.Features = 8
	}
	if o.Rounds < 1 {
		o.Rounds = 25
	}
	if o.Round <= 0 {
		o.Round = time.Millisecond
	}
	return o
}

func newModel(typ, tier string, w *kernel.Weights) (*kernel.Model, error) {
	switch typ {
	case "float32":
		return kernel.NewFloat32On(tier, w)
	case "int8":
		q, err := kernel.Quantize(w)
		if err != nil {
			return nil, err
		}
		return kernel.NewInt8On(tier, q)
	}
	return nil, fmt.Errorf("type %q: want int8 or float32", typ)
}

// randomWeights is LSTM(hidden) → Dense(1), the same every time.
func randomWeights(hidden, features int) (*kernel.Weights, error) {
	w, err := kernel.NewWeights(kernel.Graph{Features: features, Layers: []kernel.Layer{
		{Kind: kernel.LSTM, Units: hidden}, {Kind: kernel.Dense, Units: 1},
	}})
	if err != nil {
		return nil, err
	}
	r := rand.New(rand.NewPCG(uint64(hidden), 1))
	for _, l := range w.Layers {
		for _, t := range [][]float32{l.Kernel, l.Recurrent, l.Bias} {
			for i := range t {
				t[i] = float32(0.2 * (2*r.Float64() - 1))
			}
		}
	}
	return w, nil
}

func randomRows(n int) []float32 {
	r, x := rand.New(rand.NewPCG(1, 2)), make([]float32, n)
	for i := range x {
		x[i] = float32(6*r.Float64() - 3)
	}
	return x
}

// measure takes turns between calls of a mode and its line.
func measure(m *kernel.Model, mode string, o Options) (Row, error) {
	call, steps, err := caller(m, mode, o.Features)
	if err != nil {
		return Row{}, err
	}
	r, err := inTurns(call, m.ReadWeights, float64(steps), o)
	r.Mode = mode
	return r, err
}

// caller returns one call of a mode and the steps it takes.
func caller(m *kernel.Model, mode string, f int) (call func() error, steps int, err error) {
	s, y, xs := m.NewState(), make([]float32, BatchWindows), randomRows(BatchWindows*WindowSteps*f)
	switch mode {
	case Step:
		i := 0
		return func() error {
			i = (i + 1) % WindowSteps
			return m.Step(s, y[:1], xs[i*f:][:f])
		}, 1, nil
	case Window:
		return func() error { return m.Predict(s, y[:1], xs[:WindowSteps*f]) }, WindowSteps, nil
	case Batch:
		return func() error { return m.PredictBatch(s, y, xs, BatchWindows) }, WindowSteps * BatchWindows, nil
	}
	return nil, 0, fmt.Errorf("mode %q: want step, window or batch", mode)
}

// inTurns measures call beside perCall times one of the n that line(n) does.
func inTurns(call func() error, lineOf func(n int), perCall float64, o Options) (Row, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	many := func(n int) error {
		for range n {
			if err := call(); err != nil {
				return err
			}
		}
		return nil
	}
	line := func(n int) error { lineOf(n); return nil }
	n, err := repeats(many, o.Round)
	if err != nil {
		return Row{}, err
	}
	lines, err := repeats(line, o.Round)
	if err != nil {
		return Row{}, err
	}
	var us, lineUS, ratio, allocs []float64
	for range o.Rounds {
		l, _, err := timed(line, lines)
		if err != nil {
			return Row{}, err
		}
		t, a, err := timed(many, n)
		if err != nil {
			return Row{}, err
		}
		l *= perCall
		us, lineUS, ratio, allocs = append(us, t), append(lineUS, l), append(ratio, t/l), append(allocs, a)
	}
	return Row{
		US: median(us), LineUS: median(lineUS), Ratio: median(ratio), Allocs: float64(int(slices.Min(allocs))),
	}, nil
}

// repeats is the n for which f(n) takes about d; it also warms f up.
func repeats(f func(n int) error, d time.Duration) (int, error) {
	for n := 1; ; n *= 2 {
		us, _, err := timed(f, n)
		if err != nil {
			return 0, err
		}
		if total := time.Duration(us * float64(n) * 1e3); total > d/4 || n > 1<<24 {
			return max(1, int(float64(d)/1e3/max(us, 1e-3))), nil
		}
	}
}

// timed is µs and allocations of each of the n calls that f(n) makes.
func timed(f func(n int) error, n int) (us, allocs float64, err error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	if err := f(n); err != nil {
		return 0, 0, err
	}
	d := time.Since(start)
	runtime.ReadMemStats(&after)
	return float64(d.Nanoseconds()) / 1e3 / float64(n), float64(after.Mallocs-before.Mallocs) / float64(n), nil
}

func median(v []float64) float64 {
	slices.Sort(v)
	return (v[len(v)/2] + v[(len(v)-1)/2]) / 2
}

// WriteTable writes rows for a reader.
func WriteTable(w io.Writer, rows []Row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "mode\ttype\thidden\tfeatures\ttier\tµs\tline µs\tratio\tallocs\t")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\t%.2f\t%.2f\t%.2f\t%g\t\n", r.Mode, r.Type, r.Hidden, r.Features, r.Tier, r.US, r.LineUS, r.Ratio, r.Allocs)
	}
	return t.Flush()
}

// CPU is the processor's name as Linux tells it, or "" elsewhere.
func CPU() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for _, key := range []string{"model name", "Model", "uarch"} { // x86, Raspberry Pi, riscv64
		for line := range strings.Lines(string(info)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
				return strings.TrimSpace(v)
			}
		}
	}
	return ""
}
