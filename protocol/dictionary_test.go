package protocol

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	modeFlow  = []string{"mode", "flow"}
	modeWords = [][]string{{"full load", "idle", "run"}, nil}
)

func TestPlaceInADictionary(t *testing.T) {
	for s, want := range map[string]float32{"full load": 0, "idle": 1, "run": 2, "": 3, "runs": 3, "Run": 3, "\xff": 3} {
		if got := Place(modeWords[0], s); got != want {
			t.Errorf("Place(%q) = %v, want %v", s, got, want)
		}
	}
	if got := Place(nil, "x"); got != 0 {
		t.Errorf("Place in an empty dictionary = %v", got)
	}
}

// Texts in CBOR, by hand: {x: [["idle", 1.5h], ["", 20]]} and its rows as maps.
const (
	cborTexts       = "a1 6178 82 82 6469646c65 f93e00 82 60 14"
	cborTextObjects = "a1 6178 82 a2 646d6f6465 6469646c65 64666c6f77 f93e00 a2 64666c6f77 14 646d6f6465 60"
)

func TestRequestsHaveTexts(t *testing.T) {
	want := PredictRequest{Rows: []float32{1, 1.5, 3, 20}, Steps: 2, Features: 2}
	for _, b := range [][]byte{
		[]byte(`{"x":[["idle",1.5],["walk",20]]}`), []byte(`[{"flow":1.5,"mode":"\u0069dle"},["",20]]`),
		unhex(t, cborTexts), unhex(t, cborTextObjects),
	} {
		got, err := DecodePredictTexts(b, modeFlow, modeWords)
		if err != nil {
			t.Errorf("%q: %v", b, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", b, diff)
		}
	}
}

func TestTextsInTheWrongPlace(t *testing.T) {
	for _, c := range []struct {
		request    []byte
		code, text string
	}{
		{[]byte(`[["idle",1],[1,1]]`), CodeBadRequest, `row 2: "mode" is a text`},
		{[]byte(`[{"flow":1,"mode":null}]`), CodeBadRequest, `such as "full load"`},
		{[]byte(`[["idle","1"]]`), CodeBadRequest, "not a number"},
		{[]byte(`[["idle",1,"idle"]]`), CodeBadRequest, "not a number"},
		{[]byte(`[["idle"]]`), CodeBadShape, "2 values"},
		{unhex(t, "81 82 01 01"), CodeBadRequest, `"mode" is a text`},
		{unhex(t, "81 82 6469646c65 6469646c65"), CodeBadRequest, "byte"},
		{unhex(t, cborPacked), CodeBadRequest, `"mode" is a text`},
	} {
		_, err := DecodePredictTexts(c.request, modeFlow, modeWords)
		var e *RequestError
		if !errors.As(err, &e) || e.Code != c.code {
			t.Errorf("%q: %v, want %s", c.request, err, c.code)
			continue
		}
		if got := e.Message + "; want " + e.Want; !strings.Contains(got, c.text) {
			t.Errorf("%q: %s, want %q", c.request, got, c.text)
		}
	}
}

func TestSampleOfTexts(t *testing.T) {
	m := Sample{T: 5, V: map[string]float32{"flow": 1.5}, Texts: map[string]string{"mode": `a "b"`, "x": ""}}
	j, err := m.AppendJSON(nil)
	if want := `{"t":5,"v":{"flow":1.5,"mode":"a \"b\"","x":""}}`; err != nil || string(j) != want {
		t.Errorf("%s, %v, want %s", j, err, want)
	}
	c, err := m.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{j, c} {
		var got Sample
		if err := got.UnmarshalBinary(b); err != nil || !cmp.Equal(got, m) {
			t.Errorf("%q: %+v, %v, want %+v", b, got, err, m)
		}
	}
	var only Sample
	if err := only.UnmarshalBinary([]byte(`{"v":{"mode":"idle"}}`)); err != nil || only.Texts["mode"] != "idle" || len(only.V) != 0 {
		t.Errorf("a sample of texts alone: %+v, %v", only, err)
	}
}

func TestPointersToTexts(t *testing.T) {
	pointers, texts := []string{"/m", "/v", "/m"}, []bool{true, false, true}
	found := map[int]string{}
	value := float32(0)
	look := func(payload string) error {
		clear(found)
		return LookUpTexts([]byte(payload), pointers, texts, func(i int, v float32, s string) {
			if texts[i] {
				found[i] = s
			} else {
				value = v
			}
		})
	}
	if err := look(`{"m":"idle","v":"2.5","n":[1]}`); err != nil || found[0] != "idle" || found[2] != "idle" || value != 2.5 {
		t.Errorf("%v, %v, %v", found, value, err)
	}
	if err := look(`{"m":"","v":1}`); err != nil || len(found) != 2 || found[0] != "" {
		t.Errorf("an empty text: %v, %v", found, err)
	}
	if err := look(`{"m":null}`); err != nil || len(found) != 0 {
		t.Errorf("null: %v, %v", found, err)
	}
	for _, bad := range []string{`{"m":3}`, `{"m":{}}`, `{"v":"idle"}`, `{"m":true}`} {
		if err := look(bad); !errors.Is(err, ErrMalformed) || len(found) > 0 {
			t.Errorf("%s: %v, found %v, want ErrMalformed", bad, err, found)
		}
	}
}
