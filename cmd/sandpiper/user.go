package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
)

func newUserCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "user", Short: "Add users of predictions"}
	cmd.AddCommand(newUserAddCommand(a))
	return cmd
}

func newUserAddCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add USER",
		Short: "Add a user and print the token, once",
		Long: `Add a user who may ask devices for predictions over MQTT, and print the token:
the password of user name u.USER, with client id u.USER, at the broker. It is
stored hashed and cannot be shown again.`,
		Args: exactArgs("USER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				u, err := c.AddUser(ctx, api.NewUser{ID: args[0]})
				if err != nil {
					return err
				}
				a.notef("user %s at %s; the token below is shown this once", u.Username, u.Broker)
				if a.format == "table" {
					return a.write([]byte(u.Token + "\n"))
				}
				return a.print(u, []string{u.Token}, nil)
			})
		},
	}
	a.addOutput(cmd)
	return cmd
}
