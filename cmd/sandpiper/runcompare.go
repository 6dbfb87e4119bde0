package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	runs "github.com/sandpiper-edge/sandpiper/controlplane/run"
	"github.com/sandpiper-edge/sandpiper/controlplane/train"
)

// A compared is one run in a comparison.
type compared struct {
	Run     string         `json:"run"`
	State   runs.State     `json:"state"`
	Version string         `json:"version,omitempty"`
	Epochs  int            `json:"epochs"`
	Best    *train.Epoch   `json:"best,omitempty"`
	Differ  map[string]any `json:"differ"` // options in which the runs are not all the same; null: the default
	Metrics *train.Pair    `json:"metrics,omitempty"`
}

func newRunCompareCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "compare ID ID…",
		Short: "Show in what runs differ, and what each gave",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return errors.New("two IDs or more are needed to compare")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				list, err := compareRuns(ctx, c, args)
				if err != nil {
					return err
				}
				return a.print(list, args, func(g *grid) { drawComparison(g, list) })
			})
		},
	}
	a.addOutput(cmd)
	return cmd
}

func compareRuns(ctx context.Context, c *api.Client, ids []string) ([]compared, error) {
	var list []compared
	var options []map[string]any
	for _, id := range ids {
		r, err := c.Run(ctx, id)
		if err != nil {
			return nil, err
		}
		one := compared{Run: id, State: r.State, Version: r.Version, Epochs: r.Epoch, Best: r.Best(), Differ: map[string]any{}}
		if r.Version != "" {
			if one.Metrics, err = metricsOf(ctx, c, r.Version); err != nil {
				return nil, err
			}
		}
		var o map[string]any
		if err := json.Unmarshal(r.Options, &o); err != nil {
			return nil, fmt.Errorf("options of run %s: %w", id, err)
		}
		list, options = append(list, one), append(options, flatten("", o))
	}
	keys := map[string]bool{}
	for _, o := range options {
		for k, v := range o {
			for _, other := range options {
				keys[k] = keys[k] || fmt.Sprint(other[k]) != fmt.Sprint(v)
			}
		}
	}
	for k, differs := range keys {
		for i := range list {
			if differs {
				list[i].Differ[k] = options[i][k]
			}
		}
	}
	return list, nil
}

func metricsOf(ctx context.Context, c *api.Client, ref string) (*train.Pair, error) {
	v, err := c.Version(ctx, ref)
	if err != nil || v.Report == nil {
		return nil, err
	}
	r, err := train.ParseReport(v.Report)
	if err != nil {
		return nil, err
	}
	return &r.Metrics, nil
}

// flatten names what is in a document by its path, such as data.missing.
func flatten(prefix string, doc map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range doc {
		if in, ok := v.(map[string]any); ok {
			maps.Copy(out, flatten(prefix+k+".", in))
			continue
		}
		out[prefix+k] = v
	}
	return out
}

// drawComparison has a column for each run.
func drawComparison(g *grid, list []compared) {
	header := []string{"run"}
	for _, r := range list {
		header = append(header, r.Run)
	}
	g.header(header...)
	row := func(name string, cell func(compared) string) {
		cells := []any{name}
		for _, r := range list {
			cells = append(cells, cell(r))
		}
		g.row(cells...)
	}
	row("state", func(r compared) string { return string(r.State) })
	row("version", func(r compared) string { return orDash(r.Version) })
	for _, k := range slices.Sorted(maps.Keys(list[0].Differ)) {
		row(k, func(r compared) string {
			if r.Differ[k] == nil {
				return "-"
			}
			return strings.Trim(fmt.Sprint(r.Differ[k]), "[]")
		})
	}
	row("epochs", func(r compared) string { return fmt.Sprint(r.Epochs) })
	row("best epoch", func(r compared) string {
		if r.Best == nil {
			return "-"
		}
		return fmt.Sprint(r.Best.Epoch)
	})
	row("its validation loss", func(r compared) string {
		if r.Best == nil || r.Best.ValLoss == nil {
			return "-"
		}
		return figure(*r.Best.ValLoss)
	})
	metrics := map[string]bool{}
	for _, r := range list {
		if r.Metrics != nil {
			for k := range r.Metrics.Int8 {
				metrics[k] = true
			}
		}
	}
	for _, m := range slices.Sorted(maps.Keys(metrics)) {
		row(m+", int8", func(r compared) string {
			if r.Metrics == nil {
				return "-"
			}
			return lookup(r.Metrics.Int8, m)
		})
	}
}
