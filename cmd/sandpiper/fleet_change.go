package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
)

func newFleetTokenCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token DEVICE",
		Short: "Give a device a new token and print it, once",
		Long: `Give a device a new token and print it, for "token" in its agent.toml. The one before
is refused from now on, and the device's connection ends. With an external
broker, whose credentials are its own, set the password there too.`,
		Args: exactArgs("DEVICE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				t, err := c.RenewToken(ctx, args[0])
				if err != nil {
					return err
				}
				a.notef("the token of %s before no longer works; the one below is shown this once", t.Device)
				if a.format == "table" {
					return a.write([]byte(t.Token + "\n"))
				}
				return a.print(t, []string{t.Token}, nil)
			})
		},
	}
	a.addOutput(cmd)
	return cmd
}

func newFleetRemoveCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "rm DEVICE",
		Short: "Forget a device and refuse its token",
		Long: `Forget a device: its connection ends, its token is refused, and what it reported and
should run is removed. What was counted of its predictions by day stays, and so does
the record of changes. The agent goes on answering locally with what it has.`,
		Args: exactArgs("DEVICE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				return c.RemoveDevice(ctx, args[0])
			})
		},
	}
}
