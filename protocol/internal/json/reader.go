package json

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Errors of a Reader. They come wrapped with the position.
var (
	ErrSyntax = errors.New("not JSON")
	ErrDepth  = errors.New("nested too deeply")
	ErrRange  = errors.New("number out of range")
	ErrKey    = errors.New("repeated or unsuitable key")
)

// A Reader reads one JSON value from the left to the right without building
// a tree. The zero value with B set is ready. After an error its position is
// undefined.
type Reader struct {
	B     []byte
	i     int
	depth int
}

// Errorf returns an error that wraps err and names the position.
func (r *Reader) errorf(err error, format string, a ...any) error {
	return fmt.Errorf("%w at byte %d: %s", err, r.i, fmt.Sprintf(format, a...))
}

// Peek skips white space and returns the next byte, or 0 at the end.
func (r *Reader) Peek() byte {
	for ; r.i < len(r.B); r.i++ {
		switch c := r.B[r.i]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// End returns an error unless only white space is left.
func (r *Reader) End() error {
	if r.Peek() != 0 || r.i < len(r.B) {
		return r.errorf(ErrSyntax, "bytes behind the value")
	}
	return nil
}

func (r *Reader) expect(c byte) error {
	if got := r.Peek(); got != c {
		if r.i >= len(r.B) {
			return r.errorf(ErrSyntax, "ends where %q should be", c)
		}
		return r.errorf(ErrSyntax, "%q where %q should be", got, c)
	}
	r.i++
	return nil
}

// list reads open, items separated by commas, and close.
func (r *Reader) list(opening, closing byte, item func() error) error {
	if err := r.expect(opening); err != nil {
		return err
	}
	if r.depth++; r.depth > MaxDepth {
		return r.errorf(ErrDepth, "more than %d levels", MaxDepth)
	}
	if r.Peek() != closing {
		for {
			if err := item(); err != nil {
				return err
			}
			if r.Peek() != ',' {
				break
			}
			r.i++
		}
	}
	r.depth--
	return r.expect(closing)
}

// Array reads an array and calls item for each element, which it must read.
func (r *Reader) Array(item func() error) error { return r.list('[', ']', item) }

// Object reads an object and calls field with each key; field must read the
// value. The caller looks for repeated keys.
func (r *Reader) Object(field func(key string) error) error {
	return r.list('{', '}', func() error {
		key, err := r.String()
		if err != nil {
			return err
		}
		if err := r.expect(':'); err != nil {
			return err
		}
		return field(key)
	})
}

// String reads a string.
func (r *Reader) String() (string, error) {
	if err := r.expect('"'); err != nil {
		return "", err
	}
	start := r.i
	for ; r.i < len(r.B); r.i++ {
		switch c := r.B[r.i]; {
		case c == '"':
			s := r.B[start:r.i]
			r.i++
			if !utf8.Valid(s) {
				return "", r.errorf(ErrSyntax, "string is not UTF-8")
			}
			return string(s), nil
		case c == '\\':
			return r.escaped(start)
		case c < ' ':
			return "", r.errorf(ErrSyntax, "control character in a string")
		}
	}
	return "", r.errorf(ErrSyntax, "string does not end")
}

// escaped reads the rest of a string that began at start and has its first
// backslash at r.i.
func (r *Reader) escaped(start int) (string, error) {
	out := append([]byte(nil), r.B[start:r.i]...)
	for r.i < len(r.B) {
		c := r.B[r.i]
		r.i++
		switch {
		case c == '"':
			if !utf8.Valid(out) {
				return "", r.errorf(ErrSyntax, "string is not UTF-8")
			}
			return string(out), nil
		case c < ' ':
			return "", r.errorf(ErrSyntax, "control character in a string")
		case c != '\\':
			out = append(out, c)
		default:
			var err error
			if out, err = r.escape(out); err != nil {
				return "", err
			}
		}
	}
	return "", r.errorf(ErrSyntax, "string does not end")
}

// escape reads what follows a backslash and appends what it stands for.
func (r *Reader) escape(out []byte) ([]byte, error) {
	if r.i >= len(r.B) {
		return nil, r.errorf(ErrSyntax, "string does not end")
	}
	c := r.B[r.i]
	r.i++
	switch c {
	case '"', '\\', '/':
		return append(out, c), nil
	case 'b':
		return append(out, '\b'), nil
	case 'f':
		return append(out, '\f'), nil
	case 'n':
		return append(out, '\n'), nil
	case 'r':
		return append(out, '\r'), nil
	case 't':
		return append(out, '\t'), nil
	case 'u':
		u, err := r.hex4()
		if err != nil {
			return nil, err
		}
		if utf16.IsSurrogate(u) {
			if r.i+1 >= len(r.B) || r.B[r.i] != '\\' || r.B[r.i+1] != 'u' {
				return nil, r.errorf(ErrSyntax, "half of a surrogate pair")
			}
			r.i += 2
			low, err := r.hex4()
			if err != nil {
				return nil, err
			}
			if u = utf16.DecodeRune(u, low); u == utf8.RuneError {
				return nil, r.errorf(ErrSyntax, "half of a surrogate pair")
			}
		}
		return utf8.AppendRune(out, u), nil
	}
	return nil, r.errorf(ErrSyntax, "unknown escape %q", c)
}

func (r *Reader) hex4() (rune, error) {
	if len(r.B)-r.i < 4 {
		return 0, r.errorf(ErrSyntax, "string does not end")
	}
	n, err := strconv.ParseUint(string(r.B[r.i:r.i+4]), 16, 16)
	if err != nil {
		return 0, r.errorf(ErrSyntax, "bad \\u escape")
	}
	r.i += 4
	return rune(n), nil
}

// pow10 are the powers of ten that float64 holds exactly.
var pow10 = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// Float32 reads a number: the decimal is rounded to float64 and that to
// float32. A number that is infinite in float32 is ErrRange.
func (r *Reader) Float32() (float32, error) {
	n, err := r.number()
	if err != nil {
		return 0, err
	}
	var f float64
	if n.exact {
		// An integer below 2⁵³ and a power of ten up to 10²² are both exact,
		// so one division rounds correctly (Clinger 1990).
		f = float64(n.mantissa) / pow10[n.fraction]
		if n.negative {
			f = -f
		}
	} else if f, err = strconv.ParseFloat(string(n.text), 64); err != nil {
		return 0, r.errorf(ErrRange, "%.40s", n.text)
	}
	v := float32(f)
	if math.IsInf(float64(v), 0) {
		return 0, r.errorf(ErrRange, "%.40s does not fit in float32", n.text)
	}
	return v, nil
}

// Int reads an integer from 0 to most.
func (r *Reader) Int(most int64) (int64, error) {
	n, err := r.number()
	if err != nil {
		return 0, err
	}
	if !n.exact || n.fraction != 0 || n.negative || n.point || n.mantissa > uint64(most) {
		return 0, r.errorf(ErrRange, "%.40s, want an integer from 0 to %d", n.text, most)
	}
	return int64(n.mantissa), nil
}

// A number is the parsed text of one: mantissa / 10^fraction if exact.
type number struct {
	text     []byte
	mantissa uint64
	fraction int
	negative bool
	point    bool
	exact    bool
}

// number reads the grammar of RFC 8259 §6.
func (r *Reader) number() (n number, err error) {
	r.Peek()
	start := r.i
	b := r.B
	if r.i < len(b) && b[r.i] == '-' {
		n.negative = true
		r.i++
	}
	digits := r.digits(&n)
	if digits == 0 || digits > 1 && b[r.i-digits] == '0' {
		return n, r.errorf(ErrSyntax, "not a number")
	}
	if r.i < len(b) && b[r.i] == '.' {
		r.i++
		n.point = true
		if n.fraction = r.digits(&n); n.fraction == 0 {
			return n, r.errorf(ErrSyntax, "no digit behind the point")
		}
		digits += n.fraction
	}
	n.exact = digits <= 18 && n.mantissa < 1<<53
	if r.i < len(b) && b[r.i]|0x20 == 'e' {
		n.exact = false
		if r.i++; r.i < len(b) && (b[r.i] == '+' || b[r.i] == '-') {
			r.i++
		}
		var exponent number
		if r.digits(&exponent) == 0 {
			return n, r.errorf(ErrSyntax, "no digit in the exponent")
		}
	}
	n.text = b[start:r.i]
	return n, nil
}

// digits reads digits into n.mantissa, which wraps beyond 19, and returns how
// many.
func (r *Reader) digits(n *number) int {
	start := r.i
	for ; r.i < len(r.B); r.i++ {
		c := r.B[r.i] - '0'
		if c > 9 {
			break
		}
		n.mantissa = n.mantissa*10 + uint64(c)
	}
	return r.i - start
}

// Check returns nil if b is one JSON value without repeated keys in which
// every key is printable ASCII without capitals.
func Check(b []byte) error {
	r := Reader{B: b}
	if err := r.check(); err != nil {
		return err
	}
	return r.End()
}

func (r *Reader) check() error {
	switch r.Peek() {
	case '{':
		seen := map[string]bool{}
		return r.Object(func(key string) error {
			for i := range len(key) {
				if c := key[i]; c < '!' || c > '~' || 'A' <= c && c <= 'Z' {
					return r.errorf(ErrKey, "%.60q", key)
				}
			}
			if seen[key] {
				return r.errorf(ErrKey, "%.60q twice", key)
			}
			seen[key] = true
			return r.check()
		})
	case '[':
		return r.Array(r.check)
	}
	return r.scalar()
}

// Skip reads one value, whatever its keys are.
func (r *Reader) Skip() error {
	switch r.Peek() {
	case '{':
		return r.Object(func(string) error { return r.Skip() })
	case '[':
		return r.Array(r.Skip)
	}
	return r.scalar()
}

// scalar reads a string, a number or a word.
func (r *Reader) scalar() error {
	switch c := r.Peek(); c {
	case '"':
		_, err := r.String()
		return err
	case 't', 'f', 'n':
		for _, word := range [...]string{"true", "false", "null"} {
			if word[0] == c && r.i+len(word) <= len(r.B) && string(r.B[r.i:r.i+len(word)]) == word {
				r.i += len(word)
				return nil
			}
		}
		return r.errorf(ErrSyntax, "not a value")
	default:
		_, err := r.number()
		return err
	}
}

// Bool reads true or false.
func (r *Reader) Bool() (bool, error) {
	c := r.Peek()
	if c != 't' && c != 'f' {
		return false, r.errorf(ErrSyntax, "want true or false")
	}
	return c == 't', r.scalar()
}

// AppendFloat32 appends the shortest decimal that gives f again, as ES6
// writes numbers. f must be finite.
func AppendFloat32(b []byte, f float32) []byte {
	if a := math.Abs(float64(f)); a != 0 && (a < 1e-6 || a >= 1e21) {
		return strconv.AppendFloat(b, float64(f), 'e', -1, 32)
	}
	return strconv.AppendFloat(b, float64(f), 'f', -1, 32)
}

const hexDigits = "0123456789abcdef"

// AppendString appends s quoted. Bytes that are not UTF-8 become U+FFFD.
func AppendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', byte(c))
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			b = utf8.AppendRune(b, c)
		}
	}
	return append(b, '"')
}
