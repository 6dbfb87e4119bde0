package protocol

import (
	"fmt"
	"slices"

	"github.com/sandpiper-edge/sandpiper/protocol/internal/cbor"
	"github.com/sandpiper-edge/sandpiper/protocol/internal/json"
)

// Place returns the number that stands for a text in rows: its place in the
// dictionary, which is ascending, or the dictionary's length for a text that is not
// in it. The empty text is in none.
func Place(dictionary []string, s string) float32 {
	i, ok := slices.BinarySearch(dictionary, s)
	if !ok {
		i = len(dictionary)
	}
	return float32(i)
}

// dictionary is that of column i of a row, nil if it is a number.
func (d *requestDecoder) dictionary(i int) []string {
	if i < len(d.dictionaries) {
		return d.dictionaries[i]
	}
	return nil
}

// wantText is said of a number in the place of a text.
func (d *requestDecoder) wantText(i int, got string) error {
	name := fmt.Sprintf("column %d", i+1)
	if i < len(d.features) {
		name = clip(d.features[i])
	}
	return &RequestError{Code: CodeBadRequest, Message: fmt.Sprintf("row %d: %s is a text", d.m.Steps+1, name),
		Want: "a text, such as " + clip(d.dictionary(i)[0]), Got: got}
}

// jsonValue reads the value of column i.
func (d *requestDecoder) jsonValue(r *json.Reader, i int) (float32, error) {
	words := d.dictionary(i)
	if words == nil {
		return r.Float32()
	}
	if c := r.Peek(); c != '"' {
		return 0, d.wantText(i, "what begins with "+clip(string(rune(c))))
	}
	s, err := r.String()
	return Place(words, s), err
}

// cborValue is jsonValue from well-formed CBOR.
func (d *requestDecoder) cborValue(r *cbor.Reader, i int) (float32, error) {
	words := d.dictionary(i)
	if words == nil {
		return r.Float32()
	}
	if r.Kind() != cbor.Text {
		return 0, d.wantText(i, "no text")
	}
	s, err := r.Text()
	return Place(words, s), err
}
