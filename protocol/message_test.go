package protocol

import (
	"bytes"
	"encoding"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A message is what every message implements.
type message interface {
	encoding.BinaryAppender
	encoding.BinaryUnmarshaler
}

const t0 = 1767225600000

var (
	dA, dB = Digest{0: 0xa, 31: 1}, Digest{0: 0xb, 31: 2}

	want0 = Want{
		Format: 1, Fleet: "default", Device: "pump-03", Epoch: 1, Rev: 42, Issued: t0,
		Models: map[string]ModelWant{"turbofan": {Active: WantedVersion{Digest: dA,
			Transfers: []TransferRef{{Hash: testHash, Kind: KindFull, Size: 73_500}}}}},
		JitterS: 60,
	}
	quality0 = Quality{
		Format: 1, Flags: QualityShadow, Stage: math.MaxUint32, Boot: math.MaxUint32, A: [8]byte{1}, B: [8]byte{2},
		FirstS: math.MaxUint32 - 1, LastS: math.MaxUint32, Pairs: math.MaxUint32, Skipped: math.MaxUint32,
		BadA: math.MaxUint16, BadB: math.MaxUint16, SumA: math.Pi, SumB: 1e300 / 3, SquareA: 0.1, SquareB: 0.2,
		MaxA: 0.1, MaxB: 0.2, Disagreement: 0.3,
	}
	messages = []struct {
		name  string
		good  message
		json  bool
		fresh func() message
	}{
		{"state", &State{Format: 1, Online: true, Min: 1, Max: 1, T: t0}, true, func() message { return new(State) }},
		{"want", &want0, false, func() message { return new(Want) }},
		{"want, all fields", &Want{Format: 1, Fleet: "f", Device: "d", Epoch: 2, Rev: 3, Issued: t0,
			Models: map[string]ModelWant{
				"a": {Active: WantedVersion{Digest: dA, Transfers: []TransferRef{
					{Hash: testHash, Kind: KindDelta, Size: 9, Base: &dB}, {Hash: testHash, Kind: KindFull, Size: 10}}, Key: []byte("key")}},
				"b": {Active: WantedVersion{Digest: dB}, Shadow: &WantedVersion{Digest: dA}}},
			Judge: &Judge{Stage: 1, Model: "a", EveryS: 60, Until: t0}, JitterS: 1, Window: &Window{From: 1380, To: 240, Days: 0x3e},
			NotBefore: t0, Deadline: t0 + 1, Extra: Extra{0xa1, 0x61, 'x', 1}}, false, func() message { return new(Want) }},
		{"have", &Have{Format: 1, Boot: 7, Epoch: 1, Rev: 42, T: t0, Models: map[string]ModelHave{
			"turbofan": {Version: "turbofan:v3", Active: dA, Previous: dB, Phase: PhaseTrying,
				Failed: &Failure{Digest: dB, Epoch: 1, Rev: 41, Code: "crash", Message: "3 starts on trial"}}}}, true, func() message { return new(Have) }},
		{"have with shadows", &Have{Format: 1, Boot: 7, Epoch: 1, Rev: 42, T: t0, Models: map[string]ModelHave{
			"a": {Version: "a:v3", Active: dA, Phase: PhaseIdle, Shadow: &ShadowHave{Version: "a:v4", Digest: dB, Phase: PhaseReady}},
			"b": {Version: "b:v3", Active: dA, Phase: PhaseIdle, Shadow: &ShadowHave{Digest: dB, Phase: PhaseFailed,
				Failed: &Failure{Digest: dB, Epoch: 1, Rev: 41, Code: "golden", Message: "vector 3"}}}}}, true, func() message { return new(Have) }},
		{"birth", &Birth{Format: 1, Boot: 7, Agent: "v1.0.0", Kernel: "generic", OS: "linux", Arch: "arm64",
			FreeBytes: 1 << 30, Cached: []Digest{dA, dB}, T: t0}, true, func() message { return new(Birth) }},
		{"birth with findings", &Birth{Format: 1, Boot: 7, Cached: []Digest{}, T: t0,
			Findings: []Finding{{FindingRetained, "the broker keeps no retained messages"}}}, true, func() message { return new(Birth) }},
		{"event", &Event{Boot: 7, Seq: 1, T: t0, Kind: "activated", Model: "turbofan", Digest: dA, Detail: "turbofan:v3"}, false, func() message { return new(Event) }},
		{"ack", &Ack{Boot: 7, Seq: 1}, false, func() message { return new(Ack) }},
		{"get", &Get{Hash: testHash, Bitmap: []byte{5}}, false, func() message { return new(Get) }},
		{"usage", &Usage{Format: 1, Boot: 7, T: t0, Counts: []UsageCount{{Model: "m", User: Anonymous, Answered: 3, Micros: 90}}}, false, func() message { return new(Usage) }},
		{"usage by version", &Usage{Format: 1, Boot: 7, Seq: 9, T: t0, Versions: []VersionCount{
			{Model: "m", Version: [8]byte{1}, Answered: 1440, Latency: []uint64{10: 700, 11: 740}, N: 1380, Sum: 52.7, Square: 9.1, NaiveN: 1380, Naive: 71.3},
			{Model: "m", Version: [8]byte{2}, Refused: 1, Failed: 2}}}, false, func() message { return new(Usage) }},
		{"quality", &quality0, false, func() message { return new(Quality) }},
		{"sample", &Sample{T: t0, V: map[string]float32{"flow": 12.5, "pressure": 0.1}}, false, func() message { return new(Sample) }},
		{"truth by stream", &Truth{Stream: "pump-3", T: t0, Y: []float32{17.25, 0.1}}, false, func() message { return new(Truth) }},
		{"truth by corr", &Truth{Corr: "42", Y: []float32{17.25}}, false, func() message { return new(Truth) }},
		{"truth by user and corr", &Truth{User: "ann", Corr: "42", Y: []float32{17.25}}, false, func() message { return new(Truth) }},
	}
)

func encode(t testing.TB, m message) []byte {
	t.Helper()
	b, err := m.AppendBinary([]byte("before"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(b, []byte("before")) {
		t.Fatal("AppendBinary does not append")
	}
	return b[len("before"):]
}

func TestMessagesDecodeToWhatWasEncoded(t *testing.T) {
	for _, c := range messages {
		b := encode(t, c.good)
		got := c.fresh()
		if err := got.UnmarshalBinary(b); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !reflect.DeepEqual(got, c.good) {
			t.Errorf("%s: decoded %+v, want %+v", c.name, got, c.good)
		}
		if IsJSON(b) != c.json {
			t.Errorf("%s: JSON %t, want %t", c.name, IsJSON(b), c.json)
		}
		t.Logf("%-18s %3d bytes", c.name, len(b))
	}
}

func TestMessagesRefuseEveryTruncation(t *testing.T) {
	for _, c := range messages {
		b := encode(t, c.good)
		for n := range b {
			if err := c.fresh().UnmarshalBinary(b[:n]); err == nil {
				t.Errorf("%s: %d of %d bytes decode", c.name, n, len(b))
			}
		}
	}
}

func TestMessagesRefuseBytesBehindTheEnd(t *testing.T) {
	for _, c := range messages {
		b := encode(t, c.good)
		for _, more := range []string{"0", "\x00", "\xa0", "{}", ","} {
			if err := c.fresh().UnmarshalBinary(append(bytes.Clone(b), more...)); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s and %q: %v, want ErrMalformed", c.name, more, err)
			}
		}
	}
}

func TestMessagesRefuseOversize(t *testing.T) {
	for _, c := range messages {
		big := append(encode(t, c.good), bytes.Repeat([]byte{' '}, MaxPayload)...)
		if err := c.fresh().UnmarshalBinary(big); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v, want ErrTooLarge", c.name, err)
		}
	}
}

func TestMessagesRefuse(t *testing.T) {
	for _, c := range []struct {
		name, bytes string // hex, or JSON as it is
		m           message
		want        error
	}{
		{"unknown field", `{"format":1,"online":true,"min":1,"max":1,"t":0,"later":1}`, new(State), ErrMalformed},
		{"repeated key", `{"format":1,"online":true,"online":false,"min":1,"max":1,"t":0}`, new(State), ErrMalformed},
		{"repeated key in other case", `{"format":1,"online":true,"Online":false,"min":1,"max":1,"t":0}`, new(State), ErrMalformed},
		{"key that folds", `{"format":1,"online":true,"min":1,"max":1,"t":0,"ſ":1}`, new(State), ErrMalformed},
		{"newer format", `{"format":2,"online":true,"min":1,"max":1,"t":0}`, new(State), ErrFormat},
		{"time of seconds and a half", `{"format":1,"online":true,"min":1,"max":1,"t":0.5}`, new(State), ErrMalformed},
		{"negative time", `{"format":1,"online":true,"min":1,"max":1,"t":-5}`, new(State), ErrInvalid},
		{"not 2^53", `{"format":1,"online":true,"min":1,"max":1,"t":9007199254740992}`, new(State), ErrInvalid},
		{"range upside down", `{"format":1,"online":true,"min":2,"max":1,"t":0}`, new(State), ErrInvalid},
		{"deep", `{"format":1,"x":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`, new(State), ErrMalformed},
		{"null", `null`, new(State), ErrFormat},
		{"array", `[]`, new(Have), ErrMalformed},
		{"bad phase", `{"format":1,"boot":1,"epoch":0,"rev":0,"t":0,"models":{"m":{"version":"","phase":"lost"}}}`, new(Have), ErrInvalid},
		{"bad model id", `{"format":1,"boot":1,"epoch":0,"rev":0,"t":0,"models":{"m.x":{"version":"","phase":"idle"}}}`, new(Have), ErrID},
		{"short digest", `{"format":1,"boot":1,"epoch":0,"rev":0,"t":0,"models":{"m":{"version":"","active":"ab","phase":"idle"}}}`, new(Have), ErrMalformed},
		{"ack", "a263736571016462 6f6f7407", new(Ack), nil}, // {"seq": 1, "boot": 7}: sorted
		{"unsorted", "a264626f6f740763736571 01", new(Ack), ErrMalformed},
		{"long integer", "a26373657118016462 6f6f7407", new(Ack), ErrMalformed},
		{"repeated", "a363736571016373657101 64626f6f7407", new(Ack), ErrMalformed},
		{"unknown", "a36178016373657101 64626f6f7407", new(Ack), ErrMalformed},
		{"indefinite", "bf63736571 0164626f6f7407ff", new(Ack), ErrMalformed},
		{"tag", "c1a263736571016462 6f6f7407", new(Ack), ErrMalformed},
		{"float for integer", "a263736571f93c0064626f6f7407", new(Ack), ErrMalformed},
		{"2^53", "a2637365711b0020000000000000 64626f6f7407", new(Ack), ErrInvalid},
		{"missing field", "a16373657101", new(Ack), ErrMalformed},
		{"claims 2^32 pairs", "baffffffff", new(Ack), ErrMalformed},
		{"claims 2^63 bytes", "a264686173685b7fffffffffffffff", new(Get), ErrMalformed},
		{"CBOR deep", strings.Repeat("81", 100) + "00", new(Ack), ErrMalformed},
		{"NaN", "a16176a1616ff97e00", new(Sample), ErrMalformed},
		{"too large for float32", `{"v":{"a":1e39}}`, new(Sample), ErrMalformed},
		{"sample without values", `{"v":{}}`, new(Sample), ErrInvalid},
		{"sample twice", `{"v":{"a":1,"a":2}}`, new(Sample), ErrMalformed},
		{"sample of neither", `{"v":{"a":true}}`, new(Sample), ErrMalformed},
		{"sample of a text twice", `{"v":{"a":"1","a":"2"}}`, new(Sample), ErrMalformed},
		{"sample of a text and a number", `{"v":{"a":"1","a":2}}`, new(Sample), ErrMalformed},
		{"sample of a long text", `{"v":{"a":"` + strings.Repeat("x", 65) + `"}}`, new(Sample), ErrInvalid},
		{"CBOR sample", "a16176a1616101", new(Sample), nil},
		{"CBOR sample with more", "a26176a1616101617a01", new(Sample), ErrMalformed},
		{"CBOR sample twice", "a16176a2616101616102", new(Sample), ErrMalformed},
		{"truth of nothing", `{"y":[1]}`, new(Truth), ErrInvalid},
		{"truth of both", `{"corr":"1","s":"a","y":[1]}`, new(Truth), ErrInvalid},
		{"truth of a stream's user", `{"s":"a","user":"ann","y":[1]}`, new(Truth), ErrInvalid},
		{"truth of a user", `{"user":"ann","y":[1]}`, new(Truth), ErrInvalid},
		{"truth of nobody's", `{"user":"A","corr":"1","y":[1]}`, new(Truth), ErrID},
		{"shadow in no phase", `{"format":1,"boot":1,"epoch":0,"rev":0,"t":0,"models":{"m":{"version":"","phase":"idle","shadow":{"version":"","digest":"` + dA.String() + `","phase":"idle"}}}}`, new(Have), ErrInvalid},
		{"truth without y", `{"corr":"1"}`, new(Truth), ErrInvalid},
		{"truth y twice", `{"corr":"1","y":[1],"y":[2]}`, new(Truth), ErrMalformed},
	} {
		b := []byte(c.bytes)
		if !strings.ContainsAny(c.bytes, "{[n") {
			var err error
			if b, err = hex.DecodeString(strings.ReplaceAll(c.bytes, " ", "")); err != nil {
				t.Fatal(c.name, err)
			}
		}
		if err := c.m.UnmarshalBinary(b); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestEncodersRefuseWhatDecodersWould(t *testing.T) {
	with := func(change func(*Want)) message {
		w := want0
		change(&w)
		return w.pointer()
	}
	many := map[string]ModelWant{}
	for i := range MaxModels + 1 {
		many[strings.Repeat("m", i+1)] = want0.Models["turbofan"]
	}
	version := func(v WantedVersion) map[string]ModelWant { return map[string]ModelWant{"m": {Active: v}} }
	for _, c := range []struct {
		name string
		m    message
		want error
	}{
		{"format", with(func(w *Want) { w.Format = 2 }), ErrFormat},
		{"fleet", with(func(w *Want) { w.Fleet = "A" }), ErrID},
		{"device", with(func(w *Want) { w.Device = "" }), ErrID},
		{"rev", with(func(w *Want) { w.Rev = 1 << 53 }), ErrInvalid},
		{"models", with(func(w *Want) { w.Models = many }), ErrTooLarge},
		{"window", with(func(w *Want) { w.Window = &Window{From: 1440} }), ErrInvalid},
		{"no digest", with(func(w *Want) { w.Models = version(WantedVersion{}) }), ErrInvalid},
		{"hash", with(func(w *Want) {
			w.Models = version(WantedVersion{Digest: dA, Transfers: []TransferRef{{Hash: "x", Kind: KindFull, Size: 1}}})
		}), ErrDigest},
		{"delta without base", with(func(w *Want) {
			w.Models = version(WantedVersion{Digest: dA, Transfers: []TransferRef{{Hash: testHash, Kind: KindDelta, Size: 1}}})
		}), ErrInvalid},
		{"kind", with(func(w *Want) {
			w.Models = version(WantedVersion{Digest: dA, Transfers: []TransferRef{{Hash: testHash, Kind: "half", Size: 1}}})
		}), ErrInvalid},
		{"transfer size", with(func(w *Want) {
			w.Models = version(WantedVersion{Digest: dA, Transfers: []TransferRef{{Hash: testHash, Kind: KindFull, Size: MaxTransfer + 1}}})
		}), ErrTooLarge},
		{"quality NaN", &Quality{Format: 1, SumA: math.NaN()}, ErrInvalid},
		{"quality infinite", &Quality{Format: 1, MaxA: float32(math.Inf(1))}, ErrInvalid},
		{"quality order", &Quality{Format: 1, FirstS: 2, LastS: 1}, ErrInvalid},
		{"quality flags", &Quality{Format: 1, Flags: 2}, ErrInvalid},
		{"shadow without a code", &Have{Format: 1, Models: map[string]ModelHave{"m": {Phase: PhaseIdle,
			Shadow: &ShadowHave{Digest: dA, Phase: PhaseFailed, Failed: &Failure{Digest: dA}}}}}, ErrID},
		{"version counts", &Usage{Format: 1, Versions: make([]VersionCount, MaxVersionCounts+1)}, ErrTooLarge},
		{"version of no model", &Usage{Format: 1, Versions: []VersionCount{{}}}, ErrID},
		{"version with a long histogram", &Usage{Format: 1, Versions: []VersionCount{{Model: "m", Latency: make([]uint64, LatencyBuckets+1)}}}, ErrTooLarge},
		{"version with zeros", &Usage{Format: 1, Versions: []VersionCount{{Model: "m", Answered: 1, Latency: []uint64{1, 0}}}}, ErrInvalid},
		{"version with a large count", &Usage{Format: 1, Versions: []VersionCount{{Model: "m", Latency: []uint64{1 << 53}}}}, ErrInvalid},
		{"version timed more often than it answered", &Usage{Format: 1, Versions: []VersionCount{{Model: "m", Answered: 2, Failed: 9, Latency: []uint64{1, 0, 2}}}}, ErrInvalid},
		{"version with a negative sum", &Usage{Format: 1, Versions: []VersionCount{{Model: "m", Sum: -1}}}, ErrInvalid},
		{"version with an infinite sum", &Usage{Format: 1, Versions: []VersionCount{{Model: "m", Square: math.Inf(1)}}}, ErrInvalid},
		{"version more often naive than compared", &Usage{Format: 1, Versions: []VersionCount{{Model: "m", N: 1, NaiveN: 2}}}, ErrInvalid},
		{"event detail", &Event{Kind: "x", Detail: strings.Repeat("x", MaxText+1)}, ErrTooLarge},
		{"birth with a finding without a code", &Birth{Format: 1, Findings: []Finding{{"", "x"}}}, ErrID},
		{"birth with too many findings", &Birth{Format: 1, Findings: make([]Finding, MaxFindings+1)}, ErrTooLarge},
		{"get too much", &Get{Hash: testHash, Bitmap: make([]byte, MaxChunks/8+1)}, ErrTooLarge},
		{"sample NaN", &Sample{V: map[string]float32{"a": float32(math.NaN())}}, ErrInvalid},
	} {
		if b, err := c.m.AppendBinary(nil); !errors.Is(err, c.want) || len(b) != 0 {
			t.Errorf("%s: %d bytes, %v, want %v", c.name, len(b), err, c.want)
		}
	}
}

func (w Want) pointer() *Want { return &w }

func TestWantOrder(t *testing.T) {
	w := Want{Epoch: 2, Rev: 5}
	for _, c := range []struct {
		epoch, rev uint64
		newer      bool
	}{{2, 4, true}, {2, 5, false}, {2, 6, false}, {1, 9, true}, {3, 1, false}} {
		if got := w.Newer(c.epoch, c.rev); got != c.newer {
			t.Errorf("(2, 5).Newer(%d, %d) = %t", c.epoch, c.rev, got)
		}
	}
}

func TestQualityFitsItsSize(t *testing.T) {
	if b := encode(t, &quality0); len(b) != 108 || len(b) > MaxQuality {
		t.Errorf("the largest quality report has %d bytes, want 108, at most %d", len(b), MaxQuality)
	}
	// docs/protocol.md: an array of 19 in the specification's order.
	q := Quality{Format: 1, Flags: 1, Stage: 2, Boot: 3, A: [8]byte{4}, B: [8]byte{5}, FirstS: 6, LastS: 7, Pairs: 8, Skipped: 9,
		BadA: 10, BadB: 11, SumA: 12, SumB: 13, SquareA: 14, SquareB: 15, MaxA: 16, MaxB: 17, Disagreement: 18}
	const want = "93 01 01 02 03 480400000000000000 480500000000000000 06 07 08 09 0a 0b f94a00 f94a80 f94b00 f94b80 f94c00 f94c40 f94c80"
	if got := hex.EncodeToString(encode(t, &q)); got != strings.ReplaceAll(want, " ", "") {
		t.Errorf("encoded %s, want %s", got, want)
	}
}

// TestUsageFitsAPayload: the largest report that check lets through.
func TestUsageFitsAPayload(t *testing.T) {
	u := Usage{Format: 1, Boot: MaxInteger, Seq: MaxInteger, T: MaxInteger}
	id := func(n int) string {
		return strings.Repeat("m", MaxID-3) + string([]byte{'a' + byte(n/400), 'a' + byte(n/20%20), 'a' + byte(n%20)})
	}
	for n := range MaxCounts {
		u.Counts = append(u.Counts, UsageCount{Model: id(n), User: id(n), Answered: MaxInteger, Refused: MaxInteger, Busy: MaxInteger, Micros: MaxInteger})
	}
	buckets := make([]uint64, LatencyBuckets)
	for i := range buckets {
		buckets[i] = MaxInteger / LatencyBuckets // as long on the wire
	}
	for n := range MaxVersionCounts {
		u.Versions = append(u.Versions, VersionCount{Model: id(n), Answered: MaxInteger, Refused: MaxInteger, Failed: MaxInteger, Latency: buckets,
			N: MaxInteger, Sum: math.Pi, Square: math.Pi, NaiveN: MaxInteger, Naive: math.Pi})
	}
	t.Logf("%d bytes", len(encode(t, &u)))
}

func TestGetWants(t *testing.T) {
	g := Get{Hash: testHash, Bitmap: []byte{0b101, 0b1}}
	var got []int
	for n := -1; n < 20; n++ {
		if g.Wants(n) {
			got = append(got, n)
		}
	}
	if diff := cmp.Diff([]int{0, 2, 8}, got); diff != "" {
		t.Error(diff)
	}
}

func TestSampleAndTruthReadJSON(t *testing.T) {
	var s Sample
	if err := s.UnmarshalBinary([]byte(` {"v":{"flow":12.5,"pre\u0073sure":1e-3},"t":1767225600000} `)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Sample{T: t0, V: map[string]float32{"flow": 12.5, "pressure": 1e-3}}, s); diff != "" {
		t.Error(diff)
	}
	b, err := s.AppendJSON(nil)
	if err != nil || string(b) != `{"t":1767225600000,"v":{"flow":12.5,"pressure":0.001}}` {
		t.Errorf("AppendJSON = %s, %v", b, err)
	}
	var y Truth
	if err := y.UnmarshalBinary([]byte(`{"s":"pump-3","t":5,"y":[1,-2.5e1]}`)); err != nil {
		t.Fatal(err)
	}
	if b, err = y.AppendJSON(nil); err != nil || string(b) != `{"s":"pump-3","t":5,"y":[1,-25]}` {
		t.Errorf("AppendJSON = %s, %v", b, err)
	}
	for n := range b {
		if err := y.UnmarshalBinary(b[:n]); err == nil {
			t.Errorf("%s decodes", b[:n])
		}
	}
}

func TestParseUp(t *testing.T) {
	if up, err := ParseUp([]byte(Online)); !up || err != nil {
		t.Error(up, err)
	}
	if up, err := ParseUp([]byte(Offline)); up || err != nil {
		t.Error(up, err)
	}
	if _, err := ParseUp([]byte("Online")); !errors.Is(err, ErrMalformed) {
		t.Errorf("ParseUp(Online) = %v, want ErrMalformed", err)
	}
}

// fuzz checks that what decodes encodes, and that the encoding is a fixed
// point; deterministic CBOR must be the same bytes.
func fuzz(f *testing.F, canonical bool, fresh func() message) {
	for _, c := range messages {
		if reflect.TypeOf(c.good) == reflect.TypeOf(fresh()) {
			f.Add(encode(f, c.good))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := fresh()
		if m.UnmarshalBinary(b) != nil {
			return
		}
		again, err := m.AppendBinary(nil)
		if err != nil {
			t.Fatalf("%+v decodes, but: %v", m, err)
		}
		if canonical && !bytes.Equal(again, b) {
			t.Fatalf("decoded %x, encoded %x", b, again)
		}
		n := fresh()
		if err := n.UnmarshalBinary(again); err != nil {
			t.Fatalf("%q: %v", again, err)
		}
		if last, err := n.AppendBinary(nil); err != nil || !bytes.Equal(last, again) {
			t.Fatalf("%q, then %q, %v", again, last, err)
		}
	})
}

func FuzzState(f *testing.F)   { fuzz(f, false, func() message { return new(State) }) }
func FuzzHave(f *testing.F)    { fuzz(f, false, func() message { return new(Have) }) }
func FuzzBirth(f *testing.F)   { fuzz(f, false, func() message { return new(Birth) }) }
func FuzzSample(f *testing.F)  { fuzz(f, false, func() message { return new(Sample) }) }
func FuzzTruth(f *testing.F)   { fuzz(f, false, func() message { return new(Truth) }) }
func FuzzWant(f *testing.F)    { fuzz(f, true, func() message { return new(Want) }) }
func FuzzEvent(f *testing.F)   { fuzz(f, true, func() message { return new(Event) }) }
func FuzzAck(f *testing.F)     { fuzz(f, true, func() message { return new(Ack) }) }
func FuzzGet(f *testing.F)     { fuzz(f, true, func() message { return new(Get) }) }
func FuzzUsage(f *testing.F)   { fuzz(f, true, func() message { return new(Usage) }) }
func FuzzQuality(f *testing.F) { fuzz(f, true, func() message { return new(Quality) }) }
