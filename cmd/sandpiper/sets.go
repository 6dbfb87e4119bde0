package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/recording"
)

// durationOrNone writes a duration, none for 0.
func durationOrNone(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

func (a *app) recordInto(ctx context.Context, name string, o api.StartRecording) error {
	return a.with(ctx, func(ctx context.Context, c *api.Client) error {
		s, err := c.RecordDataSet(ctx, name, o)
		if err != nil {
			return err
		}
		a.notef("%s is recorded into data set %s; train on it with --data %s%s", s.Topic, s.Name, dataSetPrefix, s.Name)
		return nil
	})
}

func newDataSetListCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the data sets that the control plane records into",
		Args:  exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				sets, err := c.DataSets(ctx)
				if err != nil {
					return err
				}
				var names []string
				for _, s := range sets {
					names = append(names, s.Name)
				}
				return a.print(sets, names, func(g *grid) {
					g.header("set", "state", "samples", "bytes", "updated", "topic")
					for _, s := range sets {
						g.row(s.Name, s.State, s.Samples, s.Bytes, ago(s.Updated), s.Topic)
					}
				})
			})
		},
	}
	a.addOutput(cmd)
	return cmd
}

func newDataSetShowCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show a data set that the control plane records into",
		Args:  exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				s, err := c.DataSet(ctx, args[0])
				if err != nil {
					return err
				}
				return a.printSet(s)
			})
		},
	}
	a.addOutput(cmd)
	return cmd
}

func newDataSetStopCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stop NAME",
		Short: "Stop recording into a data set, which `data record --into` goes on with",
		Args:  exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				s, err := c.StopDataSet(ctx, args[0])
				if err != nil {
					return err
				}
				return a.printSet(s)
			})
		},
	}
	a.addOutput(cmd)
	return cmd
}

func newDataSetRemoveCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAME",
		Short: "Stop recording into a data set and remove it",
		Args:  exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error { return c.RemoveDataSet(ctx, args[0]) })
		},
	}
}

func (a *app) printSet(s recording.Set) error {
	return a.print(s, []string{s.Name}, func(g *grid) {
		g.row("set", s.Name)
		g.row("topic", s.Topic)
		g.row("state", s.State)
		if s.Reason != "" {
			g.row("reason", s.Reason)
		}
		if !s.Until.IsZero() {
			g.row("until", s.Until.Format("2006-01-02 15:04:05 MST"))
		}
		g.row("samples", s.Samples)
		g.row("gave way", s.Dropped)
		g.row("bytes", s.Bytes)
		g.row("most bytes", s.MaxBytes)
		g.row("begun", ago(s.Created))
		g.row("updated", ago(s.Updated))
	})
}
