package agent

import (
	"fmt"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
	"github.com/sandpiper-edge/sandpiper/protocol/packet"
	"github.com/sandpiper-edge/sandpiper/protocol/packet/packettest"
)

func (w *world) quality() []protocol.Quality {
	w.t.Helper()
	var out []protocol.Quality
	for _, b := range w.published(protocol.QualityTopic("f", "d1")) {
		var q protocol.Quality
		if err := q.UnmarshalBinary(b); err != nil {
			w.t.Fatal(err)
		}
		out = append(out, q)
	}
	return out
}

func first8(v version) [8]byte {
	d := v.digest()
	return [8]byte(d[:8])
}

// judged is a device on version 2, judged against version 1.
func (w *world) judged(dir string, change ...func(*artifact.Pipeline)) (d *device, one, two version) {
	w.t.Helper()
	one, two = w.fed(1, change...), w.fed(2, change...)
	w.rollOut(one)
	d = w.start(dir)
	pass(11 * time.Second)
	w.publish(two)
	want := w.want(two)
	want.Judge = &protocol.Judge{Stage: 4, Model: "pump", EveryS: 20, Until: time.Now().Add(time.Hour).UnixMilli()}
	w.ask(want)
	settle()
	return d, one, two
}

// TestJudgedForecastsCompareThemselves: both versions say the next second's
// wear, which arrives; callers see the active version only.
func TestJudgedForecastsCompareThemselves(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		truth := func(p *artifact.Pipeline) {
			p.Inputs = append(p.Inputs, artifact.Input{Column: "wear", Topic: "plant/{device}/+/wear-of"})
		}
		_, one, two := w.judged(t.TempDir(), truth)
		said := len(w.outputs("plant/d1/m1/wear"))
		for range 25 {
			w.say("plant/d1/m1/wear-of", "55")
			w.second(10, 3)
		}
		got := w.quality()
		if len(got) != 1 {
			t.Fatalf("%d reports in 25 s, want one each 20 s", len(got))
		}
		a, _ := one.p.PredictAppend(nil, []float32{10, 3, 10, 3, 10, 3, 10, 3})
		b, _ := two.p.PredictAppend(nil, []float32{10, 3, 10, 3, 10, 3, 10, 3})
		q := got[0]
		n := float64(q.Pairs)
		near := func(x, y float64) bool { return x > y*(1-1e-5) && x < y*(1+1e-5) }
		abs := func(x float32) float64 { return max(float64(x), -float64(x)) }
		if q.Stage != 4 || q.Flags != 0 || q.A != first8(one) || q.B != first8(two) || q.Boot != 1 {
			t.Errorf("report %+v", q)
		}
		// Rows 4 to 19 have forecasts whose truth came by the 20th.
		if q.Pairs < 15 || q.Pairs > 17 || q.Skipped != 0 || q.BadA != 0 || q.BadB != 0 {
			t.Errorf("%d pairs, %d skipped, want 16 and 0", q.Pairs, q.Skipped)
		}
		if !near(q.SumA, n*abs(a[0]-55)) || !near(q.SumB, n*abs(b[0]-55)) {
			t.Errorf("sums %v and %v of %v pairs, want %v and %v each", q.SumA, q.SumB, n, abs(a[0]-55), abs(b[0]-55))
		}
		for _, o := range w.outputs("plant/d1/m1/wear")[said:] {
			if o.Version != "pump:v2" {
				t.Errorf("a caller saw %s", o.Version)
			}
		}
	})
}

func TestJudgedTakesLabels(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		dir := t.TempDir()
		d, _, _ := w.judged(dir)
		w.feed()
		outputs := w.outputs("plant/d1/m1/wear")
		last := outputs[len(outputs)-1]
		topic := protocol.TruthTopic("f", "d1", "pump")
		w.say(topic, fmt.Sprintf(`{"s":"m1","t":%d,"y":[55]}`, last.T))
		w.say(topic, `{"s":"m1"`)
		w.say(topic, `{"s":"m1","t":1,"y":[55]}`)
		pass(20 * time.Second)
		if q := w.quality(); len(q) != 1 || q[0].Pairs != 1 || q[0].SumA == q[0].SumB {
			t.Errorf("reports %+v, want one with one pair", q)
		}
		d.stop()
		w.start(dir) // the judgement is part of the state; sums begin anew
		pass(21 * time.Second)
		if q := w.quality(); len(q) != 2 || q[1].Boot != 2 || q[1].Pairs != 0 || q[1].Stage != 4 {
			t.Errorf("reports after the restart %+v", q)
		}
		pass(2 * time.Hour)
		n := len(w.quality())
		pass(time.Hour)
		if m := len(w.quality()); m != n || n > 2+3600/20 {
			t.Errorf("%d reports, then %d: they go on after the end of the judgement", n, m)
		}
	})
}

func TestPipelineWorksWithoutUpstream(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.fed(1)
		dir := t.TempDir()
		w.installed(dir, v).stop()
		w.down.Store(true)
		var l *packettest.Listener
		w.start(dir, func(c *Config) { l = onsite(c) })
		p := w.peer(l, "")
		if got := subscribe(p, "plant/d1/m1/wear"); got[0] > 1 {
			t.Fatalf("granted %v", got)
		}
		for i := 0; i < len(testRows); i += 2 {
			for topic, payload := range map[string]string{
				"plant/d1/m1/flow":                    fmt.Sprintf(`{"rms":%v}`, testRows[i]),
				protocol.SampleTopic("f", "d1", "m1"): fmt.Sprintf(`{"v":{"pressure":%v}}`, testRows[i+1]),
			} {
				p.Send(packet.AppendPublish(nil, packet.V5, packet.Message{Topic: topic, Payload: []byte(payload)}))
			}
			pass(time.Second)
		}
		if m := next(t, p); m.Topic != "plant/d1/m1/wear" {
			t.Errorf("message on %s: %s", m.Topic, m.Payload)
		}
	})
}
