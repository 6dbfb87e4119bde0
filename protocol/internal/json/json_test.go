package json

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
)

var documents = []string{
	`{}`, `[]`, `""`, `0`, `-0.5e+10`, `true`, `false`, `null`, ` { "a" : [ 1 , { "b" : "\u00e9\ud83d\ude00\n\/" } ] } `,
	`{"a":{"b":{"c":[1,2,3]}},"d":"x"}`,
}

func TestCheckAcceptsJSON(t *testing.T) {
	for _, s := range documents {
		if err := Check([]byte(s)); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	for _, s := range []string{
		``, ` `, `{`, `}`, `[1,]`, `{,}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{a:1}`, `{'a':1}`, `01`, `-`, `1.`, `.1`, `1e`, `1e+`, `+1`,
		`NaN`, `Infinity`, `tru`, `nul`, `"`, `"\"`, `"\x"`, `"\u12"`, `"\u12g4"`, `"\ud800"`, `"\udc00"`, `"\ud800\u0041"`, "\"\n\"",
		"\"\xff\"", `1 2`, `{}x`, "\ufeff{}", `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `{"A":1}`, `{"é":1}`, `{"a b":1}`,
		strings.Repeat("[", 9) + strings.Repeat("]", 9), "\x00", "[1\x00]", "{}\x00",
	} {
		if err := Check([]byte(s)); err == nil {
			t.Errorf("%q passes", s)
		}
	}
}

func TestAppendStringReadsBack(t *testing.T) {
	for _, s := range []string{"", "a", "\"\\/\b\f\n\r\t\x00\x1f", "é😀\u2028", "a\xffb"} {
		b := AppendString(nil, s)
		var want string
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		r := Reader{B: b}
		if got, err := r.String(); err != nil || got != want || got != strings.ToValidUTF8(s, "\ufffd") {
			t.Errorf("%q is read as %q, %v", b, got, err)
		}
	}
}

// FuzzCheck holds this reader against encoding/json: what passes here is
// JSON there, with the same strings and numbers.
func FuzzCheck(f *testing.F) {
	for _, s := range documents {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if Check(b) == nil && !json.Valid(b) {
			t.Fatalf("%q passes, but is not JSON", b)
		}
		r := Reader{B: b}
		if s, err := r.String(); err == nil && r.End() == nil {
			var want string
			if err := json.Unmarshal(b, &want); err != nil || s != want {
				t.Fatalf("%q is %q, encoding/json says %q, %v", b, s, want, err)
			}
		}
		r = Reader{B: b}
		if v, err := r.Float32(); err == nil && r.End() == nil {
			var f float64
			if err := json.Unmarshal(b, &f); err != nil || math.Float32bits(float32(f)) != math.Float32bits(v) {
				t.Fatalf("%q is %v, encoding/json says %v, %v", b, v, f, err)
			}
		}
	})
}
