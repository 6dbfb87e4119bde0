package protocol

import (
	"encoding/hex"
	"errors"
	"fmt"
)

// ErrDigest is returned for text that is not a digest.
var ErrDigest = errors.New("invalid digest")

// A Digest is the SHA-256 of a model's canonical form, the only identity of
// a version. It is 64 lower-case hex digits in text and JSON, and a 32-byte
// byte string in CBOR.
type Digest [32]byte

// ParseDigest reads 64 lower-case hex digits.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	err := d.UnmarshalText([]byte(s))
	return d, err
}

// String returns 64 hex digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Short returns the first 12 hex digits, for people.
func (d Digest) Short() string { return hex.EncodeToString(d[:6]) }

// IsZero reports whether d is unset.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText returns 64 hex digits.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads 64 lower-case hex digits. The error wraps ErrDigest.
func (d *Digest) UnmarshalText(b []byte) error {
	if !isHex(string(b), 2*len(d)) {
		return fmt.Errorf("%w: want %d lower-case hex digits, got %.70q", ErrDigest, 2*len(d), b)
	}
	_, err := hex.Decode(d[:], b)
	return err
}

// isHex reports whether s is n lower-case hex digits.
func isHex(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// HashLen is the number of hex digits of a transfer's hash.
const HashLen = 32

// CheckHash reports whether s can be a transfer's hash: 32 lower-case hex
// digits. The error wraps ErrDigest.
func CheckHash(s string) error {
	if !isHex(s, HashLen) {
		return fmt.Errorf("%w: a transfer hash is %d lower-case hex digits, got %.40q", ErrDigest, HashLen, s)
	}
	return nil
}
