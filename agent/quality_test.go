package agent

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
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
		_, one, two := w.judged(t.TempDir(), wearing)
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

// near reports whether x is y but for rounding.
func near(x, y float64) bool { return math.Abs(x-y) <= 1e-6*max(1, math.Abs(y)) }

// wearing is a pipeline whose truth arrives.
func wearing(p *artifact.Pipeline) {
	p.Inputs = append(p.Inputs, artifact.Input{Column: "wear", Topic: "plant/{device}/+/wear-of"})
}

// usages are the newest reports of each start, as a control plane keeps them.
func (w *world) usages() map[uint64]protocol.Usage {
	w.t.Helper()
	out := make(map[uint64]protocol.Usage)
	for _, b := range w.published(protocol.UsageTopic("f", "d1")) {
		var u protocol.Usage
		if err := u.UnmarshalBinary(b); err != nil {
			w.t.Fatal(err)
		}
		if u.Seq > out[u.Boot].Seq {
			out[u.Boot] = u
		}
	}
	return out
}

// counted is what a report says of v.
func counted(u protocol.Usage, v version) protocol.VersionCount {
	for _, c := range u.Versions {
		if c.Version == first8(v) {
			return c
		}
	}
	return protocol.VersionCount{}
}

// TestShadowIsJudgedAndGoesOnBeingJudged: the sums of a pair are the same
// before and after the shadow is activated; callers see the active one.
func TestShadowIsJudgedAndGoesOnBeingJudged(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		one, two := w.fed(1, wearing), w.fed(2, wearing)
		d := w.installed(t.TempDir(), one)
		w.publish(two)
		judge := &protocol.Judge{Stage: 4, Model: "pump", EveryS: 20, Until: time.Now().Add(time.Hour).UnixMilli()}
		ask := func(want protocol.Want) {
			want.Judge = judge
			w.ask(want)
			settle()
		}
		ask(w.wantBeside(one, two))
		y := func(v version) float64 {
			y, err := v.p.PredictAppend(nil, []float32{10, 3, 10, 3, 10, 3, 10, 3})
			if err != nil {
				t.Fatal(err)
			}
			return float64(y[0])
		}
		a, b := y(one), y(two)
		check := func(q protocol.Quality, flags uint8, least, most uint32) {
			t.Helper()
			n := float64(q.Pairs)
			if q.Flags != flags || q.Stage != 4 || q.A != first8(one) || q.B != first8(two) || q.Pairs < least || q.Pairs > most {
				t.Errorf("report %+v, want flags %d and %d to %d pairs", q, flags, least, most)
			}
			if !near(q.SumA, n*math.Abs(a-55)) || !near(q.SumB, n*math.Abs(b-55)) || !near(q.SquareA, n*(a-55)*(a-55)) {
				t.Errorf("sums %v and %v of %v pairs, want %v and %v each", q.SumA, q.SumB, n, math.Abs(a-55), math.Abs(b-55))
			}
			if q.Skipped != 0 || q.BadA != 0 || q.BadB != 0 {
				t.Errorf("report %+v, want nothing missing", q)
			}
		}
		seconds := func(n int, label string) {
			t.Helper()
			said := len(w.outputs("plant/d1/m1/wear"))
			for range n {
				w.say("plant/d1/m1/wear-of", "55")
				w.second(10, 3)
			}
			for _, o := range w.outputs("plant/d1/m1/wear")[said+1:] {
				if o.Version != label {
					t.Errorf("a caller saw %s, want %s", o.Version, label)
				}
			}
		}
		seconds(41, "pump:v1")
		got := w.quality()
		if len(got) != 2 {
			t.Fatalf("%d reports in 41 s, want one each 20 s", len(got))
		}
		check(got[0], protocol.QualityShadow, 14, 18)
		check(got[1], protocol.QualityShadow, got[0].Pairs+20, got[0].Pairs+20)
		if h := d.have().Models["pump"].Shadow; h == nil || h.Phase != protocol.PhaseReady {
			t.Errorf("the shadow is %+v", h)
		}

		later := w.want(two)
		later.NotBefore = time.Now().Add(10 * time.Second).UnixMilli()
		ask(later) // it goes on as shadow until it is activated
		seconds(9, "pump:v1")
		for d.Status().Models["pump"].Serving != "pump:v2" {
			w.say("plant/d1/m1/wear-of", "55")
			w.second(10, 3)
		}
		seconds(41, "pump:v2")
		got = w.quality()
		last := got[len(got)-1]
		check(last, 0, got[1].Pairs+30, got[1].Pairs+90)
		for i, q := range got[1:] {
			if q.Pairs < got[i].Pairs || q.SumA < got[i].SumA || q.FirstS != got[0].FirstS {
				t.Errorf("report %+v after %+v", q, got[i])
			}
		}
		// Another want judges nothing, and the next goes on with the stage.
		w.ask(w.want(two))
		seconds(20, "pump:v2")
		if n := len(w.quality()); n != len(got) {
			t.Errorf("%d reports while nothing is judged", n-len(got))
		}
		ask(w.want(two))
		seconds(41, "pump:v2")
		got = w.quality()
		check(got[len(got)-1], 0, last.Pairs+30, last.Pairs+45)
		last = got[len(got)-1]

		pass(time.Minute)
		u := w.usages()[1]
		for _, v := range []version{one, two} {
			c := counted(u, v)
			timed := uint64(0)
			for _, n := range c.Latency {
				timed += n
			}
			if c.N < uint64(last.Pairs) || timed == 0 || timed > c.Answered || c.Failed+c.Refused > 0 {
				t.Errorf("counted %+v of %s after %d pairs", c, v.release.String(), last.Pairs)
			}
		}
	})
}

// TestForecastsCompareThemselvesWithoutAJudge: the status and the usage report
// say how good the active version is, beside the naive forecast.
func TestForecastsCompareThemselvesWithoutAJudge(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		dir := t.TempDir()
		one := w.fed(1, wearing)
		d := w.installed(dir, one)
		if q := d.Status().Models["pump"].Quality; q != nil {
			t.Errorf("quality %+v before any truth", q)
		}
		// What comes each second, so that as the second before is wrong by 2.
		for i := range 30 {
			w.say("plant/d1/m1/wear-of", fmt.Sprint(50+2*i))
			w.second(10, 3)
		}
		y, err := one.p.PredictAppend(nil, []float32{10, 3, 10, 3, 10, 3, 10, 3})
		if err != nil {
			t.Fatal(err)
		}
		q := d.Status().Models["pump"].Quality
		if q == nil || q.N < 24 || q.N > 27 || q.NaiveMAE == nil || *q.NaiveMAE != 2 {
			t.Fatalf("quality %+v", q)
		}
		var sum, square float64 // of the last N truths
		for i := 30 - int(q.N); i < 30; i++ {
			e := math.Abs(float64(y[0]) - float64(50+2*i))
			sum, square = sum+e, square+e*e
		}
		n := float64(q.N)
		if !near(q.MAE, sum/n) || !near(q.RMSE, math.Sqrt(square/n)) {
			t.Errorf("MAE %v and RMSE %v, want %v and %v", q.MAE, q.RMSE, sum/n, math.Sqrt(square/n))
		}
		pass(time.Minute)
		c := counted(w.usages()[1], one)
		if c.N != q.N || !near(c.Sum, sum) || !near(c.Square, square) || c.NaiveN != q.N || !near(c.Naive, 2*n) || c.Latency != nil {
			t.Errorf("reported %+v, want the same as %+v", c, q)
		}
		if len(w.quality()) != 0 {
			t.Error("pairs are reported although nothing is judged")
		}
		d.stop()
		w.start(dir)
		for range 10 {
			w.say("plant/d1/m1/wear-of", "55")
			w.second(10, 3)
		}
		pass(time.Minute)
		if u := w.usages(); counted(u[1], one).N != q.N || counted(u[2], one).N < 4 {
			t.Errorf("after a restart %+v and %+v: each start counts for itself", counted(u[1], one), counted(u[2], one))
		}
	})
}

// TestRequestsAreJudgedWithoutAPipeline: callers get the active version's answer
// alone, and labels find the outputs of requests.
func TestRequestsAreJudgedWithoutAPipeline(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		one, two := w.version(1), w.version(2)
		d := w.installed(t.TempDir(), one)
		w.publish(two)
		want := w.wantBeside(one, two)
		want.Judge = &protocol.Judge{Stage: 4, Model: "pump", EveryS: 20, Until: time.Now().Add(time.Hour).UnixMilli()}
		w.ask(want)
		settle()
		ann, bob := w.clientOf("ann"), w.clientOf("bob")
		ann.send("1", testRequest, 1)
		ann.send("1", testRequest, 1) // once more: the same answer, and no second pair
		bob.send("2", testRequest, 0)
		bob.send("3", `{"x":`+testRequest+`,"s":"m1","t":60000}`, 0)
		bob.send("4", `[[1e30,3],[11,3.1],[12,3.2],[13,3.25]]`, 0) // nobody's fault but its own
		settle()
		d.answers(one) // a local request
		for _, r := range [][]byte{ann.got("1")[0], bob.got("2")[0], bob.got("3")[0]} {
			d.checkReply(r, one)
		}
		topic := protocol.TruthTopic("f", "d1", "pump")
		w.say(topic, `{"user":"ann","corr":"1","y":[50]}`)
		w.say(topic, `{"corr":"2","y":[60]}`)
		w.say(topic, `{"s":"m1","t":60000,"y":[70]}`)
		w.say(topic, `{"corr":"5","y":[70]}`)
		pass(21 * time.Second)
		a, _ := one.p.PredictAppend(nil, testRows)
		b, _ := two.p.PredictAppend(nil, testRows)
		var sumA, sumB float64
		for _, y := range []float64{50, 60, 70} {
			sumA, sumB = sumA+math.Abs(float64(a[0])-y), sumB+math.Abs(float64(b[0])-y)
		}
		got := w.quality()
		if len(got) != 1 {
			t.Fatalf("%d reports, want 1", len(got))
		}
		q := got[0]
		if q.Flags != protocol.QualityShadow || q.Pairs != 3 || q.Skipped != 0 || q.BadA != 0 || q.BadB != 0 || !near(q.SumA, sumA) || !near(q.SumB, sumB) {
			t.Errorf("report %+v, want 3 pairs, %v and %v", q, sumA, sumB)
		}
		// Four of them, with the one of the socket.
		if apart := 4 * math.Abs(float64(a[0])-float64(b[0])); math.Abs(float64(q.Disagreement)-apart) > 1e-3*apart {
			t.Errorf("apart by %v, want %v", q.Disagreement, apart)
		}
		if s := d.Status().Models["pump"]; s.Unmatched != 1 || s.Quality == nil || s.Quality.N != 3 || s.Quality.NaiveMAE != nil {
			t.Errorf("status %+v with %d labels unmatched, want 3 outputs and 1 label", s.Quality, s.Unmatched)
		}
		// What was said before the activation is compared by a label behind it.
		ann.send("7", testRequest, 0)
		settle()
		promoted := w.want(two)
		promoted.Judge = want.Judge
		w.ask(promoted)
		pass(trialTime)
		d.expect("idle active pump:v2 serving pump:v2 previous pump:v1")
		w.say(topic, `{"corr":"7","y":[50]}`)
		ann.send("8", testRequest, 0)
		settle()
		w.say(topic, `{"corr":"8","y":[50]}`)
		pass(21 * time.Second)
		got = w.quality()
		q = got[len(got)-1]
		sumA, sumB = sumA+2*math.Abs(float64(a[0])-50), sumB+2*math.Abs(float64(b[0])-50)
		if q.Flags != 0 || q.Pairs != 5 || q.Skipped != 0 || !near(q.SumA, sumA) || !near(q.SumB, sumB) {
			t.Errorf("report %+v, want 5 pairs, %v and %v", q, sumA, sumB)
		}
		pass(time.Minute)
		u := w.usages()[1]
		if c := counted(u, one); c.Answered != 6 || c.Refused != 1 || c.Failed != 0 {
			t.Errorf("counted %+v of A, want 6 answers and one refusal", c)
		}
		if c := counted(u, two); c.Answered != 6 || c.Refused != 0 || len(c.Latency) == 0 {
			t.Errorf("counted %+v of B, want 6 predictions", c)
		}
	})
}

// TestLabelsWithoutAJudge: from the first label on, outputs are kept for them.
func TestLabelsWithoutAJudge(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		one := w.version(1)
		d := w.installed(t.TempDir(), one)
		ann := w.clientOf("ann")
		topic := protocol.TruthTopic("f", "d1", "pump")
		for i, n := range []uint64{0, 1, 2} {
			ann.send(fmt.Sprint(i), testRequest, 0)
			settle()
			w.say(topic, fmt.Sprintf(`{"corr":"%d","y":[55]}`, i))
			settle()
			var got uint64
			if q := d.Status().Models["pump"].Quality; q != nil {
				got = q.N
			}
			if got != n {
				t.Errorf("after label %d: %d outputs compared, want %d", i, got, n)
			}
		}
		w.say(topic, `{"corr":"2","y":`) // of no use
		settle()
		if s := d.Status().Models["pump"]; s.Unmatched != 1 {
			t.Errorf("%d labels unmatched, want 1", s.Unmatched)
		}
	})
}

// TestFullQueueOfOverheardRequestsIsSkipped: requests are answered all the same.
func TestFullQueueOfOverheardRequestsIsSkipped(t *testing.T) {
	a := &Agent{}
	a.pipelines = newPipelines(a)
	j := &judged{pairKey: pairKey{1, dg(1), dg(2)}}
	a.pipelines.listening.Store(&map[string]*judged{"m": j})
	v := &served{name: "m"}
	ask1 := func(values int) *ask { return &ask{version: v, rows: make([]float32, values)} }
	for range overheardWaiting + 7 {
		a.pipelines.overhear([]*ask{ask1(1)})
	}
	if n := j.skipped.Load(); n != 7 || len(a.pipelines.overheard) != overheardWaiting {
		t.Errorf("%d wait and %d are skipped, want %d and 7", len(a.pipelines.overheard), n, overheardWaiting)
	}
	for range overheardWaiting {
		a.pipelines.weigh(<-a.pipelines.overheard)
	}
	a.pipelines.overhear([]*ask{ask1(overheardValues), ask1(1), {version: v}, {rows: make([]float32, 1)}, {version: &served{name: "other"}, rows: make([]float32, 1)}})
	if n := j.skipped.Load(); n != 8 || len(a.pipelines.overheard) != 1 || a.pipelines.overheardValues.Load() != overheardValues {
		t.Errorf("%d wait, %d are skipped: the largest window is one request", len(a.pipelines.overheard), n)
	}
}

// TestPairOf: what is compared follows from the state.
func TestPairOf(t *testing.T) {
	s := state{Judge: &protocol.Judge{Stage: 3, Model: "m", Until: 1000}}
	for _, tc := range []struct {
		name   string
		r      rollout
		now    int64
		a, b   byte
		shadow bool
	}{
		{"nothing before", rollout{Active: hv(2), Want: wanted{Digest: dg(2)}}, 0, 0, 2, false},
		{"what it replaced", rollout{Active: hv(2), Previous: hv(1), Want: wanted{Digest: dg(2)}}, 0, 1, 2, false},
		{"its time is over", rollout{Active: hv(2), Previous: hv(1), Want: wanted{Digest: dg(2)}}, 1001, 0, 2, false},
		{"another is on its way", rollout{Active: hv(2), Previous: hv(1), Want: wanted{Digest: dg(3)}}, 0, 0, 2, false},
		{"it was given up", rollout{Active: hv(1), Previous: hv(4), Want: wanted{Digest: dg(2)}}, 0, 0, 1, false},
		{"shadow", rollout{Active: hv(1), Previous: hv(4), Want: wanted{Digest: dg(1)}, Shadow: wanted{Digest: dg(2)}, Beside: hv(2)}, 0, 1, 2, true},
		{"shadow not here", rollout{Active: hv(1), Previous: hv(4), Want: wanted{Digest: dg(1)}, Shadow: wanted{Digest: dg(2)}}, 0, 0, 1, false},
		{"shadow on its way to be active", rollout{Active: hv(1), Previous: hv(4), Want: wanted{Digest: dg(2)}, Beside: hv(2)}, 0, 1, 2, true},
	} {
		s.Models = map[string]rollout{"m": tc.r}
		key, shadow := s.pairOf("m", time.UnixMilli(tc.now))
		want := pairKey{b: dg(tc.b)}
		if tc.a != 0 {
			want = pairKey{3, dg(tc.a), dg(tc.b)}
		}
		if key != want || shadow != tc.shadow {
			t.Errorf("%s: stage %d, %d and %d, shadow %t", tc.name, key.stage, key.a[31], key.b[31], shadow)
		}
	}
	s.Models["other"] = rollout{Active: hv(2), Previous: hv(1), Want: wanted{Digest: dg(2)}}
	if key, _ := s.pairOf("other", time.UnixMilli(0)); key.pair() {
		t.Error("a model is judged that the want does not name")
	}
}

// TestJudgementStaysWhileASwapIsDue: between a decision and its swap the pair is
// what answers still, unless another version has come to answer.
func TestJudgementStaysWhileASwapIsDue(t *testing.T) {
	model, err := predictor.Open(testModels[0])
	if err != nil {
		t.Fatal(err)
	}
	a := &Agent{wall: time.Now}
	a.snapshot.Store(&state{Models: map[string]rollout{"m": {Active: hv(2), Previous: hv(1), Want: wanted{Digest: dg(2)}}}})
	for _, tc := range []struct {
		answers byte
		stays   bool
	}{{1, true}, {3, false}} {
		p := newPipelines(a)
		j := &judged{pairKey: pairKey{1, dg(1), dg(2)}, shadow: true}
		r := &running{served: &served{held: hv(tc.answers), name: "m", predictor: model}, judged: j}
		if p.judge(r); (r.judged == j) != tc.stays || r.judged.active() != dg(tc.answers) {
			t.Errorf("version %d answers: judged %d and %d, want that it stays: %t", tc.answers, r.judged.a[31], r.judged.b[31], tc.stays)
		}
	}
}

// pairModel has two outputs, which spread by std in training.
func pairModel(t *testing.T, seed uint64, std []float32) *artifact.Model {
	t.Helper()
	weights, err := kernel.NewWeights(kernel.Graph{Features: testFeatures, Layers: []kernel.Layer{
		{Kind: kernel.LSTM, Units: 16}, {Kind: kernel.Dense, Units: 2, Activation: kernel.Linear},
	}})
	if err != nil {
		t.Fatal(err)
	}
	move(weights, seed, 0.5, 0)
	q, err := kernel.Quantize(weights)
	if err != nil {
		t.Fatal(err)
	}
	schema := testModels[0].Schema
	schema.Targets = []artifact.Column{{Name: "wear"}, {Name: "heat"}}
	m, err := predictor.FromQuant(q, schema, "forecast", kernel.Scaler{
		Mean: []float32{10, 3}, Std: []float32{2, 0.5}, Inv: []float32{0.5, 2}, OutMean: []float32{50, 20}, OutStd: std,
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestErrorsAreInTheDeviationsOfA: of several outputs, as a device that judged
// the candidate as shadow has counted them.
func TestErrorsAreInTheDeviationsOfA(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		std := []float32{2, 4}
		one, two := w.versionOf(1, pairModel(t, 1, std)), w.versionOf(2, pairModel(t, 2, []float32{3, 5}))
		d := w.installed(t.TempDir(), one)
		w.publish(two)
		want := w.want(two)
		want.Judge = &protocol.Judge{Stage: 1, Model: "pump", EveryS: 20, Until: time.Now().Add(time.Hour).UnixMilli()}
		w.ask(want)
		settle()
		d.expect("trying active pump:v2 serving pump:v2 previous pump:v1")
		ann := w.clientOf("ann")
		ann.send("1", testRequest, 0)
		settle()
		w.say(protocol.TruthTopic("f", "d1", "pump"), `{"corr":"1","y":[50,20]}`)
		pass(20 * time.Second)
		e := func(v version) float64 {
			y, err := v.p.PredictAppend(nil, testRows)
			if err != nil {
				t.Fatal(err)
			}
			return (math.Abs(float64(y[0])-50)/float64(std[0]) + math.Abs(float64(y[1])-20)/float64(std[1])) / 2
		}
		got := w.quality()
		if len(got) != 1 || got[0].Pairs != 1 || !near(got[0].SumA, e(one)) || !near(got[0].SumB, e(two)) {
			t.Errorf("reports %+v, want one pair of %v and %v", got, e(one), e(two))
		}
	})
}

// TestBrokenShadowIsCountedAndNothingElse: outputs that are no numbers are in
// the report, and end no trial.
func TestBrokenShadowIsCountedAndNothingElse(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		one, two := w.fed(1, wearing), w.fed(2, wearing)
		d := w.start(t.TempDir(), func(c *Config) {
			c.Tamper = func(_ string, v protocol.Digest, y []float32) {
				if v == two.digest() {
					y[0] = float32(math.NaN())
				}
			}
		})
		w.rollOut(one)
		pass(trialTime)
		w.publish(two)
		want := w.wantBeside(one, two)
		want.Judge = &protocol.Judge{Stage: 4, Model: "pump", Until: time.Now().Add(time.Hour).UnixMilli()}
		w.ask(want)
		settle()
		for range 61 {
			w.say("plant/d1/m1/wear-of", "55")
			w.second(10, 3)
		}
		got := w.quality()
		if len(got) != 1 || got[0].Pairs != 0 || got[0].BadB < 54 || got[0].BadA != 0 || got[0].Skipped < 53 {
			t.Errorf("reports %+v, want one without pairs", got)
		}
		d.expect("idle active pump:v1 serving pump:v1")
		pass(time.Minute)
		if c := counted(w.usages()[1], two); c.Failed < 54 || c.Answered != 0 || c.N != 0 {
			t.Errorf("counted %+v", c)
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
