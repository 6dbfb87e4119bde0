package protocol

import (
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/sandpiper-edge/sandpiper/protocol/internal/cbor"
	"github.com/sandpiper-edge/sandpiper/protocol/internal/json"
)

// A Sample is one reading of a stream's sensors, on sp1/F/d/D/s/STREAM, in
// the sensors' own units. JSON or CBOR, told apart by the first byte:
//
//	{"t":1767225600000,"v":{"flow":12.5,"pressure":3.1,"mode":"idle"}}
//
// A sensor that gave no value is left out.
type Sample struct {
	T int64              // UTC ms; 0 means the time of arrival
	V map[string]float32 // by feature name; finite
	// Texts are the values that are texts, by feature name, of at most MaxName bytes;
	// in v like the numbers.
	Texts map[string]string
}

func (m *Sample) check() error {
	if len(m.V)+len(m.Texts) == 0 {
		return fmt.Errorf("%w: a sample without values", ErrInvalid)
	}
	for name, v := range m.V {
		if err := checkName(name); err != nil {
			return err
		}
		if !finite(v) {
			return fmt.Errorf("%w: %s is %v", ErrInvalid, clip(name), v)
		}
	}
	for name, s := range m.Texts {
		if err := checkName(name); err != nil {
			return err
		}
		if _, twice := m.V[name]; twice || len(s) > MaxName || !utf8.ValidString(s) {
			return fmt.Errorf("%w: %s is %s; want at most %d bytes of UTF-8, and each name once", ErrInvalid, clip(name), clip(s), MaxName)
		}
	}
	return firstError(checkTime("t", m.T), checkLen("v", len(m.V)+len(m.Texts), MaxFeatures))
}

func checkName(name string) error {
	if name == "" || len(name) > MaxName {
		return fmt.Errorf("%w: the name %s has %d bytes, want 1 to %d", ErrInvalid, clip(name), len(name), MaxName)
	}
	return nil
}

// names are those of all values, sorted.
func (m *Sample) names() []string {
	return slices.Sorted(func(yield func(string) bool) {
		for name := range m.V {
			if !yield(name) {
				return
			}
		}
		for name := range m.Texts {
			if !yield(name) {
				return
			}
		}
	})
}

// AppendJSON appends m as JSON, names sorted.
func (m Sample) AppendJSON(b []byte) ([]byte, error) {
	if err := m.check(); err != nil {
		return b, fmt.Errorf("encode sample: %w", err)
	}
	b = append(b, '{')
	if m.T != 0 {
		b = append(strconv.AppendInt(append(b, `"t":`...), m.T, 10), ',')
	}
	b = append(b, `"v":{`...)
	for i, name := range m.names() {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(json.AppendString(b, name), ':')
		if s, ok := m.Texts[name]; ok {
			b = json.AppendString(b, s)
		} else {
			b = json.AppendFloat32(b, m.V[name])
		}
	}
	return append(b, "}}"...), nil
}

// wireSample is the CBOR form. Values are decoded from any kind of number.
type wireSample struct {
	T int64           `cbor:"t,omitempty"`
	V cbor.RawMessage `cbor:"v"`
}

// AppendBinary appends m as CBOR.
func (m Sample) AppendBinary(b []byte) ([]byte, error) {
	if err := m.check(); err != nil {
		return b, fmt.Errorf("encode sample: %w", err)
	}
	values := make(map[string]any, len(m.V)+len(m.Texts))
	for name, v := range m.V {
		values[name] = v
	}
	for name, s := range m.Texts {
		values[name] = s
	}
	v, err := cbor.Append(nil, values)
	if err != nil {
		return b, fmt.Errorf("encode sample: %w: %v", ErrInvalid, err)
	}
	return cbor.Append(b, wireSample{T: m.T, V: v})
}

// UnmarshalBinary decodes b, JSON or CBOR.
func (m *Sample) UnmarshalBinary(b []byte) error {
	*m = Sample{V: map[string]float32{}}
	return decodeEither(b, "sample", m)
}

// An either is a message in JSON or CBOR.
type either interface {
	checker
	fromJSON(r *json.Reader) error
	fromCBOR(b []byte) error
}

// decodeEither decodes b into m, which must be new.
func decodeEither(b []byte, what string, m either) error {
	if len(b) > MaxPayload {
		return fmt.Errorf("decode %s: %w: %d bytes, at most %d", what, ErrTooLarge, len(b), MaxPayload)
	}
	var err error
	if IsJSON(b) {
		r := json.Reader{B: b}
		if err = m.fromJSON(&r); err == nil {
			err = r.End()
		}
	} else {
		err = m.fromCBOR(b)
	}
	if err != nil {
		return fmt.Errorf("decode %s: %w: %v", what, ErrMalformed, err)
	}
	if err := m.check(); err != nil {
		return fmt.Errorf("decode %s: %w", what, err)
	}
	return nil
}

func (m *Sample) fromJSON(r *json.Reader) error {
	var has fieldSet
	return r.Object(func(key string) (err error) {
		switch key {
		case "t":
			m.T, err = r.Int(MaxInteger)
			return firstError(err, has.add(fieldT, key))
		case "v":
			if err := has.add(fieldX, key); err != nil {
				return err
			}
			return r.Object(func(name string) error {
				if r.Peek() == '"' {
					s, err := r.String()
					return firstError(err, m.addText(name, s))
				}
				v, err := r.Float32()
				return firstError(err, m.add(name, v))
			})
		}
		return unknownField(key, "t or v")
	})
}

// add adds one value, once.
func (m *Sample) add(name string, v float32) error {
	if err := m.free(name); err != nil {
		return err
	}
	m.V[name] = v
	return nil
}

// addText is add of a text.
func (m *Sample) addText(name, s string) error {
	if err := m.free(name); err != nil {
		return err
	}
	if m.Texts == nil {
		m.Texts = map[string]string{}
	}
	m.Texts[name] = s
	return nil
}

// free reports whether there is room for a value of that name.
func (m *Sample) free(name string) error {
	_, number := m.V[name]
	_, text := m.Texts[name]
	if number || text {
		return fmt.Errorf("%s comes twice", clip(name))
	}
	if len(m.V)+len(m.Texts) == MaxFeatures {
		return ErrTooLarge
	}
	return nil
}

func (m *Sample) fromCBOR(b []byte) error {
	var w wireSample
	if err := cbor.Decode(b, &w); err != nil {
		return err
	}
	m.T = w.T
	r := cbor.Reader{B: w.V}
	n, err := r.Len(cbor.Map)
	if err != nil {
		return err
	}
	for range n {
		name, err := r.Text()
		if err != nil {
			return err
		}
		if r.Kind() == cbor.Text {
			s, err := r.Text()
			if err := firstError(err, m.addText(name, s)); err != nil {
				return err
			}
			continue
		}
		v, err := r.Float32()
		if err != nil {
			return err
		}
		if err := m.add(name, v); err != nil {
			return err
		}
	}
	return nil
}
