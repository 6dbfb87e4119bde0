package broker

import (
	"context"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/controlplane/broker/brokertest"
)

// distribute runs one distribution to n devices on loopback while one more
// device never reads.
func distribute(t testing.TB, n int) brokertest.Result {
	t.Helper()
	b := start(t, nil)
	connected := make(chan struct{}, 1)
	s, err := NewSession(SessionConfig{
		Dial: b.Pipe, Username: "c.f", Password: password,
		OnConnect: func(context.Context) error { connected <- struct{}{}; return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var g errgroup.Group
	g.Go(func() error { return s.Run(ctx) })
	<-connected
	res, err := brokertest.Distribute(ctx, brokertest.Distribution{
		Fleet: fleet, Clients: n, Password: password, Dial: dialTCP(b), DialStuck: b.Pipe,
		Publish: func(ctx context.Context, topic string, payload []byte) error {
			return s.Publish(ctx, topic, payload, true, 1)
		},
	})
	if err != nil {
		t.Error(err)
	}
	cancel()
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	return res
}

func TestDistributionIgnoresThePeerThatNeverReads(t *testing.T) {
	if res := distribute(t, 50); res.Clients != 50 || res.Chunks != 3 {
		t.Errorf("result %+v, want 50 clients and 3 chunks", res)
	}
}

// BenchmarkDistribute is the whole of it: 70 KB to 1,000 devices.
func BenchmarkDistribute(b *testing.B) {
	for b.Loop() {
		res := distribute(b, 1000)
		b.ReportMetric(res.Last.Seconds(), "s-to-last")
		b.ReportMetric(res.Median.Seconds(), "s-to-median")
	}
}
