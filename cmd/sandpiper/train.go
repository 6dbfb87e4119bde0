package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/train"
)

func newTrainCommand(a *app) *cobra.Command {
	var o api.TrainOptions
	var data dataArgs
	f := newTrainFlags(&o, &data)
	cmd := &cobra.Command{
		Use:   "train MODEL --data FILE --task TASK",
		Short: "Train a model from data and add it as the next version",
		Long: `Train a model from data and add it as the next version of MODEL.

Names and defaults are Keras's unless said otherwise. The report on stdout has the
float32 network, its int8 form and the baselines on the same rows; progress goes to
stderr. Each epoch is kept: after an interruption ` + "`sandpiper run resume`" + ` goes on.`,
		Example: `  sandpiper train turbofan --data train.csv.gz --task rul --group unit --time cycle \
      --rul-cap 125 --window 30 --units 128 --epochs 20 --seed 1 -o json
  sandpiper train power --data ETTh1.csv.gz --task forecast --time date --target OT \
      --features OT --window 96 --horizon 24 --split 8640,2880,2880 --anchor last`,
		Args: exactArgs("MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Model = args[0]
			f.setChanged(&o)
			if err := checkNumbers(cmd.Flags(), &o); err != nil {
				return err
			}
			if f.eachFile {
				return a.trainEach(cmd.Context(), o, data)
			}
			return a.follow(cmd.Context(), "", data, func(ctx context.Context, c *api.Client, f []api.File, show func(api.Progress)) (json.RawMessage, error) {
				return c.Train(ctx, o, f, show)
			})
		},
	}
	groupFlags(cmd, f.groups...)
	for _, name := range []string{"data", "task"} {
		_ = cmd.MarkFlagRequired(name)
	}
	a.addOutput(cmd)
	return cmd
}

// printReport prints a report of train or eval, as JSON the control plane's own.
func (a *app) printReport(raw json.RawMessage) error {
	r, err := train.ParseReport(raw)
	if err != nil {
		return err
	}
	for _, w := range r.Warnings {
		a.notef("warning: %s", w)
	}
	a.noteVerdict(r.Model, r)
	return a.print(raw, []string{r.Version}, func(g *grid) {
		g.row("version", r.Version)
		g.row("task", r.Task)
		g.row("rows", r.Evaluated)
		g.row("items", r.Items)
		g.row("state", orDash(r.State))
		g.row("seconds", strconv.FormatFloat(r.Seconds, 'f', 1, 64))
		if r.Quantization != nil {
			g.row("int8 check", int8Check(r))
		}
		if r.Verdict != nil {
			g.row("verdict", r.Verdict.Text)
		}
		drawMetrics(g, r)
	})
}

// noteVerdict warns of a model that should not, or not yet, be shipped.
func (a *app) noteVerdict(name string, r *train.Report) {
	if v := r.Verdict; v != nil && v.Worth != train.WorthYes {
		a.notef("warning: %s %s", name, v.Text)
	}
}

// noteVerdictOf is noteVerdict of a version that is about to reach devices. What
// is wrong with asking for it, the command itself will say.
func (a *app) noteVerdictOf(ctx context.Context, c *api.Client, ref string) {
	v, err := c.Version(ctx, ref)
	if err != nil || v.Report == nil {
		return
	}
	if r, err := train.ParseReport(v.Report); err == nil {
		a.noteVerdict(v.Ref, r)
	}
}

// int8Check says how the int8 model stands to its bound.
func int8Check(r *train.Report) string {
	g := r.Quantization.Gate
	verdict := "passed"
	if !g.Passed {
		verdict = "refused"
	}
	return fmt.Sprintf("%s: %s %s, at most %s", verdict, g.Metric, lookup(r.Metrics.Int8, g.Metric), figure(g.Allowed(r.Metrics.Float32[g.Metric])))
}

// drawTensors draws the error of each tensor that became int8.
func drawTensors(g *grid, q *train.Quantization) {
	g.header("int8 tensor", "shape", "largest error", "rms error, % of rms")
	for _, t := range q.Tensors {
		g.row(t.Name, fmt.Sprintf("%d×%d", t.Shape[0], t.Shape[1]), figure(t.Max), strconv.FormatFloat(100*t.RMS, 'f', 3, 64))
	}
}

// drawMetrics draws one row for each metric and one column for each predictor.
func drawMetrics(g *grid, r *train.Report) {
	baselines := slices.Sorted(maps.Keys(r.Baselines))
	head := []string{"metric", "float32", "int8"}
	if r.Intervals != nil {
		head = append(head, "95 %")
	}
	g.header(append(head, baselines...)...)
	for _, m := range slices.Sorted(maps.Keys(r.Metrics.Int8)) {
		cells := []any{m, lookup(r.Metrics.Float32, m), lookup(r.Metrics.Int8, m)}
		if r.Intervals != nil {
			cell := "-"
			if i, ok := r.Intervals[m]; ok {
				cell = between(i)
			}
			cells = append(cells, cell)
		}
		for _, b := range baselines {
			cells = append(cells, lookup(r.Baselines[b], m))
		}
		g.row(cells...)
	}
}

// between writes an interval with three significant digits.
func between(i train.Interval) string {
	short := func(f train.Figure) string { return strconv.FormatFloat(float64(f), 'g', 3, 64) }
	return short(i[0]) + " to " + short(i[1])
}

func lookup(metrics train.Metrics, name string) string {
	v, ok := metrics[name]
	if !ok {
		return "-"
	}
	return figure(v)
}

// figure writes v with five significant digits, without an exponent where that
// is readable.
func figure(v float64) string {
	if a := math.Abs(v); a >= 1e5 && a < 1e15 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 5, 64)
}
