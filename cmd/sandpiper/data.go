package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
)

func newDataCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "data",
		Short: "Look at data before training on it",
		Long: `Look at data before training on it. FILE is CSV or InfluxDB line protocol, as .gz
too, or Parquet; a folder of such files; or - for stdin.`,
	}
	cmd.AddCommand(
		newDataDescribeCommand(a), newDataPlotCommand(a), newDataDriftCommand(a), newDataExportCommand(a), newDataRecordCommand(a),
		newDataSetListCommand(a), newDataSetShowCommand(a), newDataSetStopCommand(a), newDataSetRemoveCommand(a),
	)
	return cmd
}

// filesMissing wants at least one FILE.
func filesMissing(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return errors.New("FILE is missing")
	}
	return nil
}

func newDataDescribeCommand(a *app) *cobra.Command {
	var o api.DataOptions
	cmd := &cobra.Command{
		Use:   "describe FILE…",
		Short: "Describe data: rows, groups, times, and what each column holds",
		Long: `Describe data as it is: rows, groups, the range of the time with its period, gaps,
duplicates and rows out of order, and of each column its type, missing values and
quantiles.`,
		Example: `  sandpiper data describe pollution.csv.gz --time year,month,day,hour
  sandpiper data describe valve1 valve2 --time datetime`,
		Args: filesMissing,
		RunE: func(cmd *cobra.Command, args []string) error {
			files, err := a.dataFiles(args)
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				d, err := c.DescribeData(ctx, o, files)
				if err != nil {
					return err
				}
				return a.printDescription(d)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Time, "time", "", "column that orders the rows, or several: date,time or year,month,day,hour (default: the first of timestamps)")
	f.StringVar(&o.Group, "group", "", "column of the group of a row, such as the machine's id (default: each of several files)")
	addReadFlags(f, &o.Data)
	f.StringArrayVar(&o.Data.Convert, "convert", nil, "change the unit of a column, `COLUMN=A*x+B`; may be given again")
	a.addOutput(cmd)
	return cmd
}

func (a *app) printDescription(d dataset.Description) error {
	var names []string
	for _, c := range d.Columns {
		names = append(names, c.Name)
	}
	return a.print(d, names, func(g *grid) {
		g.row("files", d.Files)
		g.row("rows", d.Rows)
		g.row("groups", fmt.Sprintf("%d, of %d to %d rows", d.Groups, d.Fewest, d.Most))
		if t := d.Time; t != nil {
			g.row("time", fmt.Sprintf("%s, from %s to %s", t.Column, t.First, t.Last))
			g.row("period", orDash(t.Period))
			g.row("gaps", fmt.Sprintf("%d, the longest %s", t.Gaps, orDash(t.LongestGap)))
			g.row("out of order", t.OutOfOrder)
			g.row("duplicates", t.Duplicates)
		}
		for _, n := range d.Notes {
			g.row("note", n)
		}
		g.header("column", "type", "missing", "min", "5 %", "median", "95 %", "max", "mean", "std", "remark")
		for _, c := range d.Columns {
			cells := []any{c.Name, c.Type, c.Missing}
			if n := c.Numbers; n != nil {
				for _, v := range []float64{n.Min, n.P5, n.Median, n.P95, n.Max, n.Mean, n.Std} {
					cells = append(cells, figure(v))
				}
			} else {
				cells = append(cells, "-", "-", "-", "-", "-", "-", "-")
			}
			g.row(append(cells, columnRemark(c))...)
		}
	})
}

// columnRemark says what a user of the column should know.
func columnRemark(c dataset.ColumnDescription) string {
	switch {
	case c.Type == dataset.TypeMixed:
		return fmt.Sprintf("%d cells are text, the first %q in %s", c.Text, c.Example, c.At)
	case c.Type == dataset.TypeText:
		return fmt.Sprintf("such as %q", c.Example)
	case c.Constant:
		return "constant"
	}
	return ""
}

func newDataExportCommand(a *app) *cobra.Command {
	var o api.DataOptions
	var out string
	cmd := &cobra.Command{
		Use:   "export FILE… --out FILE",
		Short: "Clean data as a training would, and write it as CSV",
		Long: `Clean data as a training with the same flags would, and write the rows as CSV: the
group and the time, where there are any, then the features. What was done to the
rows goes to stderr.`,
		Example: `  sandpiper data export pump.lp --order sort --duplicates last --resample 1m --out pump.csv`,
		Args:    filesMissing,
		RunE: func(cmd *cobra.Command, args []string) error {
			files, err := a.dataFiles(args)
			if err != nil {
				return err
			}
			file, err := a.createFile(out, 0o644)
			if err != nil {
				return err
			}
			defer file.discard()
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				warnings, err := c.ExportData(ctx, file, o, files)
				if err != nil {
					return err
				}
				for _, w := range warnings {
					a.notef("warning: %s", w)
				}
				return file.commit()
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&out, "out", "-", "file to write, or - for stdout")
	f.StringVar(&o.Time, "time", "", "column that orders the rows of a group, or several: date,time or year,month,day,hour")
	f.StringVar(&o.Group, "group", "", "column of the group of a row (default: each of several files)")
	f.StringSliceVar(&o.Features, "features", nil, "columns to write (default: every numeric one)")
	addReadFlags(f, &o.Data)
	addCleanFlags(f, &o.Data)
	_ = f.MarkHidden("column-unit") // CSV has no place for it
	return cmd
}

func newDataRecordCommand(a *app) *cobra.Command {
	var topic, out, into string
	var maxMB int64
	var d time.Duration
	cmd := &cobra.Command{
		Use:   "record --topic TOPIC --for TIME --out FILE",
		Short: "Record the samples that devices publish, as InfluxDB line protocol",
		Long: `Record the samples that devices publish, as InfluxDB line protocol: the stream is the
measurement, the device a tag. TOPIC is sp1/FLEET/d/DEVICE/s/STREAM, with + for any
device or stream. What was recorded is kept where it ends before its time, on Ctrl-C
as well. Train on it with --group device, and with --measurement where TOPIC has
several streams.

With --into the control plane records into a data set of its own, and goes on doing
so, over restarts too, until ` + "`data stop`" + ` or the time is over. It is trained on as
data:NAME.`,
		Example: `  sandpiper data record --topic sp1/default/d/+/s/pump --for 24h --out pumps.lp
  sandpiper train pumps --data pumps.lp --group device --order sort --duplicates last \
      --resample 1m --task forecast --target flow
  sandpiper data record --topic sp1/default/d/+/s/pump --into pumps`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case into != "":
				return a.recordInto(cmd.Context(), into, api.StartRecording{Topic: topic, For: durationOrNone(d), MaxBytes: maxMB << 20})
			case !cmd.Flags().Changed("for"):
				return usagef("say how long with --for, such as 90s or 24h, or have it recorded --into a data set")
			}
			file, err := a.createFile(out, 0o644)
			if err != nil {
				return err
			}
			defer file.discard()
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				count := &counted{w: file}
				summary, err := c.Record(ctx, count, topic, d)
				if err != nil && count.n == 0 {
					return err
				}
				if err == nil {
					a.notef("recorded %s", summary)
				} else {
					a.notef("%d samples are kept in %s", count.n, out)
				}
				return errors.Join(err, file.commit())
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&topic, "topic", "", "sp1/FLEET/d/DEVICE/s/STREAM, with + for any device or stream")
	f.DurationVar(&d, "for", 0, "how long, such as 90s or 24h")
	f.StringVar(&out, "out", "-", "file to write, or - for stdout")
	f.StringVar(&into, "into", "", "`NAME` of a data set of the control plane to record into")
	f.Int64Var(&maxMB, "max-mb", 0, "of --into: most `MiB` it has; the oldest samples give way (default 1024)")
	_ = cmd.MarkFlagRequired("topic")
	cmd.MarkFlagsMutuallyExclusive("into", "out")
	return cmd
}

// counted counts what is written to w.
type counted struct {
	w io.Writer
	n int
}

func (c *counted) Write(b []byte) (int, error) {
	c.n++
	return c.w.Write(b)
}
