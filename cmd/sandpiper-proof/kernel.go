package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/bench"
)

// reference returns the model of referenceWeights.
func reference() (*kernel.Model, error) {
	w, err := referenceWeights()
	if err != nil {
		return nil, err
	}
	q, err := kernel.Quantize(w)
	if err != nil {
		return nil, err
	}
	return kernel.NewInt8(q)
}

// measured is the kernel's measurement of one case, H = 128 and F = 8.
func measured(ctx context.Context, mode, typ, tier string) (bench.Row, error) {
	if !slices.Contains(kernel.Tiers(), tier) {
		return bench.Row{}, needs("this CPU lacks the tier %s", tier)
	}
	rows, err := bench.Run(ctx, bench.Options{
		Hidden: []int{128}, Modes: []string{mode}, Types: []string{typ}, Tiers: []string{tier},
	})
	if err != nil {
		return bench.Row{}, err
	}
	return rows[0], nil
}

func stepGeneric(ctx context.Context, _ *house) (string, error) {
	r, err := measured(ctx, bench.Step, "int8", "generic")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%.1f µs", r.US), atMost(r.US, 30)
}

// ratio checks a case against its line.
func ratio(mode, typ string, bar float64) func(context.Context, *house) (string, error) {
	return func(ctx context.Context, _ *house) (string, error) {
		r, err := measured(ctx, mode, typ, "avx512vnni")
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%.2f: %.2f µs, line %.2f", r.Ratio, r.US, r.LineUS), atMost(r.Ratio, bar)
	}
}

// batchInt8 checks the batch against the CPU's own peak: half a millisecond is
// 2.24 times its products on a CPU of 940 GOP/s (docs/kernel.md). On a shared
// machine the ratio moves by a tenth in phases of a second, so it is the median
// of ten runs that take four together.
func batchInt8(context.Context, *house) (string, error) {
	const operations = bench.BatchWindows * bench.WindowSteps * 128 * 4 * 128 * 2
	var ratios, ms, peak []float64
	for range 10 {
		r, err := bench.BatchOverPeak(128)
		if errors.Is(err, kernel.ErrTier) {
			return "", needs("%v", err)
		}
		if err != nil {
			return "", err
		}
		ratios, ms, peak = append(ratios, r.Ratio), append(ms, r.US/1e3), append(peak, operations/r.LineUS/1e3)
	}
	ratio := median(ratios)
	return fmt.Sprintf("%.2f (%.2f to %.2f): %.2f ms, peak %.0f GOP/s", ratio, ratios[0], ratios[len(ratios)-1], median(ms), median(peak)),
		atMost(ratio, 2.24)
}

func stepAVX2(ctx context.Context, _ *house) (string, error) {
	r, err := measured(ctx, bench.Step, "int8", "avx2")
	if err != nil {
		return "", err
	}
	best, err := measured(ctx, bench.Step, "int8", "avx512vnni")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%.2f: %.2f µs, %.2f", r.US/best.US, r.US, best.US), atMost(r.US/best.US, 2.2)
}

func allocations(context.Context, *house) (string, error) {
	m, err := reference()
	if err != nil {
		return "", err
	}
	s := m.NewState()
	const steps, n = 50, 32
	window, y := make([]float32, steps*8), make([]float32, n)
	windows := make([]float32, n*steps*8)
	var figures []string
	var total float64
	for _, mode := range []struct {
		name string
		run  func() error
	}{
		{"step", func() error { return m.Step(s, y[:1], window[:8]) }},
		{"window", func() error { return m.Predict(s, y[:1], window) }},
		{"batch", func() error { return m.PredictBatch(s, y, windows, n) }},
	} {
		var failed error
		a := testing.AllocsPerRun(20, func() {
			if err := mode.run(); err != nil {
				failed = err
			}
		})
		if failed != nil {
			return "", failed
		}
		total += a
		figures = append(figures, fmt.Sprintf("%s %.0f", mode.name, a))
	}
	return strings.Join(figures, ", "), atMost(total, 0)
}

// sameBits runs the kernel's tests, which compare every mode with the oracle
// and the digests of seeded models with constants, on every architecture.
func sameBits(ctx context.Context, h *house) (string, error) {
	var done []string
	for _, on := range []struct{ goarch, emulator string }{
		{"amd64", ""}, {"386", ""}, {"arm64", "qemu-aarch64"}, {"arm", "qemu-arm"}, {"riscv64", "qemu-riscv64"},
	} {
		args := []string{"test", "-count=1"}
		if on.emulator != "" {
			emulator, err := tool(on.emulator, "qemu-user")
			if err != nil {
				return "", err
			}
			args = append(args, "-exec", emulator)
		}
		cmd := h.command(ctx, "go", append(args, "./kernel/")...)
		cmd.Env = append(cmd.Env, "GOARCH="+on.goarch, "GOARM=7")
		if out, err := output(cmd); err != nil {
			return on.goarch, fmt.Errorf("%w: %s", err, out[max(0, len(out)-600):])
		}
		done = append(done, on.goarch)
	}
	return strings.Join(done, ", ") + " equal", nil
}
