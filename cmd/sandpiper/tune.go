package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/chart"
	"github.com/sandpiper-edge/sandpiper/controlplane/tune"
)

func newTuneCommand(a *app) *cobra.Command {
	var o api.TuneOptions
	var data dataArgs
	var budget time.Duration
	var publish bool
	f := newTrainFlags(&o.Train, &data)
	cmd := &cobra.Command{
		Use:   "tune MODEL --data FILE --task TASK --try-units 16,32,64",
		Short: "Search for the model that is accurate, small and fast enough",
		Long: `Search for the model that is accurate, small and fast enough.

Trials are drawn at random from what the --try flags span; everything else is as for
train. All are trained for a ninth of the epochs, the third with the lowest validation
loss goes on to a third of them, and a third of those to the end. The table on stdout
has the loss of each beside the bytes that a device fetches and the measured time of a
prediction; the test rows are not looked at before one is published. What a search
has done is kept: ` + "`sandpiper tuning`" + ` resumes, draws and publishes.`,
		Example: `  sandpiper tune power --data ETTh1.csv.gz --task forecast --time date --target OT \
      --try-units 16,32,64,128 --try-window 48,96 --try-lr 1e-4,1e-2 --budget 10m --tier generic`,
		Args: exactArgs("MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Train.Model, o.Budget = args[0], budget.Seconds()
			f.setChanged(&o.Train)
			if err := checkNumbers(cmd.Flags(), &o.Train); err != nil {
				return err
			}
			if budget < 0 {
				return usagef("--budget %v: use a time above 0, such as 10m", budget)
			}
			files, err := a.heldOutFiles(data)
			if err != nil {
				return err
			}
			return a.search(cmd.Context(), publish, func(ctx context.Context, c *api.Client, show func(api.Progress)) (tune.Study, error) {
				return c.Tune(ctx, o, files, show)
			})
		},
	}
	g := f.group("Search")
	g.IntSliceVar(&o.Space.Units, "try-units", nil, "units of every recurrent layer")
	g.IntSliceVar(&o.Space.Layers, "try-layers", nil, "numbers of recurrent layers")
	g.IntSliceVar(&o.Space.Window, "try-window", nil, "rows of a window")
	g.Float64SliceVar(&o.Space.LearningRate, "try-lr", nil, "least and largest learning rate, such as 1e-4,1e-2")
	g.Float64SliceVar(&o.Space.Dropout, "try-dropout", nil, "least and largest part that is dropped after each recurrent layer")
	g.IntVar(&o.Trials, "trials", 18, "how many configurations are tried")
	g.DurationVar(&budget, "budget", 0, "longest time to train, such as 10m; what is left is for `tuning resume`")
	g.StringVar(&o.Tier, "tier", "", "kernel tier that predictions are measured on (default the best of this machine)")
	g.BoolVar(&publish, "publish", false, "make the finished trial with the lowest validation loss a version")
	groupFlags(cmd, f.groups...)
	for _, name := range []string{"data", "task"} {
		_ = cmd.MarkFlagRequired(name)
	}
	a.addOutput(cmd)
	return cmd
}

// search follows a search and prints what came of it.
func (a *app) search(ctx context.Context, publish bool, do func(context.Context, *api.Client, func(api.Progress)) (tune.Study, error)) error {
	return a.with(ctx, func(ctx context.Context, c *api.Client) error {
		p := a.newProgress()
		s, err := do(ctx, c, p.show)
		p.done()
		study, _, begun := strings.Cut(p.run, "/")
		if err != nil && begun {
			a.notef("what %s has done is kept; go on with `sandpiper tuning resume %s`", study, study)
		}
		if err != nil {
			return err
		}
		switch {
		case s.State != tune.Done:
			a.notef("%s stopped: %s; go on with `sandpiper tuning resume %s`", s.ID, s.Reason, s.ID)
		case !publish:
			a.notef("publish one with `sandpiper tuning publish %s --trial N`", s.ID)
		}
		if err := a.printStudy(s); err != nil || !publish || s.State != tune.Done {
			return err
		}
		return a.publishTrial(ctx, c, s.ID, 0, false)
	})
}

func (a *app) printStudy(s tune.Study) error {
	return a.print(s, []string{s.ID}, func(g *grid) {
		g.row("search", s.ID)
		g.row("state", strings.TrimSuffix(s.State+": "+s.Reason, ": "))
		g.row("trained", fmt.Sprintf("%.0f s", s.Spent))
		g.header("trial", "", "units", "window", "lr", "dropout", "epochs", "validation loss", "bytes", "µs on "+s.Tier, "state", "version")
		for _, t := range s.Trials {
			mark := ""
			if t.Pareto {
				mark = "*"
			}
			g.row(t.N, mark, orDash(joinInts(t.Config.Units)), orZero(t.Config.Window), orZero(t.Config.LearningRate), orZero(t.Config.Dropout),
				t.Epochs, orZero(t.ValLoss), orZero(t.Bytes), orZero(t.US), orDash(strings.TrimSuffix(t.State+": "+brief(t.Error), ": ")), orDash(t.Version))
		}
		g.header("* no other trial is as good in loss, bytes and time")
	})
}

func joinInts(v []int) string {
	parts := make([]string, len(v))
	for i, n := range v {
		parts[i] = strconv.Itoa(n)
	}
	return strings.Join(parts, ",")
}

// orZero is a figure, or a dash for what is as it was or is not known yet.
func orZero[T int | float64](v T) string {
	if v == 0 {
		return "-"
	}
	return figure(float64(v))
}

func newTuningCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tuning",
		Short: "Look at, resume and publish from searches",
		Long:  "Look at, resume and publish from searches. ID is MODEL-tune-N, as `tuning ls` shows it.",
	}
	cmd.AddCommand(newTuningListCommand(a), newTuningShowCommand(a), newTuningPlotCommand(a),
		newTuningResumeCommand(a), newTuningPublishCommand(a), newTuningRemoveCommand(a))
	return cmd
}

func newTuningListCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List searches, oldest first",
		Args:  exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				all, err := c.Tunings(ctx)
				if err != nil {
					return err
				}
				names := make([]string, len(all))
				for i, s := range all {
					names[i] = s.ID
				}
				return a.print(all, names, func(g *grid) {
					g.header("search", "state", "trials", "begun", "trained")
					for _, s := range all {
						g.row(s.ID, s.State, len(s.Trials), ago(s.Created), fmt.Sprintf("%.0f s", s.Spent))
					}
				})
			})
		},
	}
	a.addOutput(cmd)
	return cmd
}

func newTuningShowCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show what the trials of a search gave",
		Args:  exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				s, err := c.Tuning(ctx, args[0])
				if err != nil {
					return err
				}
				return a.printStudy(s)
			})
		},
	}
	a.addOutput(cmd)
	return cmd
}

func newTuningPlotCommand(a *app) *cobra.Command {
	return newPlotCommand(a, "Draw the loss of the trials over bytes and time", "  sandpiper tuning plot power-tune-1 --out power.png",
		func(ctx context.Context, c *api.Client, id string) (*chart.Chart, error) {
			s, err := c.Tuning(ctx, id)
			if err != nil {
				return nil, err
			}
			return s.Chart()
		})
}

func newTuningResumeCommand(a *app) *cobra.Command {
	var budget time.Duration
	cmd := &cobra.Command{
		Use:   "resume ID",
		Short: "Go on with a search, to the same trials as if it had not stopped",
		Args:  exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if budget < 0 {
				return usagef("--budget %v: use a time above 0, such as 10m", budget)
			}
			return a.search(cmd.Context(), false, func(ctx context.Context, c *api.Client, show func(api.Progress)) (tune.Study, error) {
				return c.ResumeTuning(ctx, args[0], budget, show)
			})
		},
	}
	cmd.Flags().DurationVar(&budget, "budget", 0, "time to train from now on (default: as much as it had)")
	a.addOutput(cmd)
	return cmd
}

func newTuningPublishCommand(a *app) *cobra.Command {
	var trial int
	var force bool
	cmd := &cobra.Command{
		Use:   "publish ID",
		Short: "Make a trial the next version of its model",
		Long: `Make a trial the next version of its model, evaluated on the test rows, which the
search did not see. One that was dropped is first trained to its end.`,
		Args: exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if trial < 0 {
				return usagef("--trial %d: use the number of a trial, or 0 for the best", trial)
			}
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				return a.publishTrial(ctx, c, args[0], trial, force)
			})
		},
	}
	cmd.Flags().IntVar(&trial, "trial", 0, "its number (default: the finished one with the lowest validation loss)")
	cmd.Flags().BoolVar(&force, "force", false, "add the version even if int8 is worse than its task allows; its lineage then says who did")
	a.addOutput(cmd)
	return cmd
}

func (a *app) publishTrial(ctx context.Context, c *api.Client, id string, trial int, force bool) error {
	p := a.newProgress()
	report, err := c.PublishTrial(ctx, id, trial, force, p.show)
	p.done()
	if err != nil {
		return err
	}
	return a.printReport(report)
}

func newTuningRemoveCommand(a *app) *cobra.Command {
	return newRemoveCommand(a, "Remove searches with their data; versions published from them stay", (*api.Client).RemoveTuning)
}
