package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry"
)

func newModelCompareCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "compare FROM TO",
		Short:   "Show how two versions differ, and what devices fetch to get from one to the other",
		Example: `  sandpiper model compare pump:v7 pump:v8`,
		Args:    exactArgs("FROM", "TO"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				d, err := c.CompareModels(ctx, args[0], args[1])
				if err != nil {
					return err
				}
				return a.print(d, []string{d.From, d.To}, func(g *grid) { drawDifference(g, d) })
			})
		},
	}
	a.addOutput(cmd)
	return cmd
}

func drawDifference(g *grid, d registry.Comparison) {
	g.row("from", d.From)
	g.row("to", d.To)
	g.row("a device with "+d.From+" fetches", fmt.Sprintf("%d bytes (%s)", d.Bytes, d.Kind))
	g.row("one without", fmt.Sprintf("%d bytes (full)", d.Full))
	g.header("metric, int8", d.From, d.To)
	for _, m := range d.Metrics {
		g.row(m.Name, figureOf(m.From), figureOf(m.To))
	}
	g.header("tensor", "shape", "values changed", "largest difference", "rms, of "+d.To)
	for _, t := range d.Tensors {
		shape := strings.Trim(strings.ReplaceAll(fmt.Sprint(t.Shape), " ", "×"), "[]")
		if !t.Same {
			g.row(t.Name, shape, "another shape", "-", "-")
			continue
		}
		g.row(t.Name, shape, fmt.Sprintf("%.1f %%", 100*t.Changed), figure(t.Max), fmt.Sprintf("%.2f %%", 100*t.RMS))
	}
}

func figureOf(v *float64) string {
	if v == nil {
		return "-"
	}
	return figure(*v)
}

func newModelPruneCommand(a *app) *cobra.Command {
	var keep int
	var dry bool
	cmd := &cobra.Command{
		Use:   "prune NAME --keep N",
		Short: "Remove the bytes of old versions that nothing needs",
		Long: `Remove the bytes of all but the newest versions of a model: never of one that a
device has or is to run or could return to, that a rollout spreads, that an alias
names, or that the broker still holds. What is known of a version, and its place in
history, stays.`,
		Example: `  sandpiper model prune pump --keep 5 --dry-run`,
		Args:    exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if keep < 1 {
				return usagef("--keep %d: keep at least 1", keep)
			}
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				p, err := c.PruneModel(ctx, args[0], keep, dry)
				if err != nil {
					return err
				}
				return a.print(p, p.Removed, func(g *grid) {
					g.header("version", "", "why")
					for _, v := range p.Removed {
						word := "removed"
						if dry {
							word = "would be removed"
						}
						g.row(v, word, "-")
					}
					for _, k := range p.Kept {
						g.row(k.Version, "kept", k.Why)
					}
					g.header(fmt.Sprintf("%d bytes freed", p.Bytes))
				})
			})
		},
	}
	cmd.Flags().IntVar(&keep, "keep", 0, "how many of the newest versions stay whatever else")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only show what would be removed")
	_ = cmd.MarkFlagRequired("keep")
	a.addOutput(cmd)
	return cmd
}
