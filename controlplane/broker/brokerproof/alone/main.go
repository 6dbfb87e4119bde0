// Command alone is a process that is nothing but the embedded broker, with
// default limits, so that its memory can be measured from outside. It prints
// its address and lets every identity in.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/sandpiper-edge/sandpiper/controlplane/broker"
	"github.com/sandpiper-edge/sandpiper/controlplane/broker/brokerproof"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b, err := broker.New(broker.Config{
		Listen: "127.0.0.1:0", Fleet: brokerproof.Fleet,
		Auth: func(username, _, _ string) (broker.Identity, bool) {
			return broker.Identity{Kind: username[0], ID: username[2:]}, true
		},
	})
	if err == nil {
		fmt.Println(b.Addr())
		err = b.Run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
