// Command epoch trains LSTM(128) and Dense(1) on 4,000 sequences of 50×8, the
// model that speeds are quoted for, in a process of its own.
//
//	epoch FILE SEED CORES [TIER]
//
// FILE is little-endian float32: the sequences, [4000][50][8], then the 4,000
// targets. CORES is GOMAXPROCS. TIER keeps to one instruction set of package
// simd, or to plain Go if the CPU lacks it. After the line that says which is
// used,
//
//	{"tier": "avx512"}
//
// it trains one epoch for every line it reads, and prints
//
//	{"seconds": …, "loss": mean over the epoch, "peak_mib": most memory resident so far}
//
// so that another program can take turns with it. The peer that it is compared
// with does the same (kernel/internal/peers/torch).
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/bptt"
	"github.com/sandpiper-edge/sandpiper/kernel/bptt/internal/simd"
)

const (
	windows  = 4000
	steps    = 50
	features = 8
	units    = 128
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 3 && len(args) != 4 {
		return errors.New("usage: epoch FILE SEED CORES [TIER]")
	}
	cores, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	seed, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return err
	}
	if len(args) == 4 {
		simd.Only(args[3])
	}
	runtime.GOMAXPROCS(cores)
	src, err := read(args[0])
	if err != nil {
		return err
	}
	w, err := bptt.Init(kernel.Graph{Features: features, Layers: []kernel.Layer{
		{Kind: kernel.LSTM, Units: units}, {Kind: kernel.Dense, Units: 1},
	}}, seed)
	if err != nil {
		return err
	}
	lines := json.NewEncoder(out)
	if err := lines.Encode(map[string]string{"tier": tier()}); err != nil {
		return err
	}
	return train(w, src, seed, bufio.NewScanner(in), lines)
}

// tier is the name of the best instruction set in use.
func tier() string {
	for _, t := range simd.Tiers {
		if *t.Used {
			return t.Name
		}
	}
	return "generic"
}

// train trains an epoch a line until there is none.
func train(w *kernel.Weights, src *source, seed uint64, lines *bufio.Scanner, out *json.Encoder) error {
	if !lines.Scan() {
		return lines.Err()
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var failed error
	_, err := bptt.Fit(ctx, w, src, nil, bptt.Config{Epochs: math.MaxInt, Seed: seed}, func(e bptt.Epoch) {
		peak, err := peakMiB()
		if err == nil {
			err = out.Encode(result{e.Took.Seconds(), e.Loss, peak})
		}
		if failed = err; err != nil || !lines.Scan() {
			stop()
		}
	})
	if errors.Is(err, context.Canceled) {
		return errors.Join(failed, lines.Err())
	}
	return err
}

type result struct {
	Seconds float64 `json:"seconds"`
	Loss    float64 `json:"loss"`
	PeakMiB float64 `json:"peak_mib"`
}

// A source is the sequences and targets of a file.
type source struct{ x, y []float32 }

func (s *source) Len() int   { return windows }
func (s *source) Steps() int { return steps }
func (s *source) Window(i int, x, y []float32) {
	const size = steps * features
	copy(x, s.x[i*size:(i+1)*size])
	y[0] = s.y[i]
}

func read(name string) (*source, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := &source{make([]float32, windows*steps*features), make([]float32, windows)}
	r := bufio.NewReader(f)
	if err := errors.Join(binary.Read(r, binary.LittleEndian, s.x), binary.Read(r, binary.LittleEndian, s.y)); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// peakMiB is the most that was resident so far, as Linux tells it.
func peakMiB() (float64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmHWM:" {
			kib, err := strconv.ParseFloat(f[1], 64)
			return kib / 1024, err
		}
	}
	return 0, errors.New("/proc/self/status has no VmHWM")
}
