package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
	"github.com/sandpiper-edge/sandpiper/controlplane/rollout"
)

// newRolloutActionCommand returns the command of what a person does to a staged
// rollout.
func newRolloutActionCommand(a *app, kind plan.Kind, short string) *cobra.Command {
	cmd := &cobra.Command{
		Use: string(kind) + " MODEL", Short: short,
		Long: short + ". It concerns the newest staged rollout of the model.",
		Args: exactArgs("MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				s, err := c.CommandRollout(ctx, args[0], kind)
				if err != nil {
					return err
				}
				return a.print(s, []string{s.Rollout.Ref}, func(g *grid) { drawStaged(g, s) })
			})
		},
	}
	a.addOutput(cmd)
	return cmd
}

// drawStarted draws what a start did, or would do.
func drawStarted(g *grid, r api.RolloutStarted) {
	if r.Rollout.Ref != "" {
		g.row("version", r.Rollout.Ref)
		g.row("to", r.Rollout.Target)
		g.row("devices", r.Devices)
		g.row("changed", r.Changed)
	}
	if r.Draft == nil {
		return
	}
	d := r.Draft
	if r.Rollout.Ref == "" {
		g.row("version", d.Ref)
		g.row("to", d.Target)
		g.row("devices", d.Forecast.Devices)
	}
	g.row("plan", orDash(d.Plan.Name))
	g.row("bytes", d.Forecast.Bytes)
	if len(d.Forecast.Stages) > 0 {
		if d.Plan.Before > 0 {
			g.row("measuring", d.Plan.Before.String()+" before the first stage")
		}
		g.row("time", fmt.Sprintf("about %s, at most %s", seconds(d.Forecast.Seconds), seconds(d.Forecast.Most)))
		g.header("stage", "devices", "new", "bytes", "quality", "limits", "about", "at most")
		for i, s := range d.Forecast.Stages {
			g.row(s.Name, s.Devices, s.New, s.Bytes, s.Quality, d.Plan.Stages[i].Checks, seconds(s.Seconds), seconds(s.Most))
		}
	}
	if len(d.Warnings) > 0 {
		g.header("warning")
	}
	for _, w := range d.Warnings {
		g.row(w)
	}
}

func seconds(s float64) string {
	return plan.Duration(time.Duration(s * float64(time.Second)).Round(time.Second)).String()
}

// memberStates are those of a device of a plan, in the order of a table.
var memberStates = append([]string{rollout.Waiting, rollout.InShadow}, append(rollout.States, rollout.Kept, rollout.Returning, rollout.Returned)...)

// drawStaged draws the stages of a rollout, the last look and its checks.
func drawStaged(g *grid, s rollout.Staged) {
	g.header("rollout", "of", "version", "to", "phase", "by")
	phase := string(s.State.Phase)
	if s.State.Paused {
		phase += ", paused"
	}
	g.row(s.Rollout.ID, s.Rollout.Model, s.Rollout.Ref, s.Rollout.Target, phase, s.State.By)
	g.header(append([]string{"", "stage", "devices"}, memberStates...)...)
	for _, stage := range s.Stages {
		mark := ""
		if stage.Current {
			mark = ">"
		}
		row := []any{mark, stage.Name, stage.Devices}
		for _, state := range memberStates {
			row = append(row, orNothing(stage.Counts[state]))
		}
		g.row(row...)
	}
	drawChecks(g, s.State)
	if len(s.Log) > 0 {
		g.header("came to")
	}
	for _, line := range s.Log {
		g.row(line)
	}
	if len(s.Log) == 0 || s.State.Phase.Live() {
		g.header("now")
		g.row(s.Text)
	}
	if len(s.Kept) > 0 {
		g.header("held on another version, or taken out")
		g.row(strings.Join(s.Kept, ", "))
	}
	drawFaults(g, slices.Concat(s.State.Worst, s.State.Lost))
	if more := s.State.LostN + s.State.WorstN - len(s.State.Lost) - len(s.State.Worst); more > 0 {
		g.row(fmt.Sprintf("and %d more", more), "`rollout report` has all")
	}
}

// drawFaults draws the devices that a rollout names.
func drawFaults(g *grid, faults []plan.Fault) {
	if len(faults) == 0 {
		return
	}
	g.header("at fault", "check", "figure", "limit", "why")
	for _, f := range faults {
		why := f.Message
		if why == "" {
			why = string(f.Loss)
		}
		g.row(f.Device, orDash(f.Check), orDash(f.FigureText()), orDash(f.BoundText()), orDash(why))
	}
}

func orNothing(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// verdictWord is what a look decided, and by what if that is more than the quality.
func verdictWord(v quality.Verdict) string {
	if v.Reason == "" || v.Reason == quality.ReasonQuality {
		return string(v.Decision)
	}
	return string(v.Decision) + ": " + v.Reason
}

// change writes how far a ratio is from 1, in percent with a sign unless that is 0.
func change(ratio float64, decimals int) string {
	s := fmt.Sprintf("%+.*f %%", decimals, 100*(ratio-1))
	if strings.Trim(s, "+-0. %") == "" {
		return s[1:]
	}
	return s
}

// drawChecks draws the checks of the last look, each with its figure and bound.
func drawChecks(g *grid, s plan.State) {
	if s.Verdict == nil && len(s.Checks) == 0 {
		return
	}
	g.header("check", "figure", "limit", "")
	if v := s.Verdict; v != nil {
		figure := "no pairs yet"
		if v.Ratio > 0 {
			figure = fmt.Sprintf("%s (%s to %s)", change(v.Ratio, 1), change(v.Lower, 0), change(v.Upper, 0))
		}
		g.row("quality", figure, fmt.Sprintf("stop above %.0f %%, pass below %.0f %%", 100*(v.Margins.Stop-1), 100*(v.Margins.Pass-1)),
			verdictWord(*v))
		g.row("silent", fmt.Sprintf("%d of %d", v.Silent, v.Assigned), fmt.Sprintf("elsewhere %.0f %%", 100*v.SilentShare), fmt.Sprintf("p = %.2g", v.SilentPvalue))
		for _, group := range v.Groups {
			g.row("group "+group.Value, fmt.Sprintf("%s (at least %s)", change(group.Ratio, 1), change(group.Lower, 0)), fmt.Sprintf("stop above %.0f %%", 100*(v.Margins.Group-1)), fmt.Sprintf("%d devices", group.N))
		}
	}
	for _, c := range s.Checks {
		outcome, figure := "ok", fmt.Sprintf("%.4g", c.Figure)
		switch {
		case !c.Data:
			outcome, figure = "waits", "no data"
		case !c.OK:
			outcome = "failed"
		}
		g.row(strings.TrimSpace(c.Name+" "+c.Of), figure, fmt.Sprintf("%.4g", c.Bound), outcome)
	}
}

// watchRollout shows how a staged rollout goes until it has come to its end, or on a
// terminal until somebody leaves.
func (a *app) watchRollout(ctx context.Context, c *api.Client, model string) error {
	live := isTerminal(a.stdout)
	var last *rollout.Staged
	var written []byte
	show := func(s rollout.Status) (bool, error) {
		last = nil
		for i := range s.Rollouts {
			if s.Rollouts[i].Staged != nil {
				last = s.Rollouts[i].Staged
				break
			}
		}
		done := last == nil && s.Counts[rollout.Active]+s.Counts[rollout.Failed] == s.Total || last != nil && !last.State.Phase.Live() && last.Settled()
		if live {
			return !done, a.redraw(s)
		}
		b, err := json.Marshal(s)
		if err != nil {
			return false, err
		}
		if bytes.Equal(b, written) { // what a server that was restarted begins with
			return !done, nil
		}
		written = b
		return !done, a.write(slices.Concat(b, []byte("\n")))
	}
	err := a.throughRestarts(ctx, askAgain, func(answered func()) error {
		return c.WatchRollout(ctx, model, func(s rollout.Status) (bool, error) {
			answered()
			return show(s)
		})
	})
	left := errors.Is(ctx.Err(), context.Canceled)
	switch {
	case err != nil && left && live:
		a.notef("\nthe rollout goes on; `sandpiper rollout status %s` shows it", model)
		return nil
	case err != nil && left:
		return fmt.Errorf("watching %s, which goes on: %w", model, err)
	case err != nil:
		return err
	}
	if last != nil && last.State.Phase == plan.Stopped {
		return fmt.Errorf("rollout of %s %w: %s", model, errRefused, last.Text)
	}
	return nil
}

// redraw draws the counters over those of before, each line to its end and then the
// rest of the terminal: cleared at once it would flicker (ECMA-48 CUP, EL and ED).
func (a *app) redraw(s rollout.Status) error {
	s.Devices = nil
	g := &grid{}
	drawStatus(g, s, false)
	lines := bytes.ReplaceAll(g.render(), []byte("\n"), []byte("\x1b[K\n"))
	return a.write(slices.Concat([]byte("\x1b[H"), lines, []byte("\x1b[J")))
}

// A rolloutReport is what devices told of both versions, and which are at fault.
type rolloutReport struct {
	rollout.Comparison
	Faults []plan.Fault `json:"faults,omitempty"`
}

func newRolloutReportCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "report MODEL",
		Short: "Compare both versions of a staged rollout, by group",
		Long: `Show what the devices that are judged told of the version in place and of the
candidate: errors on the same inputs, disagreement, which needs no truth, and the
99th percentile of the latency in the kernel; of all, and by the plan's label.
Then the devices that are at fault: those that failed by themselves, and those that
the check is about which stopped it, each with its figure and limit.`,
		Args: exactArgs("MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				r := rolloutReport{}
				var err error
				if r.Comparison, err = c.CompareRollout(ctx, args[0]); err != nil {
					return err
				}
				if r.Faults, err = c.RolloutFaults(ctx, r.Rollout.ID); err != nil {
					return err
				}
				return a.print(r, []string{r.Rollout.Ref}, func(g *grid) {
					drawVersions(g, r.Comparison)
					drawFaults(g, r.Faults)
				})
			})
		},
	}
	a.addOutput(cmd)
	return cmd
}

func drawVersions(g *grid, r rollout.Comparison) {
	g.header("rollout", "candidate", "in place")
	inPlace := "-"
	if r.InPlace != "" {
		inPlace = r.Rollout.Model + ":" + r.InPlace
	}
	g.row(r.Rollout.ID, r.Rollout.Ref, inPlace)
	g.header("group", "devices", "told", "pairs", "error", "in place", "rmse", "in place", "disagreement", "p99 µs", "in place", "bad")
	for _, x := range r.Groups {
		name := x.Group
		if name == "" {
			name = "all"
		}
		g.row(name, x.Devices, x.Told, x.Pairs, figure(x.ErrorB), figure(x.ErrorA), figure(x.RMSEB), figure(x.RMSEA), figure(x.Disagreement), x.LatencyB, x.LatencyA, x.NonFinite)
	}
}
