package agent

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// answerGets is a control plane that answers the gets for v, and counts them.
func (w *world) answerGets(v version) *int {
	w.t.Helper()
	n := new(int)
	err := w.server.Subscribe(protocol.GetTopic("f", "d1"), 1, func(_ *mqtt.Client, _ packets.Subscription, pk packets.Packet) {
		*n++
		var get protocol.Get
		if err := get.UnmarshalBinary(pk.Payload); err != nil {
			w.t.Error(err)
		}
		topic, payload := protocol.BlockDescriptorTopic("f", "d1", v.hash()), w.encode(artifact.Announce(v.envelope, v.transfer))
		for i := range v.transfer.Chunks {
			if get.Wants(i) {
				topic, payload = protocol.BlockTopic("f", "d1", v.hash(), i), v.transfer.Chunk(i)
			}
		}
		if get.Hash != v.hash() {
			w.t.Errorf("asked for %s", get.Hash)
		}
		go w.server.Publish(topic, payload, false, 1) // not within the broker's own call
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// found are the codes of the findings in the status and in the newest birth,
// which must agree.
func (d *device) found() string {
	d.w.t.Helper()
	codes := ""
	for _, f := range d.Status().Findings {
		codes += f.Code + " "
		if len(f.Text) < 50 || len(f.Text) > protocol.MaxText {
			d.w.t.Errorf("finding %q, want words", f.Text)
		}
	}
	births := d.w.published(protocol.BirthTopic("f", "d1"))
	var b protocol.Birth
	if err := b.UnmarshalBinary(births[len(births)-1]); err != nil {
		d.w.t.Fatal(err)
	}
	born := ""
	for _, f := range b.Findings {
		born += f.Code + " "
	}
	if born != codes {
		d.w.t.Errorf("the birth has the findings %q, the status %q", born, codes)
	}
	return codes
}

// TestFindingsAboutTheBroker: what a broker does not do is found at connect, and
// said in the log, the status and the birth, once.
func TestFindingsAboutTheBroker(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(*world)
		want string
		text string
	}{
		{"a good one", func(*world) {}, "", ""},
		{"keeps nothing", func(w *world) { w.forget = true }, "retained wildcard ", "no retained messages"},
		{"refuses wildcards", func(w *world) { w.refuse = "+" }, "refused wildcard ", "/p/+/+/+"},
		{"refuses the want", func(w *world) { w.refuse = "/want" }, "refused ", "/want"},
		{"holds small messages back", func(w *world) { w.nagle = true }, "delay ", "back for 40 ms"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			within(t, func(t *testing.T, w *world) {
				tc.make(w)
				var logged bytes.Buffer
				d := w.start(t.TempDir(), func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&logged, nil)) })
				pass(time.Minute)
				if got := d.found(); got != tc.want {
					t.Errorf("found %q, want %q", got, tc.want)
				}
				w.cut() // a new connection to the same broker
				pass(time.Minute)
				if got := d.found(); got != tc.want {
					t.Errorf("found %q after another connect, want %q", got, tc.want)
				}
				d.stop()
				lines := strings.Count(logged.String(), "found about the broker")
				if lines != len(strings.Fields(tc.want)) || !strings.Contains(logged.String(), tc.text) {
					t.Errorf("%d lines in the log, want %d and %q:\n%s", lines, len(strings.Fields(tc.want)), tc.text, logged.String())
				}
			})
		})
	}
}

// A broker that is mended is found to be so, within a day.
func TestFindingGoesWithItsCause(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.forget = true
		d := w.start(t.TempDir())
		pass(time.Minute)
		w.mu.Lock()
		w.forget = false
		w.mu.Unlock()
		d.network.mu.Lock()
		d.network.probed = time.Now().Add(-probeEvery)
		d.network.mu.Unlock()
		w.cut()
		pass(time.Minute)
		if got := d.found(); got != "" {
			t.Errorf("still found %q", got)
		}
	})
}

func TestProbesCostLittle(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		d := w.installed(t.TempDir(), w.version(1))
		d.network.mu.Lock()
		d.network.probed = time.Time{}
		d.network.mu.Unlock()
		before := d.link.Received()
		w.cut()
		pass(time.Minute)
		with := d.link.Received() - before
		before = d.link.Received()
		w.cut()
		pass(time.Minute)
		if cost := with - (d.link.Received() - before); cost > 2000 || cost == 0 {
			t.Errorf("a probe costs %d bytes, want at most 2000", cost)
		}
	})
}

// TestTransferIsAskedForWhereNothingIsRetained installs over brokers that do
// not hand on what is retained, each in its own way.
func TestTransferIsAskedForWhereNothingIsRetained(t *testing.T) {
	for _, tc := range []struct {
		name   string
		make   func(*world)
		within time.Duration // beside the trial
	}{
		{"keeps nothing", func(w *world) { w.forget = true }, time.Second},
		{"refuses the subscription", func(w *world) { w.refuse = "/b/" }, time.Second},
		{"lost what it kept", func(*world) {}, chunkTimeout + time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			within(t, func(t *testing.T, w *world) {
				tc.make(w)
				dir, v := t.TempDir(), w.big(1)
				d := w.start(dir)
				pass(time.Minute) // its findings
				gets := w.answerGets(v)
				w.ask(w.want(v)) // nothing is published
				pass(tc.within)
				d.expect("trying active pump:v1 serving pump:v1")
				d.answers(v)
				if want := 1 + len(v.transfer.Chunks); *gets != want {
					t.Errorf("%d gets, want %d: one for the announcement and each chunk", *gets, want)
				}
				if n := w.sent(); n != int64(v.transfer.Size) {
					t.Errorf("%d bytes of chunks, want %d", n, v.transfer.Size)
				}
			})
		})
	}
}

// A broker that does not carry chunks at all: it is found out once, with one
// message, and said.
func TestBrokerThatLimitsPayloads(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.maxPacket = 16 << 10
		w.restartBroker()
		v := w.version(1)
		d := w.start(t.TempDir())
		pass(time.Minute)
		if got := d.found(); got != "" {
			t.Errorf("found %q before a chunk was missed", got)
		}
		w.retain(protocol.DescriptorTopic("f", v.hash()), w.encode(artifact.Announce(v.envelope, v.transfer)))
		w.ask(w.want(v))
		pass(10 * time.Minute)
		d.expect("fetching active  serving ")
		if got := d.found(); got != "payload " {
			t.Errorf("found %q", got)
		}
		if s := d.Status().Models["pump"]; !strings.Contains(s.Waiting, "/c/") && !strings.Contains(s.Waiting, "/blk/") {
			t.Errorf("it waits for %q", s.Waiting)
		}
	})
}

func TestFallbackCountsTowardsTheBudget(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.forget = true
		v := w.big(1)
		d := w.start(t.TempDir(), func(c *Config) { c.DailyBytes = MinDailyBytes })
		pass(time.Minute)
		w.answerGets(v)
		w.ask(w.want(v))
		pass(time.Hour)
		d.expect("fetching active  serving ")
		if n := w.sent(); n > MinDailyBytes || n < MinDailyBytes/2 {
			t.Errorf("%d bytes of chunks in an hour, want what %d a day allow", n, MinDailyBytes)
		}
	})
}

// While nothing answers, a device that waits costs the link next to nothing.
func TestWaitingCostsLittle(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		d := w.start(t.TempDir())
		w.ask(w.want(w.version(1)))
		pass(time.Hour)
		before := d.link.Received()
		pass(3 * time.Hour)
		if n := (d.link.Received() - before) / 3; n > 3000 {
			t.Errorf("%s an hour", fmt.Sprint(n, " bytes"))
		}
		if s := d.Status().Models["pump"].Waiting; !strings.Contains(s, "nothing comes") {
			t.Errorf("it waits for %q", s)
		}
	})
}
