package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sandpiper-edge/sandpiper/cmd/internal/config"
	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

func newModelPipelineCommand(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "pipeline REF --file FILE",
		Short: "Add a version that devices feed by themselves, from MQTT topics",
		Long: `Add a version that devices feed by themselves. It has the tensors of REF and the
pipeline in FILE: which topics and JSON pointers feed which feature, how often,
and where predictions go. How a model is fed is part of what is signed, so it is
a version of its own, rolled out and taken back as any other.`,
		Args: exactArgs("REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				v, err := c.Version(ctx, args[0])
				if err != nil {
					return err
				}
				if v.Pruned {
					return fmt.Errorf("%s has no bytes any more; `sandpiper model import` brings them back from a file", v.Ref)
				}
				p, err := config.LoadPipeline(file, artifactSchema(v.Schema))
				if err != nil {
					return err
				}
				v, err = c.Feed(ctx, v.Ref, p)
				return a.printVersion(v, err)
			})
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "the pipeline, TOML (required)")
	_ = cmd.MarkFlagRequired("file") // the flag is there
	a.addOutput(cmd)
	return cmd
}

// artifactSchema is what a pipeline is checked against.
func artifactSchema(s *api.Schema) artifact.Schema {
	out := artifact.Schema{Window: s.Window, Horizon: s.Horizon, Prepare: s.Prepare}
	for _, c := range s.Features {
		out.Features = append(out.Features, artifact.Column(c))
	}
	for _, c := range s.Targets {
		out.Targets = append(out.Targets, artifact.Column(c))
	}
	return out
}

func drawPipeline(g *grid, p *artifact.Pipeline) {
	for _, in := range p.Inputs {
		from := "samples of the device"
		if in.Topic != "" {
			from = in.Topic + " " + in.Pointer
		}
		g.row("input "+in.Column, from)
	}
	ms := func(n uint32) time.Duration { return time.Duration(n) * time.Millisecond }
	g.row("a row each", fmt.Sprintf("%s, of values not older than %s, held for %s more", ms(p.PeriodMS), ms(p.ToleranceMS), ms(p.HoldMS)))
	g.row("begins anew", "behind a gap longer than "+ms(p.GapMS).String())
	g.row("predicts", fmt.Sprintf("every %d rows, to %s, not sooner than %s", p.Stride, orDefault(p.Output, "the device's outputs"), ms(p.MinIntervalMS)))
	if a := p.Alarm; a != nil {
		g.row("alarm", fmt.Sprintf("output %d, raised at %v, cleared at %v", a.Output, a.Raise, a.Clear))
	}
}

func orDefault(s, d string) string {
	if s == "" {
		return d
	}
	return s
}
