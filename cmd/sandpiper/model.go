package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/train"
)

func newModelCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "model",
		Short: "Look at, sign and move model versions",
		Long: `Look at, sign and move model versions. REF is NAME for the latest version,
NAME:vN for one version, or NAME:ALIAS.`,
	}
	cmd.AddCommand(
		newModelListCommand(a), newModelShowCommand(a), newModelVerifyCommand(a), newModelTagCommand(a),
		newModelSignCommand(a), newModelExportCommand(a), newModelImportCommand(a), newModelPipelineCommand(a),
		newModelCardCommand(a), newModelProtectCommand(a), newModelApproveCommand(a),
		newModelCompareCommand(a), newModelPruneCommand(a),
	)
	return cmd
}

func newModelListCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls [NAME]",
		Short: "List versions",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := strings.Join(args, "")
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				versions, err := c.Versions(ctx, name)
				if err != nil {
					return err
				}
				return a.printVersions(versions)
			})
		},
	}
	a.addOutput(cmd)
	return cmd
}

func (a *app) printVersions(versions []api.Version) error {
	names := make([]string, len(versions))
	for i, v := range versions {
		names[i] = v.Ref
	}
	return a.print(versions, names, func(g *grid) {
		g.header("version", "task", "created", "signed", "bytes", "aliases", "digest")
		for _, v := range versions {
			g.row(v.Ref, v.Task, ago(v.Created), yesNo(v.Signed), v.Bytes, orDash(strings.Join(v.Aliases, ",")), short(v.Digest.String()))
		}
	})
}

func newModelShowCommand(a *app) *cobra.Command {
	var tensors bool
	cmd := &cobra.Command{
		Use:   "show REF",
		Short: "Show a version, what it reads and how it was made",
		Long: `Show a version, what it reads and how it was made. With -o json its report has
the history of its training and the error of each int8 tensor.`,
		Args: exactArgs("REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				v, err := c.Version(ctx, args[0])
				if err != nil {
					return err
				}
				r := &train.Report{}
				if v.Report != nil {
					if r, err = train.ParseReport(v.Report); err != nil {
						return err
					}
				}
				return a.print(v, []string{v.Ref}, func(g *grid) {
					drawVersion(g, v, r)
					if tensors && r.Quantization != nil {
						drawTensors(g, r.Quantization)
					}
				})
			})
		},
	}
	cmd.Flags().BoolVar(&tensors, "tensors", false, "add the error of each int8 tensor")
	a.addOutput(cmd)
	return cmd
}

func drawVersion(g *grid, v api.Version, r *train.Report) {
	g.row("version", v.Ref)
	g.row("digest", v.Digest)
	g.row("task", v.Task)
	g.row("created", v.Created.Format("2006-01-02 15:04:05 MST"))
	g.row("signed", yesNo(v.Signed))
	g.row("aliases", orDash(strings.Join(v.Aliases, ", ")))
	for _, t := range v.Transfers {
		what := t.Kind
		if t.From != "" {
			what += " from " + t.From
		}
		g.row("transfer", fmt.Sprintf("%s, %d bytes, %s", what, t.Bytes, t.Hash))
	}
	if v.Pruned {
		g.row("bytes", "removed by `sandpiper model prune`")
	}
	if s := v.Schema; s != nil {
		g.row("layers", s.Layers)
		if s.MinWindow > 0 {
			g.row("window", fmt.Sprintf("%d to %d", s.MinWindow, s.Window))
		} else {
			g.row("window", s.Window)
		}
		g.row("stream", yesNo(s.Stream))
		g.row("horizon", s.Horizon)
		g.row("features", joinColumns(s.Features))
		g.row("targets", joinColumns(s.Targets))
		if len(s.Labels) > 0 {
			g.row("labels", strings.Join(s.Labels, ", "))
		}
		if d := s.Detector; d != nil {
			g.row("detector", fmt.Sprintf("%s, residuals of %d rows, anomaly above %v", d.Residual, d.Smooth, d.Threshold))
		}
		if s.Prepare != nil {
			drawPreparation(g, s)
		}
		if s.Pipeline != nil {
			drawPipeline(g, s.Pipeline)
		}
	}
	g.row("data", orDash(v.Lineage.Data))
	g.row("run", orDash(v.Lineage.Run))
	if p := v.Lineage.Parent; p != nil {
		g.row("went on from", p)
	}
	g.row("float32 kept", yesNo(v.HasFloat32))
	if r.Verdict != nil {
		g.row("verdict", r.Verdict.Text)
	}
	if r.Quantization != nil {
		g.row("int8 check", int8Check(r))
	}
	if v.Lineage.Forced != "" {
		g.row("forced by", v.Lineage.Forced)
	}
	for _, k := range slices.Sorted(maps.Keys(v.Metrics)) {
		g.row(k, figure(v.Metrics[k]))
	}
}

func joinColumns(columns []api.Column) string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
		if c.Unit != "" {
			names[i] += " [" + c.Unit + "]"
		}
	}
	return orDash(strings.Join(names, ", "))
}

func newModelVerifyCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify REF",
		Short: "Check a version's signature, digest and golden vectors",
		Args:  exactArgs("REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				v, err := c.Verify(ctx, args[0])
				if err != nil {
					return err
				}
				return a.print(v, []string{v.Ref}, func(g *grid) {
					g.row("version", v.Ref)
					g.row("signature", "a release of this fleet")
					g.row("digest", v.Digest)
					g.row("golden vectors", fmt.Sprintf("%d of %d reproduced", v.Golden, v.Golden))
				})
			})
		},
	}
	a.addOutput(cmd)
	return cmd
}

func newModelTagCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tag REF ALIAS",
		Short: "Move an alias to a version",
		Args:  exactArgs("REF", "ALIAS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				v, err := c.Tag(ctx, args[0], args[1])
				return a.printVersion(v, err)
			})
		},
	}
	a.addOutput(cmd)
	return cmd
}

func newModelSignCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sign REF",
		Short: "Sign a version with the release key of the data folder",
		Args:  exactArgs("REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				a.noteVerdictOf(ctx, c, args[0])
				v, err := c.Sign(ctx, args[0])
				return a.printVersion(v, err)
			})
		},
	}
	a.addOutput(cmd)
	return cmd
}

// printVersion prints one version in brief, or passes err on.
func (a *app) printVersion(v api.Version, err error) error {
	if err != nil {
		return err
	}
	return a.print(v, []string{v.Ref}, func(g *grid) {
		g.row("version", v.Ref)
		g.row("digest", v.Digest)
		g.row("signed", yesNo(v.Signed))
		g.row("aliases", orDash(strings.Join(v.Aliases, ", ")))
	})
}

func newModelExportCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export REF FILE",
		Short: "Write a version into one signed file, installable offline on a device",
		Args:  exactArgs("REF", "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := a.createFile(args[1], 0o644)
			if err != nil {
				return err
			}
			defer file.discard()
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				body, err := c.Export(ctx, args[0])
				if err != nil {
					return err
				}
				defer body.Close()
				n, err := io.Copy(file, body)
				if err != nil {
					return fmt.Errorf("export %s: %w", args[0], err)
				}
				if err := file.commit(); err != nil {
					return err
				}
				if args[1] != "-" {
					a.notef("wrote %s, %d bytes; install it on a device with `sandpiper-agent install %s`", args[1], n, args[1])
				}
				return nil
			})
		},
	}
	return cmd
}

func newModelImportCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Add the version in an exported file",
		Args:  exactArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := a.openFile(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				v, err := c.Import(ctx, f)
				return a.printVersion(v, err)
			})
		},
	}
	a.addOutput(cmd)
	return cmd
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// short is a digest's first 12 digits.
func short(digest string) string { return digest[:min(12, len(digest))] }
