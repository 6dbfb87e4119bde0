package link

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A link whose broker takes nothing after the welcome, in a bubble: nothing is
// buffered, so it stops the library at once.
type stuckLink struct {
	*Link
	far  net.Conn
	stop func() error // returns what Run does
}

func stuck(t *testing.T) stuckLink {
	t.Helper()
	near, far := net.Pipe()
	var once sync.Once
	l, err := New(Config{
		ClientID: "d.d1", Username: "d.d1", Password: "secret",
		Dial: func(context.Context) (net.Conn, error) {
			err := errors.New("no second connection")
			once.Do(func() { err = nil })
			return near, err
		},
		Connected: func(context.Context) error { return nil },
		Received:  func(Message) {},
		Goodbye:   Message{Topic: "up", Payload: []byte("offline")},
		Log:       slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	peer{far, t}.welcome()
	synctest.Wait()
	if !l.Up() {
		t.Fatal("not connected")
	}
	return stuckLink{l, far, func() error { cancel(); return <-done }}
}

// request makes requests of every kind, each of which must fail.
func (l stuckLink) request(t *testing.T) *sync.WaitGroup {
	var g sync.WaitGroup
	for i := range 30 {
		g.Go(func() {
			var err error
			switch i % 3 {
			case 0:
				err = l.Publish(t.Context(), Message{Topic: "t", QoS: byte(i & 1)})
			case 1:
				err = l.Subscribe(t.Context(), 1, "t")
			default:
				l.Forget("t")
				return
			}
			if err == nil {
				t.Error("a request to a broker that took nothing succeeded")
			}
		})
	}
	synctest.Wait() // all of them wait
	return &g
}

// When the connection ends, whoever was about to send, subscribe or unsubscribe
// hears so at once. The library alone would keep them for its write timeout.
func TestLostConnectionHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := stuck(t)
		requests := l.request(t)
		began := time.Now()
		if err := l.far.Close(); err != nil {
			t.Fatal(err)
		}
		requests.Wait()
		if err := l.stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v, want the end of its context", err)
		}
		if d := time.Since(began); d > 0 {
			t.Errorf("everybody was done %v after the connection ended, want at once", d)
		}
	})
}

// A broker that takes nothing holds a stop up for the time of a goodbye.
func TestStopDoesNotWaitForASilentBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := stuck(t)
		requests := l.request(t)
		began := time.Now()
		_ = l.stop()
		requests.Wait()
		if d := time.Since(began); d > 2*goodbyeTime {
			t.Errorf("a stop took %v, want at most %v", d, 2*goodbyeTime)
		}
	})
}
