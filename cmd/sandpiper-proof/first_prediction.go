package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/bench"
	"github.com/sandpiper-edge/sandpiper/kernel/bptt"
)

// firstPrediction starts a process that is nothing but the kernel ten times.
// Its clock starts before fork and exec; its memory is the peak, which has the
// float32 weights of the file beside the packed ones.
func firstPrediction(ctx context.Context, h *house) (string, error) {
	bin, err := h.build(ctx, nativeArch(), "./kernel/bench/firstprediction")
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(h.dir, "model-")
	if err != nil {
		return "", err
	}
	if err := writeReference(dir); err != nil {
		return "", err
	}
	var ms, mb []float64
	for range 10 {
		var r struct {
			FirstMS float64 `json:"first_ms"`
			PeakMB  float64 `json:"peak_mb"`
		}
		out, err := output(h.command(ctx, bin, dir, strconv.FormatInt(time.Now().UnixNano(), 10)))
		if err == nil {
			err = json.Unmarshal(out, &r)
		}
		if err != nil {
			return "", err
		}
		ms, mb = append(ms, r.FirstMS), append(mb, r.PeakMB)
	}
	first, peak := median(ms), median(mb)
	return fmt.Sprintf("%.1f ms, %.1f MB; slowest %.1f, largest %.1f", first, peak, ms[len(ms)-1], mb[len(mb)-1]),
		errors.Join(atMost(first, 10), atMost(peak, 6))
}

// writeReference writes the reference model and an input as bench.LoadDir
// reads them.
func writeReference(dir string) error {
	w, err := referenceWeights()
	if err != nil {
		return err
	}
	l := w.Layers
	var model []byte
	for _, v := range [][]float32{l[0].Kernel, l[0].Recurrent, l[0].Bias, l[1].Kernel, l[1].Bias} {
		if model, err = binary.Append(model, binary.LittleEndian, v); err != nil {
			return err
		}
	}
	x := make([]float32, bench.WindowSteps*w.Graph.Features)
	for i := range x {
		x[i] = float32(i%17)/8 - 1
	}
	input, err := binary.Append(nil, binary.LittleEndian, x)
	if err != nil {
		return err
	}
	units := w.Graph.Layers[0].Units
	return errors.Join(
		os.WriteFile(filepath.Join(dir, fmt.Sprintf("lstm_%d.bin", units)), model, 0o600),
		os.WriteFile(filepath.Join(dir, fmt.Sprintf("input_%d.bin", units)), input, 0o600))
}

// referenceWeights are those of the speed claims, LSTM(128) → Dense(1) on 8
// features, initial ones: the speed does not depend on them.
func referenceWeights() (*kernel.Weights, error) {
	return bptt.Init(kernel.Graph{Features: 8, Layers: []kernel.Layer{
		{Kind: kernel.LSTM, Units: 128}, {Kind: kernel.Dense, Units: 1},
	}}, 1)
}
