package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// epochOn compares an epoch on two cores with the peer's on one thread or two,
// whichever is faster.
func epochOn(tier string, bar float64) check {
	return func(ctx context.Context, h *house) (string, error) {
		r, err := h.race(ctx)
		if err != nil {
			return "", err
		}
		our := r.best(tier, 2)
		if our == nil {
			return "", needs("this CPU lacks %s", tier)
		}
		peer := r.best(r.peer, 0).median()
		ratio := our.median() / peer
		return fmt.Sprintf("1/%.1f: %.3f s, %s %.3f s on its best of 1 and 2 threads; %s", 1/ratio, our.median(), r.peer, peer, cpuName()),
			atMost(ratio, bar)
	}
}

// referenceEpoch runs the benchmark that trains beside an FMA loop, once a run,
// and returns its figures by unit.
func (h *house) referenceEpoch(ctx context.Context) (map[string]float64, error) {
	if h.benchmark != nil {
		return h.benchmark, nil
	}
	out, err := output(h.command(ctx, "go", "test", "-run=^$", "-bench=^BenchmarkReferenceEpoch$", "-benchtime=5s", "./kernel/bptt"))
	if err != nil {
		return nil, err
	}
	figures := map[string]float64{}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) == 0 || !strings.HasPrefix(f[0], "BenchmarkReferenceEpoch") {
			continue
		}
		for i := 2; i+1 < len(f); i += 2 {
			if figures[f[i+1]], err = strconv.ParseFloat(f[i], 64); err != nil {
				return nil, fmt.Errorf("benchmark says %q: %w", line, err)
			}
		}
	}
	h.benchmark = figures
	return figures, nil
}

// ofReferenceEpoch checks a figure of the benchmark that has to be at least bar.
func ofReferenceEpoch(unit, format string, bar float64) check {
	return func(ctx context.Context, h *house) (string, error) {
		figures, err := h.referenceEpoch(ctx)
		if err != nil {
			return "", err
		}
		v, ok := figures[unit]
		if !ok {
			return "", fmt.Errorf("the benchmark has no figure in %s", unit)
		}
		return fmt.Sprintf(format, v) + fmt.Sprintf("; an epoch %.3f s on one core, %.3f s on two", figures["s/epoch-1core"], figures["s/epoch-2cores"]), atLeast(v, bar)
	}
}

// trainingMemory trains three epochs in a process that does nothing else.
func trainingMemory(ctx context.Context, h *house) (string, error) {
	t, err := h.ours(ctx, 1, "", 2)
	if err != nil {
		return "", err
	}
	defer t.stop()
	e, err := t.epochs(3)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%.1f MiB", e.PeakMiB), atMost(e.PeakMiB, 64)
}

// lossAfterTen compares the loss of the tenth epoch with the peer's, over seeds
// that give both their own initial weights and order of the same data, by
// Welch's interval of 95 % for a difference of means (Welch 1947). It leaves out
// 0 once in 20 even if nothing differs: of ten seeds alone, those from 1 to 10
// did, those from 11 and from 21 did not.
func lossAfterTen(ctx context.Context, h *house) (string, error) {
	const seeds = 30
	var ours, theirs []float64
	var peer string
	for seed := 1; seed <= seeds; seed++ {
		h.logf("training 10 epochs, seed %d of %d", seed, seeds)
		var t *trainer
		var err error
		if t, peer, err = h.peer(ctx, seed, 1, 1); err != nil {
			return "", err
		}
		if theirs, err = appendTenthLoss(theirs, t); err != nil {
			return "", err
		}
		if t, err = h.ours(ctx, seed, "", 2); err != nil {
			return "", err
		}
		if ours, err = appendTenthLoss(ours, t); err != nil {
			return "", err
		}
	}
	difference, half := welch(ours, theirs, 0.95)
	figure := fmt.Sprintf("%.5f, %s %.5f: difference %+.5f, interval of 95 %% ± %.5f", stat.Mean(ours, nil), peer, stat.Mean(theirs, nil), difference, half)
	if math.Abs(difference) > half {
		return figure, errors.New("0 is outside the interval")
	}
	return figure, nil
}

// appendTenthLoss trains ten epochs, ends the trainer and appends the last loss.
func appendTenthLoss(losses []float64, t *trainer) ([]float64, error) {
	defer t.stop()
	e, err := t.epochs(10)
	return append(losses, e.Loss), err
}

// welch returns the difference of the means of a and b, and half the width of
// its confidence interval, for samples of unequal variance.
func welch(a, b []float64, confidence float64) (difference, half float64) {
	am, av := stat.MeanVariance(a, nil)
	bm, bv := stat.MeanVariance(b, nil)
	ae, be := av/float64(len(a)), bv/float64(len(b))
	freedom := (ae + be) * (ae + be) / (ae*ae/float64(len(a)-1) + be*be/float64(len(b)-1))
	t := distuv.StudentsT{Sigma: 1, Nu: freedom}.Quantile((1 + confidence) / 2)
	return am - bm, t * math.Sqrt(ae+be)
}

// tests runs the named tests of a package and wants every one to pass: a test
// that is gone counts as one that failed.
func tests(pkg string, names ...string) check {
	return func(ctx context.Context, h *house) (string, error) {
		run := "-run=^(" + strings.Join(names, "|") + ")$"
		out, err := output(h.command(ctx, "go", "test", "-count=1", "-v", run, pkg))
		if err != nil {
			return "", fmt.Errorf("%w: %s", err, out[max(0, len(out)-1500):])
		}
		for _, name := range names {
			if !strings.Contains(string(out), "\n--- PASS: "+name+" ") {
				return "", fmt.Errorf("%s has no test %s that passed", pkg, name)
			}
		}
		return fmt.Sprintf("%d tests, %d cases passed", len(names), strings.Count(string(out), "    --- PASS: ")), nil
	}
}

// sameBitsTests train on one core and on two, and runs cut at random steps.
var sameBitsTests = []string{
	"TestFitIsTheSameOnOneAndTwoCores", "TestEveryOptimizerIsTheSameOnOneAndTwoCores", "TestMixedStackIsTheSameOnOneAndTwoCores",
	"TestDropoutIsTheSameOnOneAndTwoCores", "TestStatefulTrainingIsTheSameOnOneAndTwoCores", "TestResumedRunsEqualUninterrupted",
}

// golden runs the tests on golden vectors, and where Debian's torch is
// installed checks that the script still gives them.
func golden(ctx context.Context, h *house) (string, error) {
	figure, err := tests("./kernel/bptt", "TestGoldenLosses", "TestGoldenOptimizers", "TestGoldenSchedules",
		"TestGoldenCallbacks", "TestGoldenInitializers", "TestGoldenRuns")(ctx, h)
	if err != nil {
		return figure, err
	}
	if !h.hasTorch(ctx) {
		return figure + "; the script that makes the data was not run, it needs Debian's python3-torch", nil
	}
	script := filepath.Join(h.root, "kernel", "bptt", "testdata", "golden", "golden.py")
	if _, err := output(h.command(ctx, debianPython, script, "--check")); err != nil {
		return figure, err
	}
	return figure + "; the script gives the same data", nil
}

// turbofanSeeds trains the FD001 model with five seeds.
func turbofanSeeds(ctx context.Context, h *house) (string, error) {
	var rmse, seconds []float64
	var each []string
	for seed := 1; seed <= 5; seed++ {
		t, err := h.trainTurbofan(ctx, seed)
		if err != nil {
			return "", err
		}
		seconds = append(seconds, t.took.Seconds())
		rmse = append(rmse, t.report.Metrics.Int8["rmse"])
		each = append(each, fmt.Sprintf("%.2f", t.report.Metrics.Int8["rmse"]))
	}
	mean, deviation := stat.MeanStdDev(rmse, nil)
	slowest := slices.Max(seconds)
	return fmt.Sprintf("RMSE %.2f ± %.2f (%s), int8; slowest seed %.0f s", mean, deviation, strings.Join(each, ", "), slowest),
		errors.Join(atMost(mean, 15.4), atMost(slowest, 120))
}
