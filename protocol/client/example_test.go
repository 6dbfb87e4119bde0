package client_test

import (
	"context"
	"fmt"

	"github.com/sandpiper-edge/sandpiper/protocol/client"
)

func ask(ctx context.Context, rows [][]float32) error {
	c, err := client.New(client.Config{Broker: "tcp://127.0.0.1:1883", User: "ann"})
	if err != nil {
		return err
	}
	defer c.Close()
	reply, err := c.Predict(ctx, "cellar", "boiler", rows) // [][]float32, oldest row first
	if err != nil {
		return err // a *protocol.RequestError if the device says why it cannot
	}
	fmt.Println(reply.Version, reply.Y)
	return nil
}

// ask is in docs/recipes/clients.md, too.
func Example() { _ = ask }
