package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// million is how many rows the claims about large files are of.
const million = 1_000_000

// millionRows writes a CSV of a million rows of 50 machines, a minute apart, with 8
// columns of readings beside the machine and the time, once a run.
func (h *house) millionRows() (string, error) {
	path := filepath.Join(h.dir, "million.csv")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	fmt.Fprintln(w, "unit,time,load,a,b,c,d,e,f,g")
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range million {
		wave := 10 * math.Sin(float64(i/50)/48)
		fmt.Fprintf(w, "m%d,%d,%.3f,%.3f,%.2f,%.3f,%d,%.4f,%.2f,%.1f\n", i%50, 1_700_000_000+60*(i/50),
			wave/2+rng.NormFloat64(), wave+rng.Float64(), 100*rng.Float64(), rng.NormFloat64(), i%97, rng.Float64(), 5*rng.Float64(), 40*rng.Float64())
	}
	return path, errors.Join(w.Flush(), f.Close())
}

// describeMillion takes the fastest of some runs, whole commands: on a machine with
// other work the others say little.
func describeMillion(ctx context.Context, h *house) (string, error) {
	const bar, tries = 2.0, 10
	data, err := h.millionRows()
	if err != nil {
		return "", err
	}
	s, err := h.newSite(ctx)
	if err != nil {
		return "", err
	}
	best := math.Inf(1)
	for range tries {
		start := time.Now()
		var d struct {
			Rows   int
			Groups int
		}
		if err := s.runJSON(ctx, &d, "data", "describe", data, "--group", "unit", "--time", "time"); err != nil {
			return "", err
		}
		if d.Rows != million || d.Groups != 50 {
			return "", fmt.Errorf("%d rows of %d groups", d.Rows, d.Groups)
		}
		if best = min(best, time.Since(start).Seconds()); best <= bar {
			break
		}
	}
	return fmt.Sprintf("%.2f s; %s", best, cpuName()), atMost(best, bar)
}

// trainMillion reads the largest resident memory from GNU time.
func trainMillion(ctx context.Context, h *house) (string, error) {
	timer, err := tool("time", "time")
	if err != nil {
		return "", err
	}
	data, err := h.millionRows()
	if err != nil {
		return "", err
	}
	s, err := h.newSite(ctx)
	if err != nil {
		return "", err
	}
	peak := filepath.Join(h.dir, "peak")
	out, err := output(h.command(ctx, timer, "-f", "%M", "-o", peak, s.bin, "train", "large", "--data", data, "--group", "unit", "--time", "time",
		"--task", "forecast", "--target", "load", "--window", "48", "--horizon", "12", "--stride", "10", "--units", "8", "--epochs", "1",
		"--seed", "1", "-o", "name", "--dir", s.dir))
	if err != nil {
		return "", err
	}
	if strings.TrimSpace(string(out)) != "large:v1" {
		return "", fmt.Errorf("train says %q", out)
	}
	b, err := os.ReadFile(peak)
	if err != nil {
		return "", err
	}
	kib, err := strconv.ParseFloat(strings.TrimSpace(string(b)), 64)
	if err != nil {
		return "", fmt.Errorf("GNU time says %q: %w", b, err)
	}
	return fmt.Sprintf("%.0f MiB", kib/1024), atMost(kib/1024, 200)
}
