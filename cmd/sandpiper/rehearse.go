package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sandpiper-edge/sandpiper/cmd/internal/config"
	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/rehearse"
	"github.com/sandpiper-edge/sandpiper/firmware-sim/scenario"
)

func newRolloutRehearseCommand(a *app) *cobra.Command {
	var file string
	var repeat int
	var seed uint64
	cmd := &cobra.Command{
		Use:   "rehearse [PLAN] --scenario FILE",
		Short: "Carry out a plan on a fleet that does not exist, in virtual time",
		Long: `Carry out a plan on a fleet that does not exist, in virtual time. PLAN is a TOML
file, shadow-first (the default) or canary-first; the scenario, another TOML file,
says what the fleet is like and what its devices do, and may name a file with the
errors that two versions made. Decisions are those of a real rollout. With --repeat the rehearsal is repeated with as many seeds, and the answer
is how often the version was let through and stopped.`,
		Example: `  sandpiper rollout rehearse plan.toml --scenario docs/examples/worse.toml
  sandpiper rollout rehearse canary-first --scenario docs/examples/worse.toml --repeat 100`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := readScenario(file)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("seed") {
				s.Seed = seed
			}
			s = s.WithDefaults()
			if err := s.Check(); err != nil {
				return usagef("%s: %v", file, err)
			}
			name := "shadow-first"
			if len(args) > 0 {
				name = args[0]
			}
			p, err := rehearsedPlan(name, s.Devices)
			if err != nil {
				return err
			}
			if repeat < 0 {
				return usagef("--repeat %d: use 1 or more", repeat)
			}
			if repeat > 0 {
				return a.repeatRehearsal(cmd.Context(), p, s, repeat)
			}
			o, err := rehearse.Run(cmd.Context(), p, s)
			if err != nil {
				return err
			}
			if a.format != "table" {
				return a.print(o, []string{string(o.Final)}, nil)
			}
			var b bytes.Buffer
			if err := o.WriteTimeline(&b); err != nil {
				return err
			}
			return a.write(b.Bytes())
		},
	}
	cmd.Flags().StringVar(&file, "scenario", "", "file that says what the fleet is like, TOML")
	cmd.Flags().IntVar(&repeat, "repeat", 0, "how many seeds to repeat it with")
	cmd.Flags().Uint64Var(&seed, "seed", 0, "instead of the scenario's")
	_ = cmd.MarkFlagRequired("scenario")
	a.addOutput(cmd)
	return cmd
}

// readScenario reads a scenario and the file of errors that it names, from its own
// folder on.
func readScenario(file string) (s scenario.Scenario, err error) {
	s = scenario.Scenario{}.WithDefaults() // which what the file says replaces
	mistake, err := config.Read(file, &s)
	if err != nil {
		return s, err
	}
	for _, v := range []struct {
		key  string
		zero bool
	}{{"devices", s.Devices == 0}, {"ratio", s.Ratio == 0}, {"sample", s.Sample == 0}, {"until", s.Until == 0}} {
		if v.zero {
			return s, mistake(v.key, "must be above 0; leave it out for the default")
		}
	}
	if s.Errors == "" {
		return s, nil
	}
	path := s.Errors
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(file), path)
	}
	f, err := os.Open(path)
	if err != nil {
		return s, fmt.Errorf("%s: errors: %w", file, err)
	}
	defer f.Close()
	if s.Recorded, err = scenario.ReadErrors(f); errors.Is(err, scenario.ErrScenario) {
		return s, usagef("%s: %v", path, err)
	} else if err != nil {
		return s, fmt.Errorf("read %s: %w", path, err)
	}
	return s, nil
}

// rehearsedPlan is the plan of that name, or in that file.
func rehearsedPlan(name string, devices int) (plan.Plan, error) {
	switch name {
	case "shadow-first":
		return plan.ShadowFirst(devices), nil
	case "canary-first":
		return plan.CanaryFirst(devices), nil
	}
	if !strings.ContainsAny(name, "./") {
		return plan.Plan{}, usagef("%q is no plan to rehearse; name shadow-first, canary-first or a TOML file", name)
	}
	p, err := loadPlan(name)
	if err == nil && len(p.Stages) == 0 {
		err = usagef("%s has no stage; add [[stage]] tables", name)
	}
	return p, err
}

func (a *app) repeatRehearsal(ctx context.Context, p plan.Plan, s scenario.Scenario, n int) error {
	last := time.Now()
	r, err := rehearse.Repeat(ctx, p, s, n, func(done int) {
		if time.Since(last) > 5*time.Second {
			last = time.Now()
			a.notef("%d of %d rehearsals", done, n)
		}
	})
	if err != nil {
		return err
	}
	return a.print(r, nil, func(g *grid) {
		g.row("rehearsals", r.Rehearsals)
		g.row("let through", fmt.Sprintf("%d, below %.2f %% with 95 %% confidence", r.Through, 100*r.ThroughUpper))
		g.row("stopped", fmt.Sprintf("%d, below %.2f %% with 95 %% confidence", r.Stopped, 100*r.StoppedUpper))
		for _, why := range slices.Sorted(maps.Keys(r.Reasons)) {
			g.row("  "+why, r.Reasons[why])
		}
		g.row("decided after", fmt.Sprintf("%s, the median", r.Decided))
	})
}
