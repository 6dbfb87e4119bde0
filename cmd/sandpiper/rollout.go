package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/rollout"
)

func newRolloutCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "rollout", Short: "Ship versions to devices and take them back"}
	cmd.AddCommand(newRolloutStartCommand(a), newRolloutStatusCommand(a), newRolloutRollbackCommand(a), newRolloutRehearseCommand(a),
		newRolloutActionCommand(a, rollout.Pause, "Let no further stage begin; what fails still goes back"),
		newRolloutActionCommand(a, rollout.Resume, "Go on after a pause"),
		newRolloutActionCommand(a, rollout.Promote, "Go on to the next stage, whatever the checks say"),
		newRolloutActionCommand(a, rollout.Abort, "Send every device that has it back"),
		newRolloutReportCommand(a))
	return cmd
}

const targetHelp = "all, LABEL=VALUE, or device ids with commas between"

func newRolloutStartCommand(a *app) *cobra.Command {
	var to string
	var dryRun, watch bool
	var flags planFlags
	cmd := &cobra.Command{
		Use:   "start REF --to TARGET",
		Short: "Make a version the desired state of devices",
		Long: `Make a version the desired state of devices: ` + targetHelp + `.
A device that is added later and matches joins the newest rollout.

Where at least 30 devices of the target feed the model by themselves and run
another version of it, the version goes to them in stages: in shadow, to a
canary, to 10 %, to all. Each stage is judged by the errors of both versions on
the same inputs, and a version that is worse goes back by itself. Elsewhere it
goes to all at once, unless flags or a file name the stages.`,
		Args: exactArgs("REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := flags.plan(cmd)
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				a.noteVerdictOf(ctx, c, args[0])
				r, err := c.StartRollout(ctx, api.NewRollout{Ref: args[0], To: to, Plan: p, DryRun: dryRun})
				if err != nil {
					return err
				}
				if err := a.print(r, []string{r.Rollout.Ref}, func(g *grid) { drawStarted(g, r) }); err != nil {
					return err
				}
				a.noteStandstill(ctx, c)
				if !watch || dryRun {
					return nil
				}
				return a.watchRollout(ctx, c, r.Rollout.Model)
			})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", targetHelp)
	_ = cmd.MarkFlagRequired("to")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what it would do, with exact numbers of devices and bytes, and do nothing")
	cmd.Flags().BoolVar(&watch, "watch", false, "then show how it goes, as rollout status --watch does")
	flags.add(cmd)
	a.addOutput(cmd)
	return cmd
}

func newRolloutStatusCommand(a *app) *cobra.Command {
	var wait, watch, everyDevice bool
	cmd := &cobra.Command{
		Use:   "status [MODEL]",
		Short: "Show how far devices are",
		Long: `Show how far the devices of a model are, or of every model.

In a fleet of more than 50 the table has the devices to look at, those that failed
and those on their way first; --devices lists all, as -o json does.

With --wait it returns once each of them has the version or has failed on it, and
no stage is under way; if some failed the exit code is 7. A device that is off has
neither: limit the time with --timeout (exit code 6).

With --watch it shows how the rollout goes until that has come to its end: on a
terminal in place, elsewhere a JSON document a line, each time something changes.
The exit code is 8 if a check stopped it.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (wait || watch) && len(args) == 0 {
				return usagef("--wait and --watch need the name of a model")
			}
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				if len(args) == 0 {
					return a.printStatuses(ctx, c, everyDevice)
				}
				if watch {
					return a.watchRollout(ctx, c, args[0])
				}
				if wait {
					err := a.throughRestarts(ctx, askAgain, func(answered func()) error { return waitRollout(ctx, c, args[0], answered) })
					if err != nil {
						return err
					}
				}
				status, err := c.RolloutStatus(ctx, args[0])
				if err != nil {
					return err
				}
				if err := a.print(status, []string{status.Model}, func(g *grid) { drawStatus(g, status, everyDevice) }); err != nil {
					return err
				}
				a.noteStandstill(ctx, c)
				if failed := status.Counts[rollout.Failed]; wait && failed > 0 {
					return fmt.Errorf("rollout %w: %d of %d devices failed; their messages say why", errPartly, failed, status.Total)
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "return once every device has the version or has failed")
	cmd.Flags().BoolVar(&watch, "watch", false, "show how it goes until its end")
	cmd.Flags().BoolVar(&everyDevice, "devices", false, "list every device")
	a.addOutput(cmd)
	return cmd
}

// statusPoll is how often a waiting command asks.
const statusPoll = 200 * time.Millisecond

// askAgain is how long to wait for a control plane that is away before asking again.
const askAgain = time.Second

// throughRestarts calls f until it does not fail for want of a control plane that
// has answered before: one that is restarted goes on with its rollouts.
func (a *app) throughRestarts(ctx context.Context, pause time.Duration, f func(answered func()) error) error {
	known, said := false, false
	for {
		err := f(func() { known, said = true, false })
		if !known || !errors.Is(err, api.ErrUnreachable) {
			return err
		}
		if !said {
			a.notef("%v; this goes on when it is back", err)
			said = true
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done(): // which says more than that it is away
			return fmt.Errorf("%v: %w", err, context.Cause(ctx))
		}
	}
}

// waitRollout returns once no device of a model is on its way any more.
func waitRollout(ctx context.Context, c *api.Client, model string, answered func()) error {
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
		answered()
		if status.Counts[rollout.Active]+status.Counts[rollout.Failed] == status.Total && !spreading(status) {
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

// spreading reports whether a staged rollout will go to more devices by itself.
func spreading(s rollout.Status) bool {
	return slices.ContainsFunc(s.Rollouts, func(p rollout.Progress) bool {
		return p.Staged != nil && slices.Contains([]plan.Phase{plan.Scheduled, plan.Preparing, plan.Measuring, plan.Running}, p.Staged.State.Phase)
	})
}

// printStatuses prints the rollouts of every model.
func (a *app) printStatuses(ctx context.Context, c *api.Client, everyDevice bool) error {
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
	err = a.print(statuses, models, func(g *grid) {
		for _, s := range statuses {
			drawStatus(g, s, everyDevice)
		}
	})
	a.noteStandstill(ctx, c)
	return err
}

// shownDevices is how many devices the table of a status has.
const shownDevices = 50

// drawStatus draws the counters of a model and its devices: those to look at first,
// unless they are few or every one is asked for.
func drawStatus(g *grid, s rollout.Status, everyDevice bool) {
	for _, p := range s.Rollouts {
		if p.Staged != nil {
			drawStaged(g, *p.Staged)
		}
	}
	g.header("rollout of "+s.Model, "devices")
	for _, state := range rollout.States {
		g.row(state, s.Counts[state])
	}
	if len(s.Devices) == 0 {
		return
	}
	g.header("device", "wanted", "transfer", "bytes", "state", "up", "since", "message")
	shown := s.Devices
	if !everyDevice && len(shown) > shownDevices {
		shown = slices.Clone(shown)
		order := []string{rollout.Failed, rollout.Trying, rollout.Fetching, rollout.Pending, rollout.Active}
		slices.SortStableFunc(shown, func(a, b rollout.DeviceStatus) int {
			return cmp.Compare(slices.Index(order, a.State), slices.Index(order, b.State))
		})
		shown = shown[:shownDevices]
	}
	for _, d := range shown {
		up := "offline"
		if d.Online {
			up = "online"
		}
		g.row(d.Device, d.Ref, orDash(d.Transfer), d.Bytes, d.State, up, ago(d.Since), orDash(d.Message))
	}
	if more := len(s.Devices) - len(shown); more > 0 {
		g.row(fmt.Sprintf("and %d more", more), "--devices lists all")
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
				a.noteStandstill(ctx, c)
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
