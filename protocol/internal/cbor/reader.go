package cbor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// Major types (RFC 8949 §3.1).
const (
	Uint   = 0
	Negint = 1
	Bytes  = 2
	Text   = 3
	Array  = 4
	Map    = 5
	Simple = 7
)

// Errors of a Reader.
var (
	ErrType      = errors.New("CBOR value of another type than expected")
	ErrTruncated = errors.New("CBOR ends early")
	ErrRange     = errors.New("number is not finite in float32")
	ErrInteger   = errors.New("CBOR value is not an integer")
	ErrForm      = errors.New("CBOR with a tag, or of reserved or indefinite length")
	ErrLimit     = errors.New("CBOR that is nested too deeply or too long")
	ErrTrailing  = errors.New("bytes behind the CBOR value")
)

// Kind returns the major type of a value that begins with b.
func Kind(b byte) byte { return b >> 5 }

// Valid returns nil if b is exactly one well-formed value within the limits;
// what a decoder takes has this form. An error names the byte.
func Valid(b []byte) error {
	r := Reader{B: b}
	err := r.skip(0)
	switch {
	case errors.Is(err, ErrTruncated):
		r.at = len(b)
	case err == nil && r.i < len(b):
		r.at, err = r.i, ErrTrailing
	}
	if err != nil {
		return fmt.Errorf("at byte %d: %w", r.at, err)
	}
	return nil
}

// A Reader reads rows of numbers without reflection. B must have passed Valid
// or be a RawMessage; a Reader still checks every bound.
type Reader struct {
	B  []byte
	i  int
	at int // where the value begins whose head was read last
}

// At returns where the value begins that was read last, or could not be.
func (r *Reader) At() int { return r.at }

// Kind returns the major type of the next value, or 255 at the end.
func (r *Reader) Kind() byte {
	if r.i >= len(r.B) {
		return 255
	}
	return Kind(r.B[r.i])
}

// head reads the initial byte and its argument.
func (r *Reader) head() (major, info byte, n uint64, err error) {
	r.at = r.i
	if r.i >= len(r.B) {
		return 0, 0, 0, ErrTruncated
	}
	b := r.B[r.i]
	major, info = b>>5, b&31
	r.i++
	if info < 24 {
		return major, info, uint64(info), nil
	}
	if info > 27 { // reserved, or of indefinite length
		return 0, 0, 0, ErrType
	}
	size := 1 << (info - 24)
	if len(r.B)-r.i < size {
		return 0, 0, 0, ErrTruncated
	}
	a := r.B[r.i:]
	switch size {
	case 1:
		n = uint64(a[0])
	case 2:
		n = uint64(binary.BigEndian.Uint16(a))
	case 4:
		n = uint64(binary.BigEndian.Uint32(a))
	default:
		n = binary.BigEndian.Uint64(a)
	}
	r.i += size
	return major, info, n, nil
}

// skip reads a value that is nested in depth others.
func (r *Reader) skip(depth int) error {
	major, info, n, err := r.head()
	if errors.Is(err, ErrType) {
		return ErrForm
	}
	if err != nil {
		return err
	}
	switch left := uint64(len(r.B) - r.i); major {
	case Bytes, Text:
		if n > left {
			return ErrTruncated
		}
		r.i += int(n)
		return nil
	case Array, Map:
		if depth == MaxDepth || major == Array && n > MaxElements || major == Map && n > MaxPairs {
			return ErrLimit
		}
		if major == Map {
			n *= 2
		}
		for range n {
			if err := r.skip(depth + 1); err != nil {
				return err
			}
		}
		return nil
	case Uint, Negint:
		return nil
	case Simple:
		if info != 24 || n >= 32 { // RFC 8949 §3.3
			return nil
		}
	}
	return ErrForm
}

// Len reads the head of an Array or Map and returns its length, which is at
// most the number of bytes left.
func (r *Reader) Len(kind byte) (int, error) {
	major, _, n, err := r.head()
	if err != nil {
		return 0, err
	}
	if major != kind {
		return 0, ErrType
	}
	if n > uint64(len(r.B)-r.i) {
		return 0, ErrTruncated
	}
	return int(n), nil
}

// Bytes reads a byte string. The result is part of B.
func (r *Reader) Bytes() ([]byte, error) { return r.str(Bytes) }

// Text reads a text string.
func (r *Reader) Text() (string, error) {
	b, err := r.str(Text)
	if err == nil && !utf8.Valid(b) {
		err = ErrType
	}
	return string(b), err
}

func (r *Reader) str(kind byte) ([]byte, error) {
	n, err := r.Len(kind)
	if err != nil {
		return nil, err
	}
	r.i += n
	return r.B[r.i-n : r.i], nil
}

// Int reads an integer from 0 to most.
func (r *Reader) Int(most int64) (int64, error) {
	major, _, n, err := r.head()
	if err == nil && (major != Uint || n > uint64(most)) {
		err = fmt.Errorf("%w from 0 to %d", ErrInteger, most)
	}
	if err != nil {
		return 0, err
	}
	return int64(n), nil
}

// Float32 reads an integer or a float of any width, rounded to float64 and
// that to float32. The result is finite.
func (r *Reader) Float32() (float32, error) {
	major, info, n, err := r.head()
	if err != nil {
		return 0, err
	}
	var f float64
	switch {
	case major == Uint:
		f = float64(n)
	case major == Negint:
		f = -1 - float64(n)
	case major == Simple && info == 25:
		f = float16(uint16(n))
	case major == Simple && info == 26:
		f = float64(math.Float32frombits(uint32(n)))
	case major == Simple && info == 27:
		f = math.Float64frombits(n)
	default:
		return 0, ErrType
	}
	v := float32(f)
	if math.IsNaN(f) || math.IsInf(float64(v), 0) {
		return 0, ErrRange
	}
	return v, nil
}

// float16 converts IEEE 754 binary16 (RFC 8949 appendix D).
func float16(h uint16) float64 {
	exponent, mantissa := int(h>>10&0x1f), float64(h&0x3ff)
	var f float64
	switch exponent {
	case 0:
		f = math.Ldexp(mantissa, -24)
	case 31:
		if f = math.Inf(1); mantissa != 0 {
			f = math.NaN()
		}
	default:
		f = math.Ldexp(mantissa+1024, exponent-25)
	}
	if h&0x8000 != 0 {
		return -f
	}
	return f
}

// AppendHead appends the shortest head of major type kind with argument n.
func AppendHead(b []byte, kind byte, n uint64) []byte {
	kind <<= 5
	switch {
	case n < 24:
		return append(b, kind|byte(n))
	case n <= math.MaxUint8:
		return append(b, kind|24, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, kind|25), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, kind|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, kind|27), n)
}
