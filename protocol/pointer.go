package protocol

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sandpiper-edge/sandpiper/protocol/internal/json"
)

// MaxPointer is the longest JSON pointer, in bytes.
const MaxPointer = 256

// CheckPointer reports whether p is a JSON pointer (RFC 6901 §3): empty, or
// reference tokens that each begin with a slash, in which ~ is written ~0 and /
// is written ~1.
func CheckPointer(p string) error {
	if p == "" {
		return nil
	}
	if len(p) > MaxPointer {
		return fmt.Errorf("%w: a JSON pointer of %d bytes, at most %d", ErrTooLarge, len(p), MaxPointer)
	}
	if p[0] != '/' {
		return fmt.Errorf("%w: the JSON pointer %s does not begin with a slash; write %s", ErrInvalid, clip(p), clip("/"+p))
	}
	if n := strings.Count(p, "/"); n > json.MaxDepth {
		return fmt.Errorf("%w: a JSON pointer %d deep, at most %d", ErrTooLarge, n, json.MaxDepth)
	}
	for i := range len(p) {
		if p[i] == '~' && (i+1 == len(p) || p[i+1] != '0' && p[i+1] != '1') {
			return fmt.Errorf("%w: ~ at byte %d of the JSON pointer %s; write ~0 for ~ and ~1 for /", ErrInvalid, i, clip(p))
		}
	}
	return nil
}

// LookUp calls found with the number at each of pointers in payload, one JSON
// value, and the pointer's index. A pointer that leads nowhere, or to null, is
// passed over; one that leads to something else than a number is an error, as
// is a payload that is not JSON, has a key twice on the way, or is over
// MaxPayload. A string that holds a JSON number counts as one: many sensors
// write them so. Nothing is found in a payload for which LookUp returns an
// error, for found is called at the end.
func LookUp(payload []byte, pointers []string, found func(i int, v float32)) error {
	return LookUpTexts(payload, pointers, nil, func(i int, v float32, _ string) { found(i, v) })
}

// LookUpTexts is LookUp where some pointers lead to strings, those for which texts
// is true; found gets the string. One that leads to something else is an error.
func LookUpTexts(payload []byte, pointers []string, texts []bool, found func(i int, v float32, s string)) error {
	if len(payload) > MaxPayload {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(payload), MaxPayload)
	}
	l := lookup{reader: json.Reader{B: payload}, wanted: make([]target, len(pointers))}
	for i, p := range pointers {
		if err := CheckPointer(p); err != nil {
			return err
		}
		l.wanted[i] = target{index: i, rest: p, text: i < len(texts) && texts[i]}
	}
	err := l.value(l.wanted)
	if err == nil {
		err = l.reader.End()
	}
	if err != nil {
		return fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	for _, hit := range l.hits {
		found(hit.index, hit.value, hit.text)
	}
	return nil
}

// A target is a pointer with what is left of it below the value being read.
type target struct {
	index int
	rest  string
	text  bool
}

type hit struct {
	index int
	value float32
	text  string
}

type lookup struct {
	reader json.Reader
	wanted []target
	hits   []hit
}

// value reads one value that the targets lead to or through.
func (l *lookup) value(targets []target) error {
	if len(targets) == 0 {
		return l.reader.Skip()
	}
	c := l.reader.Peek()
	if ends(targets) && (c == '{' || c == '[') {
		return errors.New("a pointer leads to an object or array, want a number")
	}
	switch c {
	case '{':
		seen := make(map[string]bool)
		return l.reader.Object(func(key string) error {
			below := l.below(targets, key)
			if len(below) > 0 {
				if seen[key] {
					return fmt.Errorf("%s comes twice", clip(key))
				}
				seen[key] = true
			}
			return l.value(below)
		})
	case '[':
		n := 0
		return l.reader.Array(func() error {
			below := l.below(targets, strconv.Itoa(n))
			n++
			return l.value(below)
		})
	case 'n':
		return l.reader.Skip()
	}
	return l.leaf(targets)
}

// below returns the targets whose next token is key.
func (l *lookup) below(targets []target, key string) []target {
	var out []target
	for _, t := range targets {
		if t.rest == "" {
			continue
		}
		token, _, more := strings.Cut(t.rest[1:], "/")
		rest := ""
		if more {
			rest = t.rest[1+len(token):]
		}
		if strings.Contains(token, "~") { // ~1 before ~0: RFC 6901 §4
			token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
		}
		if token == key {
			out = append(out, target{t.index, rest, t.text})
		}
	}
	return out
}

// ends reports whether a target is the value itself.
func ends(targets []target) bool {
	return slices.ContainsFunc(targets, func(t target) bool { return t.rest == "" })
}

// leaf reads a value that is no container.
func (l *lookup) leaf(targets []target) error {
	if !ends(targets) {
		return l.reader.Skip()
	}
	if l.reader.Peek() != '"' {
		v, err := l.reader.Float32()
		if err != nil {
			return err
		}
		return l.hit(targets, false, "", func() (float32, error) { return v, nil })
	}
	s, err := l.reader.String()
	if err != nil {
		return err
	}
	return l.hit(targets, true, s, func() (float32, error) {
		inner := json.Reader{B: []byte(s)}
		v, err := inner.Float32()
		if firstError(err, inner.End()) != nil {
			return 0, fmt.Errorf("%s is not a number", clip(s))
		}
		return v, nil
	})
}

// hit notes the value of each target that ends here: the text s, if it is one, or
// what number makes of it.
func (l *lookup) hit(targets []target, isText bool, s string, number func() (float32, error)) error {
	for _, t := range targets {
		h := hit{index: t.index, text: s}
		switch {
		case t.rest != "":
			continue
		case t.text && !isText:
			return errors.New("a pointer leads to a number, want a text")
		case !t.text:
			var err error
			if h.value, err = number(); err != nil {
				return err
			}
		}
		l.hits = append(l.hits, h)
	}
	return nil
}
