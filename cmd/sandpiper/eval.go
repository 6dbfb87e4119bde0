package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
)

func newEvalCommand(a *app) *cobra.Command {
	var data []string
	var truth, plot string
	var o api.EvalOptions
	cmd := &cobra.Command{
		Use:   "eval REF --data FILE",
		Short: "Evaluate a version on data",
		Long: `Evaluate a version, NAME, NAME:vN or NAME:ALIAS, on data: the float32 network,
its int8 form and the baselines on the same rows. The data are read and cleaned as
those of the training were, unless a flag says otherwise.`,
		Args: exactArgs("REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			files, err := a.dataFiles(data)
			if err != nil {
				return err
			}
			if err := a.checkReadable(truth); err != nil {
				return err
			}
			e := api.Evaluation{Ref: args[0], EvalOptions: o, Data: files}
			e.Predictions = e.Predictions || plot != ""
			if truth != "" {
				file := a.upload(truth)
				e.Truth = &file
			}
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				report, err := c.Evaluate(ctx, e)
				if err != nil {
					return err
				}
				if plot != "" {
					if report, err = a.plotReport(report, plot, o.Predictions); err != nil {
						return err
					}
				}
				return a.printReport(report)
			})
		},
	}
	f := cmd.Flags()
	addDataFlag(f, &data)
	f.StringVar(&truth, "truth", "", "CSV file with the truth of each group, for rul")
	f.StringVar(&plot, "plot", "", "draw the predictions into this `folder`, as SVG and PNG")
	f.BoolVar(&o.Predictions, "predictions", false, "add every prediction to the JSON report")
	f.StringVar(&o.Time, "time", "", "column that orders the rows of a group (default: as in training)")
	f.StringVar(&o.Group, "group", "", "column whose values windows never cross (default: as in training)")
	f.Float64Var(&o.RULCap, "rul-cap", 0, "largest remaining life (default: as in training)")
	f.IntVar(&o.Season, "season", 0, "rows of one season, for the baseline that repeats it (default: as in training)")
	f.StringVar(&o.Split, "split", "", "evaluate the test part of this split, or the validation part if it has none")
	f.StringVar(&o.SplitBy, "split-by", "", "of that split: time or group (default time)")
	addReadFlags(f, &o.Data)
	addCleanFlags(f, &o.Data)
	_ = cmd.MarkFlagRequired("data")
	a.addOutput(cmd)
	return cmd
}
