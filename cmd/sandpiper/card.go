package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/card"
	"github.com/sandpiper-edge/sandpiper/controlplane/train"
)

func newModelCardCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "card REF",
		Short: "Write a version's model card, as Markdown",
		Long: `Write a version's model card: what it is for, what it was made from, its figures
with intervals beside the baselines, the verdict and what it costs to ship. Markdown,
or with -o json the same as data. It is made from what is kept with the version.`,
		Args: exactArgs("REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				v, err := c.Version(ctx, args[0])
				if err != nil {
					return err
				}
				doc, err := cardOf(v)
				if err != nil {
					return err
				}
				if a.format == "table" {
					return a.write([]byte(doc.Markdown()))
				}
				return a.print(doc, []string{v.Ref}, nil)
			})
		},
	}
	a.addOutput(cmd)
	return cmd
}

func cardOf(v api.Version) (*card.Card, error) {
	var r *train.Report
	if v.Report != nil {
		var err error
		if r, err = train.ParseReport(v.Report); err != nil {
			return nil, err
		}
	}
	about := card.Version{
		Ref: v.Ref, Digest: v.Digest, Task: v.Task, Created: v.Created, Signed: v.Signed,
		Parent: v.Lineage.Parent, Forced: v.Lineage.Forced, Bytes: v.Bytes,
	}
	if v.Schema != nil {
		about.Layers = v.Schema.Layers
	}
	if len(v.Transfers) > 0 {
		about.Smallest = int(v.Transfers[0].Bytes)
	}
	return card.New(about, r), nil
}
