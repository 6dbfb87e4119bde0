package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/fleet"
)

func newUsageCommand(a *app) *cobra.Command {
	var q api.UsageQuery
	cmd := &cobra.Command{
		Use:   "usage",
		Short: "Show how often devices predicted, and for whom",
		Long: `Show how often devices predicted, for whom, and how long their kernels were at it.
Devices count offline too and tell when they are connected, about once a minute; a
prediction is counted once, on the day (UTC) on which the control plane heard of it.
User anonymous is the simple mode, local the socket on the device.`,
		Example: `  sandpiper usage --by user,model --from 2026-11-01 --to 2026-11-30
  sandpiper usage --by day --device pump-1 -o json`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				sums, err := c.Usage(ctx, q)
				if err != nil {
					return err
				}
				return a.printUsage(q, sums)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&q.By, "by", "user,device,model", "what to sum by, with commas between: day, device, model, user; empty for one sum")
	f.StringVar(&q.From, "from", "", "first day, such as 2026-11-01, UTC (default the beginning)")
	f.StringVar(&q.To, "to", "", "last day, such as 2026-11-30, UTC (default today)")
	f.StringVar(&q.Device, "device", "", "only of this device")
	f.StringVar(&q.Model, "model", "", "only of this model")
	f.StringVar(&q.User, "user", "", "only of this user")
	a.addOutput(cmd)
	return cmd
}

func (a *app) printUsage(q api.UsageQuery, sums []fleet.Usage) error {
	var by []string
	if q.By != "" {
		by = strings.Split(q.By, ",")
	}
	keys := make([][]string, len(sums))
	names := make([]string, len(sums))
	for i, u := range sums {
		for _, column := range by {
			keys[i] = append(keys[i], map[string]string{"day": u.Day, "device": u.Device, "model": u.Model, "user": u.User}[column])
		}
		names[i] = strings.Join(keys[i], "/")
	}
	return a.print(sums, names, func(g *grid) {
		g.header(append(by, "answered", "refused", "busy", "kernel time")...)
		for i, u := range sums {
			cells := []any{}
			for _, k := range keys[i] {
				cells = append(cells, k)
			}
			g.row(append(cells, u.Answered, u.Refused, u.Busy, time.Duration(u.Micros)*time.Microsecond)...)
		}
	})
}
