package agent

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/agent/link"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
	"github.com/sandpiper-edge/sandpiper/protocol/packet"
	"github.com/sandpiper-edge/sandpiper/protocol/packet/packettest"
)

func TestOutputsWaitWithinBounds(t *testing.T) {
	var k keptOutputs
	out := func(n int, urgent bool) outbound {
		return outbound{Message: link.Message{Topic: "t", Payload: fmt.Appendf(nil, "%d", n)}, urgent: urgent}
	}
	gone := k.add(out(0, true))
	for n := range outputsKept + 10 {
		gone += k.add(out(n+1, false))
	}
	if gone != 11 || len(k.waits) != outputsKept || !k.waits[0].urgent {
		t.Errorf("%d gave way, %d wait, the urgent one is first: %t", gone, len(k.waits), k.waits[0].urgent)
	}
	if o, ok := k.first(); !ok || string(o.Payload) != "0" {
		t.Errorf("%s is sent first, want the urgent one", o.Payload)
	}
	k.sent()
	if o, _ := k.first(); string(o.Payload) != "12" {
		t.Errorf("%s is sent next, want the oldest, 12", o.Payload)
	}
	saved := k.appendBinary(nil)
	var again keptOutputs
	if err := again.unmarshal(saved); err != nil || !slices.EqualFunc(again.waits, k.waits, func(a, b outbound) bool {
		return a.Topic == b.Topic && string(a.Payload) == string(b.Payload) && a.urgent == b.urgent
	}) {
		t.Errorf("read back: %v, %d outputs of %d", err, len(again.waits), len(k.waits))
	}
	if err := new(keptOutputs).unmarshal(saved[:len(saved)-1]); err == nil {
		t.Error("outputs that end early are read")
	}
	for n := 0; k.bytes+n <= outputBytesKept; n += 1000 {
		k.add(outbound{Message: link.Message{Topic: "t", Payload: make([]byte, 5000)}})
	}
	if k.bytes > outputBytesKept {
		t.Errorf("%d bytes wait", k.bytes)
	}
}

// TestOutputsArriveOnceAfterAnOutage: for hours without upstream, with restarts,
// a pipeline's alarm changes; each change comes once when the link is back, the
// clients beside the device have heard it at once.
func TestOutputsArriveOnceAfterAnOutage(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.fed(1, func(p *artifact.Pipeline) { p.Alarm = &artifact.Alarm{Raise: 70, Clear: 60} })
		dir := t.TempDir()
		w.installed(dir, v).stop()
		w.down.Store(true)
		w.cut()
		w.server.Close()

		var l *packettest.Listener
		var d *device
		var p *packettest.Peer
		restart := func() {
			if d != nil {
				d.stop()
			}
			d = w.start(dir, func(c *Config) { l = onsite(c) })
			p = w.peer(l, "")
		}
		say := func(topic, payload string) {
			p.Send(packet.AppendPublish(nil, packet.V5, packet.Message{Topic: topic, Payload: []byte(payload)}))
		}
		low := []float32{0, 0, 0, 0, 0, 0, 0, 0}
		raised := func(rows []float32) bool {
			y, err := v.p.PredictAppend(nil, rows)
			if err != nil {
				t.Fatal(err)
			}
			return y[0] >= 70
		}
		if !raised(testRows) || raised(low) {
			t.Fatal("the rows do not change the alarm")
		}
		const hours = 24
		for hour := range hours {
			if hour%4 == 0 {
				restart()
			}
			rows := testRows
			if hour%2 == 1 {
				rows = low
			}
			for i := 0; i < len(rows); i += 2 {
				say("plant/d1/m1/flow", fmt.Sprintf(`{"rms":%v}`, rows[i]))
				say(protocol.SampleTopic("f", "d1", "m1"), fmt.Sprintf(`{"v":{"pressure":%v}}`, rows[i+1]))
				pass(time.Second)
			}
			pass(time.Hour)
		}
		w.startBroker()
		w.down.Store(false)
		pass(3 * time.Minute)
		got := w.outputs("plant/d1/m1/wear")
		if len(got) != hours {
			t.Errorf("%d changes of the alarm arrive, want %d: %+v", len(got), hours, got)
		}
		for i, o := range got {
			if o.Alarm == nil || *o.Alarm != (i%2 == 0) || i > 0 && o.T <= got[i-1].T {
				t.Errorf("output %d: %+v", i, o)
			}
		}
		// What has arrived does not come again.
		d.stop()
		d = w.start(dir)
		pass(3 * time.Minute)
		w.cut()
		pass(3 * time.Minute)
		if again := w.outputs("plant/d1/m1/wear"); len(again) != len(got) {
			t.Errorf("%d outputs came again", len(again)-len(got))
		}
	})
}
