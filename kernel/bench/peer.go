package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

// ErrFile: a model or input file has a size that no such model has.
var ErrFile = errors.New("model file")

// started is as near to the process's start as a package can come.
var started = time.Now()

// PeerOptions choose a model in a folder of plain files that runtimes are
// compared on:
//
//	lstm_H.bin   little-endian float32, Keras's order: kernel [F][4H],
//	             recurrent [H][4H], bias [4H], dense kernel [H], dense bias [1]
//	input_H.bin  WindowSteps rows of F little-endian float32
type PeerOptions struct {
	Dir    string
	Hidden int
	Batch  int    // windows at once in mode seq, all the same input; default 1
	Mode   string // "seq" (default): whole windows; "step": one streaming step
	Type   string // int8 (default) or float32
	Tier   string // default the selected one
	Runs   int    // timed runs; default 2000
}

// PeerResult is what comparison harnesses read, one line of JSON.
type PeerResult struct {
	Peer     string  `json:"peer"`
	MedianUS float64 `json:"median_us"` // a window, a batch or, in mode step, a step
	P95US    float64 `json:"p95_us"`
	Y        float32 `json:"y"`        // after the last step
	RSSMB    float64 `json:"rss_mb"`   // of the whole process; 0 where unknown
	FirstMS  float64 `json:"first_ms"` // from the process's start to the first prediction
}

// RunPeer loads and times one model.
func RunPeer(o PeerOptions) (PeerResult, error) {
	if o.Batch == 0 {
		o.Batch = 1
	}
	if o.Runs < 1 {
		o.Runs = 2000
	}
	if o.Type == "" {
		o.Type = "int8"
	}
	if o.Tier == "" {
		tier, err := kernel.Select()
		if err != nil {
			return PeerResult{}, err
		}
		o.Tier = tier
	}
	if o.Batch < 1 || o.Batch > 4096 {
		return PeerResult{}, fmt.Errorf("batch of %d windows: want 1 to 4096", o.Batch)
	}
	w, x, err := LoadDir(o.Dir, o.Hidden)
	if err != nil {
		return PeerResult{}, err
	}
	m, err := newModel(o.Type, o.Tier, w)
	if err != nil {
		return PeerResult{}, err
	}
	f := w.Graph.Features
	s, y, xs := m.NewState(), make([]float32, o.Batch), slices.Repeat(x, o.Batch)
	var call func() error
	per := 1
	switch o.Mode {
	case "", "seq":
		call = func() error { return m.PredictBatch(s, y, xs, o.Batch) }
	case "step":
		if o.Batch != 1 {
			return PeerResult{}, fmt.Errorf("mode step with a batch of %d: want 1", o.Batch)
		}
		per = WindowSteps
		call = func() error {
			s.Reset()
			for i := range WindowSteps {
				if err := m.Step(s, y, x[i*f:][:f]); err != nil {
					return err
				}
			}
			return nil
		}
	default:
		return PeerResult{}, fmt.Errorf("mode %q: want seq or step", o.Mode)
	}
	if err := call(); err != nil {
		return PeerResult{}, err
	}
	first := time.Since(started)
	us := make([]float64, o.Runs)
	for range min(o.Runs, 200) { // warm up
		if err := call(); err != nil {
			return PeerResult{}, err
		}
	}
	for i := range us {
		start := time.Now()
		if err := call(); err != nil {
			return PeerResult{}, err
		}
		us[i] = float64(time.Since(start).Nanoseconds()) / 1e3 / float64(per)
	}
	med := median(us) // sorts
	return PeerResult{
		Peer:     fmt.Sprintf("sandpiper %s %s", o.Type, o.Tier),
		MedianUS: med, P95US: us[(len(us)-1)*95/100], Y: y[o.Batch-1], RSSMB: rss(),
		FirstMS: float64(first.Microseconds()) / 1e3,
	}, nil
}

// LoadDir reads a model and its input, as PeerOptions describes. A size that
// fits no model is ErrFile.
func LoadDir(dir string, hidden int) (*kernel.Weights, []float32, error) {
	if hidden < 1 || hidden > kernel.MaxUnits {
		return nil, nil, fmt.Errorf("%d hidden units, want 1 to %d: %w", hidden, kernel.MaxUnits, kernel.ErrShape)
	}
	name := filepath.Join(dir, fmt.Sprintf("lstm_%d.bin", hidden))
	v, err := readFloats(name)
	if err != nil {
		return nil, nil, err
	}
	columns := 4 * hidden
	rest := len(v) - (hidden*columns + columns + hidden + 1)
	if rest <= 0 || rest%columns != 0 || rest/columns > kernel.MaxFeatures {
		return nil, nil, fmt.Errorf("%s: %d values, of no number of features from 1 to %d: %w", name, len(v), kernel.MaxFeatures, ErrFile)
	}
	w, err := kernel.NewWeights(kernel.Graph{Features: rest / columns, Layers: []kernel.Layer{
		{Kind: kernel.LSTM, Units: hidden}, {Kind: kernel.Dense, Units: 1},
	}})
	if err != nil {
		return nil, nil, err
	}
	for _, t := range [][]float32{w.Layers[0].Kernel, w.Layers[0].Recurrent, w.Layers[0].Bias, w.Layers[1].Kernel, w.Layers[1].Bias} {
		v = v[copy(t, v):]
	}
	name = filepath.Join(dir, fmt.Sprintf("input_%d.bin", hidden))
	x, err := readFloats(name)
	if err != nil {
		return nil, nil, err
	}
	if want := WindowSteps * w.Graph.Features; len(x) != want {
		return nil, nil, fmt.Errorf("%s: %d values, want %d rows of %d: %w", name, len(x), WindowSteps, w.Graph.Features, ErrFile)
	}
	return w, x, nil
}

// maxFile is above the largest model there is.
const maxFile = 4 * (4*kernel.MaxUnits*(kernel.MaxFeatures+kernel.MaxUnits+1) + kernel.MaxUnits + 1)

func readFloats(name string) ([]float32, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Mode()&fs.ModeType != 0 || info.Size()%4 != 0 || info.Size() > maxFile {
		return nil, fmt.Errorf("%s: %d bytes, want float32 values of a model: %w", name, info.Size(), ErrFile)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	v := make([]float32, len(b)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return v, nil
}

// rss is the process's resident memory in MB as Linux tells it.
func rss() float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			kb, _ := strconv.ParseFloat(f[1], 64)
			return kb / 1024
		}
	}
	return 0
}
