package main

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sandpiper-edge/sandpiper/cmd/internal/config"
	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/rollout"
)

// planFlags are the flags of a start that make its plan.
type planFlags struct {
	name           string // a plan's, or a file
	shadow, direct bool
	stages         []string
	noQuality      bool

	options plan.Plan
	window  plan.Window
	failed  share
	start   string
}

func (f *planFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.name, "plan", "", "`NAME` of a plan, "+strings.Join(rollout.PlanNames, ", ")+", or a TOML file")
	flags.BoolVar(&f.shadow, "shadow", false, "run it beside the version in place, heard by nobody, until promoted; --plan shadow")
	flags.BoolVar(&f.direct, "direct", false, "give it to all at once; --plan direct")
	flags.StringArrayVar(&f.stages, "stage", nil, "`AMOUNT` of devices that have it after a stage, 50 or 10%; repeated, all is the last")
	flags.BoolVar(&f.noQuality, "no-quality", false, "with --stage: do not judge the errors; failed updates alone stop it")
	flags.StringVar(&f.options.Evidence, "evidence", "", "what the quality is judged by: paired (default), or did, for devices that cannot hold two versions or whose forecasts steer")
	flags.Var(textFlag{&f.options.Before}, "before", "with --evidence did: how long errors are measured before the first stage (default 24h)")
	flags.Var(textFlag{&f.options.Every}, "every", "between two reports of a judged device (default 1m)")
	flags.Var(textFlag{&f.options.Deadline}, "deadline", "when waiting for a verdict ends, of each stage (default 8h)")
	flags.Var(textFlag{&f.options.Minimum}, "minimum", "how long a stage takes at least (default 5m)")
	flags.Var(textFlag{&f.options.Watch}, "watch-for", "how long devices go on being judged when all have it (default 24h)")
	flags.StringVar(&f.options.OnInconclusive, "on-inconclusive", "", "at a deadline without a verdict: widen (default), stop, hold or promote")
	flags.StringVar(&f.options.Group, "group", "", "label whose values are judged apart (default hw)")
	flags.Int64Var(&f.options.BytesPerSecond, "bytes-per-second", 0, "spread the downloads of a stage to stay below; 0: no limit")
	flags.Var(textFlag{&f.window}, "window", "part of the device's local day in which it may change versions, 01:00-05:00")
	flags.StringVar(&f.start, "start", "", "not before, as 2026-12-01T01:00:00Z")
	f.failed = 0.05
	flags.Var(&f.failed, "max-failed", "of devices that may fail, 0.05 or 5%")
}

// plan reads the flags.
func (f *planFlags) plan(cmd *cobra.Command) (plan.Plan, error) {
	set := cmd.Flags().Changed
	p := f.options
	if kinds := slices.DeleteFunc([]string{"plan", "shadow", "direct", "stage"}, func(flag string) bool { return !set(flag) }); len(kinds) > 1 {
		return p, usagef("--%s: each says how it spreads; give one of them", strings.Join(kinds, ", --"))
	}
	if strings.ContainsAny(f.name, "./") {
		for _, flag := range []string{"every", "deadline", "minimum", "watch-for", "on-inconclusive", "group", "bytes-per-second", "window", "start", "max-failed", "no-quality", "evidence", "before"} {
			if set(flag) {
				return p, usagef("--%s: %s says that already; write it there", flag, f.name)
			}
		}
		return loadPlan(f.name)
	}
	if p.Name = f.name; f.shadow {
		p.Name = rollout.ShadowOnly
	}
	if f.direct {
		p.Name = rollout.Direct
	}
	if set("window") {
		p.Window = &f.window
	}
	if f.start != "" {
		at, err := time.Parse(time.RFC3339, f.start)
		if err != nil {
			return p, usagef("--start: %q is no time; write it as 2026-12-01T01:00:00Z", f.start)
		}
		p.Start = at
	}
	if set("no-quality") && len(f.stages) == 0 || set("max-failed") && len(f.stages) == 0 {
		return p, usagef("--no-quality and --max-failed need stages: --stage 10%%")
	}
	for _, text := range f.stages {
		var s plan.Stage
		if err := s.Devices.UnmarshalText([]byte(text)); err != nil {
			return p, usagef("--stage: %s", strings.TrimPrefix(err.Error(), plan.ErrPlan.Error()+": "))
		}
		p.Stages = append(p.Stages, s)
	}
	if n := len(p.Stages); n > 0 && p.Stages[n-1].Devices != (plan.Amount{Percent: 100}) {
		p.Stages = append(p.Stages, plan.Stage{Devices: plan.Amount{Percent: 100}})
	}
	for i := range p.Stages {
		if f.noQuality {
			p.Stages[i].Quality = plan.Off
		}
		if set("max-failed") {
			most := float64(f.failed)
			p.Stages[i].Checks.MaxFailed = &most
		}
	}
	return p, nil
}

// loadPlan reads a plan from a TOML file. Mistakes name file, line and column. A file
// that says nothing, as a copy on a full disk does, is one: it would mean all at once.
func loadPlan(path string) (plan.Plan, error) {
	var p plan.Plan
	mistake, err := config.Read(path, &p)
	if err != nil {
		return p, err
	}
	switch {
	case reflect.ValueOf(p).IsZero():
		return p, &config.Error{File: path, Message: "says nothing; name its stages, [[stage]], or a plan, name = \"canary-first\"; for all at once, name = \"direct\""}
	case len(p.Stages) == 0:
		_, err = rollout.PlannerOf(p)
	default:
		err = p.WithDefaults().Check()
	}
	var wrong *plan.Error
	if !errors.As(err, &wrong) {
		return p, err
	}
	key := wrong.Key
	if wrong.Stage >= 0 {
		key = strings.TrimSuffix(fmt.Sprintf("stage[%d].%s", wrong.Stage, key), ".")
	}
	return p, mistake(key, "%s", wrong.Text)
}

// A textFlag is a flag whose value reads itself.
type textFlag struct {
	v interface {
		UnmarshalText([]byte) error
		MarshalText() ([]byte, error)
	}
}

func (t textFlag) Type() string {
	if _, ok := t.v.(*plan.Duration); ok {
		return "duration"
	}
	return "string"
}

func (t textFlag) String() string { return "" }

func (t textFlag) Set(s string) error {
	err := t.v.UnmarshalText([]byte(s))
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), plan.ErrPlan.Error()+": "))
	}
	return nil
}

// A share is a flag from 0 to 1, or a percentage.
type share float64

func (s *share) Type() string { return "share" }

func (s *share) String() string { return strconv.FormatFloat(float64(*s), 'g', -1, 64) }

func (s *share) Set(text string) error {
	number, percent := strings.CutSuffix(text, "%")
	v, err := strconv.ParseFloat(number, 64)
	if percent {
		v /= 100
	}
	if err != nil || !(v >= 0 && v <= 1) {
		return errors.New("no share; write 0.05 or 5%")
	}
	*s = share(v)
	return nil
}
