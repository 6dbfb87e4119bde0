package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/sandpiper-edge/sandpiper/kernel/bench"
)

// stepSpago compares the plain Go step with spaGO's. They take turns of a few
// milliseconds, as a core's speed can change by half within a second.
func stepSpago(ctx context.Context, h *house) (string, error) {
	bin := filepath.Join(h.dir, "bin", "spago")
	build := h.command(ctx, "go", "build", "-o", bin, ".")
	build.Dir = filepath.Join(h.root, "kernel", "internal", "peers", "spago")
	if _, err := output(build); err != nil {
		return "", needs("spaGO does not build, or cannot be downloaded: %v", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	peer := h.command(ctx, bin)
	in, err := peer.StdinPipe()
	if err != nil {
		return "", err
	}
	out, err := peer.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := peer.Start(); err != nil {
		return "", err
	}
	defer func() { cancel(); _ = peer.Wait() }()

	lines := bufio.NewReader(out)
	var ratios, ours, theirs []float64
	for range 60 {
		if _, err := io.WriteString(in, "\n"); err != nil {
			return "", err
		}
		var us float64
		if _, err := fmt.Fscanln(lines, &us); err != nil {
			return "", fmt.Errorf("spaGO: %w", err)
		}
		rows, err := bench.Run(ctx, bench.Options{
			Hidden: []int{128}, Modes: []string{bench.Step}, Types: []string{"int8"}, Tiers: []string{"generic"}, Rounds: 5,
		})
		if err != nil {
			return "", err
		}
		ratios, ours, theirs = append(ratios, rows[0].US/us), append(ours, rows[0].US), append(theirs, us)
	}
	ratio := median(ratios)
	return fmt.Sprintf("%.2f: %.1f µs, spaGO %.1f", ratio, median(ours), median(theirs)), atMost(ratio, 1)
}
