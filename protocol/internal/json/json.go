// Package json reads and writes the JSON (RFC 8259) of sp1 more strictly than
// encoding/json: a repeated key, a key in other case, an unknown key, nesting
// beyond MaxDepth or anything behind the value is an error.
package json

import (
	"bytes"
	"encoding/json"
)

// MaxDepth is the deepest nesting of arrays and objects.
const MaxDepth = 8

// Append appends the JSON of v.
func Append(b []byte, v any) ([]byte, error) {
	e, err := json.Marshal(v)
	if err != nil {
		return b, err
	}
	return append(b, e...), nil
}

// Decode decodes b into v, a pointer to a struct. Keys must be lower-case
// ASCII: encoding/json would match others to a field whatever their case.
func Decode(b []byte, v any) error {
	if err := Check(b); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(v)
}
