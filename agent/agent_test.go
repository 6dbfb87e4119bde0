package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/agent/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

const trialTime = 11 * time.Second // more than the default trial

// installed starts a device that has confirmed the given versions in turn.
func (w *world) installed(dir string, versions ...version) *device {
	w.t.Helper()
	d := w.start(dir)
	for _, v := range versions {
		w.rollOut(v)
		settle()
		pass(trialTime)
		if s := d.Status().Models["pump"]; s.Version != v.release.String() || s.Phase != protocol.PhaseIdle {
			w.t.Fatalf("%s is not in place: %s", v.release.String(), d.pump())
		}
	}
	return d
}

// lastHave is the state that the device reported last.
func (w *world) lastHave() protocol.Have {
	w.t.Helper()
	all := w.published(protocol.HaveTopic("f", "d1"))
	var m protocol.Have
	if len(all) == 0 {
		w.t.Fatal("nothing reported")
	}
	if err := m.UnmarshalBinary(all[len(all)-1]); err != nil {
		w.t.Fatal(err)
	}
	return m
}

func TestVersionIsFetchedVerifiedAndConfirmed(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		d := w.start(t.TempDir())
		v := w.version(1)
		w.rollOut(v)
		settle()
		d.expect("trying active pump:v1 serving pump:v1")
		d.answers(v)
		pass(trialTime)
		d.expect("idle active pump:v1 serving pump:v1")
		m := w.lastHave()
		if p := m.Models["pump"]; m.Rev != 1 || p.Version != "pump:v1" || p.Active != v.digest() || p.Phase != protocol.PhaseIdle {
			t.Errorf("have %+v", m)
		}
		if s := d.Status(); !s.Connected || s.Protocol != "sp1" || s.Boot != 1 || s.Models["pump"].Predictions != 1 {
			t.Errorf("status %+v", s)
		}
	})
}

func TestRollbackNeedsNoTransfer(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v1, v2 := w.version(1), w.version(2)
		d := w.installed(t.TempDir(), v1, v2)
		for n := range v1.transfer.Chunks { // nothing to download is left
			w.retain(protocol.ChunkTopic("f", v1.hash(), n), nil)
		}
		w.retain(protocol.DescriptorTopic("f", v1.hash()), nil)
		w.ask(w.want(v1))
		settle()
		d.expect("trying active pump:v1 serving pump:v1 previous pump:v2")
		d.answers(v1)
	})
}

func TestCrashLoopReturnsToThePreviousVersion(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		dir := t.TempDir()
		v1, v2 := w.version(1), w.version(2)
		d := w.installed(dir, v1)
		w.rollOut(v2)
		settle()
		for _, want := range []string{
			"trying active pump:v2 serving pump:v2 previous pump:v1",
			"trying active pump:v2 serving pump:v2 previous pump:v1",
			"idle active pump:v1 serving pump:v1 failed crash@2",
		} {
			d.stop()
			d = w.start(dir)
			d.expect(want)
		}
		d.answers(v1)
		if f := w.lastHave().Models["pump"].Failed; f == nil || f.Digest != v2.digest() || f.Code != "crash" || f.Message == "" {
			t.Errorf("reported failure %+v", f)
		}
		w.rev--
		w.ask(w.want(v2)) // the same want again
		settle()
		d.expect("idle active pump:v1 serving pump:v1 failed crash@2")
		w.ask(w.want(v2)) // asked for anew
		settle()
		pass(trialTime)
		d.expect("idle active pump:v2 serving pump:v2 previous pump:v1")
	})
}

func TestNonFiniteOutputEndsTheTrial(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v1, v2 := w.version(1), w.version(2)
		dir := t.TempDir()
		w.installed(dir, v1).stop()
		d := w.start(dir, func(c *Config) {
			c.Tamper = func(_ string, digest protocol.Digest, y []float32) {
				if digest == v2.digest() {
					y[0] = float32(math.NaN())
				}
			}
		})
		w.rollOut(v2)
		settle()
		d.expect("trying active pump:v2 serving pump:v2 previous pump:v1")
		if code := replyCode(t, d.Predict(t.Context(), "pump", []byte(testRequest))); code != protocol.CodeInternal {
			t.Errorf("the broken version answers %s, want %s", code, protocol.CodeInternal)
		}
		settle()
		d.expect("idle active pump:v1 serving pump:v1 failed non_finite@2")
		d.answers(v1)
		pass(10 * time.Minute)
		d.expect("idle active pump:v1 serving pump:v1 failed non_finite@2")
	})
}

// badArtifacts is a row for each way a version can be wrong.
func badArtifacts(w *world, good version) []struct {
	name string
	code string
	v    version
	file func(version) []byte // nil: WriteFile of v
	link func(version)        // nil: publish of v
} {
	flip := func(v version) []byte {
		b := fileOf(w, v)
		b[len(b)-100] ^= 1
		return b
	}
	resign := func(v version, role string) version {
		v.envelope = w.sign(role, artifact.TypeRelease, v.release)
		return v
	}
	unsigned := w.version(2)
	unsigned.envelope = w.encode(artifact.Envelope{Payload: w.encode(unsigned.release)})
	wrongType := w.version(2)
	wrongType.envelope = w.sign(artifact.RoleRelease, artifact.TypeWant, wrongType.release)
	bomb := w.version(2, func(r *artifact.Release) { r.MaxDecoded = 1000 })
	oversized := w.version(2, func(r *artifact.Release) { r.MaxTransfer = 1000 })
	golden := *testModels[1]
	golden.Golden.Outputs = append([]float32(nil), golden.Golden.Outputs...)
	golden.Golden.Outputs[3] = math.Nextafter32(golden.Golden.Outputs[3], math.MaxFloat32)
	other := w.version(3)
	mixed := w.version(2)
	mixed.transfer = &artifact.Transfer{Descriptor: other.transfer.Descriptor, Payload: other.transfer.Payload}
	mixed.transfer.Descriptor.Digest = mixed.digest()
	return []struct {
		name string
		code string
		v    version
		file func(version) []byte
		link func(version)
	}{
		{"corrupt", "corrupt", w.version(2), flip, func(v version) {
			w.publish(v)
			chunk := bytes.Clone(v.transfer.Chunk(1))
			chunk[7] ^= 1
			w.retain(protocol.ChunkTopic("f", v.hash(), 1), chunk)
		}},
		{"truncated", "truncated", w.version(2), func(v version) []byte { b := fileOf(w, v); return b[:len(b)-1] }, func(v version) {
			w.publish(v)
			w.retain(protocol.ChunkTopic("f", v.hash(), 1), v.transfer.Chunk(1)[:100])
		}},
		{"descriptor truncated", "", w.version(2), func(v version) []byte { return fileOf(w, v)[:600] }, func(v version) {
			b := w.encode(artifact.Announce(v.envelope, v.transfer))
			w.retain(protocol.DescriptorTopic("f", v.hash()), b[:len(b)/2])
		}},
		{"oversized", "too_large", oversized, nil, nil},
		{"unsigned", "unsigned", unsigned, nil, nil},
		{"wrong key", "wrong_key", resign(w.version(2), artifact.RoleRollout), nil, nil},
		{"signed as another document", "wrong_key", wrongType, nil, nil},
		{"downgraded", "downgrade", w.version(4, func(r *artifact.Release) { r.Version = 1 }), nil, nil},
		{"foreign", "foreign", w.version(2, func(r *artifact.Release) { r.Fleet = "other" }), nil, nil},
		{"another kernel", "abi", w.version(2, func(r *artifact.Release) { r.ABI++ }), nil, nil},
		{"not after", "not_after", w.version(2, func(r *artifact.Release) { r.NotAfter = 2 }), nil, nil},
		{"bomb", "too_large", bomb, nil, nil},
		{"another model's weights", "", mixed, nil, nil},
		{"golden vector", "golden", w.versionOf(2, &golden), nil, nil},
	}
}

func fileOf(w *world, v version) []byte {
	w.t.Helper()
	var b bytes.Buffer
	if err := artifact.WriteFile(&b, v.envelope, v.transfer); err != nil {
		w.t.Fatal(err)
	}
	return b.Bytes()
}

func TestBadVersionIsRefusedAndThePreviousOneAnswers(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		// Version 3 is in place and its security floor is 2.
		good := w.version(3, func(r *artifact.Release) { r.Floor = 2 })
		d := w.installed(t.TempDir(), good)
		for _, tc := range badArtifacts(w, good) {
			if tc.link == nil {
				tc.link = w.publish
			}
			tc.link(tc.v)
			w.ask(w.want(tc.v))
			settle()
			pass(10 * time.Minute) // a damaged chunk is asked for again before it is given up
			m := d.Status().Models["pump"]
			if m.Phase != protocol.PhaseIdle || m.Failed == nil || m.Failed.Rev != w.rev || m.Failed.Digest != tc.v.digest() {
				t.Errorf("%s over the link: %s", tc.name, d.pump())
			} else if tc.code != "" && m.Failed.Code != tc.code {
				t.Errorf("%s over the link: code %s (%s), want %s", tc.name, m.Failed.Code, m.Failed.Message, tc.code)
			}
			d.answers(good)

			if tc.file == nil {
				tc.file = func(v version) []byte { return fileOf(w, v) }
			}
			_, err := d.Install(t.Context(), bytes.NewReader(tc.file(tc.v)))
			if !Refused(err) {
				t.Errorf("%s from a file: %v, want a refusal", tc.name, err)
			} else if tc.code != "" && code(err) != tc.code {
				t.Errorf("%s from a file: code %s (%v), want %s", tc.name, code(err), err, tc.code)
			}
			d.answers(good)
			w.unpublish(tc.v)
		}
		w.rollOut(w.version(4))
		settle()
		d.answers(w.version(4))
	})
}

// unpublish clears what publish retained.
func (w *world) unpublish(v version) {
	w.retain(protocol.DescriptorTopic("f", v.hash()), nil)
	for n := range v.transfer.Chunks {
		w.retain(protocol.ChunkTopic("f", v.hash(), n), nil)
	}
}

func TestWantThatIsNotOursIsIgnored(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v1, v2 := w.version(1), w.version(2)
		d := w.installed(t.TempDir(), v1)
		w.publish(v2)
		good := w.want(v2)
		forge := func(change func(*protocol.Want)) protocol.Want {
			bad := good
			change(&bad)
			return bad
		}
		topic := protocol.WantTopic("f", "d1")
		signed := w.sign(artifact.RoleRollout, artifact.TypeWant, good)
		flipped := bytes.Clone(signed)
		flipped[40] ^= 1
		for name, b := range map[string][]byte{
			"stale":                w.sign(artifact.RoleRollout, artifact.TypeWant, forge(func(m *protocol.Want) { m.Rev = 1 })),
			"another device's":     w.sign(artifact.RoleRollout, artifact.TypeWant, forge(func(m *protocol.Want) { m.Device = "d2" })),
			"another fleet's":      w.sign(artifact.RoleRollout, artifact.TypeWant, forge(func(m *protocol.Want) { m.Fleet = "g" })),
			"by the release key":   w.sign(artifact.RoleRelease, artifact.TypeWant, good),
			"signed as a release":  w.sign(artifact.RoleRollout, artifact.TypeRelease, good),
			"unsigned":             w.encode(artifact.Envelope{Payload: w.encode(good)}),
			"altered":              flipped,
			"cut":                  signed[:len(signed)-5],
			"text":                 []byte("hello"),
			"cleared":              nil,
			"a bare want unsigned": w.encode(good),
		} {
			w.retain(topic, b)
			settle()
			if s := d.Status(); s.Rev != 1 || s.Models["pump"].Phase != protocol.PhaseIdle {
				t.Errorf("a want that is %s was taken: rev %d, %s", name, s.Rev, d.pump())
			}
		}
		d.answers(v1)
		w.ask(good)
		settle()
		d.answers(v2)
	})
}

// TestSwapLosesNoRequest keeps asking while versions change under it: every
// request gets one answer, computed whole by the version it names.
func TestSwapLosesNoRequest(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := map[string]version{"pump:v1": w.version(1), "pump:v2": w.version(2)}
		d := w.installed(t.TempDir(), v["pump:v1"])
		c := w.client()
		const n = 400
		for i := range n {
			c.send(fmt.Sprint(i), testRequest, byte(i%2))
			if i%40 == 20 {
				w.rollOut(v[[]string{"pump:v2", "pump:v1"}[i/40%2]])
			}
			if i%8 == 7 {
				settle() // the queue is bounded
			}
			if i%40 == 39 {
				pass(trialTime)
			}
		}
		settle()
		seen := make(map[string]int)
		for i := range n {
			replies := c.got(fmt.Sprint(i))
			if len(replies) != 1 {
				t.Fatalf("request %d got %d replies, want 1", i, len(replies))
			}
			name := replyCode(t, replies[0])
			seen[name]++
			if _, known := v[name]; !known {
				t.Fatalf("request %d: %s", i, replies[0])
			}
			d.checkReply(replies[0], v[name])
		}
		if len(seen) != 2 {
			t.Errorf("answers by %v, want both versions", seen)
		}
	})
}

// TestRequestFinishesOnItsVersion swaps while a request is inside the model.
func TestRequestFinishesOnItsVersion(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v1, v2 := w.version(1), w.version(2)
		dir := t.TempDir()
		w.installed(dir, v1).stop()
		inside, goOn := make(chan struct{}), make(chan struct{})
		var once sync.Once
		d := w.start(dir, func(c *Config) {
			c.Tamper = func(string, protocol.Digest, []float32) {
				once.Do(func() { close(inside); <-goOn })
			}
		})
		c := w.client()
		c.send("1", testRequest, 1)
		<-inside
		w.rollOut(v2)
		settle()
		d.expect("trying active pump:v2 serving pump:v2 previous pump:v1")
		c.send("2", testRequest, 1)
		close(goOn)
		settle()
		d.checkReply(c.got("1")[0], v1)
		d.checkReply(c.got("2")[0], v2)
	})
}

func TestQueueIsBounded(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.version(1)
		dir := t.TempDir()
		w.installed(dir, v).stop()
		goOn := make(chan struct{})
		w.start(dir, func(c *Config) {
			c.QueueLen = 4
			c.Tamper = func(string, protocol.Digest, []float32) { <-goOn }
		})
		c := w.client()
		for i := range 8 {
			c.send(fmt.Sprint(i), testRequest, 1)
			settle()
		}
		close(goOn)
		settle()
		codes := ""
		for i := range 8 {
			if replies := c.got(fmt.Sprint(i)); len(replies) != 1 {
				t.Errorf("request %d got %d replies", i, len(replies))
			} else {
				codes += replyCode(t, replies[0]) + " "
			}
		}
		// One is inside the model and four wait.
		want := strings.Repeat("pump:v1 ", 5) + strings.Repeat("busy ", 3)
		if codes != want {
			t.Errorf("answers %s, want %s", codes, want)
		}
		c.send("7", testRequest, 1) // busy is no answer: the same request may come again
		settle()
		if last := c.got("7"); len(last) != 2 || replyCode(t, last[1]) != "pump:v1" {
			t.Errorf("a busy request sent again: %s", last)
		}
	})
}

func TestDeadlineIsRelativeToArrival(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.version(1)
		dir := t.TempDir()
		w.installed(dir, v).stop()
		d := w.start(dir, func(c *Config) {
			c.Tamper = func(string, protocol.Digest, []float32) { time.Sleep(100 * time.Millisecond) }
		})
		c := w.client()
		request := func(ms int) string { return fmt.Sprintf(`{"x":%s,"dl":%d}`, testRequest, ms) }
		c.send("first", request(50), 0) // begins at once
		c.send("late", request(50), 0)
		c.send("patient", request(500), 0)
		pass(time.Second)
		d.checkReply(c.got("first")[0], v)
		if code := replyCode(t, c.got("late")[0]); code != protocol.CodeExpired {
			t.Errorf("late request: %s, want %s", code, protocol.CodeExpired)
		}
		d.checkReply(c.got("patient")[0], v)
	})
}

func TestSameRequestGetsTheSameAnswer(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v1, v2 := w.version(1), w.version(2)
		d := w.installed(t.TempDir(), v1)
		c := w.client()
		c.send("1", testRequest, 1)
		settle()
		w.rollOut(v2)
		settle()
		c.send("1", testRequest, 1)
		c.send("2", testRequest, 1)
		c.send("1", `[[10,3],[11,3.1],[12,3.2],[14,3.25]]`, 1) // another request under the same id
		settle()
		replies := c.got("1")
		if len(replies) != 3 || !bytes.Equal(replies[0], replies[1]) {
			t.Fatalf("the repeated request: %s", replies)
		}
		d.checkReply(replies[1], v1)
		d.checkReply(c.got("2")[0], v2)
		if name := replyCode(t, replies[2]); name != "pump:v2" || bytes.Equal(replies[2], replies[0]) {
			t.Errorf("another window under the same id: %s", replies[2])
		}
		pass(time.Minute)
		c.send("1", testRequest, 1)
		settle()
		d.checkReply(c.got("1")[3], v2)
	})
}

// inCBOR is testRequest in CBOR.
func inCBOR(t *testing.T) []byte {
	good := protocol.PredictRequest{Rows: testRows, Steps: testWindow, Features: testFeatures}
	b, err := good.AppendCBOR(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// badRequests are requests, and the error code or version of each answer.
func badRequests(t *testing.T) []struct{ name, model, request, code string } {
	cbor := string(inCBOR(t))
	return []struct{ name, model, request, code string }{
		{"rows", "pump", testRequest, "pump:v1"},
		{"rows behind white space", "pump", " \n" + testRequest, "pump:v1"},
		{"objects", "pump", `{"x":[{"pressure":3,"flow":10},{"flow":11,"pressure":3.1},{"flow":12,"pressure":3.2},{"flow":13,"pressure":3.25}]}`, "pump:v1"},
		{"cbor", "pump", cbor, "pump:v1"},
		{"malformed json", "pump", `[[10,3],`, "bad_request"},
		{"malformed cbor", "pump", cbor[:20], "bad_request"},
		{"empty", "pump", "", "bad_request"},
		{"unknown field", "pump", `{"x":` + testRequest + `,"y":1}`, "bad_request"},
		{"too few rows", "pump", `[[10,3],[11,3.1],[12,3.2]]`, "bad_shape"},
		{"too few features", "pump", `[[10],[11],[12],[13]]`, "bad_shape"},
		{"unknown feature", "pump", `[{"flow":1,"heat":2},{"flow":1,"heat":2},{"flow":1,"heat":2},{"flow":1,"heat":2}]`, "bad_shape"},
		{"not a number", "pump", `[[10,3],[11,NaN],[12,3.2],[13,3.25]]`, "bad_request"},
		{"beyond float32", "pump", `[[10,3],[11,1e39],[12,3.2],[13,3.25]]`, "bad_request"},
		{"far out of range", "pump", `[[10,3],[11,1e30],[12,3.2],[13,3.25]]`, "bad_request"},
		{"unknown model", "fan", testRequest, "no_model"},
	}
}

func TestRequestErrorsAreNamed(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.version(1)
		d := w.installed(t.TempDir(), v)
		mark := inCBOR(t)[:1]
		big := "[" + strings.Repeat(" ", protocol.MaxPayload) + "]"
		for _, tc := range append(badRequests(t), []struct{ name, model, request, code string }{
			{"oversized", "pump", big, "bad_request"},
			{"a model name that is none", "No Model", testRequest, "no_model"},
		}...) {
			b := d.Predict(t.Context(), tc.model, []byte(tc.request))
			if got := replyCode(t, b); got != tc.code {
				t.Errorf("%s: %s, want %s", tc.name, b, tc.code)
			}
			if protocol.IsJSON(b) == bytes.HasPrefix([]byte(tc.request), mark) {
				t.Errorf("%s: not answered in kind: %q", tc.name, b)
			}
			d.answers(v)
		}
	})
}

// An agent keeps no streams: a request's rows are the stream.
func TestStreamModelReplaysTheRequest(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		m := *testModels[0]
		m.Schema.State = artifact.StateStream
		v := w.versionOf(1, &m)
		d := w.installed(t.TempDir(), v)
		s, err := v.p.NewStream()
		if err != nil {
			t.Fatal(err)
		}
		y := make([]float32, 1)
		for rows := testRows; len(rows) > 0; rows = rows[testFeatures:] {
			if err := s.Step(y, rows[:testFeatures]); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 { // nothing is left of the first request
			d.answers(v)
			if want, err := v.p.PredictAppend(nil, testRows); err != nil || want[0] != y[0] {
				t.Errorf("the agent answers %v, %v, want %v as the stream", want, err, y)
			}
		}
		b := d.Predict(t.Context(), "pump", []byte(`{"x":[[10,3]],"s":"pump-3"}`))
		if code := replyCode(t, b); code != "bad_shape" || !bytes.Contains(b, []byte("replays from the zero state")) || !bytes.Contains(b, []byte(`"want":"4×2"`)) {
			t.Errorf("one row of a stream: %s", b)
		}
	})
}

func TestModelThatIsNotThereYet(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		d := w.start(t.TempDir())
		if code := replyCode(t, d.Predict(t.Context(), "pump", []byte(testRequest))); code != protocol.CodeNoModel {
			t.Errorf("before any want: %s", code)
		}
		w.ask(w.want(w.version(1))) // nothing published yet
		settle()
		if code := replyCode(t, d.Predict(t.Context(), "pump", []byte(testRequest))); code != protocol.CodeNotReady {
			t.Errorf("while fetching: %s", code)
		}
	})
}

func TestBrokerGoneAndBack(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v1, v2 := w.version(1), w.version(2)
		d := w.installed(t.TempDir(), v1)
		up := protocol.UpTopic("f", "d1")
		w.down.Store(true)
		w.cut()
		settle()
		if s := d.Status(); s.Connected || s.Link == "" {
			t.Errorf("status %+v, want not connected and why", s)
		}
		if ups := w.published(up); string(ups[len(ups)-1]) != protocol.Offline {
			t.Errorf("presence %q, want the will", ups)
		}
		pass(20 * time.Minute)
		d.answers(v1)
		w.down.Store(false)
		w.rollOut(v2)
		pass(2 * time.Minute) // the longest backoff
		d.answers(v2)
		if ups := w.published(up); string(ups[len(ups)-1]) != protocol.Online {
			t.Errorf("presence %q, want online again", ups)
		}
		d.stop()
		if ups := w.published(up); string(ups[len(ups)-1]) != protocol.Offline {
			t.Errorf("presence %q after a clean stop, want offline", ups)
		}
	})
}

func TestBrokerThatForgotEverything(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v1 := w.version(1)
		d := w.installed(t.TempDir(), v1)
		n := len(w.published(protocol.HaveTopic("f", "d1")))
		w.restartBroker()
		pass(2 * time.Minute)
		if got := len(w.published(protocol.HaveTopic("f", "d1"))); got != n+1 {
			t.Errorf("%d reports after a new connection, want %d", got, n+1)
		}
		d.answers(v1)
		pass(10 * time.Minute)
		if got := len(w.published(protocol.HaveTopic("f", "d1"))); got != n+1 {
			t.Errorf("%d reports without a change, want %d", got, n+1)
		}
	})
}

func TestRefusedSubscriptionIsReported(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.refuse = "/p/"
		var logged bytes.Buffer
		d := w.start(t.TempDir(), func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&logged, nil)) })
		d.stop()
		if !strings.Contains(logged.String(), "subscription refused") || !strings.Contains(logged.String(), "/p/+") {
			t.Errorf("log: %s", logged.String())
		}
	})
}

func TestDownloadGoesOnAfterALostLink(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v1 := w.version(1)
		d := w.start(t.TempDir())
		w.publish(v1)
		last := len(v1.transfer.Chunks) - 1
		if last < 1 {
			t.Fatalf("the test needs a transfer of several chunks, has %d", last+1)
		}
		w.retain(protocol.ChunkTopic("f", v1.hash(), last), nil) // not there yet
		w.ask(w.want(v1))
		settle()
		d.expect("fetching active  serving ")
		w.cut()
		pass(time.Minute)
		for n := range last { // a chunk that was received is not asked for again
			w.retain(protocol.ChunkTopic("f", v1.hash(), n), nil)
		}
		w.retain(protocol.ChunkTopic("f", v1.hash(), last), v1.transfer.Chunk(last))
		pass(10 * time.Minute)
		d.expect("idle active pump:v1 serving pump:v1")
		d.answers(v1)
	})
}

func TestNewerWantEndsADownload(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v1, v2 := w.version(1), w.version(2)
		d := w.start(t.TempDir())
		w.ask(w.want(v1)) // nothing published: it waits
		pass(10 * time.Minute)
		d.expect("fetching active  serving ")
		w.rollOut(v2)
		settle()
		d.expect("trying active pump:v2 serving pump:v2")
		w.publish(v1)
		pass(10 * time.Minute)
		d.expect("idle active pump:v2 serving pump:v2")
	})
}

func TestJitterSpreadsDownloads(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v1 := w.version(1)
		d := w.start(t.TempDir())
		w.publish(v1)
		want := w.want(v1)
		want.JitterS = 600
		after := jitter("d1", want.Rev, want.JitterS)
		if after <= time.Second || after >= 10*time.Minute || after == jitter("d2", want.Rev, want.JitterS) {
			t.Fatalf("jitter of %v", after)
		}
		w.ask(want)
		pass(after - time.Second)
		d.expect("fetching active  serving ")
		pass(2 * time.Second)
		d.expect("trying active pump:v1 serving pump:v1")
	})
}

func TestNoTransferThatCanBeUsed(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v1, v2 := w.version(1), w.version(2)
		d := w.installed(t.TempDir(), v1)
		want := w.want(v2)
		base := v1.digest()
		m := want.Models["pump"]
		base[0]++
		m.Active.Transfers = []protocol.TransferRef{{Hash: v2.hash(), Kind: protocol.KindDelta, Size: 10, Base: &base}}
		want.Models["pump"] = m
		w.ask(want)
		settle()
		d.expect("idle active pump:v1 serving pump:v1 failed no_transfer@2")
	})
}

func TestEventsAreKeptUntilAcked(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		dir := t.TempDir()
		d := w.start(dir)
		w.rollOut(w.version(1))
		settle()
		pass(trialTime)
		kinds := func() string {
			out := ""
			for _, b := range w.published(protocol.EventTopic("f", "d1")) {
				var e protocol.Event
				if err := e.UnmarshalBinary(b); err != nil {
					t.Fatal(err)
				}
				out += fmt.Sprintf("%d:%s ", e.Seq, e.Kind)
			}
			return out
		}
		if got := kinds(); got != "1:activated 2:confirmed " {
			t.Fatalf("events %q", got)
		}
		ack := w.encode(protocol.Ack{Boot: 1, Seq: 1})
		if err := w.server.Publish(protocol.AckTopic("f", "d1"), ack, false, 1); err != nil {
			t.Fatal(err)
		}
		settle()
		d.stop()
		w.start(dir)
		if got := kinds(); got != "1:activated 2:confirmed 2:confirmed " {
			t.Errorf("events after a restart %q, want only the second again", got)
		}
	})
}

func TestUsageIsReportedOncePerMinuteAndAfterARestart(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		dir := t.TempDir()
		v := w.version(1)
		d := w.installed(dir, v)
		c := w.client()
		last := func() protocol.Usage {
			all := w.published(protocol.UsageTopic("f", "d1"))
			if len(all) == 0 {
				return protocol.Usage{}
			}
			var m protocol.Usage
			if err := m.UnmarshalBinary(all[len(all)-1]); err != nil {
				t.Fatal(err)
			}
			return m
		}
		for i := range 5 {
			c.send(fmt.Sprint(i), testRequest, 0)
		}
		c.send("bad", "[]", 0)
		settle()
		if n := len(w.published(protocol.UsageTopic("f", "d1"))); n != 0 {
			t.Errorf("%d usage reports at once", n)
		}
		pass(time.Minute)
		if m := last(); len(m.Counts) != 1 || m.Counts[0].Answered != 5 || m.Counts[0].Refused != 1 || m.Counts[0].User != "u1" {
			t.Errorf("usage %+v", m)
		}
		n := len(w.published(protocol.UsageTopic("f", "d1")))
		pass(10 * time.Minute)
		if got := len(w.published(protocol.UsageTopic("f", "d1"))); got != n {
			t.Errorf("%d usage reports without a request, want %d", got, n)
		}
		c.send("last", testRequest, 0)
		settle()
		d.stop()
		w.start(dir)
		if m := last(); m.Boot != 1 || m.Counts[0].Answered != 6 {
			t.Errorf("usage of the first start, reported by the second: %+v", m)
		}
	})
}

func TestInstallFromAFile(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		dir := t.TempDir()
		v1, v2, v3 := w.version(1), w.version(2), w.version(3)
		d := w.installed(dir, v1)
		got, err := d.Install(t.Context(), bytes.NewReader(fileOf(w, v2)))
		if err != nil || got != (Installed{Name: "pump", Version: "pump:v2", Digest: v2.digest(), Running: true}) {
			t.Fatalf("Install = %+v, %v", got, err)
		}
		d.answers(v2)
		pass(trialTime)
		d.expect("idle active pump:v2 serving pump:v2 previous pump:v1")
		w.cut() // the retained want, for v1, comes again
		pass(2 * time.Minute)
		d.expect("idle active pump:v2 serving pump:v2 previous pump:v1")
		d.stop()

		a, err := New(w.config(dir)) // not running
		if err != nil {
			t.Fatal(err)
		}
		if got, err = a.Install(t.Context(), bytes.NewReader(fileOf(w, v3))); err != nil || got.Running {
			t.Fatalf("Install without Run = %+v, %v", got, err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		w.down.Store(true)
		d = w.start(dir)
		d.expect("trying active pump:v3 serving pump:v3 previous pump:v2")
		d.answers(v3)
	})
}

func TestSecondAgentOnTheSameFolder(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		dir := t.TempDir()
		d := w.installed(dir, w.version(1))
		if _, err := New(w.config(dir)); !errors.Is(err, store.ErrLocked) {
			t.Errorf("New = %v, want ErrLocked", err)
		}
		d.answers(w.version(1))
	})
}

func TestDataFolderOfAnotherDeviceIsLeftAlone(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		dir, v1 := t.TempDir(), w.version(1)
		w.installed(dir, v1).stop()
		other := newWorld(t) // of other keys
		for _, change := range []func(*Config){
			func(c *Config) { c.Device = "d2" },
			func(c *Config) { c.Fleet = "g" },
			func(c *Config) { c.Device, c.Root = "d2", other.root },
		} {
			c := w.config(dir)
			change(&c)
			if _, err := New(c); err == nil || !strings.Contains(err.Error(), "belongs to device d1 of fleet f") || !strings.Contains(err.Error(), dir) {
				t.Errorf("New = %v, want whose folder %s is", err, dir)
			}
		}
		d := w.start(dir)
		d.expect("idle active pump:v1 serving pump:v1")
		d.answers(v1)
	})
}

func TestBadConfiguration(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		for name, change := range map[string]func(*Config){
			"fleet":       func(c *Config) { c.Fleet = "No Fleet" },
			"device":      func(c *Config) { c.Device = "d/1" },
			"data folder": func(c *Config) { c.DataDir = "" },
			"root":        func(c *Config) { c.Root = c.Root[:50] },
			"broker":      func(c *Config) { c.Dial, c.Broker = nil, "http://x" },
		} {
			c := w.config(t.TempDir())
			change(&c)
			if a, err := New(c); err == nil {
				t.Errorf("New with a bad %s = nil", name)
				a.Close()
			}
		}
	})
}

// A broker may hold, or somebody may play back, a want that was signed long ago.
func TestOldWantIsNotTakenWhenTheDatabaseIsLost(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		dir := t.TempDir()
		v1, v2 := w.version(1), w.version(2)
		w.installed(dir, v1, v2).stop()
		old, newest := w.want(v1), w.want(v2)
		old.Rev, newest.Rev = 1, 2
		w.ask(old)
		for range 2 { // a second loss must not turn it back further
			if err := os.WriteFile(filepath.Join(dir, "cache.db"), bytes.Repeat([]byte("damage"), 5000), 0o600); err != nil {
				t.Fatal(err)
			}
			d := w.start(dir)
			pass(2 * time.Minute)
			d.expect("idle active pump:v2 serving pump:v2")
			d.stop()
		}
		d := w.start(dir)
		w.ask(newest)
		pass(2 * time.Minute)
		d.expect("idle active pump:v2 serving pump:v2")
		if s := d.Status(); s.Rev != 2 {
			t.Errorf("rev %d, want 2: the newest want is taken again", s.Rev)
		}
	})
}

func TestDatabaseIsRebuiltFromTheExportedCopy(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		dir := t.TempDir()
		v1, v2 := w.version(1), w.version(2)
		w.installed(dir, v1, v2).stop()
		if err := os.WriteFile(filepath.Join(dir, "cache.db"), bytes.Repeat([]byte("damage"), 5000), 0o600); err != nil {
			t.Fatal(err)
		}
		w.down.Store(true)
		d := w.start(dir)
		d.expect("idle active pump:v2 serving pump:v2")
		d.answers(v2)
		if s := d.Status(); s.Boot != 2 {
			t.Errorf("start %d, want 2: the count must go on", s.Boot)
		}
		w.down.Store(false)
		pass(2 * time.Minute) // the retained want arrives: nothing to do
		d.expect("idle active pump:v2 serving pump:v2")
		if _, err := os.Stat(filepath.Join(dir, "cache.db.damaged")); err != nil {
			t.Errorf("the damaged file was not kept: %v", err)
		}
		kinds := ""
		for _, b := range w.published(protocol.EventTopic("f", "d1")) {
			var e protocol.Event
			if err := e.UnmarshalBinary(b); err == nil && e.Boot == 2 {
				kinds += e.Kind + " "
			}
		}
		if !strings.Contains(kinds, "restored") || !strings.Contains(kinds, "storage") {
			t.Errorf("reported %q, want restored and storage", kinds)
		}
	})
}

func TestDamagedSlotIsRestored(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		for _, broken := range []int{0, 1} {
			dir := t.TempDir()
			v := []version{w.version(1), w.version(2)}
			w.installed(dir, v...).stop()
			path := filepath.Join(dir, "cache.db")
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for at := 0; ; { // every copy of it, free pages too
				i := bytes.Index(b[at:], v[broken].transfer.Payload[:2000])
				if i < 0 {
					break
				}
				b[at+i+1000] ^= 4
				at += i + 2000
			}
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			w.down.Store(true)
			d := w.start(dir)
			if broken == 1 { // the active one: from the copy
				d.expect("idle active pump:v2 serving pump:v2 previous pump:v1")
				d.stop()
				d = w.start(dir)
			} else { // the previous one is gone
				d.expect("idle active pump:v2 serving pump:v2")
			}
			d.answers(v[1])
			d.stop()
			w.down.Store(false)
			w.rev = 0
			w.retain(protocol.WantTopic("f", "d1"), nil)
		}
	})
}

// TestLocalSocket uses a real socket and the real clock: no bubble can.
func TestLocalSocket(t *testing.T) {
	w := newWorld(t)
	v1, v2 := w.version(1), w.version(2)
	dir := t.TempDir()
	c := w.config(dir)
	c.Dial = func(context.Context) (net.Conn, error) { return nil, errors.New("no broker here") }
	socketDir, err := os.MkdirTemp("", "sp") // short: t.TempDir may exceed 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(socketDir)
	c.Socket = filepath.Join(socketDir, SocketName)
	if err := os.WriteFile(c.Socket, []byte("left behind"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Install(t.Context(), bytes.NewReader(fileOf(w, v1))); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		for {
			conn, err := new(net.Dialer).DialContext(ctx, "unix", c.Socket)
			if err == nil || ctx.Err() != nil {
				return conn, err
			}
		}
	}}}
	defer client.CloseIdleConnections()
	call := func(method, path string, body []byte) (int, []byte) {
		t.Helper()
		r, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, b
	}
	d := &device{Agent: a, w: w}
	_, b := call("POST", "/predict/pump", []byte(testRequest))
	d.checkReply(b, v1)
	if info, err := os.Stat(c.Socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket mode %v, %v; want 0600", info.Mode(), err)
	}
	status, b := call("POST", "/install", fileOf(w, v2))
	var installed Installed
	if err := json.Unmarshal(b, &installed); status != 200 || err != nil || installed.Version != "pump:v2" {
		t.Errorf("install: %d %s", status, b)
	}
	_, b = call("POST", "/predict/pump", []byte(testRequest))
	d.checkReply(b, v2)
	if status, b = call("POST", "/install", fileOf(w, v2)[:500]); status != 422 || !bytes.Contains(b, []byte(`"refused":true`)) {
		t.Errorf("install of a cut file: %d %s", status, b)
	}
	status, b = call("GET", "/status", nil)
	var s Status
	if err := json.Unmarshal(b, &s); status != 200 || err != nil || s.Models["pump"].Version != "pump:v2" || s.Connected {
		t.Errorf("status: %d %s", status, b)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("Run = %v", err)
	}
	if _, err := os.Stat(c.Socket); !os.IsNotExist(err) {
		t.Errorf("the socket was left behind: %v", err)
	}
}

func TestSocketThatCannotBeMadeDoesNotKeepFromAnswering(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		dir, v1, v2 := t.TempDir(), w.version(1), w.version(2)
		w.installed(dir, v1).stop()
		d := w.start(dir, func(c *Config) { c.Socket = filepath.Join(dir, "missing", SocketName) })
		pass(3 * time.Minute)
		d.answers(v1)
		w.rollOut(v2)
		pass(time.Minute)
		d.answers(v2)
	})
}

func TestSocketIsMadeOnceItCanBe(t *testing.T) {
	dir, err := os.MkdirTemp("", "sp") // short: t.TempDir may exceed 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	log := make(logLines, 100)
	a := &Agent{cfg: Config{Socket: filepath.Join(dir, "later", SocketName), Log: slog.New(slog.NewTextHandler(log, nil))}}
	opened := make(chan net.Listener)
	go func() { opened <- a.openSocket(t.Context(), time.Millisecond) }()
	if line := <-log; !strings.Contains(line, "no local socket") || !strings.Contains(line, "no such file") {
		t.Errorf("log says %q, want what does not work and why", line)
	}
	if err := os.Mkdir(filepath.Join(dir, "later"), 0o700); err != nil {
		t.Fatal(err)
	}
	l := <-opened
	defer l.Close()
	if c, err := net.Dial("unix", a.cfg.Socket); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
	if len(log) > 0 {
		t.Errorf("said again: %q", <-log)
	}
}

// logLines is a log that a test reads.
type logLines chan string

func (l logLines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

// A tracedCache copies the data folder after every transaction, and fails when
// it is told to.
type tracedCache struct {
	cache
	dir    string
	copies func(dir string)
	fail   atomic.Pointer[error]
}

func (c *tracedCache) Commit(change store.Change) error {
	if err := c.fail.Load(); err != nil {
		return *err
	}
	err := c.cache.Commit(change)
	if c.copies != nil {
		c.copies(c.dir)
	}
	return err
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// TestPowerCutAtEveryTransaction starts again from what was on disk before and
// after every transaction of an installation, an update and a rollback. Each
// start answers with a whole version, and ends on the wanted one.
func TestPowerCutAtEveryTransaction(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := []version{w.version(1), w.version(2)}
		dir, root := t.TempDir(), t.TempDir()
		var cuts []string
		a, err := New(w.config(dir))
		if err != nil {
			t.Fatal(err)
		}
		cut := func(dir string) {
			to := filepath.Join(root, fmt.Sprint(len(cuts)))
			copyDir(t, dir, to)
			cuts = append(cuts, to)
		}
		a.cache = &tracedCache{cache: a.cache, dir: dir, copies: cut}
		d := w.run(a)
		var wanted version
		for _, n := range []int{0, 1, 0} {
			wanted = v[n]
			w.rollOut(wanted)
			settle()
			pass(trialTime)
		}
		d.expect("idle active pump:v1 serving pump:v1 previous pump:v2")
		d.stop()
		if len(cuts) < 10 {
			t.Errorf("%d transactions, want at least 10", len(cuts))
		}
		for i, dir := range cuts {
			d := w.start(dir)
			if s := d.Status().Models["pump"]; s.Serving != s.Version || s.Serving == "" && s.Phase == protocol.PhaseIdle {
				t.Errorf("cut %d: %s", i, d.pump())
			}
			pass(2 * trialTime)
			if s := d.Status().Models["pump"]; s.Version != wanted.release.String() || s.Phase != protocol.PhaseIdle {
				t.Errorf("cut %d ended on %s", i, d.pump())
			}
			d.answers(wanted)
			d.stop()
		}
	})
}

func TestFullDiskKeepsServingAndSaysSoOnce(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		dir := t.TempDir()
		v1, v2 := w.version(1), w.version(2)
		w.installed(dir, v1).stop()
		a, err := New(w.config(dir))
		if err != nil {
			t.Fatal(err)
		}
		disk := &tracedCache{cache: a.cache}
		full := store.ErrFull
		disk.fail.Store(&full)
		a.cache = disk
		d := w.run(a)
		d.answers(v1)
		w.rollOut(v2)
		pass(10 * time.Minute)
		d.answers(v1)
		if s := d.Status(); !strings.Contains(s.Storage, "full") {
			t.Errorf("status says %q of the disk", s.Storage)
		}
		said := 0
		for _, b := range w.published(protocol.EventTopic("f", "d1")) {
			var e protocol.Event
			if err := e.UnmarshalBinary(b); err == nil && e.Kind == "storage" {
				said++
			}
		}
		if said != 1 {
			t.Errorf("said so %d times, want once", said)
		}
		disk.fail.Store(nil) // somebody made room
		pass(2 * time.Minute)
		d.expect("idle active pump:v2 serving pump:v2 previous pump:v1")
		d.answers(v2)
		if s := d.Status(); s.Storage != "" {
			t.Errorf("status still says %q", s.Storage)
		}
	})
}

func TestVersionThatDoesNotFitTheQuota(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v1, v2 := w.version(1), w.version(2)
		d := w.start(t.TempDir(), func(c *Config) { c.QuotaBytes = 192 << 10 })
		w.rollOut(v1)
		settle()
		pass(trialTime)
		w.rollOut(v2)
		settle()
		pass(trialTime)
		d.expect("idle active pump:v1 serving pump:v1 failed no_space@2")
		d.answers(v1)
	})
}
