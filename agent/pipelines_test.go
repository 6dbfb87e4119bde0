package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// fed is version n with a pipeline: flow comes from another client's topics,
// pressure with the device's own samples.
func (w *world) fed(n uint64, change ...func(*artifact.Pipeline)) version {
	w.t.Helper()
	m := *testModels[n-1]
	m.Pipeline = &artifact.Pipeline{
		Inputs: []artifact.Input{
			{Column: "flow", Topic: "plant/{device}/+/flow", Pointer: "/rms"},
			{Column: "pressure"},
		},
		PeriodMS: 1000, ToleranceMS: 2000, GapMS: 30_000, Stride: 1, Output: "plant/{device}/{stream}/wear",
	}
	for _, f := range change {
		f(m.Pipeline)
	}
	return w.versionOf(n, &m)
}

func (w *world) say(topic, payload string) {
	w.t.Helper()
	if err := w.server.Publish(topic, []byte(payload), false, 0); err != nil {
		w.t.Fatal(err)
	}
}

// second publishes a row of stream m1 and lets a second pass.
func (w *world) second(flow, pressure float32) {
	w.t.Helper()
	w.say("plant/d1/m1/flow", fmt.Sprintf(`{"rms":%v,"unit":"l/s"}`, flow))
	w.say(protocol.SampleTopic("f", "d1", "m1"), fmt.Sprintf(`{"v":{"pressure":%v}}`, pressure))
	pass(time.Second)
}

// feed publishes testRows.
func (w *world) feed() {
	w.t.Helper()
	for i := 0; i < len(testRows); i += 2 {
		w.second(testRows[i], testRows[i+1])
	}
}

type output struct {
	S       string    `json:"s"`
	T       int64     `json:"t"`
	Version string    `json:"version"`
	Y       []float32 `json:"y"`
	Alarm   *bool     `json:"alarm"`
}

func (w *world) outputs(topic string) []output {
	w.t.Helper()
	var out []output
	for _, b := range w.published(topic) {
		var o output
		if err := json.Unmarshal(b, &o); err != nil {
			w.t.Fatal(err)
		}
		out = append(out, o)
	}
	return out
}

func (w *world) expectOutputs(topic string, v version, n int) {
	w.t.Helper()
	got := w.outputs(topic)
	if len(got) != n {
		w.t.Fatalf("%d outputs on %s, want %d: %+v", len(got), topic, n, got)
	}
	want, err := v.p.PredictAppend(nil, testRows)
	if err != nil {
		w.t.Fatal(err)
	}
	if last := got[n-1]; last.S != "m1" || last.Version != v.release.String() || !slices.Equal(last.Y, want) || last.T == 0 {
		w.t.Errorf("output %+v, want %v of %s", last, want, v.release.String())
	}
}

func TestPipelinePredictsFromTopics(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.fed(1)
		w.rollOut(v)
		d := w.start(t.TempDir())
		w.say("plant/d1/m1/flow", `{"rms":"broken"}`)
		settle()
		if p := d.Status().Models["pump"].Pipeline; p == nil || !strings.Contains(p.Problem, "plant/d1/m1/flow") {
			t.Errorf("status %+v, want the payload that is of no use named", p)
		}
		w.feed()
		w.expectOutputs("plant/d1/m1/wear", v, 1)
		if p := d.Status().Models["pump"].Pipeline; p.Streams != 1 || p.Refused != "" {
			t.Errorf("status %+v, want one stream", p)
		}
		if n := d.usage.predictions("pump"); n != 1 {
			t.Errorf("%d predictions counted, want 1", n)
		}
	})
}

func TestPipelineFollowsASwap(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		one, two := w.fed(1), w.fed(2)
		w.rollOut(one)
		w.start(t.TempDir())
		w.feed()
		pass(11 * time.Second) // the trial of the first
		w.rollOut(two)
		settle()
		w.second(testRows[6], testRows[7])
		got := w.outputs("plant/d1/m1/wear")
		if last := got[len(got)-1]; last.Version != "pump:v2" {
			t.Errorf("output %+v, want it by pump:v2 without a new window", last)
		}
	})
}

func TestPipelineGoesOnAfterARestart(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.fed(1)
		w.rollOut(v)
		dir := t.TempDir()
		d := w.start(dir)
		for i := 0; i < 6; i += 2 {
			w.second(testRows[i], testRows[i+1])
		}
		d.stop()
		w.start(dir)
		w.second(testRows[6], testRows[7])
		w.expectOutputs("plant/d1/m1/wear", v, 1)
	})
}

func TestPipelineGoesOnAfterALostConnection(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.fed(1)
		w.rollOut(v)
		w.start(t.TempDir())
		w.cut()
		pass(5 * time.Second)
		w.feed()
		w.expectOutputs("plant/d1/m1/wear", v, 1)
	})
}

func TestPipelineSaysWhatTheBrokerRefuses(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.refuse = "plant/"
		w.rollOut(w.fed(1))
		d := w.start(t.TempDir())
		if p := d.Status().Models["pump"].Pipeline; p == nil || !strings.Contains(p.Refused, "plant/d1/+/flow") {
			t.Errorf("status %+v, want the refused filter named", p)
		}
		var told int
		for _, b := range w.published(protocol.EventTopic("f", "d1")) {
			var e protocol.Event
			if err := e.UnmarshalBinary(b); err != nil {
				t.Fatal(err)
			}
			if e.Kind == "pipeline" && strings.Contains(e.Detail, "plant/d1/+/flow") {
				told++
			}
		}
		if told != 1 {
			t.Errorf("%d events name the refused filter, want 1", told)
		}
	})
}

func TestPipelineAnswersOnItsOwnTopicByDefault(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.fed(1, func(p *artifact.Pipeline) {
			p.Output = ""
			p.Alarm = &artifact.Alarm{Raise: 1e6, Clear: 1e5}
		})
		w.rollOut(v)
		w.start(t.TempDir())
		w.feed()
		w.second(testRows[6], testRows[7]) // no change of the alarm
		topic := protocol.SimpleOutputTopic("f", "d1", "pump")
		w.expectOutputs(topic, v, 1)
		if a := w.outputs(topic)[0].Alarm; a == nil || *a {
			t.Errorf("alarm %v, want false", a)
		}
	})
}

// TestPipelineWritesSeldom counts the writes of stream states: one a minute.
func TestPipelineWritesSeldom(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.rollOut(w.fed(1))
		d := w.start(t.TempDir())
		w.feed()
		writes := 0
		saved := func() []byte {
			b, err := d.files.Streams()
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		for range 5 {
			before := saved()
			pass(time.Minute)
			w.second(10, 3)
			if !bytes.Equal(saved(), before) {
				writes++
			}
		}
		if writes < 4 || writes > 5 {
			t.Errorf("%d writes in 5 minutes, want one a minute", writes)
		}
	})
}

func FuzzSplitSaved(f *testing.F) {
	f.Add([]byte("\x04pump\x02\x00\x00\x00ab"))
	f.Add([]byte("\x04pump\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		parts, err := splitSaved(b)
		n := 0
		for name, part := range parts {
			n += len(name) + len(part) + 5
		}
		if err == nil && n > len(b) {
			t.Errorf("splitSaved(%q) has %d bytes of %d", b, n, len(b))
		}
	})
}
