// Package brokerproof measures what the project claims about its broker.
package brokerproof

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/controlplane/broker"
	"github.com/sandpiper-edge/sandpiper/controlplane/broker/brokertest"
)

// Fleet is the fleet of the brokers that are measured.
const Fleet = "proof"

const password = "proof"

// Distribute sends 70 KB in retained chunks to n devices on loopback through
// an embedded broker with default limits: once to themselves, and once beside
// a subscriber that never reads. No device waits for that one if the second
// takes about as long as the first.
func Distribute(ctx context.Context, n int) (alone, beside brokertest.Result, err error) {
	if alone, err = distribute(ctx, n, false); err != nil {
		return alone, beside, err
	}
	beside, err = distribute(ctx, n, true)
	return alone, beside, err
}

func distribute(ctx context.Context, n int, stuck bool) (res brokertest.Result, err error) {
	b, err := broker.New(broker.Config{
		Listen: "127.0.0.1:0", Fleet: Fleet,
		Auth: func(username, pass, _ string) (broker.Identity, bool) {
			return broker.Identity{Kind: username[0], ID: username[2:]}, pass == password
		},
	})
	if err != nil {
		return res, err
	}
	connected := make(chan struct{}, 1)
	s, err := broker.NewSession(broker.SessionConfig{
		Dial: b.Pipe, Username: "c." + Fleet, Password: password,
		OnConnect: func(context.Context) error { connected <- struct{}{}; return nil },
	})
	if err != nil {
		return res, err
	}
	running, stop := context.WithCancel(ctx)
	var g errgroup.Group
	g.Go(func() error { return b.Run(running) })
	g.Go(func() error { return s.Run(running) })
	defer func() {
		stop()
		err = errors.Join(err, g.Wait())
	}()
	select {
	case <-connected:
	case <-ctx.Done():
		return res, context.Cause(ctx)
	}
	d := brokertest.Distribution{
		Fleet: Fleet, Clients: n, Password: password,
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", b.Addr().String())
		},
		Publish: func(ctx context.Context, topic string, payload []byte) error {
			return s.Publish(ctx, topic, payload, true, 1)
		},
	}
	if stuck {
		d.DialStuck = b.Pipe
	}
	if res, err = brokertest.Distribute(ctx, d); err != nil {
		return res, fmt.Errorf("distribute to %d devices: %w", n, err)
	}
	return res, nil
}
