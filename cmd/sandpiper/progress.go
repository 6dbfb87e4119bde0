package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
)

// progress shows a training run on stderr: one line that is redrawn on a
// terminal, a JSON document a line (NDJSON) elsewhere.
type progress struct {
	w        io.Writer
	terminal bool
	quiet    bool
	drawn    bool   // a line stands without its newline
	run      string // its ID, once it has one
}

func (a *app) newProgress() *progress {
	return &progress{w: a.stderr, terminal: isTerminal(a.stderr), quiet: a.quiet}
}

// show draws p.
func (s *progress) show(p api.Progress) {
	s.run = p.Run
	switch {
	case s.quiet:
	case s.terminal:
		fmt.Fprintf(s.w, "\r\x1b[K%s", progressLine(p))
		s.drawn = true
	default:
		_ = json.NewEncoder(s.w).Encode(p) // stderr that is gone is no reason to stop training
	}
}

// done ends the line.
func (s *progress) done() {
	if s.drawn {
		fmt.Fprintln(s.w)
	}
}

// progressLine is one line of at most 79 columns.
func progressLine(p api.Progress) string {
	if p.Stage == api.StageQueued {
		return "queued: another run trains; `sandpiper run ls` shows how far it is"
	}
	if p.Epoch == 0 {
		return fmt.Sprintf("%s … %.1f s", p.Stage, p.Seconds)
	}
	const width = 8
	full := min(width, width*p.Epoch/p.Epochs)
	bar := strings.Repeat("█", full) + strings.Repeat("░", width-full)
	line := fmt.Sprintf("%s %d/%d", bar, p.Epoch, p.Epochs)
	if p.SamplesPerSecond == 0 { // not the end of an epoch
		return fmt.Sprintf("%s  %s … %.1f s", line, p.Stage, p.Seconds)
	}
	line += fmt.Sprintf("  loss %.4g", p.Loss)
	if p.ValLoss != nil {
		line += fmt.Sprintf("  val %.4g", *p.ValLoss)
	}
	return fmt.Sprintf("%s  %.0f samples/s  ETA %s", line, p.SamplesPerSecond, eta(p.ETA))
}

// eta writes seconds as hours, minutes and seconds, such as 3m5s.
func eta(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
}
