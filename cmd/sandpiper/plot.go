package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/chart"
	"github.com/sandpiper-edge/sandpiper/controlplane/train"
)

// picture tells the format of a picture by its file's name.
func picture(path string) (string, error) {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".svg":
		return "svg", nil
	case ".png":
		return "png", nil
	}
	return "", usagef("--out %s: the name must end in .svg or .png", path)
}

// writePicture writes a chart to the file at path, in the format that its name says.
func (a *app) writePicture(path string, c *chart.Chart) error {
	format, err := picture(path)
	if err != nil {
		return err
	}
	write := c.WriteSVG
	if format == "png" {
		write = c.WritePNG
	}
	return a.writeFile(path, write)
}

// writeFile writes the file at path by write, and says so.
func (a *app) writeFile(path string, write func(io.Writer) error) error {
	file, err := a.createFile(path, 0o644)
	if err != nil {
		return err
	}
	defer file.discard()
	if err := write(file); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := file.commit(); err != nil {
		return err
	}
	a.notef("wrote %s", path)
	return nil
}

func newRunPlotCommand(a *app) *cobra.Command {
	return newPlotCommand(a, "Draw the losses and the learning rate of a run over its epochs", "  sandpiper run plot turbofan-3 --out turbofan-3.png",
		func(ctx context.Context, c *api.Client, id string) (*chart.Chart, error) {
			r, err := c.Run(ctx, id)
			if err != nil {
				return nil, err
			}
			return r.Chart()
		})
}

// newPlotCommand returns the command plot, which writes what draw draws.
func newPlotCommand(a *app, short, example string, draw func(context.Context, *api.Client, string) (*chart.Chart, error)) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:     "plot ID",
		Short:   short,
		Example: example,
		Args:    exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				out = args[0] + ".svg"
			}
			if _, err := picture(out); err != nil {
				return err
			}
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				drawn, err := draw(ctx, c, args[0])
				if err != nil {
					return err
				}
				return a.writePicture(out, drawn)
			})
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file to write, .svg or .png (default ID.svg)")
	return cmd
}

func newDataPlotCommand(a *app) *cobra.Command {
	var o api.DataOptions
	var out string
	cmd := &cobra.Command{
		Use:   "plot FILE…",
		Short: "Draw every column of data over its rows",
		Long: `Draw every column of data over its rows, cleaned as a training with the same flags
would clean them: of long series the smallest and the largest value of each piece.`,
		Example: `  sandpiper data plot pump.csv --time time --out pump.png`,
		Args:    filesMissing,
		RunE: func(cmd *cobra.Command, args []string) error {
			format, err := picture(out)
			if err != nil {
				return err
			}
			files, err := a.dataFiles(args)
			if err != nil {
				return err
			}
			o.Picture = format
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				return a.writeFile(out, func(w io.Writer) error { return c.PlotData(ctx, w, o, files) })
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&out, "out", "data.svg", "file to write, .svg or .png")
	f.StringVar(&o.Time, "time", "", "column that orders the rows of a group, or several: date,time or year,month,day,hour")
	f.StringVar(&o.Group, "group", "", "column of the group of a row (default: each of several files)")
	f.StringSliceVar(&o.Features, "features", nil, "columns to draw (default: every numeric one)")
	addReadFlags(f, &o.Data)
	addCleanFlags(f, &o.Data)
	_ = f.MarkHidden("column-unit")
	return cmd
}

// plotReport draws a report's predictions into the folder dir, each picture as SVG and
// as PNG, and returns the report, without them unless they are kept.
func (a *app) plotReport(raw json.RawMessage, dir string, keep bool) (json.RawMessage, error) {
	r, err := train.ParseReport(raw)
	if err != nil {
		return nil, err
	}
	charts, err := r.Charts()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("folder of the pictures: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(charts)) {
		for _, ending := range []string{".svg", ".png"} {
			if err := a.writePicture(filepath.Join(dir, name+ending), charts[name]); err != nil {
				return nil, err
			}
		}
	}
	if keep {
		return raw, nil
	}
	r.Predictions = nil
	return json.Marshal(r)
}
