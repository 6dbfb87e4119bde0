package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/rollout"
)

func newRolloutCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "rollout", Short: "Ship versions to devices and take them back"}
	cmd.AddCommand(newRolloutStartCommand(a), newRolloutStatusCommand(a), newRolloutRollbackCommand(a))
	return cmd
}

const targetHelp = "all, LABEL=VALUE, or device ids with commas between"

func newRolloutStartCommand(a *app) *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "start REF --to TARGET",
		Short: "Make a version the desired state of devices",
		Long: `Make a version the desired state of devices: ` + targetHelp + `.
A device that is added later and matches joins the newest rollout.`,
		Args: exactArgs("REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				a.noteVerdictOf(ctx, c, args[0])
				r, err := c.StartRollout(ctx, api.NewRollout{Ref: args[0], To: to})
				if err != nil {
					return err
				}
				return a.print(r, []string{r.Rollout.Ref}, func(g *grid) {
					g.row("version", r.Rollout.Ref)
					g.row("to", r.Rollout.Target)
					g.row("devices", r.Devices)
					g.row("changed", r.Changed)
				})
			})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", targetHelp)
	_ = cmd.MarkFlagRequired("to")
	a.addOutput(cmd)
	return cmd
}

func newRolloutStatusCommand(a *app) *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use:   "status [MODEL]",
		Short: "Show how far devices are",
		Long: `Show how far the devices of a model are, or of every model.

With --wait it returns once each of them has the version or has failed on it;
then the exit code is 7. A device that is off has neither: limit the time with
--timeout (exit code 6).`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if wait && len(args) == 0 {
				return usagef("--wait needs the name of a model")
			}
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				if len(args) == 0 {
					return a.printStatuses(ctx, c)
				}
				if wait {
					if err := waitRollout(ctx, c, args[0]); err != nil {
						return err
					}
				}
				status, err := c.RolloutStatus(ctx, args[0])
				if err != nil {
					return err
				}
				if err := a.print(status, []string{status.Model}, func(g *grid) { drawStatus(g, status) }); err != nil {
					return err
				}
				if failed := status.Counts[rollout.Failed]; wait && failed > 0 {
					return fmt.Errorf("rollout %w: %d of %d devices failed; their messages say why", errPartly, failed, status.Total)
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "return once every device has the version or has failed")
	a.addOutput(cmd)
	return cmd
}

// statusPoll is how often a waiting command asks.
const statusPoll = 200 * time.Millisecond

// waitRollout returns once no device of a model is on its way any more.
func waitRollout(ctx context.Context, c *api.Client, model string) error {
	s, err := c.Server(ctx)
	if err != nil {
		return err
	}
	if !s.Serving {
		return fmt.Errorf("%w: no server is running, so no device will move: start one with `sandpiper serve`", api.ErrUnreachable)
	}
	for {
		// Counters are enough to wait on, so one device is asked for.
		status, err := c.RolloutCounts(ctx, model)
		if err != nil {
			return err
		}
		if status.Counts[rollout.Active]+status.Counts[rollout.Failed] == status.Total {
			return nil
		}
		select {
		case <-time.After(statusPoll):
		case <-ctx.Done():
			return fmt.Errorf("%d of %d devices of %s are active: %w",
				status.Counts[rollout.Active], status.Total, model, context.Cause(ctx))
		}
	}
}

// printStatuses prints the rollouts of every model.
func (a *app) printStatuses(ctx context.Context, c *api.Client) error {
	models, err := c.Rollouts(ctx)
	if err != nil {
		return err
	}
	statuses := make([]rollout.Status, len(models))
	for i, model := range models {
		if statuses[i], err = c.RolloutStatus(ctx, model); err != nil {
			return err
		}
	}
	return a.print(statuses, models, func(g *grid) {
		for _, s := range statuses {
			drawStatus(g, s)
		}
	})
}

// drawStatus draws the counters of a model and its devices.
func drawStatus(g *grid, s rollout.Status) {
	g.header("rollout of "+s.Model, "devices")
	for _, state := range rollout.States {
		g.row(state, s.Counts[state])
	}
	g.header("device", "wanted", "transfer", "bytes", "state", "up", "since", "message")
	for _, d := range s.Devices {
		up := "offline"
		if d.Online {
			up = "online"
		}
		g.row(d.Device, d.Ref, orDash(d.Transfer), d.Bytes, d.State, up, ago(d.Since), orDash(d.Message))
	}
}

func newRolloutRollbackCommand(a *app) *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "rollback MODEL",
		Short: "Send devices back to their version before",
		Long: `Send devices back to the version they were wanted to run before. A device that
has none keeps what it runs; then the exit code is 7.`,
		Args: exactArgs("MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				r, err := c.Rollback(ctx, api.NewRollback{Model: args[0], To: to})
				if err != nil {
					return err
				}
				if err := a.print(r, r.Moved, func(g *grid) {
					g.header("device", "rollback of "+args[0])
					for _, d := range r.Moved {
						g.row(d, "goes back")
					}
					for _, d := range r.Refused {
						g.row(d.Device, "refused: "+d.Reason)
					}
				}); err != nil {
					return err
				}
				if err := r.Err(); err != nil {
					return fmt.Errorf("rollback %w: %w; start a rollout of the version you want there instead", errPartly, err)
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&to, "to", "all", targetHelp)
	a.addOutput(cmd)
	return cmd
}
