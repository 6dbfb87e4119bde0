package firmwaresim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/agent/link"
	"github.com/sandpiper-edge/sandpiper/firmware-sim/scenario"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/packet"
)

// lights runs 20 light devices with a behaviour of the test's model from version
// 2 on, version 1 in place.
func lights(t *testing.T, b scenario.Behaviour, f func(w *world, s *Lights, all []string)) {
	t.Helper()
	bubble(t, func(t *testing.T, w *world) {
		sc := scenario.Scenario{Devices: 20, Ratio: 1.2}
		if b.Kind != "" {
			sc.Behaviours = []scenario.Behaviour{b}
		}
		s, err := NewLights(LightsConfig{
			Fleet: testFleet, Dial: w.dial, Root: w.root, Scenario: sc, Candidate: testName + ":v2",
			Token: func(string) string { return "secret" }, Trial: 5 * time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, d := range s.Devices() {
			all = append(all, d.ID)
		}
		w.run(s.Run)
		pass(time.Second)
		w.rollOut(1, all...)
		pass(time.Minute)
		if got := tally(s); got != "20 connected, 20 vibration:v1" {
			t.Fatalf("%s with the first version", got)
		}
		f(w, s, all)
	})
}

// tally sums up what the devices run.
func tally(s *Lights) string {
	connected, active := 0, map[string]int{}
	for _, d := range s.Devices() {
		if d.Connected {
			connected++
		}
		active[d.Active]++
	}
	out := []string{fmt.Sprintf("%d connected", connected)}
	for _, v := range []string{"", testName + ":v1", testName + ":v2"} {
		if active[v] > 0 {
			out = append(out, fmt.Sprintf("%d %s", active[v], v))
		}
	}
	return strings.Join(out, ", ")
}

// TestLights: what each way of behaving looks like a few minutes after a rollout
// to all.
func TestLights(t *testing.T) {
	for name, tt := range map[string]struct {
		does    scenario.Behaviour
		want    string
		restart bool // devices started again
	}{
		"good":                   {scenario.Behaviour{}, "20 connected, 20 vibration:v2", false},
		"failing":                {scenario.Behaviour{Kind: scenario.Failing, Share: 1}, "20 connected, 20 vibration:v1", false},
		"crashing on trial":      {scenario.Behaviour{Kind: scenario.Crashing, Share: 1}, "20 connected, 20 vibration:v1", true},
		"crashing a while later": {scenario.Behaviour{Kind: scenario.Crashing, Share: 1, After: protocol.Duration(time.Minute)}, "20 connected, 20 vibration:v2", true},
		"silent":                 {scenario.Behaviour{Kind: scenario.Silent, Share: 1}, "0 connected, 20 vibration:v2", false},
		"away for a minute":      {scenario.Behaviour{Kind: scenario.Offline, Share: 1, For: protocol.Duration(time.Minute)}, "20 connected, 20 vibration:v2", false},
		"away for an hour":       {scenario.Behaviour{Kind: scenario.Offline, Share: 1, For: protocol.Duration(time.Hour)}, "0 connected, 20 vibration:v2", false},
	} {
		t.Run(name, func(t *testing.T) {
			lights(t, tt.does, func(w *world, s *Lights, all []string) {
				w.rollOut(2, all...)
				pass(4*time.Minute + 500*time.Millisecond)
				if got := tally(s); got != tt.want {
					t.Errorf("%s, want %s", got, tt.want)
				}
				if d := s.Devices()[0]; d.Starts > 1 != tt.restart {
					t.Errorf("%d starts", d.Starts)
				}
			})
		})
	}
}

// TestLightsReport: they report the sums that the scenario draws, and count what
// they predicted; one that is slow says so, and one whose clock is wrong has it in
// what it reports.
func TestLightsReport(t *testing.T) {
	lights(t, scenario.Behaviour{Kind: scenario.Slow, Share: 1, Ratio: 10}, func(w *world, s *Lights, all []string) {
		w.judge = &protocol.Judge{Stage: 65, Model: testName, EveryS: 60, Until: time.Now().Add(time.Hour).UnixMilli()}
		w.rollOut(2, all...)
		pass(31 * time.Minute)
		script := s.cfg.Scenario.Fleet()[0]
		script.Take(scenario.Active, 65, time.Now())
		script.Compare(31, time.Now())
		reports := w.published(protocol.QualityTopic(testFleet, all[0]))
		var q protocol.Quality
		if len(reports) != 31 || q.UnmarshalBinary([]byte(reports[30])) != nil {
			t.Fatalf("%d reports in 31 minutes", len(reports))
		}
		if q.Pairs != 31 || q.SumA != script.Pairs.SumA || q.SumB != script.Pairs.SumB {
			t.Errorf("31 pairs of %v and %v; the scenario has %v and %v", q.SumA, q.SumB, script.Pairs.SumA, script.Pairs.SumB)
		}
		usage := w.published(protocol.UsageTopic(testFleet, all[0]))
		var u protocol.Usage
		if err := u.UnmarshalBinary([]byte(usage[len(usage)-1])); err != nil || len(u.Versions) != 2 {
			t.Fatalf("counters %+v, %v", u, err)
		}
		p99 := []uint64{protocol.LatencyQuantile(u.Versions[0].Latency, 0.99), protocol.LatencyQuantile(u.Versions[1].Latency, 0.99)}
		if r := float64(max(p99[0], p99[1])) / float64(min(p99[0], p99[1])); r < 8 || r > 13 {
			t.Errorf("p99 of both versions %v, want one ten times the other", p99)
		}
	})
	lights(t, scenario.Behaviour{Kind: scenario.Clock, Share: 1, By: protocol.Duration(-48 * time.Hour)}, func(w *world, s *Lights, all []string) {
		var h protocol.Have
		all = w.published(protocol.HaveTopic(testFleet, all[0]))
		if err := h.UnmarshalBinary([]byte(all[len(all)-1])); err != nil || time.Since(time.UnixMilli(h.T)) < 47*time.Hour {
			t.Errorf("%+v, %v; want a time of two days ago", h, err)
		}
	})
}

// TestLightsComeBack: they connect again after the broker was away, however long.
func TestLightsComeBack(t *testing.T) {
	lights(t, scenario.Behaviour{}, func(w *world, s *Lights, all []string) {
		w.down.Store(true)
		for _, c := range w.server.Clients.GetAll() {
			c.Stop(errors.New("cut"))
		}
		w.rollOut(2, all...)
		pass(10 * time.Minute)
		if got := tally(s); got != "0 connected, 20 vibration:v1" {
			t.Fatalf("%s while the broker is away", got)
		}
		w.down.Store(false)
		pass(time.Minute)
		if got := tally(s); got != "20 connected, 20 vibration:v2" {
			t.Errorf("%s once it is back", got)
		}
		if received, sent := s.Traffic(); received < 20*2*10_000 || sent < 20*500 {
			t.Errorf("%d bytes received, %d sent", received, sent)
		}
	})
}

func TestNewLightsChecksItsConfiguration(t *testing.T) {
	good := func() LightsConfig {
		return LightsConfig{
			Fleet: testFleet, Dial: func(context.Context) (net.Conn, error) { return nil, errOffline }, Token: func(string) string { return "" },
			Scenario: scenario.Scenario{Devices: 1},
		}
	}
	for name, tt := range map[string]struct {
		change func(*LightsConfig)
		want   string
	}{
		"fleet":     {func(c *LightsConfig) { c.Fleet = "A fleet" }, "fleet"},
		"broker":    {func(c *LightsConfig) { c.Dial = nil }, "no broker"},
		"candidate": {func(c *LightsConfig) { c.Candidate = "pump" }, "pump:v2"},
		"scenario":  {func(c *LightsConfig) { c.Scenario.Silent = 2 }, "shares"},
		"root":      {func(c *LightsConfig) { c.Root = []byte{1} }, "simulation"},
	} {
		c := good()
		tt.change(&c)
		if _, err := NewLights(c); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want one about %q", name, err, tt.want)
		}
	}
}

// TestLightConnRefusesWhatIsNoBroker: a peer that says something else.
func TestLightConnRefusesWhatIsNoBroker(t *testing.T) {
	for name, says := range map[string][]byte{
		"a refusal":     packet.AppendConnack(nil, packet.V311, packet.BadLogin, ""),
		"another":       packet.AppendEmpty(nil, packet.Pingresp),
		"nothing":       nil,
		"a huge header": {0x20, 0xff, 0xff, 0xff, 0x7f},
	} {
		near, far := net.Pipe()
		go func() {
			_, _ = far.Read(make([]byte, 1024))
			_, _ = far.Write(says)
			far.Close()
		}()
		s := &Lights{cfg: LightsConfig{Dial: func(context.Context) (net.Conn, error) { return near, nil }}}
		if _, err := s.open(t.Context(), "d1", "secret", link.Message{Topic: "w"}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
