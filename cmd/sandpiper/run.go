package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	runs "github.com/sandpiper-edge/sandpiper/controlplane/run"
	"github.com/sandpiper-edge/sandpiper/controlplane/train"
)

func newRunCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Look at, stop and resume training runs",
		Long: `Look at, stop and resume training runs. ID is MODEL-N, as ` + "`run ls`" + ` shows it.

Every epoch of a run is kept, so one that was stopped, killed or ran out of disk
goes on with ` + "`run resume`" + `, to the same model as if nothing had happened.`,
	}
	cmd.AddCommand(newRunListCommand(a), newRunShowCommand(a), newRunPlotCommand(a), newRunCompareCommand(a), newRunStopCommand(a), newRunResumeCommand(a), newRunRemoveCommand(a))
	return cmd
}

func newRunListCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List runs, oldest first",
		Args:  exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				all, err := c.Runs(ctx)
				if err != nil {
					return err
				}
				names := make([]string, len(all))
				for i, r := range all {
					names[i] = r.ID
				}
				return a.print(all, names, func(g *grid) {
					g.header("run", "state", "epoch", "begun", "updated", "version", "reason")
					for _, r := range all {
						g.row(r.ID, r.State, runEpoch(r), ago(r.Created), ago(r.Updated), orDash(r.Version), orDash(brief(r.Reason)))
					}
				})
			})
		},
	}
	a.addOutput(cmd)
	return cmd
}

// runEpoch is how far r is, such as 3/20.
func runEpoch(r runs.Run) string { return fmt.Sprintf("%d/%d", r.Epoch, r.Epochs) }

// brief is the first 60 characters of a text, of its first line.
func brief(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	if r := []rune(line); len(r) > 60 {
		return string(r[:59]) + "…"
	}
	return line
}

func newRunShowCommand(a *app) *cobra.Command {
	var history string
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show a run and what its epochs gave",
		Example: `  sandpiper run show turbofan-3
  sandpiper run show turbofan-3 --history epochs.csv`,
		Args: exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			write, err := historyWriter(history)
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				r, err := c.Run(ctx, args[0])
				if err != nil {
					return err
				}
				if write != nil {
					return a.writeHistory(history, write, r)
				}
				return a.printRun(r)
			})
		},
	}
	a.addOutput(cmd)
	cmd.Flags().StringVar(&history, "history", "", "write the epochs into this file, .csv or .json, and nothing to stdout")
	return cmd
}

// historyWriter returns what writes epochs in the format that a file's name
// says, nil without a file.
func historyWriter(path string) (func(io.Writer, []train.Epoch) error, error) {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".csv":
		return writeHistoryCSV, nil
	case ".json":
		return writeHistoryJSON, nil
	}
	if path != "" {
		return nil, usagef("--history %s: the name must end in .csv or .json", path)
	}
	return nil, nil
}

func (a *app) writeHistory(path string, write func(io.Writer, []train.Epoch) error, r runs.Run) error {
	file, err := a.createFile(path, 0o644)
	if err != nil {
		return err
	}
	defer file.discard()
	if err := write(file, r.History); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := file.commit(); err != nil {
		return err
	}
	a.notef("wrote %s, %d epochs of run %s", path, len(r.History), r.ID)
	return nil
}

func writeHistoryJSON(w io.Writer, history []train.Epoch) error {
	b, err := json.MarshalIndent(append([]train.Epoch{}, history...), "", "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// writeHistoryCSV writes every digit; val_loss is empty without validation.
func writeHistoryCSV(w io.Writer, history []train.Epoch) error {
	var b bytes.Buffer
	table := csv.NewWriter(&b)
	rows := [][]string{{"epoch", "loss", "val_loss", "learning_rate", "seconds"}}
	digits := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	for _, e := range history {
		val := ""
		if e.ValLoss != nil {
			val = digits(*e.ValLoss)
		}
		rows = append(rows, []string{strconv.Itoa(e.Epoch), digits(e.Loss), val, digits(e.LearningRate), digits(e.Seconds)})
	}
	if err := table.WriteAll(rows); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (a *app) printRun(r runs.Run) error {
	return a.print(r, []string{r.ID}, func(g *grid) {
		g.row("run", r.ID)
		g.row("state", r.State)
		if r.Reason != "" {
			g.row("reason", r.Reason)
		}
		g.row("version", orDash(r.Version))
		g.row("begun", ago(r.Created))
		g.row("updated", ago(r.Updated))
		g.row("epoch", runEpoch(r))
		if r.Batch > 0 {
			g.row("batch", r.Batch)
		}
		if best := r.Best(); best != nil {
			g.row("best epoch", best.Epoch)
		}
		g.row("resumed", r.Resumed)
		g.row("data", r.Data)
		if len(r.History) == 0 {
			return
		}
		g.header("epoch", "loss", "val loss", "learning rate", "seconds")
		for _, e := range r.History {
			val := "-"
			if e.ValLoss != nil {
				val = figure(*e.ValLoss)
			}
			g.row(e.Epoch, figure(e.Loss), val, figure(e.LearningRate), strconv.FormatFloat(e.Seconds, 'f', 2, 64))
		}
	})
}

func newRunStopCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stop ID",
		Short: "Stop a run, so that it can go on later",
		Long: `Stop a run, so that it can go on later. The command returns once what the run has
done is on disk.`,
		Args: exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				r, err := c.StopRun(ctx, args[0])
				if err != nil {
					return err
				}
				return a.printRun(r)
			})
		},
	}
	a.addOutput(cmd)
	return cmd
}

func newRunResumeCommand(a *app) *cobra.Command {
	var data dataArgs
	var force bool
	cmd := &cobra.Command{
		Use:   "resume ID --data FILE",
		Short: "Train a run to its end and add its model as the next version",
		Long: `Train a run that was stopped, interrupted or failed to its end, with the options
it was begun with, and add its model as the next version: bit for bit the one of
a run that was never interrupted. FILE, and the files held out, must be those that it
was begun with.`,
		Args: exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.follow(cmd.Context(), args[0], data, func(ctx context.Context, c *api.Client, f []api.File, show func(api.Progress)) (json.RawMessage, error) {
				return c.ResumeRun(ctx, args[0], force, f, show)
			})
		},
	}
	addDataFlag(cmd.Flags(), &data.data)
	data.addHeldOut(cmd.Flags())
	cmd.Flags().BoolVar(&force, "force", false, "add the version even if int8 is worse than its bound; its lineage then says who did")
	_ = cmd.MarkFlagRequired("data")
	a.addOutput(cmd)
	return cmd
}

// follow trains on a file, as do says, with progress on stderr, and prints the
// report. id is that of the run, "" while it has none.
func (a *app) follow(ctx context.Context, id string, data dataArgs, do func(context.Context, *api.Client, []api.File, func(api.Progress)) (json.RawMessage, error)) error {
	files, err := a.heldOutFiles(data)
	if err != nil {
		return err
	}
	return a.with(ctx, func(ctx context.Context, c *api.Client) error {
		p := a.newProgress()
		p.run = id
		report, err := do(ctx, c, files, p.show)
		p.done()
		var problem *api.Problem
		if err != nil && p.run != "" && !errors.As(err, &problem) { // a problem says it itself
			a.leave(ctx, c, p.run)
		}
		if err != nil {
			return err
		}
		return a.printReport(report)
	})
}

// leaveTime is how long a command that was interrupted waits for its run's end.
const leaveTime = 10 * time.Second

// leave waits until a run has ended that ctx's end stops: who resumes it at once
// is then not told that it is under way.
func (a *app) leave(ctx context.Context, c *api.Client, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTime)
	defer cancel()
	_, err := c.StopRun(ctx, id)
	if problem := (*api.Problem)(nil); err != nil && !errors.As(err, &problem) {
		a.notef("run %s may be under way still, which `sandpiper run show %s` tells once the control plane is there; "+
			"what it has done is kept, and `sandpiper run resume %s --data FILE` goes on", id, id, id)
		return
	}
	a.notef("what run %s has done is kept; go on with `sandpiper run resume %s --data FILE`", id, id)
}

func newRunRemoveCommand(a *app) *cobra.Command {
	return newRemoveCommand(a, "Remove runs and their checkpoints; a version that one made stays", (*api.Client).RemoveRun)
}

// newRemoveCommand returns the command rm, which removes one thing after the other.
func newRemoveCommand(a *app, short string, remove func(c *api.Client, ctx context.Context, id string) error) *cobra.Command {
	return &cobra.Command{
		Use:   "rm ID…",
		Short: short,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("ID is missing")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				for i, id := range args {
					err := remove(c, ctx, id)
					if err != nil && i > 0 {
						return fmt.Errorf("%w: removed %s, and then: %w", errPartly, strings.Join(args[:i], ", "), err)
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}
