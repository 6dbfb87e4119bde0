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
	var data string
	var int8Bound float64
	cmd := &cobra.Command{
		Use:   "train MODEL --data FILE --task TASK",
		Short: "Train a model from a CSV file and add it as the next version",
		Long: `Train a model from a CSV file and add it as the next version of MODEL.

Names and defaults are Keras's. The report on stdout has the float32 network, its
int8 form and the baselines on the same rows; progress goes to stderr. Each epoch
is kept: after an interruption ` + "`sandpiper run resume`" + ` goes on.`,
		Example: `  sandpiper train turbofan --data train.csv.gz --task rul --group unit --time cycle \
      --rul-cap 125 --window 30 --units 128 --epochs 20 --seed 1 -o json
  sandpiper train power --data ETTh1.csv.gz --task forecast --time date --target OT \
      --features OT --window 96 --horizon 24 --split 8640,2880,2880 --anchor last`,
		Args: exactArgs("MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Model = args[0]
			if cmd.Flags().Changed("int8-bound") {
				o.Int8Bound = &int8Bound
			}
			return a.follow(cmd.Context(), data, func(ctx context.Context, c *api.Client, f api.File, show func(api.Progress)) (json.RawMessage, error) {
				return c.Train(ctx, o, f, show)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&data, "data", "", "CSV or CSV.gz file, or - for stdin")
	f.StringVar(&o.Task, "task", "", "what to learn: forecast or rul (remaining useful life)")
	f.StringVar(&o.Group, "group", "", "column whose values windows never cross, such as the machine's id")
	f.StringVar(&o.Time, "time", "", "column that orders the rows of a group")
	f.StringSliceVar(&o.Targets, "target", nil, "columns to predict")
	f.StringSliceVar(&o.Features, "features", nil, "columns to read (default: every numeric one)")
	f.Float64Var(&o.RULCap, "rul-cap", 0, "largest remaining life that is learned")
	f.IntVar(&o.Window, "window", 0, "rows of a window (default 30 for rul, 96 for forecast)")
	f.IntVar(&o.Stride, "stride", 0, "rows from one training window to the next (default 1)")
	f.IntVar(&o.Horizon, "horizon", 0, "of forecast: rows ahead (default 24)")
	f.BoolVar(&o.Pad, "pad", false, "of rul: pad windows of short groups with their first row")
	f.StringVar(&o.Split, "split", "", "of forecast: training, validation and test part, rows or fractions (default 0.7,0.1,0.2 with a gap)")
	f.Float64Var(&o.Validation, "validation", 0, "of rul: fraction of whole groups held out (default 0.15; -1: none)")
	f.StringVar(&o.Anchor, "anchor", "", "last: subtract the window's last value and add it back")
	f.IntVar(&o.Season, "season", 0, "rows of one season, for the baseline that repeats it")
	f.IntSliceVar(&o.Units, "units", nil, "units of each LSTM layer (default 128)")
	f.IntVar(&o.Epochs, "epochs", 0, "passes over the training windows (default 20)")
	f.IntVar(&o.Batch, "batch", 0, "windows of a mini-batch (default 32)")
	f.Float64Var(&o.LearningRate, "lr", 0, "learning rate of Adam (default 0.001)")
	f.Float32Var(&o.ClipNorm, "clip-norm", 0, "bound on the norm of the whole gradient (default 1; negative: none)")
	f.IntVar(&o.Patience, "patience", 0, "epochs without a better validation loss before training stops; 0: never")
	f.Uint64Var(&o.Seed, "seed", 0, "seed: the same seed gives the same model")
	f.Float64Var(&int8Bound, "int8-bound", 0, "how much worse the int8 model's figure may be, as a fraction of float32's (default 0.01, or 0.1 rows of rul, or 0.001 of a forecast's variance)")
	f.BoolVar(&o.Force, "force", false, "add the version even if int8 is worse than that; its lineage then says who did")
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
	return a.print(raw, []string{r.Version}, func(g *grid) {
		g.row("version", r.Version)
		g.row("task", r.Task)
		g.row("rows", r.Evaluated)
		g.row("items", r.Items)
		g.row("seconds", strconv.FormatFloat(r.Seconds, 'f', 1, 64))
		if r.Quantization != nil {
			g.row("int8 check", int8Check(r))
		}
		drawMetrics(g, r)
	})
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
	g.header(append([]string{"metric", "float32", "int8"}, baselines...)...)
	for _, m := range slices.Sorted(maps.Keys(r.Metrics.Int8)) {
		cells := []any{m, lookup(r.Metrics.Float32, m), lookup(r.Metrics.Int8, m)}
		for _, b := range baselines {
			cells = append(cells, lookup(r.Baselines[b], m))
		}
		g.row(cells...)
	}
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
