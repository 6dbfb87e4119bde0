package main

import (
	"context"
	"fmt"
	"io"

	"github.com/sandpiper-edge/sandpiper/kernel/bench"
)

// benchmark times predictions on this board.
func benchmark(ctx context.Context, o options, stdout, stderr io.Writer) error {
	fmt.Fprintf(stderr, "%s: some ten seconds; other work on this machine spoils the figures\n", bench.CPU())
	rows, err := bench.Run(ctx, bench.Options{})
	if err != nil {
		return err
	}
	if o.json() {
		return printJSON(stdout, rows)
	}
	return bench.WriteTable(stdout, rows)
}
