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

// A PredictRequest asks a device for one prediction. JSON or CBOR, told apart
// by the first byte behind white space: see IsJSON.
//
//	{"x":[[1.5,20],[1.6,21]],"dl":500,"s":"pump-3","t":1767225600000}
//	{"x":[{"flow":1.5,"temp":20},{"flow":1.6,"temp":21}]}
//	[[1.5,20],[1.6,21]]
//	{"x":[{"flow":1.5,"mode":"idle"},{"flow":1.6,"mode":"full"}]}
//
// In CBOR x may also be one byte string of little-endian float32, row-major,
// beside shape: [steps, features]. Bare rows are one window without options.
type PredictRequest struct {
	// Rows is row-major, oldest row first, features in schema order, in the
	// sensors' own units: the device scales, a client must not.
	Rows            []float32
	Steps, Features int
	DeadlineMS      uint32 // relative to arrival; 0 for none
	Stream          string // of a model that keeps state
	T               int64  // UTC ms of the last row, which models that read the calendar need; 0: not said
}

// DecodePredictRequest decodes b, JSON or CBOR. Objects are brought into the
// order of features, which every row must have, each name once. If features
// is empty, rows must be arrays and the first one's length counts.
//
// Errors are *RequestError: CodeBadRequest for what cannot be read,
// CodeBadShape for rows that do not fit features. How many steps a model
// wants is for the caller to check.
func DecodePredictRequest(b []byte, features []string) (PredictRequest, error) {
	return DecodePredictTexts(b, features, nil)
}

// DecodePredictTexts is DecodePredictRequest where features are texts: those that
// have a dictionary, ascending. Rows get each text's Place in it. A number in the
// place of a text is CodeBadRequest, and so are packed rows.
func DecodePredictTexts(b []byte, features []string, dictionaries [][]string) (PredictRequest, error) {
	if len(b) > MaxPayload {
		return PredictRequest{}, &RequestError{Code: CodeBadRequest, Message: "the request is too large",
			Want: fmt.Sprintf("at most %d bytes", MaxPayload), Got: strconv.Itoa(len(b))}
	}
	d := requestDecoder{features: features, dictionaries: dictionaries, width: len(features)}
	var err error
	if IsJSON(b) {
		err = d.json(&json.Reader{B: b})
	} else {
		err = d.cbor(b)
	}
	if err == nil {
		err = d.finish()
	}
	if err != nil {
		var re *RequestError
		if !errors.As(err, &re) {
			re = &RequestError{Code: CodeBadRequest, Message: err.Error(), Want: rowsHint}
			if errors.Is(err, json.ErrRange) || errors.Is(err, cbor.ErrRange) || errors.Is(err, cbor.ErrInteger) {
				re.Want = "" // the form is right
			}
		}
		return PredictRequest{}, re
	}
	return d.m, nil
}

// IsJSON reports whether a request, sample or truth is to be read as JSON;
// otherwise it is CBOR. A reply is written as its request came.
//
// JSON begins with { or [, a message in CBOR, an array or a map, with a byte
// from 0x80 to 0xbf (RFC 8949 §3.1). Nothing at all and any other byte are
// neither, and count as JSON: a person who mistyped can read the answer.
func IsJSON(b []byte) bool {
	r := json.Reader{B: b}
	major := r.Peek() >> 5
	return major != 4 && major != 5
}

// A requestDecoder gathers rows. Width is the number of features, 0 until
// known.
type requestDecoder struct {
	m        PredictRequest
	features []string
	width    int

	dictionaries [][]string // of features that are texts
	has          fieldSet
	seen         []bool // of a row that is an object
}

// A fieldSet remembers which fields came.
type fieldSet uint8

const (
	fieldX fieldSet = 1 << iota
	fieldShape
	fieldDL
	fieldS
	fieldT
)

// add adds f, or returns an error if it is there already.
func (s *fieldSet) add(f fieldSet, key string) error {
	if *s&f != 0 {
		return &RequestError{Code: CodeBadRequest, Message: "the field " + key + " comes twice"}
	}
	*s |= f
	return nil
}

func unknownField(key, allowed string) error {
	return &RequestError{Code: CodeBadRequest, Message: "unknown field", Want: allowed, Got: clip(key)}
}

// clip bounds foreign text that goes into an error.
func clip(s string) string { return fmt.Sprintf("%.48q", s) }

// rowsHint is what a request looks like, for those that do not.
const rowsHint = `rows of numbers, [[1.5,20],[1.6,21]], or {"x":[[1.5,20],[1.6,21]]}`

// emptyRequest names the client that is known to send nothing by mistake.
const emptyRequest = "the request is empty; mosquitto_rr 2.0.11 sends nothing with -f or -s, use -m"

func (d *requestDecoder) json(r *json.Reader) error {
	switch first := r.Peek(); {
	case first == 0 && r.End() == nil:
		return &RequestError{Code: CodeBadRequest, Message: emptyRequest, Want: rowsHint, Got: "no bytes"}
	case first == '[':
		d.has = fieldX
		if err := d.jsonRows(r); err != nil {
			return err
		}
		return r.End()
	case first != '{':
		return &RequestError{Code: CodeBadRequest, Message: "the request is neither JSON nor CBOR", Want: rowsHint,
			Got: clip(string(r.B[:min(len(r.B), 48)]))}
	}
	err := r.Object(func(key string) (err error) {
		switch key {
		case "x":
			if err := d.has.add(fieldX, key); err != nil {
				return err
			}
			return d.jsonRows(r)
		case "dl":
			var n int64
			n, err = r.Int(math.MaxUint32)
			d.m.DeadlineMS = uint32(n)
			return firstError(err, d.has.add(fieldDL, key))
		case "s":
			d.m.Stream, err = r.String()
			return firstError(err, d.has.add(fieldS, key))
		case "t":
			d.m.T, err = r.Int(MaxInteger)
			return firstError(err, d.has.add(fieldT, key))
		}
		return unknownField(key, "x, dl, s or t")
	})
	if err != nil {
		return err
	}
	return r.End()
}

func (d *requestDecoder) jsonRows(r *json.Reader) error {
	if d.width > 0 {
		// A value and its comma take 2 bytes at least.
		d.m.Rows = make([]float32, 0, min(len(r.B)/2+1, MaxWindowValues, 64*d.width))
	}
	start := 0
	number := func() error {
		v, err := d.jsonValue(r, len(d.m.Rows)-start)
		if err != nil {
			return err
		}
		return d.value(v)
	}
	return r.Array(func() error {
		start = len(d.m.Rows)
		if r.Peek() != '{' {
			if err := r.Array(number); err != nil {
				return err
			}
			return d.row(start)
		}
		if err := d.beginObject(); err != nil {
			return err
		}
		if err := r.Object(func(name string) error {
			i, err := d.column(name)
			if err != nil {
				return err
			}
			d.m.Rows[start+i], err = d.jsonValue(r, i)
			return err
		}); err != nil {
			return err
		}
		return d.endObject()
	})
}

// value appends one value of a row that is an array.
func (d *requestDecoder) value(v float32) error {
	if len(d.m.Rows) == MaxWindowValues {
		return &RequestError{Code: CodeBadRequest, Message: "the window is too large",
			Want: fmt.Sprintf("at most %d values", MaxWindowValues)}
	}
	d.m.Rows = append(d.m.Rows, v)
	return nil
}

// row ends a row that is an array and began at start.
func (d *requestDecoder) row(start int) error {
	got := len(d.m.Rows) - start
	if d.width == 0 {
		d.width = got
	}
	if got != d.width || got == 0 {
		return &RequestError{Code: CodeBadShape, Message: fmt.Sprintf("row %d has the wrong length", d.m.Steps+1),
			Want: plural(d.width, "value"), Got: plural(got, "value")}
	}
	d.m.Steps++
	return nil
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// beginObject makes room for a row that is an object.
func (d *requestDecoder) beginObject() error {
	if len(d.features) == 0 {
		return &RequestError{Code: CodeBadRequest, Message: "rows by name need a model that has names; send arrays"}
	}
	if len(d.m.Rows)+d.width > MaxWindowValues {
		return &RequestError{Code: CodeBadRequest, Message: "the window is too large",
			Want: fmt.Sprintf("at most %d values", MaxWindowValues)}
	}
	if d.seen == nil {
		d.seen = make([]bool, d.width)
	}
	clear(d.seen)
	for range d.width {
		d.m.Rows = append(d.m.Rows, 0)
	}
	return nil
}

// column returns the index of a feature that this row did not have yet.
func (d *requestDecoder) column(name string) (int, error) {
	for i, f := range d.features {
		if f == name {
			if d.seen[i] {
				return 0, &RequestError{Code: CodeBadRequest,
					Message: fmt.Sprintf("row %d has %s twice", d.m.Steps+1, clip(name))}
			}
			d.seen[i] = true
			return i, nil
		}
	}
	return 0, &RequestError{Code: CodeBadShape, Message: fmt.Sprintf("row %d has a feature the model does not know", d.m.Steps+1),
		Want: d.names(), Got: clip(name)}
}

func (d *requestDecoder) endObject() error {
	for i, ok := range d.seen {
		if !ok {
			return &RequestError{Code: CodeBadShape, Message: fmt.Sprintf("row %d lacks a feature", d.m.Steps+1),
				Want: clip(d.features[i])}
		}
	}
	d.m.Steps++
	return nil
}

// names lists the features, cut to what an error can hold.
func (d *requestDecoder) names() string {
	s := fmt.Sprint(d.features)
	if len(s) > MaxText/2 {
		return s[:MaxText/2] + "…"
	}
	return s
}

// finish checks the whole.
func (d *requestDecoder) finish() error {
	if d.has&fieldX == 0 {
		return &RequestError{Code: CodeBadRequest, Message: "the field x is missing", Want: "rows"}
	}
	if d.m.Steps == 0 {
		return &RequestError{Code: CodeBadShape, Message: "there are no rows", Want: "1 or more"}
	}
	d.m.Features = d.width
	if d.m.Stream != "" {
		if err := CheckID(d.m.Stream); err != nil {
			return &RequestError{Code: CodeBadRequest, Message: err.Error()}
		}
	}
	return nil
}

func (d *requestDecoder) cbor(b []byte) error {
	if err := cbor.Valid(b); err != nil {
		return &RequestError{Code: CodeBadRequest, Message: "neither JSON nor CBOR " + err.Error(), Want: rowsHint}
	}
	r := cbor.Reader{B: b}
	err := d.cborRequest(&r)
	var re *RequestError
	if err != nil && !errors.As(err, &re) {
		return fmt.Errorf("not a request at byte %d: %w", r.At(), err)
	}
	return err
}

// cborRequest reads a request from well-formed CBOR.
func (d *requestDecoder) cborRequest(r *cbor.Reader) error {
	if r.Kind() == cbor.Array {
		d.has = fieldX
		return d.cborRows(r)
	}
	fields, err := r.Len(cbor.Map)
	if err != nil {
		return err
	}
	var p packedRows
	for range fields {
		key, err := r.Text()
		if err != nil {
			return err
		}
		if err := d.cborField(r, key, &p); err != nil {
			return err
		}
	}
	if p.is {
		return d.packed(p)
	}
	if d.has&fieldShape != 0 {
		return &RequestError{Code: CodeBadRequest, Message: "shape goes with packed x only"}
	}
	return nil
}

func (d *requestDecoder) cborField(r *cbor.Reader, key string, p *packedRows) (err error) {
	var n int64
	switch key {
	case "x":
		if err := d.has.add(fieldX, key); err != nil {
			return err
		}
		if p.is = r.Kind() == cbor.Bytes; !p.is {
			return d.cborRows(r)
		}
		p.b, err = r.Bytes()
		return err
	case "shape":
		if err := d.has.add(fieldShape, key); err != nil {
			return err
		}
		return p.readShape(r)
	case "dl":
		n, err = r.Int(math.MaxUint32)
		d.m.DeadlineMS = uint32(n)
		return firstError(err, d.has.add(fieldDL, key))
	case "s":
		d.m.Stream, err = r.Text()
		return firstError(err, d.has.add(fieldS, key))
	case "t":
		d.m.T, err = r.Int(MaxInteger)
		return firstError(err, d.has.add(fieldT, key))
	}
	return unknownField(key, "x, shape, dl, s or t")
}

// packedRows are rows as little-endian float32 beside their shape.
type packedRows struct {
	is           bool
	b            []byte
	steps, width int // 0 until known
}

func (p *packedRows) readShape(r *cbor.Reader) error {
	n, err := r.Len(cbor.Array)
	if err != nil {
		return err
	}
	var shape [2]int64
	if n != len(shape) {
		return badShape(plural(n, "number"))
	}
	for i := range shape {
		if shape[i], err = r.Int(MaxInteger); err != nil {
			return err
		}
		if shape[i] < 1 || shape[i] > MaxWindowValues {
			return badShape(strconv.FormatInt(shape[i], 10))
		}
	}
	if shape[0]*shape[1] > MaxWindowValues {
		return badShape(fmt.Sprint(shape))
	}
	p.steps, p.width = int(shape[0]), int(shape[1])
	return nil
}

func badShape(got string) error {
	return &RequestError{Code: CodeBadRequest, Message: "packed x has no usable shape",
		Want: fmt.Sprintf("[steps, features], at most %d values", MaxWindowValues), Got: got}
}

func (d *requestDecoder) packed(p packedRows) error {
	if p.steps == 0 {
		return badShape("none")
	}
	for i, words := range d.dictionaries {
		if words != nil {
			return d.wantText(i, "packed numbers")
		}
	}
	if len(p.b) != 4*p.steps*p.width {
		return &RequestError{Code: CodeBadRequest, Message: "packed x does not have its shape",
			Want: plural(4*p.steps*p.width, "byte"), Got: plural(len(p.b), "byte")}
	}
	if d.width > 0 && p.width != d.width {
		return &RequestError{Code: CodeBadShape, Message: "rows have the wrong length",
			Want: plural(d.width, "value"), Got: plural(p.width, "value")}
	}
	d.width, d.m.Steps = p.width, p.steps
	d.m.Rows = make([]float32, p.steps*p.width)
	for i := range d.m.Rows {
		v := math.Float32frombits(binary.LittleEndian.Uint32(p.b[4*i:]))
		if !finite(v) {
			return nonFinite(i, p.width)
		}
		d.m.Rows[i] = v
	}
	return nil
}

func finite(v float32) bool { return math.Float32bits(v)&0x7f800000 != 0x7f800000 }

func nonFinite(i, width int) error {
	return &RequestError{Code: CodeBadRequest, Message: "a value is not finite",
		Got: fmt.Sprintf("row %d, column %d", i/width+1, i%width+1)}
}

// cborRows reads rows as arrays or maps of numbers from well-formed CBOR.
func (d *requestDecoder) cborRows(r *cbor.Reader) error {
	steps, err := r.Len(cbor.Array)
	if err != nil {
		return err
	}
	for range steps {
		start := len(d.m.Rows)
		if r.Kind() == cbor.Map {
			if err := d.cborObject(r, start); err != nil {
				return err
			}
			continue
		}
		n, err := r.Len(cbor.Array)
		if err != nil {
			return err
		}
		for i := range n {
			v, err := d.cborValue(r, i)
			if err != nil {
				return err
			}
			if err := d.value(v); err != nil {
				return err
			}
		}
		if err := d.row(start); err != nil {
			return err
		}
	}
	return nil
}

func (d *requestDecoder) cborObject(r *cbor.Reader, start int) error {
	if err := d.beginObject(); err != nil {
		return err
	}
	n, err := r.Len(cbor.Map)
	if err != nil {
		return err
	}
	for range n {
		name, err := r.Text()
		if err != nil {
			return err
		}
		i, err := d.column(name)
		if err != nil {
			return err
		}
		if d.m.Rows[start+i], err = d.cborValue(r, i); err != nil {
			return err
		}
	}
	return d.endObject()
}

// checkRows verifies what a client is about to send.
func (m *PredictRequest) checkRows() error {
	if m.Steps < 1 || m.Features < 1 || len(m.Rows) > MaxWindowValues || m.Steps > len(m.Rows) ||
		m.Features > len(m.Rows) || m.Steps*m.Features != len(m.Rows) {
		return fmt.Errorf("%w: %d values for %d rows of %d", ErrInvalid, len(m.Rows), m.Steps, m.Features)
	}
	for _, v := range m.Rows {
		if !finite(v) {
			return fmt.Errorf("%w: a value is not finite", ErrInvalid)
		}
	}
	if m.Stream != "" {
		if err := CheckID(m.Stream); err != nil {
			return err
		}
	}
	return checkTime("t", m.T)
}

// AppendJSON appends m as JSON, rows as arrays, numbers as the shortest
// decimals that give the same float32.
func (m PredictRequest) AppendJSON(b []byte) ([]byte, error) {
	if err := m.checkRows(); err != nil {
		return b, fmt.Errorf("encode request: %w", err)
	}
	b = append(b, `{"x":[`...)
	for i, v := range m.Rows {
		switch {
		case i == 0:
			b = append(b, '[')
		case i%m.Features == 0:
			b = append(b, "],["...)
		default:
			b = append(b, ',')
		}
		b = json.AppendFloat32(b, v)
	}
	b = append(b, "]]"...)
	if m.DeadlineMS != 0 {
		b = strconv.AppendUint(append(b, `,"dl":`...), uint64(m.DeadlineMS), 10)
	}
	if m.Stream != "" {
		b = json.AppendString(append(b, `,"s":`...), m.Stream)
	}
	if m.T != 0 {
		b = strconv.AppendInt(append(b, `,"t":`...), m.T, 10)
	}
	return append(b, '}'), nil
}

// wireRequest is what AppendCBOR writes.
type wireRequest struct {
	X     cbor.RawMessage `cbor:"x"`
	Shape []int64         `cbor:"shape,omitempty"`
	DL    uint32          `cbor:"dl,omitempty"`
	S     string          `cbor:"s,omitempty"`
	T     int64           `cbor:"t,omitempty"`
}

// AppendCBOR appends m as CBOR with packed rows.
func (m PredictRequest) AppendCBOR(b []byte) ([]byte, error) {
	if err := m.checkRows(); err != nil {
		return b, fmt.Errorf("encode request: %w", err)
	}
	packed := make([]byte, 0, 4*len(m.Rows))
	for _, v := range m.Rows {
		packed = binary.LittleEndian.AppendUint32(packed, math.Float32bits(v))
	}
	x, err := cbor.Append(nil, packed)
	if err != nil {
		return b, err
	}
	return cbor.Append(b, wireRequest{X: x, Shape: []int64{int64(m.Steps), int64(m.Features)},
		DL: m.DeadlineMS, S: m.Stream, T: m.T})
}
