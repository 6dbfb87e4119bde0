package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sandpiper-edge/sandpiper/controlplane"
	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
)

func newDataDriftCommand(a *app) *cobra.Command {
	var o api.DataOptions
	cmd := &cobra.Command{
		Use:   "drift REFERENCE DATA…",
		Short: "Compare data with a reference, column by column",
		Long: `Compare data with a reference, such as last month's rows with those that a model was
trained on, column by column, as they are. PSI is the population stability index of
the reference's deciles: below 0.1 stable, from 0.25 on drifted. KS is the largest
distance of the distribution functions, with the probability that chance makes one as
large, were the rows independent; those of a series are not, so it is no verdict.`,
		Example: `  sandpiper data drift trained.csv today.csv --time time`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usagef("give a reference, and data to compare with it")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			files, err := a.heldOutFiles(dataArgs{data: args[:1], test: args[1:]})
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				d, err := c.CompareData(ctx, o, files)
				if err != nil {
					return err
				}
				return a.printDrift(d)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Time, "time", "", "column that orders the rows, or several, which are not compared (default: the first of timestamps)")
	f.StringVar(&o.Group, "group", "", "column of the group of a row, which is not compared")
	addReadFlags(f, &o.Data)
	a.addOutput(cmd)
	return cmd
}

func (a *app) printDrift(d dataset.Drift) error {
	var names []string
	for _, c := range d.Columns {
		names = append(names, c.Name)
	}
	return a.print(d, names, func(g *grid) {
		g.row("rows", fmt.Sprintf("%d of the reference, %d", d.Rows[0], d.Rows[1]))
		for _, n := range d.Notes {
			g.row("note", n)
		}
		g.header("column", "psi", "by chance", "ks", "p", "missing", "median", "verdict", "")
		for _, c := range d.Columns {
			g.row(c.Name, decimals(c.PSI), decimals(c.Noise), decimals(c.KS), figure(c.P),
				fmt.Sprintf("%s → %s", percent(c.Missing[0]), percent(c.Missing[1])),
				fmt.Sprintf("%s → %s", figure(c.Median[0]), figure(c.Median[1])), c.Verdict, c.Words)
		}
	})
}

func decimals(v float64) string { return strconv.FormatFloat(v, 'f', 3, 64) }

func percent(v float64) string { return strconv.FormatFloat(100*v, 'f', 1, 64) + " %" }

// drawInputs draws how far the inputs of a device's models have drifted.
func drawInputs(g *grid, inputs []controlplane.InputDrift) {
	if len(inputs) == 0 {
		return
	}
	g.header("model", "feature", "psi", "rows", "until", "verdict", "")
	for _, d := range inputs {
		g.row(d.Model, d.Feature, decimals(d.PSI), d.Rows, ago(d.Until), d.Verdict, d.Words)
	}
}
