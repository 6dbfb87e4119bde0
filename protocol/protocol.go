// Package protocol is sp1, what devices, control plane and clients of
// Sandpiper say to each other over MQTT: topics, messages and their limits.
//
// There is a constructor for each topic and ParseTopic for all of them. Each
// message is a struct in a file of its own, with AppendBinary and
// UnmarshalBinary. State, have and birth are JSON (RFC 8259); requests,
// replies, samples and truth are JSON or CBOR, told apart by the first byte;
// the rest is deterministic CBOR (RFC 8949 §4.2.1), which has exactly one
// encoding per message. The bytes are in docs/protocol.md.
//
// Decoding is strict: an unknown field, a repeated key, a byte behind the end,
// deep nesting or a size over its limit is an error. Every field is critical;
// what an old reader may ignore goes into the field `extra`, which want and
// the signed documents have. Limits are checked before memory is allocated.
//
// Times are UTC milliseconds since 1970. Integers stay below 2^53.
package protocol

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sandpiper-edge/sandpiper/protocol/internal/cbor"
	"github.com/sandpiper-edge/sandpiper/protocol/internal/json"
)

// Errors of every decoder. The errors returned wrap them and say what was
// wrong, with which value, and what would be right.
var (
	// ErrMalformed: the bytes are not a message of the expected kind.
	ErrMalformed = errors.New("malformed message")
	// ErrTooLarge: over a limit of this package.
	ErrTooLarge = errors.New("too large")
	// ErrFormat: written by a newer version that this one must not guess at.
	ErrFormat = errors.New("unknown format")
	// ErrInvalid: the message is readable, but a value is out of bounds.
	ErrInvalid = errors.New("invalid value")
)

// A checker verifies its own values; both directions use it.
type checker interface{ check() error }

func appendCBOR(b []byte, what string, m checker) ([]byte, error) {
	if err := m.check(); err != nil {
		return b, fmt.Errorf("encode %s: %w", what, err)
	}
	out, err := cbor.Append(b, m)
	if err != nil {
		return b, fmt.Errorf("encode %s: %w: %v", what, ErrInvalid, err)
	}
	if n := len(out) - len(b); n > MaxPayload {
		return b, fmt.Errorf("encode %s: %w: %d bytes, at most %d", what, ErrTooLarge, n, MaxPayload)
	}
	return out, nil
}

// decodeCBOR decodes b into m, which must be new.
func decodeCBOR(b []byte, what string, m checker) error {
	if len(b) > MaxPayload {
		return fmt.Errorf("decode %s: %w: %d bytes, at most %d", what, ErrTooLarge, len(b), MaxPayload)
	}
	if err := cbor.DecodeCanonical(b, m); err != nil {
		return fmt.Errorf("decode %s: %w: %v", what, ErrMalformed, err)
	}
	if err := m.check(); err != nil {
		return fmt.Errorf("decode %s: %w", what, err)
	}
	return nil
}

func appendJSON(b []byte, what string, m checker) ([]byte, error) {
	if err := m.check(); err != nil {
		return b, fmt.Errorf("encode %s: %w", what, err)
	}
	out, err := json.Append(b, m)
	if err != nil {
		return b, fmt.Errorf("encode %s: %w: %v", what, ErrInvalid, err)
	}
	if n := len(out) - len(b); n > MaxPayload {
		return b, fmt.Errorf("encode %s: %w: %d bytes, at most %d", what, ErrTooLarge, n, MaxPayload)
	}
	return out, nil
}

// decodeJSON decodes b into m, which must be new.
func decodeJSON(b []byte, what string, m checker) error {
	if len(b) > MaxPayload {
		return fmt.Errorf("decode %s: %w: %d bytes, at most %d", what, ErrTooLarge, len(b), MaxPayload)
	}
	if err := json.Decode(b, m); err != nil {
		return fmt.Errorf("decode %s: %w: %v", what, ErrMalformed, err)
	}
	if err := m.check(); err != nil {
		return fmt.Errorf("decode %s: %w", what, err)
	}
	return nil
}

func checkFormat(format int) error {
	if format != Format {
		return fmt.Errorf("%w %d, this version reads %d; update the software", ErrFormat, format, Format)
	}
	return nil
}

func checkTime(name string, t int64) error {
	if t < 0 || t > MaxInteger {
		return fmt.Errorf("%w: %s is %d, want UTC milliseconds from 0 to 2^53", ErrInvalid, name, t)
	}
	return nil
}

func checkUint(name string, n uint64) error {
	if n > MaxInteger {
		return fmt.Errorf("%w: %s is %d, want less than 2^53", ErrInvalid, name, n)
	}
	return nil
}

func checkLen(name string, n, most int) error {
	if n > most {
		return fmt.Errorf("%w: %s has %d, at most %d", ErrTooLarge, name, n, most)
	}
	return nil
}

func checkOneOf(name, s string, allowed ...string) error {
	if !slices.Contains(allowed, s) {
		return fmt.Errorf("%w: %s is %.40q, want one of %q", ErrInvalid, name, s, allowed)
	}
	return nil
}

// firstError returns the first error that is not nil.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Extra holds fields that a reader may ignore: one CBOR map, kept as it came.
type Extra []byte

// MarshalCBOR returns e as it is.
func (e Extra) MarshalCBOR() ([]byte, error) { return e, nil }

// UnmarshalCBOR keeps a copy of b, which must be a map.
func (e *Extra) UnmarshalCBOR(b []byte) error {
	if len(b) == 0 || b[0]>>5 != 5 {
		return errors.New("extra is not a map")
	}
	*e = append((*e)[:0], b...)
	return nil
}
