package protocol

import (
	"fmt"
	"strconv"

	"github.com/sandpiper-edge/sandpiper/protocol/internal/cbor"
	"github.com/sandpiper-edge/sandpiper/protocol/internal/json"
)

// A Truth is what a prediction should have been, on sp1/F/d/D/y/MODEL, named
// by stream and time of its window's last sample, or by the CORR of the
// request and, where two users may have used the same, its USER.
// JSON or CBOR, told apart by the first byte:
//
//	{"s":"pump-3","t":1767225600000,"y":[17.25]}
//	{"corr":"42","y":[17.25]}
//	{"user":"ann","corr":"42","y":[17.25]}
type Truth struct {
	Stream string
	T      int64  // UTC ms
	User   string // with Corr only
	Corr   string
	Y      []float32 // raw units, as in the reply
}

func (m *Truth) check() error {
	if (m.Corr == "") == (m.Stream == "") || m.Corr != "" && m.T != 0 || m.Stream != "" && m.User != "" {
		return fmt.Errorf("%w: a truth names s and t, or corr and perhaps user", ErrInvalid)
	}
	if m.User != "" {
		if err := CheckID(m.User); err != nil {
			return err
		}
	}
	if len(m.Y) == 0 || len(m.Y) > MaxWindowValues {
		return fmt.Errorf("%w: y has %d values, want 1 to %d", ErrInvalid, len(m.Y), MaxWindowValues)
	}
	for _, v := range m.Y {
		if !finite(v) {
			return fmt.Errorf("%w: y is not finite", ErrInvalid)
		}
	}
	return firstError(CheckID(m.Corr+m.Stream), checkTime("t", m.T))
}

// AppendJSON appends m as JSON.
func (m Truth) AppendJSON(b []byte) ([]byte, error) {
	if err := m.check(); err != nil {
		return b, fmt.Errorf("encode truth: %w", err)
	}
	switch {
	case m.User != "":
		b = json.AppendString(append(b, `{"user":`...), m.User)
		b = json.AppendString(append(b, `,"corr":`...), m.Corr)
	case m.Corr != "":
		b = json.AppendString(append(b, `{"corr":`...), m.Corr)
	default:
		b = json.AppendString(append(b, `{"s":`...), m.Stream)
		b = strconv.AppendInt(append(b, `,"t":`...), m.T, 10)
	}
	b = append(b, `,"y":[`...)
	for i, v := range m.Y {
		if i > 0 {
			b = append(b, ',')
		}
		b = json.AppendFloat32(b, v)
	}
	return append(b, "]}"...), nil
}

type wireTruth struct {
	User   string          `cbor:"user,omitempty"`
	Corr   string          `cbor:"corr,omitempty"`
	Stream string          `cbor:"s,omitempty"`
	T      int64           `cbor:"t,omitempty"`
	Y      cbor.RawMessage `cbor:"y"`
}

// AppendBinary appends m as CBOR.
func (m Truth) AppendBinary(b []byte) ([]byte, error) {
	if err := m.check(); err != nil {
		return b, fmt.Errorf("encode truth: %w", err)
	}
	return cbor.Append(b, wireTruth{User: m.User, Corr: m.Corr, Stream: m.Stream, T: m.T, Y: appendFloats(nil, m.Y)})
}

// UnmarshalBinary decodes b, JSON or CBOR.
func (m *Truth) UnmarshalBinary(b []byte) error {
	*m = Truth{}
	return decodeEither(b, "truth", m)
}

func (m *Truth) fromJSON(r *json.Reader) error {
	var has fieldSet
	return r.Object(func(key string) (err error) {
		switch key {
		case "s":
			m.Stream, err = r.String()
			return firstError(err, has.add(fieldS, key))
		case "t":
			m.T, err = r.Int(MaxInteger)
			return firstError(err, has.add(fieldT, key))
		case "corr":
			m.Corr, err = r.String()
			return firstError(err, has.add(fieldDL, key))
		case "user":
			m.User, err = r.String()
			return firstError(err, has.add(fieldShape, key))
		case "y":
			if err := has.add(fieldX, key); err != nil {
				return err
			}
			m.Y, err = jsonFloats(r)
			return err
		}
		return unknownField(key, "s, t, user, corr or y")
	})
}

func (m *Truth) fromCBOR(b []byte) (err error) {
	var w wireTruth
	if err := cbor.Decode(b, &w); err != nil {
		return err
	}
	m.User, m.Corr, m.Stream, m.T = w.User, w.Corr, w.Stream, w.T
	m.Y, err = readFloats(w.Y)
	return err
}
