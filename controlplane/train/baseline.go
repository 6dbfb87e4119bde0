package train

import (
	"context"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/prepare"
)

// An evaluation is a set of windows and everything the baselines need.
type evaluation struct {
	scorer
	w     *dataset.Windows
	plan  *prepare.Plan
	setup *Setup
	skip  *kernel.Skip // of the model; nil: none
	reach int          // rows that neighbouring windows have in common, of tasks that judge rows or windows
	ends  []int        // of blocks of windows
}

// truth returns the targets of all windows in raw units, windows × outputs.
func (e *evaluation) truth() []float32 {
	n := e.w.Outputs()
	out := make([]float32, e.w.Len()*n)
	for i := range e.w.Len() {
		e.w.Target(i, out[i*n:][:n])
	}
	return out
}

// skipBaseline is the model without its network.
const skipBaseline = "skip"

// baselines scores every baseline that is at hand on the windows.
func (e *evaluation) baselines(ctx context.Context, truth []float32) (map[string]*score, error) {
	out := map[string]*score{}
	if n := len(e.setup.Mean); n > 0 && len(truth)%n == 0 {
		predicted := make([]float32, len(truth))
		for i := range predicted {
			predicted[i] = float32(e.setup.Mean[i%n])
		}
		out["mean"] = e.score(predicted, truth)
	}
	if e.task == Forecast {
		if predicted, ok := e.repeat(1); ok {
			out["repeat_last"] = e.score(predicted, truth)
		}
		if e.setup.Season > 1 {
			if predicted, ok := e.repeat(e.setup.Season); ok {
				out["repeat_season"] = e.score(predicted, truth)
			}
		}
	}
	if m := e.setup.Linear; m != nil && m.inputs == e.w.Shape.Window*e.plan.Inputs() && m.outputs == e.w.Outputs() {
		predicted, err := e.scaled(ctx, func(y, x []float32) error { m.predict(y, x); return nil })
		if err != nil {
			return nil, err
		}
		out["linear"] = e.score(predicted, truth)
	}
	if e.skip != nil {
		space := e.skip.NewSpace()
		predicted, err := e.scaled(ctx, func(y, x []float32) error { return e.skip.Add(space, y, x) })
		if err != nil {
			return nil, err
		}
		out[skipBaseline] = e.score(predicted, truth)
	}
	return out, nil
}

// repeat predicts for every step what stood a whole number of seasons before
// it, the latest such row that is known. ok is false if a window's group does
// not reach back that far.
func (e *evaluation) repeat(season int) (predicted []float32, ok bool) {
	n := e.w.Outputs()
	steps := e.w.Shape.Horizon
	targets := n / steps
	predicted = make([]float32, e.w.Len()*n)
	for i := range e.w.Len() {
		for h := range steps {
			back := (h/season+1)*season - h
			if !e.w.Before(i, back, predicted[i*n+h*targets:]) {
				return nil, false
			}
		}
	}
	return predicted, true
}

// scaled predicts every window by what f makes of it prepared, writing scaled
// outputs to y, which is zero before.
func (e *evaluation) scaled(ctx context.Context, f func(y, x []float32) error) ([]float32, error) {
	n := e.w.Outputs()
	predicted := make([]float32, e.w.Len()*n)
	x, raw := make([]float32, e.w.Shape.Window*e.plan.Inputs()), make([]float32, e.w.Inputs())
	last := raw[len(raw)-e.plan.Width():]
	for i := range e.w.Len() {
		if i%256 == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		y := predicted[i*n:][:n]
		e.w.Rows(i, raw)
		if err := e.plan.In(x, raw); err != nil {
			return nil, err
		}
		if err := f(y, x); err != nil {
			return nil, err
		}
		if err := e.plan.Out(y, y, last); err != nil {
			return nil, err
		}
	}
	return predicted, nil
}
