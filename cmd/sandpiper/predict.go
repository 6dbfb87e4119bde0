package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

func newPredictCommand(a *app) *cobra.Command {
	var window string
	cmd := &cobra.Command{
		Use:   "predict DEVICE MODEL --window FILE.json",
		Short: "Ask a device for one prediction",
		Long: `Ask a device for one prediction through the broker of a running server.

FILE holds one window: rows of numbers in the sensors' own units, oldest first,
or rows as objects by feature name; the same bytes that an MQTT client sends.
Use - for stdin.`,
		Args: exactArgs("DEVICE", "MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			request, err := a.readFile(window, protocol.MaxPayload)
			if err != nil {
				return err
			}
			if len(bytes.TrimSpace(request)) == 0 {
				return fmt.Errorf("%s is empty; write rows of numbers, such as [[1.5, 20], [1.6, 21]]", window)
			}
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				reply, err := c.Predict(ctx, args[0], args[1], request)
				if err != nil {
					return err
				}
				return a.printReply(reply)
			})
		},
	}
	cmd.Flags().StringVar(&window, "window", "", "file with the rows, or - for stdin")
	_ = cmd.MarkFlagRequired("window")
	a.addOutput(cmd)
	return cmd
}

// printReply prints a device's answer; as JSON, the bytes that it sent.
func (a *app) printReply(reply json.RawMessage) error {
	var r struct {
		Model   string        `json:"model"`
		Version string        `json:"version"`
		Y       []json.Number `json:"y"`
		US      uint64        `json:"us"`
	}
	if err := json.Unmarshal(reply, &r); err != nil {
		return fmt.Errorf("the device's answer is no JSON we know: %w", err)
	}
	names := make([]string, len(r.Y))
	for i, y := range r.Y {
		names[i] = y.String()
	}
	return a.print(reply, names, func(g *grid) {
		g.row("model", r.Model)
		g.row("version", r.Version)
		for i, y := range r.Y {
			g.row(fmt.Sprintf("y[%d]", i), y)
		}
		g.row("time", fmt.Sprintf("%d µs on the device", r.US))
	})
}

// readFile reads a file of at most limit bytes, or stdin for "-".
func (a *app) readFile(path string, limit int64) ([]byte, error) {
	f, err := a.openFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes, the most that is accepted here", path, limit)
	}
	return b, nil
}
