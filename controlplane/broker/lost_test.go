package broker

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// When the connection ends, whoever was about to publish hears so at once, and
// so does one who publishes while the session ends. paho alone would keep them
// for 30 s.
func TestLostConnectionHoldsNoPublisherUp(t *testing.T) {
	for _, end := range []string{"the broker leaves", "the session stops"} {
		t.Run(end, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe() // nothing is buffered: a broker that does not read stops paho
				s, err := NewSession(SessionConfig{
					Username: "c.f", Password: password,
					Dial: func(context.Context) (net.Conn, error) { return near, nil },
				})
				if err != nil {
					t.Fatal(err)
				}
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- s.Run(ctx) }()
				if _, err := packets.ReadPacket(far); err != nil {
					t.Fatal(err)
				}
				if err := packets.NewControlPacket(packets.Connack).Write(far); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if !s.Connected() {
					t.Fatal("not connected")
				}
				var publishers sync.WaitGroup
				for range 20 {
					publishers.Go(func() {
						if err := s.Publish(t.Context(), "sp1/f/d/a/want", []byte("v2"), true, 1); err == nil {
							t.Error("a publish to a broker that took nothing succeeded")
						}
					})
				}
				synctest.Wait() // all of them wait for a broker that reads nothing
				began := time.Now()
				if end == "the broker leaves" {
					_ = far.Close()
					publishers.Wait()
				}
				stop()
				publishers.Wait()
				if err := <-done; err != nil {
					t.Errorf("Run = %v", err)
				}
				if d := time.Since(began); d > 2*goodbye {
					t.Errorf("everybody was done %v after the end, want within %v", d, 2*goodbye)
				}
			})
		})
	}
}
