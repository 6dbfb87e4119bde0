package protocol

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func lookUp(payload string, pointers ...string) (string, error) {
	out := make([]string, len(pointers))
	err := LookUp([]byte(payload), pointers, func(i int, v float32) { out[i] += fmt.Sprint(v) })
	return strings.Join(out, ","), err
}

func TestLookUp(t *testing.T) {
	// The document of RFC 6901 §5, with numbers.
	const rfc = `{"foo":[1,2],"":0.5,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8}`
	for _, c := range []struct {
		payload  string
		pointers []string
		want     string
	}{
		{rfc, []string{"/foo/0", "/foo/1", "/", "/a~1b", "/c%d", "/e^f", "/g|h", `/i\j`, `/k"l`, "/ ", "/m~0n"}, "1,2,0.5,1,2,3,4,5,6,7,8"},
		{" 17.25 ", []string{""}, "17.25"},
		{`"17.25"`, []string{""}, "17.25"},
		{`{"rms":{"x":1,"y":"2.5"},"t":"now"}`, []string{"/rms/y", "/rms/x", "/none", "/rms/x/deeper"}, "2.5,1,,"},
		{`{"rms":null,"on":true}`, []string{"/rms"}, ""},
		{`{"a":1,"b":{"a":2}}`, []string{"/a", "/a", "/b/a"}, "1,1,2"},
		{`{"Wärme":-4e2}`, []string{"/Wärme"}, "-400"},
		{`{"x~1y":3}`, []string{"/x~01y"}, "3"}, // ~01 is ~1, not a slash
		{`{"a":{"z":1},"a2":{"a":{}}}`, []string{"/a2"}, "error"},
		{`{"a":true}`, []string{"/a"}, "error"},
		{`{"a":"n/a"}`, []string{"/a"}, "error"},
		{`{"a":1,"a":2}`, []string{"/a"}, "error"},
		{`{"a":1`, []string{"/a"}, "error"},
		{`{"a":1} x`, []string{"/a"}, "error"},
		{`{"a":1e39}`, []string{"/a"}, "error"},
		{strings.Repeat("[", 9) + strings.Repeat("]", 9), []string{"/a"}, "error"},
		{"", []string{""}, "error"},
		{strings.Repeat(" ", MaxPayload) + "1", []string{""}, "error"},
	} {
		got, err := lookUp(c.payload, c.pointers...)
		if err != nil {
			if strings.Trim(got, ",") != "" {
				t.Errorf("LookUp(%.60s) found %s and returned %v", c.payload, got, err)
			}
			got = "error"
		}
		if got != c.want {
			t.Errorf("LookUp(%.60s, %q) = %s, %v; want %s", c.payload, c.pointers, got, err, c.want)
		}
	}
}

func TestCheckPointer(t *testing.T) {
	for p, want := range map[string]error{
		"": nil, "/": nil, "/a/b": nil, "/a~0b~1c": nil, "/é": nil,
		"a": ErrInvalid, "/a~": ErrInvalid, "/a~2": ErrInvalid,
		"/" + strings.Repeat("a", MaxPointer): ErrTooLarge, strings.Repeat("/a", 9): ErrTooLarge,
	} {
		if err := CheckPointer(p); !errors.Is(err, want) || err != nil && want == nil {
			t.Errorf("CheckPointer(%.20q) = %v, want %v", p, err, want)
		}
	}
}

// FuzzLookUp: whatever is found is finite, and at most once for a pointer.
func FuzzLookUp(f *testing.F) {
	f.Add([]byte(`{"rms":{"x":[1,"2"]}}`), "/rms/x/1")
	f.Add([]byte(`17`), "")
	f.Add([]byte(`{"a~b":null,"c/d":-0.0e1}`), "/c~1d")
	f.Fuzz(func(t *testing.T, payload []byte, pointer string) {
		n := 0
		err := LookUp(payload, []string{pointer, ""}, func(i int, v float32) {
			if n++; !finite(v) || n > 2 {
				t.Errorf("LookUp(%q, %q) found %v, number %d", payload, pointer, v, n)
			}
		})
		if err != nil && n > 0 {
			t.Errorf("LookUp(%q, %q) found %d and returned %v", payload, pointer, n, err)
		}
	})
}
