package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/sandpiper-edge/sandpiper/controlplane"
	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

func newHistoryCommand(a *app) *cobra.Command {
	var model, at string
	cmd := &cobra.Command{
		Use:   "history DEVICE",
		Short: "Show which versions ran on a device, and where they come from",
		Long: `Show which versions answered on a device and when, as it reported, who rolled
each out, who released it, and the digest of the data it was trained on. Times are
UTC, and the device's own where its clock can be right, else when its report arrived.`,
		Example: `  sandpiper history pump-07
  sandpiper history pump-07 --model pump --at 2026-11-24T14:05:00Z`,
		Args: exactArgs("DEVICE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			when, err := parseTime(at)
			if err == nil && when.After(time.Now().Add(time.Minute)) {
				err = fmt.Errorf("%s is still to come", at)
			}
			if err != nil {
				return usagef("--at: %v", err)
			}
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				rows, err := c.History(ctx, args[0], model, when)
				if err != nil {
					return err
				}
				if len(rows) == 0 {
					a.notef("%s", nothingRan(args[0], model, when))
				}
				return a.printHistory(rows)
			})
		},
	}
	cmd.Flags().StringVar(&model, "model", "", "only this model")
	cmd.Flags().StringVar(&at, "at", "", "only what ran then: 2026-11-24T14:05:00Z, a day's begin, or how long ago, such as 36h")
	a.addOutput(cmd)
	return cmd
}

// nothingRan says of what a history has nothing.
func nothingRan(device, model string, at time.Time) string {
	text := "no version ran on " + device
	if model != "" {
		text = "no version of " + model + " ran on " + device
	}
	if at.IsZero() {
		return text + ", as far as it reported"
	}
	return text + " at " + stamp(at) + " UTC, as far as it reported"
}

// parseTime reads a time, without a zone in UTC as they are printed, or how long ago
// it was; the zero time from "".
func parseTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, "2006-01-02T15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return time.Now().Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("want a time such as 2026-11-24T14:05:00Z, 2026-11-24, or 36h for so long ago, not %q", s)
}

func (a *app) printHistory(rows []controlplane.Ran) error {
	names := make([]string, len(rows))
	for i, r := range rows {
		names[i] = ranName(r)
	}
	return a.print(rows, names, func(g *grid) {
		g.header("model", "version", "from, UTC", "until", "rollout", "released", "data", "run")
		for _, r := range rows {
			until := "now"
			if !r.Until.IsZero() {
				until = stamp(r.Until)
			}
			rollout := "-"
			if r.Rollout != 0 {
				rollout = fmt.Sprintf("%d by %s", r.Rollout, orDash(r.StartedBy))
			}
			released := "-"
			if r.ReleasedBy != "" {
				released = fmt.Sprintf("%s by %s", stamp(r.ReleasedAt), r.ReleasedBy)
			}
			g.row(r.Model, ranName(r), stamp(r.From), until, rollout, released, orDash(short(r.Data)), orDash(r.Run))
		}
	})
}

func ranName(r controlplane.Ran) string {
	switch {
	case r.Version != "":
		return r.Version
	case r.Digest.IsZero():
		return "none"
	}
	return r.Digest.Short()
}

func stamp(t time.Time) string { return t.UTC().Format(time.DateTime) }

func newAuditCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Read and check the record of all changes",
		Long: `Read and check the record of all changes: what was done, by whom, and what devices
reported to run. Entries are only ever added, and each holds the hash of all before it.`,
	}
	cmd.AddCommand(newAuditListCommand(a), newAuditVerifyCommand(a))
	return cmd
}

func newAuditListCommand(a *app) *cobra.Command {
	var device, model string
	var before uint64
	var limit int
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List entries, newest first",
		Args:  exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				entries, err := c.Audit(ctx, device, model, before, limit)
				if err != nil {
					return err
				}
				return a.printAudit(entries)
			})
		},
	}
	cmd.Flags().StringVar(&device, "device", "", "only entries about this device")
	cmd.Flags().StringVar(&model, "model", "", "only entries about this model")
	cmd.Flags().Uint64Var(&before, "before", 0, "only entries before the one with this number")
	cmd.Flags().IntVar(&limit, "limit", 100, "most entries, 1 to 1000")
	a.addOutput(cmd)
	return cmd
}

func (a *app) printAudit(entries []audit.Entry) error {
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strconv.FormatUint(e.Seq, 10)
	}
	return a.print(entries, names, func(g *grid) {
		g.header("entry", "received, UTC", "who", "action", "device", "version", "rollout", "detail")
		for _, e := range entries {
			rollout := "-"
			if e.Rollout != 0 {
				rollout = strconv.FormatInt(e.Rollout, 10)
			}
			g.row(e.Seq, stamp(e.Received), e.Who, e.Action, orDash(e.Device), entryVersion(e), rollout, orDash(e.Detail))
		}
	})
}

func entryVersion(e audit.Entry) string {
	switch {
	case e.Number != 0:
		return fmt.Sprintf("%s:v%d", e.Model, e.Number)
	case e.Digest == (protocol.Digest{}):
		return orDash(e.Model)
	}
	return e.Model + " " + e.Digest.Short()
}

func newAuditVerifyCommand(a *app) *cobra.Command {
	var head string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check that every entry is what was written",
		Long: `Check that every entry is what was written and in its place, and print the end as
SEQ:HASH. Kept elsewhere and given as --head later, it also shows that nothing was
cut off or written anew. Exit code 8 if the record is not what it was.`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				end, err := c.VerifyAudit(ctx, head)
				if err != nil {
					return err
				}
				return a.print(end, []string{end.String()}, func(g *grid) {
					g.row("record", "whole: every entry is what was written")
					g.row("entries", end.Seq)
					g.row("head", end.String())
				})
			})
		},
	}
	cmd.Flags().StringVar(&head, "head", "", "an earlier end of the record, SEQ:HASH")
	a.addOutput(cmd)
	return cmd
}
