package protocol

import (
	"encoding/hex"
	"errors"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var flowTemp = []string{"flow", "temp"}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Requests in CBOR, by hand (RFC 8949 §3).
const (
	cborArrays  = "a1 6178 82 82 f93e00 14 82 fb3ff999999999999a fa41a80000" // {x: [[1.5h, 20], [1.6d, 21f]]}
	cborBare    = "82 82 f93e00 14 82 fb3ff999999999999a fa41a80000"
	cborObjects = "a1 6178 82 a2 6474656d70 14 64666c6f77 f93e00 a2 64666c6f77 fb3ff999999999999a 6474656d70 15"
	cborPacked  = "a2 6178 50 0000c03f 0000a041 cdcccc3f 0000a841 657368617065 82 02 02"
	cborOptions = "a4 6173 6670756d702d33 6174 05 62646c 1901f4 6178 81 82 20 00" // {s, t: 5, dl: 500, x: [[-1, 0]]}
)

func TestRequestFormsMeanTheSame(t *testing.T) {
	want := PredictRequest{Rows: []float32{1.5, 20, 1.6, 21}, Steps: 2, Features: 2}
	for _, b := range [][]byte{
		[]byte(`{"x":[[1.5,20],[1.6,21]]}`),
		[]byte("\n\t [[1.5,20],[1.6,21]] \r\n"),
		[]byte(`[[15e-1,2.0E1],[0.16e+1,21]]`),
		[]byte(`{"x":[{"flow":1.5,"temp":20},{"temp":21,"fl\u006fw":1.6}]}`),
		[]byte(`[{"flow":1.5,"temp":20},[1.6,21]]`),
		unhex(t, cborArrays), unhex(t, cborBare), unhex(t, cborObjects), unhex(t, cborPacked),
	} {
		got, err := DecodePredictRequest(b, flowTemp)
		if err != nil {
			t.Errorf("%q: %v", b, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", b, diff)
		}
	}
	want = PredictRequest{Rows: []float32{-1, 0}, Steps: 1, Features: 2, DeadlineMS: 500, Stream: "pump-3", T: 5}
	for _, b := range [][]byte{[]byte(`{"t":5,"s":"pump-3","dl":500,"x":[[-1,0]]}`), unhex(t, cborOptions)} {
		if got, err := DecodePredictRequest(b, nil); err != nil || !cmp.Equal(got, want) {
			t.Errorf("%q: %+v, %v, want %+v", b, got, err, want)
		}
	}
}

// A client that sends no bytes (mosquitto_rr 2.0.11 with -f), or types what is
// no request, gets an answer that it can read.
func TestRequestInNoEncodingIsAnsweredInJSON(t *testing.T) {
	for _, c := range []struct{ request, message string }{
		{"", emptyRequest},
		{" \r\n\t", emptyRequest},
		{"hello", "the request is neither JSON nor CBOR"},
		{"1.5,20", "the request is neither JSON nor CBOR"},
		{`"[[1,2]]"`, "the request is neither JSON nor CBOR"},
		{"\x00", "the request is neither JSON nor CBOR"},
		{"\xef\xbb\xbf[[1,2]]", "the request is neither JSON nor CBOR"}, // a byte order mark
	} {
		_, err := DecodePredictRequest([]byte(c.request), flowTemp)
		var re *RequestError
		if !errors.As(err, &re) || re.Code != CodeBadRequest || re.Message != c.message || re.Want == "" || re.Got == "" {
			t.Errorf("%q: %v, want bad_request, %s, and what to send", c.request, err, c.message)
		}
		b, err := PredictReply{ID: "1", Error: re}.AppendReply(nil, IsJSON([]byte(c.request)))
		if err != nil || b[0] != '{' {
			t.Errorf("%q is answered %q, %v, want JSON", c.request, b, err)
		}
	}
	for _, b := range []string{cborArrays, cborBare, cborPacked, "9f ff", "bf ff"} {
		if IsJSON(unhex(t, b)) {
			t.Errorf("%s counts as JSON", b)
		}
	}
}

func TestRequestRoundTrip(t *testing.T) {
	want := PredictRequest{Rows: []float32{0.1, -3.4028235e38, 1e-45, 0, 16777216, 1e21}, Steps: 3, Features: 2,
		DeadlineMS: 1, Stream: "s", T: MaxInteger}
	for _, enc := range []func([]byte) ([]byte, error){want.AppendJSON, want.AppendCBOR} {
		b, err := enc(nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodePredictRequest(b, flowTemp)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%q: %v %s", b, err, diff)
		}
		for n := range b {
			if _, err := DecodePredictRequest(b[:n], flowTemp); err == nil {
				t.Errorf("%d of %d bytes of %q decode", n, len(b), b)
			}
		}
		if _, err := DecodePredictRequest(append(b, '0'), flowTemp); err == nil {
			t.Errorf("%q and a byte decode", b)
		}
	}
}

func TestRequestErrorsSayWhatIsWrong(t *testing.T) {
	manyRows := "[" + strings.Repeat("[1,2],", MaxWindowValues/2) + "[1,2]]"
	for _, c := range []struct{ request, code, text string }{
		{``, CodeBadRequest, ""},
		{` `, CodeBadRequest, ""},
		{`{`, CodeBadRequest, "byte 1"},
		{`{"x":[[1,2]}`, CodeBadRequest, "'}'"},
		{`{"x":[[1,2]],}`, CodeBadRequest, ""},
		{`{"x":[[1,2,]]}`, CodeBadRequest, "not a number"},
		{`{"x":[[01,2]]}`, CodeBadRequest, "not a number"},
		{`{"x":[[1.,2]]}`, CodeBadRequest, "point"},
		{`{"x":[[.5,2]]}`, CodeBadRequest, "not a number"},
		{`{"x":[[+5,2]]}`, CodeBadRequest, "not a number"},
		{`{"x":[[NaN,2]]}`, CodeBadRequest, "not a number"},
		{`{"x":[[1e999,2]]}`, CodeBadRequest, "1e999"},
		{`{"x":[[1e39,2]]}`, CodeBadRequest, "float32"},
		{`{"x":[["1",2]]}`, CodeBadRequest, "not a number"},
		{`{"x":[[null,2]]}`, CodeBadRequest, "not a number"},
		{`{"x":[[1,2]],"x":[[1,2]]}`, CodeBadRequest, "x comes twice"},
		{`{"x":[[1,2]],"dl":1,"dl":1}`, CodeBadRequest, "dl comes twice"},
		{`{"x":[[1,2]],"deadline":1}`, CodeBadRequest, `"deadline"`},
		{`{"x":[[1,2]],"dl":1.5}`, CodeBadRequest, "integer"},
		{`{"x":[[1,2]],"dl":-1}`, CodeBadRequest, "integer"},
		{`{"x":[[1,2]],"dl":4294967296}`, CodeBadRequest, "4294967296"},
		{`{"x":[[1,2]],"s":"A"}`, CodeBadRequest, "invalid id"},
		{`{"x":[[1,2]]} x`, CodeBadRequest, "behind"},
		{`{"dl":5}`, CodeBadRequest, "x is missing"},
		{`{"x":[]}`, CodeBadShape, "no rows"},
		{`[]`, CodeBadShape, "no rows"},
		{`[1,2]`, CodeBadRequest, "'['"},
		{`[[1,2],[1]]`, CodeBadShape, "row 2 has the wrong length, want 2 values, got 1 value"},
		{`[[]]`, CodeBadShape, "row 1"},
		{`[[1,2,3]]`, CodeBadShape, "want 2 values, got 3 values"},
		{`[{"flow":1}]`, CodeBadShape, `row 1 lacks a feature, want "temp"`},
		{`[{"flow":1,"temp":1,"rpm":1}]`, CodeBadShape, `"rpm"`},
		{`[{"flow":1,"flow":1}]`, CodeBadRequest, "twice"},
		{`[[[1,2]]]`, CodeBadRequest, "not a number"},
		{strings.Repeat("[", 100000), CodeBadRequest, ""},
		{`{"x":[[1,2]],"s":"` + "\xff" + `"}`, CodeBadRequest, "UTF-8"},
		{`{"x":[[1,2]],"s":"\ud800"}`, CodeBadRequest, "surrogate"},
		{manyRows, CodeBadRequest, "too large"},
		{strings.Repeat(" ", MaxPayload+1), CodeBadRequest, "too large"},
		{"\xa1\x61x\x82\x99\xff\xff" + strings.Repeat("\x00", 65535) + "\x82\x00\x00", CodeBadShape, "want 2 values, got 65535"},
		{"\xa2\x61x\x81\x82\x01\x02\x61z\x01", CodeBadRequest, "unknown"},
		{"\xa1\x61x\x81\x82\xf9\x7e\x00\x01", CodeBadRequest, "finite"},
		{"\xa1\x61x\x81\x82\xfa\x7f\x80\x00\x00\x01", CodeBadRequest, "finite"},
		{"\xa1\x61x\x81\x82\xf6\x01", CodeBadRequest, "not a request at byte 5: CBOR value of another type"},
		{"\xa1\x61s\x01", CodeBadRequest, "not a request at byte 3: CBOR value of another type than expected, want rows of numbers, [[1.5,20]"},
		{"\xa1\x62dl\x20", CodeBadRequest, "not a request at byte 4: CBOR value is not an integer from 0 to 4294967295"},
		{"\xa2\x61x\x81\x82\x01\x02\x65shape\x82\x01\x02", CodeBadRequest, "shape goes with packed x only"},
		{"\xa2\x61x\x40\x65shape\x81\x01", CodeBadRequest, "no usable shape, want [steps, features], at most 65536 values, got 1 number"},
		{"\x81\x82\x01", CodeBadRequest, "neither JSON nor CBOR at byte 3: CBOR ends early, want rows of numbers, [[1.5,20]"},
		{"\x81\x82\x01\x02\x00", CodeBadRequest, "neither JSON nor CBOR at byte 4: bytes behind the CBOR value"},
		{"\x9f\xff", CodeBadRequest, "neither JSON nor CBOR at byte 0: CBOR with a tag, or of reserved or indefinite length"},
		{"\xa1\x61x\x9b\xff\xff\xff\xff\xff\xff\xff\xff", CodeBadRequest, ""},
		{"\xa2\x61x\x81\x82\x01\x02\x61x\x81\x82\x01\x02", CodeBadRequest, "x comes twice"},
		{"\xa2\x61x\x48\x00\x00\x00\x00\x00\x00\x80\x7f\x65shape\x82\x01\x02", CodeBadRequest, "row 1, column 2"},
		{"\xa2\x61x\x44\x00\x00\x00\x00\x65shape\x82\x01\x02", CodeBadRequest, "want 8 bytes"},
		{"\xa2\x61x\x44\x00\x00\x00\x00\x65shape\x82\x01\x01", CodeBadShape, "want 2 values, got 1 value"},
		{"\xa1\x61x\x48\x00\x00\x00\x00\x00\x00\x00\x00", CodeBadRequest, "shape"},
		{"\xa2\x61x\x40\x65shape\x82\x1a\x00\x01\x00\x00\x1a\x00\x01\x00\x00", CodeBadRequest, "shape"},
	} {
		_, err := DecodePredictRequest([]byte(c.request), flowTemp)
		var re *RequestError
		if !errors.As(err, &re) || re.Code != c.code || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%.60q: %v, want %s with %q", c.request, err, c.code, c.text)
		} else if len(re.Message) > 2*MaxText {
			t.Errorf("%.60q: a message of %d bytes", c.request, len(re.Message))
		}
	}
}

func TestRequestBoundsItsWindow(t *testing.T) {
	row := "\x99\x80\x01" + strings.Repeat("\x00", 1<<15+1) // 32,769 zeros of one byte each
	_, err := DecodePredictRequest([]byte("\x82"+row+row), nil)
	if err == nil || !strings.Contains(err.Error(), "at most 65536 values") {
		t.Errorf("65,538 values: %v, want bad_request with the limit", err)
	}
}

func TestDecimalsRoundTwice(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	check := func(s string) {
		t.Helper()
		f, _ := strconv.ParseFloat(s, 64)
		want := float32(f)
		got, err := DecodePredictRequest([]byte("[["+s+"]]"), nil)
		if math.IsInf(float64(want), 0) {
			if err == nil {
				t.Errorf("%s is %v, want refused", s, got.Rows[0])
			}
			return
		}
		if err != nil || math.Float32bits(got.Rows[0]) != math.Float32bits(want) {
			t.Errorf("%s is %v, %v, want %v", s, got.Rows, err, want)
		}
	}
	// 1 + 2⁻²⁴ + 2⁻⁶⁰: nearest float64 is the tie, which rounds to even; the
	// nearest float32 is the next one up.
	check("1.000000059604644775390625867361737988403547205962240695953369140625")
	// Its digits need more than 53 bits: dividing the rounded digits would end
	// on the other side of a tie between two float32.
	check("16777217.0000000018")
	for _, s := range []string{"-0", "0.0", "-0.0", "9007199254740993", "9007199254740991", "1e-400", "999999999999999999",
		"0.000000000000000001", "123456789012345678.9", "3.4028235e38", "3.4028236e38", "5e-324", "1E5", "1e+5", "0e0"} {
		check(s)
	}
	for range 20000 {
		f := math.Float32frombits(rng.Uint32())
		if math.IsNaN(float64(f)) || math.IsInf(float64(f), 0) {
			continue
		}
		check(strconv.FormatFloat(float64(f), "efg"[rng.IntN(3)], rng.IntN(20)-1, 64))
	}
}

func TestReplyBytes(t *testing.T) {
	ok := PredictReply{ID: "42", Model: "turbofan", Version: "turbofan:v3", Y: []float32{112.25, 0.1, -1e-7, 1e21, 3.4028235e38}, US: 31}
	bad := PredictReply{ID: "42", Error: &RequestError{Code: CodeBusy, Message: "the \"queue\"\nis full", RetryMS: 50}}
	label := PredictReply{ID: "43", Y: []float32{0.25, 0.75}, Label: `w"alks`, US: 2}
	yes, no := true, false
	anomaly := PredictReply{ID: "44", Y: []float32{3.5}, Anomaly: &yes}
	normal := PredictReply{ID: "45", Y: []float32{0.5}, Anomaly: &no}
	for _, c := range []struct {
		reply PredictReply
		json  string
	}{
		{ok, `{"id":"42","model":"turbofan","version":"turbofan:v3","y":[112.25,0.1,-1e-07,1e+21,3.4028235e+38],"us":31}`},
		{label, `{"id":"43","y":[0.25,0.75],"label":"w\"alks","us":2}`},
		{anomaly, `{"id":"44","y":[3.5],"anomaly":true,"us":0}`},
		{normal, `{"id":"45","y":[0.5],"anomaly":false,"us":0}`},
		{bad, `{"id":"42","error":{"code":"busy","message":"the \"queue\"\u000ais full","retry_ms":50}}`},
	} {
		b, err := c.reply.AppendJSON(nil)
		if err != nil || string(b) != c.json {
			t.Errorf("AppendJSON = %s, %v, want %s", b, err, c.json)
		}
		e, err := c.reply.AppendCBOR(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range [][]byte{b, e} {
			got, err := DecodePredictReply(b)
			if diff := cmp.Diff(c.reply, got); err != nil || diff != "" {
				t.Errorf("%q: %v %s", b, err, diff)
			}
			for n := range b {
				if _, err := DecodePredictReply(b[:n]); err == nil {
					t.Errorf("%d of %d bytes of %q decode", n, len(b), b)
				}
			}
		}
	}
}

func TestReplyRefuses(t *testing.T) {
	for _, c := range []struct {
		reply string
		want  error
	}{
		{`{"id":"1"}`, ErrInvalid}, {`{"id":"1","y":[]}`, ErrInvalid}, {`{"id":"1","y":[1],"y":[2]}`, ErrMalformed},
		{`{"id":"1","y":[1],"error":{"code":"busy","message":""}}`, ErrInvalid}, {`{"id":"1","y":[1],"z":1}`, ErrMalformed},
		{`{"id":"1","y":[1],"anomaly":1}`, ErrMalformed}, {`{"id":"1","y":[1],"anomaly":null}`, ErrMalformed},
		{`{"id":"1","y":[1],"label":"` + strings.Repeat("x", MaxName+1) + `"}`, ErrTooLarge},
		{`{"id":"1","error":{"code":"busy","message":""},"label":"x"}`, ErrInvalid},
		{`{"id":"1","error":{"code":"odd","message":""}}`, ErrInvalid}, {`{"id":"1","error":{"code":"busy","code":"busy"}}`, ErrMalformed},
		{`[1]`, ErrMalformed}, {"\xf6", ErrInvalid}, {strings.Repeat(" ", MaxPayload+1), ErrTooLarge},
	} {
		if _, err := DecodePredictReply([]byte(c.reply)); !errors.Is(err, c.want) {
			t.Errorf("%.60q: %v, want %v", c.reply, err, c.want)
		}
	}
	for _, m := range []PredictReply{{}, {Y: []float32{float32(math.NaN())}}, {Error: &RequestError{Code: "x"}}} {
		if b, err := m.AppendJSON(nil); err == nil {
			t.Errorf("%+v encodes as %s", m, b)
		}
	}
}

func FuzzPredictRequest(f *testing.F) {
	for _, s := range []string{cborArrays, cborBare, cborObjects, cborPacked, cborOptions} {
		f.Add(unhex(f, s))
	}
	f.Add([]byte(`{"x":[{"flow":1.5,"temp":20},[1e-3,21]],"dl":500,"s":"pump-3","t":1}`))
	f.Add([]byte(`[["idle",1.5],{"mode":"x","flow":2}]`))
	f.Add(unhex(f, cborTexts))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := DecodePredictTexts(b, modeFlow, modeWords); err != nil && !errors.As(err, new(*RequestError)) {
			t.Fatalf("%v is not a RequestError", err)
		}
		m, err := DecodePredictRequest(b, flowTemp)
		if err != nil {
			if !errors.As(err, new(*RequestError)) {
				t.Fatalf("%v is not a RequestError", err)
			}
			return
		}
		for _, enc := range []func([]byte) ([]byte, error){m.AppendJSON, m.AppendCBOR} {
			e, err := enc(nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(e) > MaxPayload {
				continue // JSON of many long floats
			}
			if again, err := DecodePredictRequest(e, flowTemp); err != nil || !cmp.Equal(m, again) {
				t.Fatalf("%+v, then %+v, %v", m, again, err)
			}
		}
	})
}

func FuzzPredictReply(f *testing.F) {
	for _, m := range []PredictReply{{ID: "4", Model: "m", Version: "m:v1", Y: []float32{1, 0.1}, US: 3},
		{ID: "4", Error: &RequestError{Code: CodeBusy, Message: "m", Want: "w", Got: "g", RetryMS: 1}}} {
		j, _ := m.AppendJSON(nil)
		c, _ := m.AppendCBOR(nil)
		f.Add(j)
		f.Add(c)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodePredictReply(b)
		if err != nil {
			return
		}
		j, err := m.AppendJSON(nil)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := DecodePredictReply(j); len(j) <= MaxPayload && (err != nil || !cmp.Equal(m, again)) {
			t.Fatalf("%+v, then %+v, %v", m, again, err)
		}
	})
}

// request50x8 is the request that the round trip is measured with.
func request50x8() PredictRequest {
	m := PredictRequest{Steps: 50, Features: 8}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 400 {
		m.Rows = append(m.Rows, float32(math.Round(rng.Float64()*1e5)/1e3))
	}
	return m
}

func TestRequestAllocatesLittle(t *testing.T) {
	m := request50x8()
	j, _ := m.AppendJSON(nil)
	features := strings.Split("abcdefgh", "")
	if n := testing.AllocsPerRun(100, func() { _, _ = DecodePredictRequest(j, features) }); n > 12 {
		t.Errorf("%v allocations for a request of 50×8 in JSON, want at most 12", n)
	}
	r := PredictReply{ID: "1", Model: "m", Version: "m:v1", Y: []float32{0.1}}
	buf := make([]byte, 0, 256)
	if n := testing.AllocsPerRun(100, func() { _, _ = r.AppendJSON(buf) }); n > 0 {
		t.Errorf("%v allocations for a reply, want 0", n)
	}
}

func BenchmarkDecodeRequestJSON(b *testing.B) {
	m := request50x8()
	j, _ := m.AppendJSON(nil)
	b.SetBytes(int64(len(j)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodePredictRequest(j, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeRequestCBOR(b *testing.B) {
	m := request50x8()
	j, _ := m.AppendCBOR(nil)
	b.SetBytes(int64(len(j)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodePredictRequest(j, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendReplyJSON(b *testing.B) {
	r := PredictReply{ID: "1", Model: "turbofan", Version: "turbofan:v1", Y: []float32{112.25}, US: 30}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = r.AppendJSON(buf[:0])
	}
}
