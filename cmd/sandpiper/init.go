package main

import (
	"github.com/spf13/cobra"

	"github.com/sandpiper-edge/sandpiper/cmd/internal/config"
	"github.com/sandpiper-edge/sandpiper/cmd/internal/configfile"
	"github.com/sandpiper-edge/sandpiper/controlplane"
)

func newInitCommand(a *app) *cobra.Command {
	var fleetName string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the data folder: keys, fleet and configuration",
		Long: `Make the data folder of a control plane: the root, release and rollout keys, the
signed root document, the admin token of the HTTP API, an empty store and a
commented sandpiper.toml.`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			info, err := controlplane.Init(cmd.Context(), a.dir, fleetName)
			if err != nil {
				return err
			}
			cfg := config.DefaultServer()
			cfg.Fleet = info.Fleet
			if err := configfile.WriteServer(a.configFile(), cfg); err != nil {
				return err
			}
			for _, w := range info.Warnings {
				a.notef("warning: %s", w)
			}
			return a.print(info, []string{info.Dir}, func(g *grid) {
				g.row("folder", info.Dir)
				g.row("fleet", info.Fleet)
				g.row("root key", info.RootKey)
				g.row("release key", info.Release)
				g.row("rollout key", info.Rollout)
				g.row("admin token", info.Token)
				g.row("configuration", a.configFile())
			})
		},
	}
	cmd.Flags().StringVar(&fleetName, "fleet", controlplane.DefaultFleet, "name of the fleet")
	a.addOutput(cmd)
	return cmd
}
