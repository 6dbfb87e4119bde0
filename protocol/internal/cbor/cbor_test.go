package cbor

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
)

func TestFloat32ReadsEveryNumber(t *testing.T) {
	for _, c := range []struct {
		bytes string
		want  float32
	}{
		{"\x00", 0}, {"\x17", 23}, {"\x18\xff", 255}, {"\x19\x01\x00", 256}, {"\x1a\x00\x01\x00\x00", 65536},
		{"\x1b\x00\x00\x00\x01\x00\x00\x00\x00", 1 << 32}, {"\x20", -1}, {"\x38\x63", -100},
		// RFC 8949 appendix A
		{"\xf9\x00\x00", 0}, {"\xf9\x3c\x00", 1}, {"\xf9\x3e\x00", 1.5}, {"\xf9\x7b\xff", 65504},
		{"\xf9\x00\x01", 5.960464477539063e-8}, {"\xf9\x04\x00", 0.00006103515625}, {"\xf9\xc4\x00", -4},
		{"\xfa\x47\xc3\x50\x00", 100000}, {"\xfa\x7f\x7f\xff\xff", 3.4028234663852886e+38},
		{"\xfb\xc0\x10\x66\x66\x66\x66\x66\x66", -4.1},
	} {
		r := Reader{B: []byte(c.bytes)}
		if got, err := r.Float32(); err != nil || got != c.want || r.Kind() != 255 {
			t.Errorf("%x is %v, %v, want %v", c.bytes, got, err, c.want)
		}
		for n := range len(c.bytes) {
			r := Reader{B: []byte(c.bytes[:n])}
			if _, err := r.Float32(); !errors.Is(err, ErrTruncated) {
				t.Errorf("%d bytes of %x: %v, want ErrTruncated", n, c.bytes, err)
			}
		}
	}
	negative := Reader{B: []byte("\xf9\x80\x00")}
	if v, err := negative.Float32(); err != nil || !math.Signbit(float64(v)) {
		t.Errorf("-0 is %v, %v", v, err)
	}
	for bytes, want := range map[string]error{
		"\xf9\x7c\x00": ErrRange, "\xf9\x7e\x00": ErrRange, "\xfa\x7f\x80\x00\x00": ErrRange,
		"\xfb\x7e\x37\xe4\x3c\x88\x00\x75\x9c": ErrRange, "\xf4": ErrType, "\xf6": ErrType, "\x40": ErrType, "\x80": ErrType, "\xff": ErrType,
	} {
		r := Reader{B: []byte(bytes)}
		if v, err := r.Float32(); !errors.Is(err, want) {
			t.Errorf("%x is %v, %v, want %v", bytes, v, err, want)
		}
	}
}

func TestLenIsBoundedByTheInput(t *testing.T) {
	for _, s := range []string{"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff", "\x9b\xff\xff\xff\xff\xff\xff\xff\xff", "\x9a\x80\x00\x00\x00", "\x82\x00"} {
		r := Reader{B: []byte(s)}
		if n, err := r.Len(Array); !errors.Is(err, ErrTruncated) {
			t.Errorf("%x: Len = %d, %v, want ErrTruncated", s, n, err)
		}
	}
	r := Reader{B: []byte("\x63a\xffb")}
	if _, err := r.Text(); !errors.Is(err, ErrType) {
		t.Errorf("text that is not UTF-8: %v, want ErrType", err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, s := range map[string]string{
		"depth":      strings.Repeat("\x81", MaxDepth+1) + "\x00",
		"indefinite": "\x9f\x00\xff",
		"tag":        "\xc1\x00",
		"two values": "\x00\x00",
		"same key":   "\xa2\x61a\x00\x61a\x01",
		"long array": "\x9a\x00\x01\x00\x01" + strings.Repeat("\x00", MaxElements+1),
	} {
		var v any
		if err := Decode([]byte(s), &v); err == nil {
			t.Errorf("%s decodes to %v", name, v)
		}
	}
}

// FuzzValid holds Valid against the library.
func FuzzValid(f *testing.F) {
	for _, s := range []string{
		"", "\x00", "\x00\x00", "\x18", "\x1c", "\x1f", "\x42a", "\x61\xff", "\x9f\xff", "\xc1\x00", "\xf4", "\xf8\x1f", "\xf8\x20", "\xf9\x7e\x00", "\xff",
		"\x82\x01\x81\x02", "\xa1\x61x\x82\x01\x02", "\xa1\x01", "\xbb\xff\xff\xff\xff\xff\xff\xff\xff",
		strings.Repeat("\x81", MaxDepth) + "\x00", strings.Repeat("\x81", MaxDepth+1) + "\x00", strings.Repeat("\x81", MaxDepth) + "\x80",
		strings.Repeat("\xa1\x00", MaxDepth) + "\x00", strings.Repeat("\xa1\x00", MaxDepth+1) + "\x00",
		"\x9a\x00\x01\x00\x00" + strings.Repeat("\x00", MaxElements), "\x9a\x00\x01\x00\x01" + strings.Repeat("\x00", MaxElements+1),
		"\xb9\x04\x00" + strings.Repeat("\x00", 2*MaxPairs), "\xb9\x04\x01" + strings.Repeat("\x00", 2*MaxPairs+2),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, want := Valid(b), dec.Wellformed(b)
		if (got == nil) != (want == nil) {
			t.Errorf("Valid(%.40x) = %v, the library says %v", b, got, want)
		}
	})
}

func TestValidNamesTheByte(t *testing.T) {
	for s, want := range map[string]string{
		"\x82\x01": "at byte 2: CBOR ends early", "\x82\x01\x42a": "at byte 4: CBOR ends early", "\x81\x01\x02": "at byte 2: bytes behind the CBOR value",
		"\x82\x01\x9f\xff":                     "at byte 2: CBOR with a tag, or of reserved or indefinite length",
		"\x81\x81\x81\x81\x81\x81\x81\x81\x80": "at byte 8: CBOR that is nested too deeply or too long",
	} {
		if err := Valid([]byte(s)); err == nil || err.Error() != want {
			t.Errorf("Valid(%x) = %v, want %s", s, err, want)
		}
	}
}

func TestAppendHeadIsShortest(t *testing.T) {
	for _, n := range []uint64{0, 23, 24, 255, 256, 65535, 65536, math.MaxUint32, math.MaxUint32 + 1, math.MaxUint64} {
		want, err := Append(nil, n)
		if err != nil {
			t.Fatal(err)
		}
		if got := AppendHead(nil, Uint, n); !bytes.Equal(got, want) {
			t.Errorf("AppendHead(%d) = %x, want %x", n, got, want)
		}
	}
}
