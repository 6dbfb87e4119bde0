package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// A race is epochs of ours and of the peer, taken by turns on one thread and on
// two.
type race struct {
	peer   string
	racers []*racer
}

// A racer is one way to train the reference model.
type racer struct {
	name    string // a tier of ours, or the peer's
	threads int
	*trainer
	first   float64   // seconds of the epoch that does not count
	seconds []float64 // of the others
	peak    float64   // MiB
}

const turns = 5 // that count

// race runs one, once in the life of h.
func (h *house) race(ctx context.Context) (*race, error) {
	if h.raced != nil {
		return h.raced, nil
	}
	r := &race{}
	defer func() {
		for _, c := range r.racers {
			c.stop()
		}
	}()
	if err := r.enter(ctx, h); err != nil {
		return nil, err
	}
	h.logf("training by turns with %s", r.peer)
	if err := r.run(); err != nil {
		return nil, err
	}
	h.logf("%s", r)
	h.raced = r
	return r, nil
}

// enter starts the racers. The peer has two ways to use two threads: in all it
// does, and in OpenBLAS alone, as its own and those of OpenBLAS wait for each
// other's cores.
func (r *race) enter(ctx context.Context, h *house) error {
	for threads := 1; threads <= 2; threads++ {
		for _, tier := range []string{"avx512", "avx2"} {
			t, err := h.ours(ctx, 1, tier, threads)
			if errors.Is(err, errNeeds) {
				continue
			}
			if err != nil {
				return err
			}
			r.racers = append(r.racers, &racer{name: tier, threads: threads, trainer: t})
		}
		for own := 1; own <= threads; own++ {
			t, name, err := h.peer(ctx, 1, own, threads)
			if err != nil {
				return err
			}
			r.peer = name
			r.racers = append(r.racers, &racer{name: name, threads: threads, trainer: t})
		}
	}
	return nil
}

// run takes the turns. The first does not count; who needs three times the best
// of its name in it, as the peer's two threads can on a busy machine, does not
// take the others.
func (r *race) run() error {
	for _, c := range r.racers {
		e, err := c.epoch()
		if err != nil {
			return err
		}
		c.first, c.peak = e.Seconds, e.PeakMiB
	}
	racers := slices.DeleteFunc(slices.Clone(r.racers), func(c *racer) bool { return c.first > 3*r.best(c.name, 0).first })
	for range turns {
		for _, c := range racers {
			e, err := c.epoch()
			if err != nil {
				return err
			}
			c.seconds, c.peak = append(c.seconds, e.Seconds), e.PeakMiB
		}
	}
	return nil
}

// median is that of the seconds that count, or the first.
func (c *racer) median() float64 {
	if c.seconds == nil {
		return c.first
	}
	return median(c.seconds)
}

// best is the fastest racer of a name, on a number of threads or, if that is 0,
// on any; nil if there is none.
func (r *race) best(name string, threads int) (best *racer) {
	for _, c := range r.racers {
		if c.name == name && (threads == 0 || c.threads == threads) && (best == nil || c.median() < best.median()) {
			best = c
		}
	}
	return best
}

// String is the table of docs/training.md.
func (r *race) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d cores; seconds per epoch, medians of %d by turns\n", cpuName(), runtime.NumCPU(), turns)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\t1 thread\t2 threads\t2 threads, of the peer's best\tpeak MiB")
	peer := r.best(r.peer, 0).median()
	for _, one := range r.racers {
		if one.threads != 1 {
			continue
		}
		two := r.best(one.name, 2)
		name, ratio := one.name, "1"
		if name != r.peer {
			name, ratio = "sandpiper "+name, fmt.Sprintf("1/%.1f", peer/two.median())
		}
		fmt.Fprintf(w, "%s\t%.3f\t%.3f\t%s\t%.0f\n", name, one.median(), two.median(), ratio, max(one.peak, two.peak))
	}
	_ = w.Flush() // to a string
	return strings.TrimSuffix(b.String(), "\n")
}

// cpuName is what Linux calls the processor, with its family and model: some
// share their name.
func cpuName() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	values := map[string]string{}
	for line := range strings.Lines(string(info)) {
		if key, value, ok := strings.Cut(line, ":"); ok {
			values[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	if values["model name"] == "" {
		return runtime.GOARCH + " CPU"
	}
	return fmt.Sprintf("%s (family %s, model %s)", values["model name"], values["cpu family"], values["model"])
}
