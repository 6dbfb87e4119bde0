package main

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sandpiper-edge/sandpiper/kernel/bench"
)

func newBenchCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure this machine",
	}
	cmd.AddCommand(newBenchKernelCommand(a))
	return cmd
}

func newBenchKernelCommand(a *app) *cobra.Command {
	var o bench.PeerOptions
	cmd := &cobra.Command{
		Use:   "kernel",
		Short: "Time predictions beside the time to read their weights once",
		Long: `Times a streaming step, a window of 50 steps and a batch of 32 such windows, in
int8 and float32, on every tier of this machine. The line is the time to read
the same packed weights once for every step, in the same process and in turns.

With --model it times one model instead and prints one line of JSON. DIR holds
lstm_H.bin, little-endian float32 in Keras's order: kernel [F][4H], recurrent
[H][4H], bias [4H], dense kernel [H], dense bias [1]; and input_H.bin, 50 rows.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Dir == "" {
				for _, name := range []string{"hidden", "batch", "mode", "type"} {
					if cmd.Flags().Changed(name) {
						return usagef("--%s is of --model DIR", name)
					}
				}
				return a.benchKernel(cmd)
			}
			switch {
			case o.Hidden < 1:
				return usagef("--model needs --hidden H, the H of lstm_H.bin")
			case !slices.Contains([]string{"seq", "step"}, o.Mode):
				return usagef("--mode %s: write seq or step", o.Mode)
			case !slices.Contains([]string{"int8", "float32"}, o.Type):
				return usagef("--type %s: write int8 or float32", o.Type)
			case o.Batch < 1 || o.Mode == "step" && o.Batch > 1:
				return usagef("--batch %d: write 1 or more, and 1 with --mode step", o.Batch)
			}
			r, err := bench.RunPeer(o)
			if err != nil {
				return err
			}
			line, err := json.Marshal(r)
			if err != nil {
				return err
			}
			return a.write(append(line, '\n'))
		},
	}
	a.addOutput(cmd)
	f := cmd.Flags()
	f.StringVar(&o.Dir, "model", "", "folder of a model to time, as plain files")
	f.IntVar(&o.Hidden, "hidden", 0, "hidden units of that model")
	f.IntVar(&o.Batch, "batch", 1, "windows predicted at once")
	f.StringVar(&o.Mode, "mode", "seq", "seq: whole windows; step: one streaming step")
	f.StringVar(&o.Type, "type", "int8", "int8 or float32")
	return cmd
}

func (a *app) benchKernel(cmd *cobra.Command) error {
	a.notef("%s: some ten seconds; other work on this machine spoils the figures", bench.CPU())
	rows, err := bench.Run(cmd.Context(), bench.Options{})
	if err != nil {
		return err
	}
	var names []string
	for _, r := range rows {
		names = append(names, fmt.Sprintf("%s/%s/%d/%s", r.Mode, r.Type, r.Hidden, r.Tier))
	}
	return a.print(rows, names, func(g *grid) {
		g.header("MODE", "TYPE", "HIDDEN", "FEATURES", "TIER", "µs", "LINE µs", "RATIO", "ALLOCS")
		for _, r := range rows {
			g.row(r.Mode, r.Type, r.Hidden, r.Features, r.Tier,
				fmt.Sprintf("%.2f", r.US), fmt.Sprintf("%.2f", r.LineUS), fmt.Sprintf("%.2f", r.Ratio), r.Allocs)
		}
	})
}
