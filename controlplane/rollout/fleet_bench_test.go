package rollout

import (
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// BenchmarkTenThousand takes 10,000 devices through a rollout by a plan and back:
// how long each step of the control plane takes, apart from the devices, and how long
// a report waits meanwhile at most.
func BenchmarkTenThousand(b *testing.B) {
	spent := map[string]time.Duration{}
	step := func(name string, f func()) {
		at := time.Now()
		f()
		spent[name] += time.Since(at)
	}
	var a *acre
	worst := map[string]time.Duration{}
	besideReports := func(name string, f func()) {
		done, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for {
				at := time.Now()
				if err := a.Handle(b.Context(), Report{a.devices[0].id, protocol.TopicUp, []byte("online")}); err != nil {
					b.Error(err)
				}
				worst[name] = max(worst[name], time.Since(at))
				select {
				case <-done:
					return
				case <-time.After(5 * time.Millisecond):
				}
			}
		}()
		step(name, f)
		close(done)
		<-stopped
	}
	for b.Loop() {
		a = newAcre(b, 10_000)
		p := plan.Plan{Stages: []plan.Stage{
			{Devices: plan.Amount{Percent: 1}, Quality: plan.Off}, {Devices: plan.Amount{Percent: 100}, Quality: plan.Off},
		}}
		target := Target{All: true}
		var d Draft
		var err error
		step("draft", func() {
			d, err = a.Draft(b.Context(), "m:v2", target, func(int, int, bool) (*plan.Plan, error) { return &p, nil })
		})
		if err != nil {
			b.Fatal(err)
		}
		besideReports("start", func() { _, err = a.StartPlan(ann(b), d) })
		if err != nil {
			b.Fatal(err)
		}
		a.minutes(1)
		besideReports("stage", func() { _, err = a.Command(ann(b), "m", Promote) })
		if err != nil {
			b.Fatal(err)
		}
		step("stage-flush", a.flush)
		step("reports", a.live)
		besideReports("abort", func() { _, err = a.Command(ann(b), "m", Abort) })
		if err != nil {
			b.Fatal(err)
		}
		step("abort-flush", a.flush)
		a.live()
		if s := a.staged(); !s.Settled() || s.Stages[1].Counts[Returned] == 0 {
			b.Fatalf("not all are back: %v", s.Stages)
		}
		besideReports("direct", func() { a.start("m:v3", "all") })
		besideReports("rollback", func() { a.rollback("all") })
	}
	for name, d := range spent {
		b.ReportMetric(d.Seconds()/float64(b.N), name+"-s")
	}
	for name, d := range worst {
		b.ReportMetric(float64(d.Milliseconds()), name+"-wait-ms")
	}
}
