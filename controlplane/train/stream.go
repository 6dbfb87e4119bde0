package train

import (
	"context"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/bptt"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// States, of Options.State.
const (
	Window = artifact.StateWindow
	Stream = artifact.StateStream
)

// States are those that there are, the default first.
var States = []string{Window, Stream}

// chainWindows is how many windows in a row carry the state on in training. What
// is learned has to hold for states of any age: a device starts anywhere in a
// series, and after an update its state is that of the last rows alone. Chains of
// whole groups teach the network to count from the group's start: on the test file
// of C-MAPSS FD001 the RMSE was 19.7, with chains of 4 it was 14.6.
const chainWindows = 4

func (o Options) checkState() error {
	switch {
	case !slices.Contains(States, o.State):
		return unknown("state", o.State, States)
	case o.State == Stream && o.Pad:
		return fmt.Errorf("%w: padding is for windows; a stream model takes a group from its first row", ErrOptions)
	case o.State == Stream && o.Skip:
		return fmt.Errorf("%w: a skip path is for windows; a stream model has the state alone", ErrOptions)
	}
	return nil
}

// learned is g as it is trained. A stream model answers after every row, so
// every row's answer is learned; what it runs as answers once for the rows it is
// given, with the same weights.
func (o Options) learned(g kernel.Graph) kernel.Graph {
	if o.State == Stream {
		g = g.Clone()
		g.Layers[g.Recurrent()-1].Sequences = true
	}
	return g
}

// streams are the training and validation rows of a stream model, nil for a window
// model; validation may be nil.
type streams struct{ train, validation *dataset.Stream }

func (r *run) prepareStreams(limit float32) (err error) {
	if r.o.State != Stream {
		return nil
	}
	shape := r.o.shape()
	shape.Stride = r.o.Stride
	if r.streams.train, err = r.learned.NewStream(r.parts.Train, shape, chainWindows, r.plan, limit); err != nil {
		return fmt.Errorf("training rows: %w", err)
	}
	if r.validation == nil {
		return nil
	}
	shape.Stride = shape.Window // each row once, in a state as old as can be
	if r.streams.validation, err = r.table.NewStream(r.parts.Validation, shape, 0, r.plan, limit); err != nil {
		return fmt.Errorf("validation rows: %w", err)
	}
	if n := r.streams.validation.Short(); n > r.validation.Short {
		r.warn("%d validation groups have fewer rows than a window and are no part of the validation loss", n)
	}
	return nil
}

// sources are what the network is trained and validated on; val may be nil.
func (r *run) sources() (src, val bptt.Source, err error) {
	src, val = r.plainSources()
	src, err = r.weightClasses(src)
	return src, val, err
}

func (r *run) plainSources() (src, val bptt.Source) {
	switch s := r.streams; {
	case s.validation != nil:
		return r.weightedStream(s.train), r.weightedStream(s.validation)
	case s.train != nil:
		return r.weightedStream(s.train), nil
	case r.val != nil:
		return r.weighted(r.src), r.weighted(r.val)
	}
	return r.weighted(r.src), nil
}

// predict predicts the end of every window, windows × outputs: of a window
// model from its rows, of a stream model with the state that all rows of its group
// up to there leave.
func (e *evaluated) predict(ctx context.Context, p *predictor.Predictor) ([]float32, error) {
	if !p.Stateful() {
		return predictAll(ctx, p, e.windows)
	}
	w, n := e.windows, e.windows.Outputs()
	out := make([]float32, w.Len()*n)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	first := 0 // of a group
	for i := range w.Len() {
		if end := i + 1; end == w.Len() || !follows(w, end) {
			lo, part := first, out[first*n:end*n]
			g.Go(func() error { return predictStream(ctx, p, e.table, w, lo, part) })
			first = end
		}
	}
	return out, g.Wait()
}

// follows reports whether window i ends behind window i−1 in the same group.
func follows(w *dataset.Windows, i int) bool {
	group, last := w.Span(i)
	before, end := w.Span(i - 1)
	return group == before && last > end
}

// predictStream streams a group from its first row and fills out with the
// outputs at the ends of the windows from window i.
func predictStream(ctx context.Context, p *predictor.Predictor, t *dataset.Table, w *dataset.Windows, i int, out []float32) error {
	s, err := p.NewStream()
	if err != nil {
		return err
	}
	features, n := len(t.Features), w.Outputs()
	row, _ := w.Span(i)
	for ; len(out) > 0; i, out = i+1, out[n:] {
		for _, last := w.Span(i); row <= last; row++ {
			if row%256 == 0 && ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := s.Step(out[:n], t.X[row*features:][:features]); err != nil {
				return fmt.Errorf("row at %s of group %q: %w", t.Time(row), w.Group(i), err)
			}
		}
	}
	return nil
}
