// Command echo is a device that answers each request with the request itself,
// through the same MQTT session as an agent: what a prediction is compared with.
//
//	echo agent.toml
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/sandpiper-edge/sandpiper/agent/link"
	"github.com/sandpiper-edge/sandpiper/cmd/internal/config"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1]); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, path string) error {
	c, err := config.LoadAgent(path)
	if err != nil {
		return err
	}
	var l *link.Link
	l, err = link.New(link.Config{
		URL: c.Broker, ClientID: c.Username, Username: c.Username, Password: c.Token, Log: slog.New(slog.DiscardHandler),
		Connected: func(ctx context.Context) error {
			return l.Subscribe(ctx, 1, protocol.PredictTopic(c.Fleet, c.Device, "+", "+", "+"))
		},
		Received: func(m link.Message) {
			t, err := protocol.ParseTopic(m.Topic)
			if err != nil {
				return
			}
			m.Topic = protocol.ReplyTopic(t.Fleet, t.User, t.Device, t.Corr)
			_, _ = l.Send(m) // a request that is lost shows in the client
		},
	})
	if err != nil {
		return err
	}
	return l.Run(ctx)
}
