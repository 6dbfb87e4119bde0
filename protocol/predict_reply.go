package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/sandpiper-edge/sandpiper/protocol/internal/cbor"
	"github.com/sandpiper-edge/sandpiper/protocol/internal/json"
)

// A PredictReply answers a PredictRequest in the encoding of the request. It
// has either Y or Error.
//
//	{"id":"42","model":"turbofan","version":"turbofan:v3","y":[112.25],"us":31}
//	{"id":"43","model":"gait","version":"gait:v1","y":[0.02,0.98],"label":"walks","us":20}
//	{"id":"44","model":"valve","version":"valve:v2","y":[3.41],"anomaly":true,"us":55}
//	{"id":"42","error":{"code":"bad_shape","message":"…","want":"30 rows","got":"29 rows"}}
type PredictReply struct {
	ID      string    // CORR of the request's topic
	Model   string    // the model's name
	Version string    // NAME:vN that answered
	Y       []float32 // raw units, flat, row-major by step; finite
	Label   string    // of a classifier: the class that y names
	Anomaly *bool     // of a detector: whether y, the score, is above the model's threshold
	US      uint32    // microseconds in the kernel
	Error   *RequestError
}

func (m *PredictReply) check() error {
	if (m.Error == nil) == (len(m.Y) == 0) {
		return fmt.Errorf("%w: a reply has either y or an error", ErrInvalid)
	}
	for _, v := range m.Y {
		if !finite(v) {
			return fmt.Errorf("%w: y is not finite", ErrInvalid)
		}
	}
	if m.Error != nil && (m.Label != "" || m.Anomaly != nil) {
		return fmt.Errorf("%w: an error with a label or an anomaly", ErrInvalid)
	}
	if e := m.Error; e != nil {
		if err := firstError(checkOneOf("code", e.Code, CodeBadRequest, CodeBadShape, CodeNoModel, CodeNotReady,
			CodeExpired, CodeBusy, CodeDenied, CodeInternal), checkLen("message", len(e.Message), 4*MaxText),
			checkLen("want", len(e.Want), 4*MaxText), checkLen("got", len(e.Got), 4*MaxText)); err != nil {
			return err
		}
	}
	return firstError(checkLen("y", len(m.Y), MaxWindowValues), checkLen("id", len(m.ID), MaxID),
		checkLen("model", len(m.Model), MaxID), checkLen("version", len(m.Version), MaxID+MaxName), checkLen("label", len(m.Label), MaxName))
}

// AppendJSON appends m as JSON, y as the shortest decimals that give the same
// float32.
func (m PredictReply) AppendJSON(b []byte) ([]byte, error) {
	if err := m.check(); err != nil {
		return b, fmt.Errorf("encode reply: %w", err)
	}
	b = json.AppendString(append(b, `{"id":`...), m.ID)
	if m.Model != "" {
		b = json.AppendString(append(b, `,"model":`...), m.Model)
	}
	if m.Version != "" {
		b = json.AppendString(append(b, `,"version":`...), m.Version)
	}
	if e := m.Error; e != nil {
		b = json.AppendString(append(b, `,"error":{"code":`...), e.Code)
		b = json.AppendString(append(b, `,"message":`...), e.Message)
		if e.Want != "" {
			b = json.AppendString(append(b, `,"want":`...), e.Want)
		}
		if e.Got != "" {
			b = json.AppendString(append(b, `,"got":`...), e.Got)
		}
		if e.RetryMS != 0 {
			b = strconv.AppendUint(append(b, `,"retry_ms":`...), uint64(e.RetryMS), 10)
		}
		return append(b, "}}"...), nil
	}
	b = append(b, `,"y":[`...)
	for i, v := range m.Y {
		if i > 0 {
			b = append(b, ',')
		}
		b = json.AppendFloat32(b, v)
	}
	b = append(b, ']')
	if m.Label != "" {
		b = json.AppendString(append(b, `,"label":`...), m.Label)
	}
	if m.Anomaly != nil {
		b = strconv.AppendBool(append(b, `,"anomaly":`...), *m.Anomaly)
	}
	b = strconv.AppendUint(append(b, `,"us":`...), uint64(m.US), 10)
	return append(b, '}'), nil
}

// wireReply is the CBOR form; y is an array of numbers, as in JSON.
type wireReply struct {
	ID      string          `cbor:"id"`
	Model   string          `cbor:"model,omitempty"`
	Version string          `cbor:"version,omitempty"`
	Y       cbor.RawMessage `cbor:"y,omitempty"`
	Label   string          `cbor:"label,omitempty"`
	Anomaly *bool           `cbor:"anomaly,omitempty"`
	US      uint32          `cbor:"us,omitempty"`
	Error   *RequestError   `cbor:"error,omitempty"`
}

// AppendCBOR appends m as CBOR, y as an array of float32.
func (m PredictReply) AppendCBOR(b []byte) ([]byte, error) {
	if err := m.check(); err != nil {
		return b, fmt.Errorf("encode reply: %w", err)
	}
	w := wireReply{ID: m.ID, Model: m.Model, Version: m.Version, Label: m.Label, Anomaly: m.Anomaly, US: m.US, Error: m.Error}
	if m.Error == nil {
		w.Y = appendFloats(nil, m.Y)
	}
	return cbor.Append(b, w)
}

// appendFloats appends an array of float32.
func appendFloats(b []byte, v []float32) []byte {
	b = cbor.AppendHead(b, cbor.Array, uint64(len(v)))
	for _, f := range v {
		b = binary.BigEndian.AppendUint32(append(b, 0xfa), math.Float32bits(f))
	}
	return b
}

// readFloats reads an array of at most MaxWindowValues numbers.
func readFloats(b []byte) ([]float32, error) {
	r := cbor.Reader{B: b}
	n, err := r.Len(cbor.Array)
	if err != nil {
		return nil, err
	}
	if n > MaxWindowValues {
		return nil, ErrTooLarge
	}
	v := make([]float32, n)
	for i := range v {
		if v[i], err = r.Float32(); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// AppendReply appends m in JSON if asJSON, else in CBOR.
func (m PredictReply) AppendReply(b []byte, asJSON bool) ([]byte, error) {
	if asJSON {
		return m.AppendJSON(b)
	}
	return m.AppendCBOR(b)
}

// DecodePredictReply decodes b, JSON or CBOR.
func DecodePredictReply(b []byte) (PredictReply, error) {
	var m PredictReply
	if len(b) > MaxPayload {
		return m, fmt.Errorf("decode reply: %w: %d bytes, at most %d", ErrTooLarge, len(b), MaxPayload)
	}
	var err error
	if r := (json.Reader{B: b}); r.Peek() == '{' {
		err = m.decodeJSON(b)
	} else {
		err = m.decodeCBOR(b)
	}
	if err != nil {
		return PredictReply{}, fmt.Errorf("decode reply: %w: %v", ErrMalformed, err)
	}
	if err := m.check(); err != nil {
		return PredictReply{}, fmt.Errorf("decode reply: %w", err)
	}
	return m, nil
}

func (m *PredictReply) decodeCBOR(b []byte) error {
	var w wireReply
	if err := cbor.Decode(b, &w); err != nil {
		return err
	}
	*m = PredictReply{ID: w.ID, Model: w.Model, Version: w.Version, Label: w.Label, Anomaly: w.Anomaly, US: w.US, Error: w.Error}
	if len(w.Y) == 0 {
		return nil
	}
	var err error
	m.Y, err = readFloats(w.Y)
	return err
}

var errTwice = errors.New("a field comes twice")

func (m *PredictReply) decodeJSON(b []byte) error {
	r := json.Reader{B: b}
	seen := map[string]bool{}
	err := r.Object(func(key string) (err error) {
		if seen[key] {
			return errTwice
		}
		seen[key] = true
		switch key {
		case "id":
			m.ID, err = r.String()
		case "model":
			m.Model, err = r.String()
		case "version":
			m.Version, err = r.String()
		case "y":
			m.Y, err = jsonFloats(&r)
		case "label":
			m.Label, err = r.String()
		case "anomaly":
			m.Anomaly = new(bool)
			*m.Anomaly, err = r.Bool()
		case "us":
			var n int64
			n, err = r.Int(math.MaxUint32)
			m.US = uint32(n)
		case "error":
			m.Error = new(RequestError)
			err = m.Error.decodeJSON(&r)
		default:
			err = unknownField(key, "id, model, version, y, label, anomaly, us or error")
		}
		return err
	})
	if err != nil {
		return err
	}
	return r.End()
}

func jsonFloats(r *json.Reader) ([]float32, error) {
	var y []float32
	err := r.Array(func() error {
		v, err := r.Float32()
		if err != nil {
			return err
		}
		if len(y) == MaxWindowValues {
			return ErrTooLarge
		}
		y = append(y, v)
		return nil
	})
	return y, err
}

func (e *RequestError) decodeJSON(r *json.Reader) error {
	seen := map[string]bool{}
	return r.Object(func(key string) (err error) {
		if seen[key] {
			return errTwice
		}
		seen[key] = true
		switch key {
		case "code":
			e.Code, err = r.String()
		case "message":
			e.Message, err = r.String()
		case "want":
			e.Want, err = r.String()
		case "got":
			e.Got, err = r.String()
		case "retry_ms":
			var n int64
			n, err = r.Int(math.MaxUint32)
			e.RetryMS = uint32(n)
		default:
			err = unknownField(key, "code, message, want, got or retry_ms")
		}
		return err
	})
}
