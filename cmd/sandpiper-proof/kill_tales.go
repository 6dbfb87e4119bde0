package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
)

// A tale is a rollout that is told twice: undisturbed, and with the control plane
// killed at random moments, from before the command that starts it. Both draw the
// same devices for the same stages.
type tale struct {
	name    string
	stages  []plan.Stage
	crashes func(i int) bool // which devices crash on the version; nil: none
	// ratio, if it is not 0, is that of the version's errors to those of the one in
	// place, on more devices, which are light ones.
	ratio float64
	// held is what a person does when a stage of that name is held.
	held map[string]func(context.Context, *api.Client) error
}

// tales end in every way in which a rollout does.
func tales() []tale {
	stage := func(name, devices string) plan.Stage {
		s := plan.Stage{Name: name, Quality: plan.Off}
		if err := s.Devices.UnmarshalText([]byte(devices)); err != nil {
			panic(err)
		}
		return s
	}
	shadow := stage("shadow", "50%")
	shadow.Shadow, shadow.Quality = true, plan.Paired // of too few devices: it is held, and a person promotes
	hold := func(s plan.Stage) plan.Stage { s.Hold = true; return s }
	half := 0.5
	most := func(s plan.Stage) plan.Stage { s.Checks.MaxFailed = &half; return s }
	command := func(kind plan.Kind) func(context.Context, *api.Client) error {
		return func(ctx context.Context, c *api.Client) error {
			_, err := c.CommandRollout(ctx, killModel, kind)
			return err
		}
	}
	// Margins wider than usual, so that half a minute is enough to decide.
	canary, guarded := stage("canary", "40"), stage("all", "100%")
	canary.Quality, canary.MPass, guarded.Quality = plan.Paired, 1.5, plan.Guard
	judged := []plan.Stage{canary, guarded}
	newer := tale{stages: []plan.Stage{stage("canary", "4"), stage("all", "100%")}}
	return []tale{
		{name: "done", stages: []plan.Stage{stage("canary", "2"), stage("quarter", "25%"), stage("half", "50%"), stage("all", "100%")}},
		{name: "some failed", stages: []plan.Stage{most(stage("canary", "8")), most(stage("half", "50%")), most(stage("all", "100%"))}, crashes: func(i int) bool { return i%6 == 0 }},
		{name: "stopped", stages: []plan.Stage{stage("canary", "8"), stage("all", "100%")}, crashes: func(i int) bool { return i%2 == 0 }},
		{name: "as good", stages: judged, ratio: 1},
		{name: "worse", stages: judged, ratio: 3},
		{name: "shadow", stages: []plan.Stage{shadow, hold(stage("canary", "4")), stage("all", "100%")},
			held: map[string]func(context.Context, *api.Client) error{"shadow": command(plan.Promote), "canary": command(plan.Promote)}},
		{name: "aborted", stages: []plan.Stage{stage("canary", "2"), hold(stage("half", "50%")), stage("all", "100%")},
			held: map[string]func(context.Context, *api.Client) error{"half": command(plan.Abort)}},
		{name: "superseded", stages: []plan.Stage{stage("canary", "2"), hold(stage("half", "50%")), stage("all", "100%")},
			held: map[string]func(context.Context, *api.Client) error{"half": func(ctx context.Context, c *api.Client) error { return newer.start(ctx, c, 3) }}},
	}
}

// start is the command that starts it.
func (t tale) start(ctx context.Context, c *api.Client, version int) error {
	_, err := c.StartRollout(ctx, api.NewRollout{Ref: fmt.Sprintf("%s:v%d", killModel, version), To: "all", Plan: plan.Plan{
		Seed: 1, Every: plan.Duration(time.Second), Minimum: plan.Duration(time.Second), Deadline: plan.Duration(time.Hour), Watch: -1, Stages: t.stages,
	}})
	return err
}
