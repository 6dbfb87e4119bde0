package pipeline

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// model is a small int8 LSTM of the features flow and pressure that forecasts
// flow, with a window of 3 rows.
func model(t testing.TB, seed uint64, state string, p artifact.Pipeline) (*predictor.Predictor, protocol.Digest) {
	t.Helper()
	g := kernel.Graph{Features: 2, Layers: []kernel.Layer{
		{Kind: kernel.LSTM, Units: 8}, {Kind: kernel.Dense, Units: 1, Activation: kernel.Linear},
	}}
	w, err := kernel.NewWeights(g)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, l := range w.Layers {
		for _, tensor := range [][]float32{l.Kernel, l.Recurrent, l.Bias} {
			for i := range tensor {
				tensor[i] = rng.Float32() - 0.5
			}
		}
	}
	q, err := kernel.Quantize(w)
	if err != nil {
		t.Fatal(err)
	}
	schema := artifact.Schema{
		Features: []artifact.Column{{Name: "flow"}, {Name: "pressure"}}, Targets: []artifact.Column{{Name: "flow"}},
		Window: 3, State: state, Horizon: 1,
	}
	m, err := predictor.FromQuant(q, schema, artifact.TaskForecast, kernel.Scaler{
		Mean: []float32{10, 3}, Std: []float32{2, 0.5}, Inv: []float32{0.5, 2}, OutMean: []float32{10}, OutStd: []float32{2},
	})
	if err != nil {
		t.Fatal(err)
	}
	m.Pipeline = &p
	out, err := predictor.Open(m)
	if err != nil {
		t.Fatal(err)
	}
	d, err := m.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return out, d
}

// spec reads both features from foreign topics each second.
func spec(change ...func(*artifact.Pipeline)) artifact.Pipeline {
	p := artifact.Pipeline{
		Inputs: []artifact.Input{
			{Column: "flow", Topic: "plant/{device}/+/flow", Pointer: "/value"},
			{Column: "pressure", Topic: "plant/{device}/pressure"},
		},
		PeriodMS: 1000, ToleranceMS: 1500, GapMS: 10_000, Stride: 1,
	}
	for _, f := range change {
		f(&p)
	}
	return p
}

// noon is the time of day at 0.
var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// bench is a feed and its clock.
type bench struct {
	t *testing.T
	*Feed
	now time.Duration
}

func newBench(t *testing.T, state string, change ...func(*artifact.Pipeline)) *bench {
	m, _ := model(t, 1, state, spec(change...))
	return &bench{t: t, Feed: New(m, "d1")}
}

func (b *bench) flow(stream string, v float32) {
	b.payload("plant/d1/"+stream+"/flow", fmt.Sprintf(`{"value":%v}`, v))
}
func (b *bench) pressure(v float32) { b.payload("plant/d1/pressure", fmt.Sprint(v)) }

func (b *bench) payload(topic, payload string) {
	b.t.Helper()
	taken, err := b.Receive(topic, []byte(payload), b.now)
	if !taken || err != nil {
		b.t.Fatalf("Receive(%s, %s) = %v, %v", topic, payload, taken, err)
	}
}

// tick lets a second pass and returns what each stream had: its name, then
// nothing, a row, or a prediction that is told (!) or not (?).
func (b *bench) tick() string {
	b.now += time.Second
	var out []string
	for _, r := range b.Tick(b.now, noon.Add(b.now)) {
		s := r.Stream
		switch {
		case r.Err[0] != nil:
			s += " " + r.Err[0].Error()
		case r.Y[0] != nil && r.Tell:
			s += "!"
		case r.Y[0] != nil:
			s += "?"
		case r.Row:
			s += "."
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func (b *bench) expect(want string) {
	b.t.Helper()
	if got := b.tick(); got != want {
		b.t.Errorf("at %v: %q, want %q", b.now, got, want)
	}
}

func TestRowsAreAlignedPerStream(t *testing.T) {
	b := newBench(t, artifact.StateWindow)
	b.flow("a", 10)
	b.expect("a") // no pressure yet
	b.pressure(3)
	b.flow("b", 11)
	b.expect("a b.") // a's flow is 2 s old, and the tolerance 1.5 s
	b.pressure(3)
	b.flow("a", 10)
	b.expect("a. b") // pressure belongs to both
}

func TestPredictionsAreThoseOfTheRows(t *testing.T) {
	for _, state := range []string{artifact.StateWindow, artifact.StateStream} {
		b := newBench(t, state)
		var rows []float32
		for i := range 5 {
			flow, pressure := 10+float32(i), 3+float32(i)/10
			b.flow("a", flow)
			b.pressure(pressure)
			rows = append(rows, flow, pressure)
			b.now += time.Second
			r := b.Tick(b.now, noon.Add(b.now))[0]
			if i < 2 {
				if r.Y[0] != nil {
					t.Errorf("%s: a prediction from %d rows", state, i+1)
				}
				continue
			}
			want := make([]float32, 1)
			if state == artifact.StateStream {
				s, err := b.models[0].NewStream()
				if err != nil {
					t.Fatal(err)
				}
				for j := 0; j < len(rows); j += 2 {
					if err := s.Step(want, rows[j:j+2]); err != nil {
						t.Fatal(err)
					}
				}
			} else if err := b.models[0].Predict(want, rows[len(rows)-6:]); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(r.Y[0], want) {
				t.Errorf("%s: prediction %d is %v, want %v", state, i, r.Y[0], want)
			}
			if r.Truth[0] != (Value{flow, true}) {
				t.Errorf("%s: truth is %v, want %v", state, r.Truth[0], flow)
			}
		}
	}
}

func TestMissingValuesAreHeldThenSkipped(t *testing.T) {
	b := newBench(t, artifact.StateWindow, func(p *artifact.Pipeline) { p.HoldMS = 1000 })
	b.pressure(3)
	b.flow("a", 10)
	b.expect("a.") // 1 s old
	b.pressure(3)
	b.expect("a.") // flow is 2 s old, and is held
	b.pressure(3)
	b.expect("a") // 3 s: no row
	b.flow("a", 11)
	b.expect("a!") // the window is over the rows that there are
}

func TestAGapBeginsAnew(t *testing.T) {
	for _, c := range []struct {
		silent time.Duration
		want   string
	}{{8 * time.Second, "a!"}, {12 * time.Second, "a."}} {
		b := newBench(t, artifact.StateWindow)
		for range 3 {
			b.flow("a", 10)
			b.pressure(3)
			b.tick()
		}
		b.now += c.silent
		b.flow("a", 10)
		b.pressure(3)
		b.expect(c.want)
	}
}

func TestStride(t *testing.T) {
	b := newBench(t, artifact.StateStream, func(p *artifact.Pipeline) { p.Stride = 2 })
	for _, want := range []string{"a.", "a.", "a!", "a.", "a!", "a."} {
		b.flow("a", 10)
		b.pressure(3)
		b.expect(want)
	}
}

func TestSamplesOfTheDevice(t *testing.T) {
	b := newBench(t, artifact.StateWindow, func(p *artifact.Pipeline) {
		p.Inputs = []artifact.Input{{Column: "flow"}, {Column: "pressure"}}
	})
	for _, want := range []string{"a. b", "a. b", "a! b"} {
		b.Sample("a", protocol.Sample{V: map[string]float32{"flow": 10, "pressure": 3, "other": 1}}, b.now)
		b.Sample("b", protocol.Sample{V: map[string]float32{"flow": 10}}, b.now)
		b.expect(want)
	}
	if filters, samples := b.Topics(); len(filters) != 0 || !samples {
		t.Errorf("Topics = %q, %v; want the samples alone", filters, samples)
	}
}

func TestOneStreamWithoutAName(t *testing.T) {
	b := newBench(t, artifact.StateWindow, func(p *artifact.Pipeline) {
		p.Inputs[0].Topic = "plant/flow"
		p.Inputs[1].Topic = "plant/flow"
		p.Inputs[1].Pointer = "/p"
	})
	b.payload("plant/flow", `{"value":10,"p":3}`)
	b.expect(OnlyStream + ".")
	if filters, samples := b.Topics(); len(filters) != 1 || samples {
		t.Errorf("Topics = %q, %v; want one filter", filters, samples)
	}
}

func TestBadPayloadsChangeNothing(t *testing.T) {
	b := newBench(t, artifact.StateWindow)
	for topic, payload := range map[string]string{
		"plant/d1/a/flow":    `{"value":"high"}`,
		"plant/d1/b/flow":    `{"value":1e99}`,
		"plant/d1/c/flow":    `not json`,
		"plant/d1/Pump/flow": `{"value":1}`,
		"plant/d1/pressure":  `[`,
	} {
		if taken, err := b.Receive(topic, []byte(payload), 0); !taken || err == nil {
			t.Errorf("Receive(%s, %s) = %v, %v; want an error", topic, payload, taken, err)
		}
	}
	b.payload("plant/d1/a/flow", `{"other":1}`)
	for _, topic := range []string{"plant/d2/a/flow", "plant/d1/a/flow/x", "", "plant/d1//x"} {
		if taken, err := b.Receive(topic, []byte("1"), 0); taken || err != nil {
			t.Errorf("Receive(%q) = %v, %v; want it passed over", topic, taken, err)
		}
	}
	if b.Streams() != 0 {
		t.Errorf("%d streams from bad payloads, want 0", b.Streams())
	}
}

func TestStreamsAreBounded(t *testing.T) {
	b := newBench(t, artifact.StateWindow)
	for i := range MaxStreams + 10 {
		b.flow(fmt.Sprint("s", i), 10)
	}
	if b.Streams() != MaxStreams || b.streams["s1030"] != nil {
		t.Errorf("%d streams, want %d and the newest refused", b.Streams(), MaxStreams)
	}
	b.now += 20 * time.Second
	b.flow("late", 10)
	if b.Streams() != MaxStreams || b.streams["late"] == nil {
		t.Error("a stream was refused in place of one that is silent")
	}
}

// TestStreamsShareAModel counts what 1,000 streams keep: rows and, with a
// stream model, a state each, and one packed model.
func TestStreamsShareAModel(t *testing.T) {
	b := newBench(t, artifact.StateStream)
	for range 8 {
		b.pressure(3)
		for i := range 1000 {
			b.flow(fmt.Sprint("s", i), 10)
		}
		b.tick()
	}
	if b.Streams() != 1000 {
		t.Fatalf("%d streams, want 1000", b.Streams())
	}
	for _, s := range b.order {
		if cap(s.rows) > 2*(b.keep+1)*b.features || len(s.cells) != len(b.inputs) || s.carry[0] == nil || s.carry[1] != nil {
			t.Fatalf("stream %s keeps room for %d values, want at most %d", s.name, cap(s.rows), 2*(b.keep+1)*b.features)
		}
	}
}

func TestSwapReplaysTheRows(t *testing.T) {
	b := newBench(t, artifact.StateStream)
	var rows []float32
	feed := func(i int) {
		b.flow("a", 10+float32(i))
		b.pressure(3)
		rows = append(rows, 10+float32(i), 3)
	}
	for i := range 5 {
		feed(i)
		b.tick()
	}
	next, _ := model(t, 2, artifact.StateStream, spec())
	if !b.Swap(next) {
		t.Fatal("Swap = false for the same pipeline")
	}
	feed(5)
	b.now += time.Second
	s, _ := next.NewStream()
	want := make([]float32, 1)
	// It keeps 3 rows: the two before the new one warm the new version up.
	if err := s.Replay(rows[len(rows)-6 : len(rows)-2]); err != nil {
		t.Fatal(err)
	}
	if err := s.Step(want, rows[len(rows)-2:]); err != nil {
		t.Fatal(err)
	}
	if r := b.Tick(b.now, noon.Add(b.now))[0]; !slices.Equal(r.Y[0], want) {
		t.Errorf("after the swap %v, want %v", r.Y[0], want)
	}
	other, _ := model(t, 2, artifact.StateStream, spec(func(p *artifact.Pipeline) { p.Stride = 2 }))
	if b.Swap(other) {
		t.Error("Swap = true for another pipeline")
	}
}

func TestBesideRunsOnTheSameRows(t *testing.T) {
	for _, state := range []string{artifact.StateWindow, artifact.StateStream} {
		b := newBench(t, state)
		beside, _ := model(t, 2, state, spec())
		if !b.Beside(beside) {
			t.Fatal("Beside = false")
		}
		for range 3 {
			b.flow("a", 10)
			b.pressure(3)
			b.now += time.Second
			r := b.Tick(b.now, noon.Add(b.now))[0]
			if (r.Y[0] == nil) != (r.Y[1] == nil) || r.Y[0] != nil && slices.Equal(r.Y[0], r.Y[1]) {
				t.Errorf("%s: outputs %v and %v", state, r.Y[0], r.Y[1])
			}
		}
	}
}

func TestGate(t *testing.T) {
	alarm := &artifact.Alarm{Raise: 80, Clear: 70}
	low := &artifact.Alarm{Raise: 20, Clear: 30}
	for _, c := range []struct {
		name     string
		alarm    *artifact.Alarm
		interval uint32
		y        []float32 // one a second
		want     string    // told: 1 raised, 0 not; - nothing
	}{
		{"every prediction", nil, 0, []float32{1, 2, 3}, "000"},
		{"least interval", nil, 2500, []float32{1, 2, 3, 4, 5, 6, 7}, "0--0--0"},
		{"hysteresis", alarm, 0, []float32{75, 80, 75, 79, 70, 75, 90}, "01--0-1"},
		{"below", low, 0, []float32{25, 20, 25, 30, 25}, "01-0-"},
		{"a change too soon is told when it still stands", alarm, 2500, []float32{60, 90, 90, 90, 60, 90, 90}, "0--1---"},
	} {
		var g gate
		got := ""
		for i, y := range c.y {
			tell, on := g.step(&artifact.Pipeline{Alarm: c.alarm, MinIntervalMS: c.interval}, []float32{y}, time.Duration(i)*time.Second)
			switch {
			case !tell:
				got += "-"
			case on:
				got += "1"
			default:
				got += "0"
			}
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

var day = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// filled is a feed whose streams a and b have their windows.
func filled(t testing.TB, state string) (*bench, protocol.Digest) {
	m, d := model(t, 1, state, spec())
	b := &bench{Feed: New(m, "d1")}
	for i := range 4 {
		_, _ = b.Receive("plant/d1/pressure", []byte("3"), b.now)
		for _, s := range []string{"a", "b"} {
			_, _ = b.Receive("plant/d1/"+s+"/flow", fmt.Appendf(nil, `{"value":%d}`, 10+i), b.now)
		}
		b.tick()
	}
	return b, d
}

func TestStreamsSurviveARestart(t *testing.T) {
	for _, state := range []string{artifact.StateWindow, artifact.StateStream} {
		old, digest := filled(t, state)
		saved, err := old.AppendBinary(nil, digest, old.now, day)
		if err != nil {
			t.Fatal(err)
		}
		for away, want := range map[time.Duration]int{2 * time.Second: 2, 11 * time.Second: 0, -time.Hour: 0} {
			f := New(old.models[0], "d1")
			if err := f.Restore(saved, digest, 0, day.Add(away)); err != nil || f.Streams() != want {
				t.Errorf("%s: after %v %d streams, %v; want %d", state, away, f.Streams(), err, want)
			}
			if want == 0 {
				continue
			}
			ask := func(f *Feed, now time.Duration) Result {
				for _, topic := range []string{"plant/d1/a/flow", "plant/d1/pressure"} {
					_, _ = f.Receive(topic, []byte(`{"value":12}`), now)
				}
				_, _ = f.Receive("plant/d1/pressure", []byte("3"), now)
				return f.Tick(now+time.Second, noon)[0]
			}
			if got, want := ask(f, 0), ask(old.Feed, old.now); want.Y[0] == nil || !slices.Equal(got.Y[0], want.Y[0]) {
				t.Errorf("%s: after the restart %v, without it %v", state, got.Y[0], want.Y[0])
			}
		}
		other := digest
		other[0]++
		if New(old.models[0], "d1").Restore(saved, other, 0, day) == nil {
			t.Errorf("%s: the streams of another model were taken", state)
		}
	}
}

func FuzzRestore(f *testing.F) {
	old, digest := filled(f, artifact.StateStream)
	saved, err := old.AppendBinary(nil, digest, old.now, day)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(saved)
	f.Add(saved[:len(saved)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		feed := New(old.models[0], "d1")
		if err := feed.Restore(b, digest, 0, day); err != nil {
			return
		}
		for _, s := range feed.order {
			if len(s.rows) > feed.keep*feed.features || s.made*uint64(feed.features) < uint64(len(s.rows)) {
				t.Fatalf("stream %s has %d values and %d rows", s.name, len(s.rows), s.made)
			}
		}
		_, _ = feed.Receive("plant/d1/pressure", []byte("3"), 0)
		for _, s := range feed.order {
			_, _ = feed.Receive("plant/d1/"+s.name+"/flow", []byte(`{"value":12}`), 0)
		}
		feed.Tick(time.Second, noon)
	})
}

func TestRestoreRefusesTruncations(t *testing.T) {
	old, digest := filled(t, artifact.StateStream)
	saved, err := old.AppendBinary(nil, digest, old.now, day)
	if err != nil {
		t.Fatal(err)
	}
	for n := range saved {
		f := New(old.models[0], "d1")
		if f.Restore(saved[:n], digest, 0, day) == nil && f.Streams() == 2 {
			t.Errorf("the first %d of %d bytes gave two streams", n, len(saved))
		}
	}
}
