// Package cbor reads and writes the CBOR (RFC 8949) of sp1.
//
// There are two strictnesses. Canonical is for what is signed, hashed or
// retained: one value has one encoding (RFC 8949 §4.2.1, core deterministic),
// and a decoder refuses every other. Lenient is for what clients in other
// languages send: any definite-length encoding will do, but duplicate keys,
// unknown fields, tags, bytes behind the value and deep nesting are refused.
package cbor

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Limits of every decoder. The library checks them, and that the input is
// complete, before it allocates anything.
const (
	// MaxDepth is the deepest nesting of arrays and maps.
	MaxDepth = 8
	// MaxElements is the longest array.
	MaxElements = 1 << 16
	// MaxPairs is the largest map.
	MaxPairs = 1024
)

// ErrNotCanonical says that bytes decode, but are not the one encoding of
// what they decode to: unsorted or repeated keys, a longer integer than
// needed, a written-out zero value, bytes behind the end.
var ErrNotCanonical = errors.New("not deterministic CBOR")

// A RawMessage is one encoded value, decoded later or never.
type RawMessage = cbor.RawMessage

var (
	enc = must(cbor.EncOptions{
		Sort:            cbor.SortBytewiseLexical,
		ShortestFloat:   cbor.ShortestFloat16,
		NaNConvert:      cbor.NaNConvertReject,
		InfConvert:      cbor.InfConvertReject,
		IndefLength:     cbor.IndefLengthForbidden,
		TagsMd:          cbor.TagsForbidden,
		BinaryMarshaler: cbor.BinaryMarshalerNone,
	}.EncMode())
	dec = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		MaxNestedLevels:   MaxDepth,
		MaxArrayElements:  MaxElements,
		MaxMapPairs:       MaxPairs,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		BinaryUnmarshaler: cbor.BinaryUnmarshalerNone,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // a mistake in the options above
	}
	return v
}

// Append appends the deterministic encoding of v to b. NaN and infinities are
// refused.
func Append(b []byte, v any) ([]byte, error) {
	e, err := enc.Marshal(v)
	if err != nil {
		return b, err
	}
	return append(b, e...), nil
}

// Decode decodes b, any definite-length encoding, into v.
func Decode(b []byte, v any) error {
	return dec.Unmarshal(b, v)
}

// DecodeCanonical decodes b into v, which must be new, and refuses b unless
// encoding v gives b again.
func DecodeCanonical(b []byte, v any) error {
	if err := dec.Unmarshal(b, v); err != nil {
		return err
	}
	again, err := enc.Marshal(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, b) {
		return fmt.Errorf("%d bytes, %d when encoded again: %w", len(b), len(again), ErrNotCanonical)
	}
	return nil
}
