package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

func nativeArch() string { return runtime.GOARCH }

// demo runs the demo to its end and returns how long its first line and all of
// it took, and what it printed.
func (h *house) demo(ctx context.Context) (first, all time.Duration, story string, err error) {
	bin, err := h.build(ctx, nativeArch(), "./cmd/sandpiper")
	if err != nil {
		return 0, 0, "", err
	}
	dir, err := os.MkdirTemp(h.dir, "demo-")
	if err != nil {
		return 0, 0, "", err
	}
	cmd := h.command(ctx, bin, "demo", "--exit", "--dir", filepath.Join(dir, "demo"))
	pr, pw := io.Pipe()
	cmd.Stdout, cmd.Stderr = pw, pw
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, "", err
	}
	waited := make(chan error, 1)
	go func() { waited <- cmd.Wait(); _ = pw.Close() }()
	var b strings.Builder
	for in := bufio.NewScanner(pr); in.Scan(); {
		if first == 0 && strings.TrimSpace(in.Text()) != "" {
			first = time.Since(begin)
		}
		b.WriteString(in.Text() + "\n")
	}
	return first, time.Since(begin), b.String(), <-waited
}

func demoFirstLine(ctx context.Context, h *house) (string, error) {
	var seconds []float64
	for range 3 {
		first, _, story, err := h.demo(ctx)
		if err != nil {
			return "", fmt.Errorf("%w: %s", err, story)
		}
		seconds = append(seconds, first.Seconds())
	}
	m := median(seconds)
	return fmt.Sprintf("%.2f s", m), atMost(m, 2)
}

// demoStory checks that the demo tells every step and how long that takes.
func demoStory(ctx context.Context, h *house) (string, error) {
	_, all, story, err := h.demo(ctx)
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, story)
	}
	for _, step := range []string{"25 ", "repeat_last", "linear", "int8", "v1", "v2", "back", "mosquitto_rr", "sandpiper predict"} {
		if !strings.Contains(story, step) {
			return "", fmt.Errorf("the story never says %q:\n%s", step, story)
		}
	}
	return fmt.Sprintf("%.1f s on %d cores", all.Seconds(), runtime.NumCPU()), atMost(all.Seconds(), 60)
}

// readme runs the two commands of the README in a fresh clone.
func readme(ctx context.Context, h *house) (string, error) {
	clone := filepath.Join(h.dir, "clone")
	if _, err := output(h.command(ctx, "git", "clone", "-q", h.root, clone)); err != nil {
		return "", err
	}
	page, err := os.ReadFile(filepath.Join(clone, "README.md"))
	if err != nil {
		return "", err
	}
	for _, line := range []string{"go run ./cmd/sandpiper demo", "go test ./..."} {
		if !strings.Contains(string(page), "\n"+line+"\n") {
			return "", errors.New("the README does not have the line " + line)
		}
	}
	var took []string
	for _, args := range [][]string{{"run", "./cmd/sandpiper", "demo", "--exit"}, {"test", "./..."}} {
		cmd := h.command(ctx, "go", args...)
		cmd.Dir = clone
		begin := time.Now()
		if out, err := output(cmd); err != nil {
			return "", fmt.Errorf("%w: %s", err, out[max(0, len(out)-600):])
		}
		took = append(took, fmt.Sprintf("go %s %.0f s", args[0], time.Since(begin).Seconds()))
	}
	return strings.Join(took, ", "), nil
}
