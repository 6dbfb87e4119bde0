package main

import (
	"runtime"

	"github.com/spf13/cobra"
)

func newVersionCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			doc := struct {
				Version string `json:"version"`
				Go      string `json:"go"`
				OS      string `json:"os"`
				Arch    string `json:"arch"`
			}{version, runtime.Version(), runtime.GOOS, runtime.GOARCH}
			return a.print(doc, []string{version}, func(g *grid) {
				g.row("sandpiper", doc.Version)
				g.row("built with", doc.Go)
				g.row("runs on", doc.OS+"/"+doc.Arch)
			})
		},
	}
	a.addOutput(cmd)
	return cmd
}
