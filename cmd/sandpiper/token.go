package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/fleet"
)

func newTokenCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Give people tokens of the HTTP API",
		Long: `Give people tokens of the HTTP API. A viewer looks; a releaser also trains, adds,
signs and rolls out versions; an admin also adds devices, users and tokens. The
record of changes (sandpiper audit) names the token's holder.`,
	}
	cmd.AddCommand(newTokenAddCommand(a), newTokenListCommand(a), newTokenRemoveCommand(a))
	return cmd
}

func newTokenAddCommand(a *app) *cobra.Command {
	var role string
	cmd := &cobra.Command{
		Use:   "add NAME --role ROLE",
		Short: "Make a token and print it, once",
		Args:  exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				t, err := c.AddAPIToken(ctx, api.NewAPIToken{Name: args[0], Role: fleet.Role(role)})
				if err != nil {
					return err
				}
				a.notef("%s may act as %s with SANDPIPER_TOKEN and --server; the token below is shown this once", t.Name, t.Role)
				if a.format == "table" {
					return a.write([]byte(t.Secret + "\n"))
				}
				return a.print(t, []string{t.Secret}, nil)
			})
		},
	}
	cmd.Flags().StringVar(&role, "role", string(fleet.Viewer), "viewer, releaser or admin")
	a.addOutput(cmd)
	return cmd
}

func newTokenListCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List tokens",
		Args:  exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				tokens, err := c.APITokens(ctx)
				if err != nil {
					return err
				}
				names := make([]string, len(tokens))
				for i, t := range tokens {
					names[i] = t.Name
				}
				return a.print(tokens, names, func(g *grid) {
					g.header("token", "role", "created")
					for _, t := range tokens {
						g.row(t.Name, t.Role, ago(t.Created))
					}
				})
			})
		},
	}
	a.addOutput(cmd)
	return cmd
}

func newTokenRemoveCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAME",
		Short: "Make a token worthless",
		Args:  exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				return c.RemoveAPIToken(ctx, args[0])
			})
		},
	}
}

func newModelProtectCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "protect NAME APPROVALS",
		Short: "Let a version be rolled out only when others approved it",
		Long: `Let a version of NAME be rolled out only when so many people, other than the one
who rolls it out, approved it with ` + "`sandpiper model approve`" + `; 0: nobody needs to. A
rollback needs no approval.`,
		Args: exactArgs("NAME", "APPROVALS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil {
				return usagef("approvals: want a number, 0 for none, not %q", args[1])
			}
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				return c.ProtectModel(ctx, args[0], n)
			})
		},
	}
}

func newModelApproveCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "approve REF",
		Short: "Approve a version",
		Args:  exactArgs("REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				ap, err := c.ApproveModel(ctx, args[0])
				if err != nil {
					return err
				}
				return a.print(ap, []string{ap.Version}, func(g *grid) {
					g.row("version", ap.Version)
					g.row("approved by", strings.Join(ap.Approvers, ", "))
					g.row("needs", fmt.Sprintf("%d other than who rolls it out", ap.Needed))
				})
			})
		},
	}
	a.addOutput(cmd)
	return cmd
}
