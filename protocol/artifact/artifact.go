// Package artifact is models as bytes: what a version is, who signed it, and
// how it travels.
//
// A Model is decoded tensors and everything needed to use them; its digest,
// SHA-256 of the canonical form, is the version's identity. A Release is the
// signed statement about a digest. A Transfer is one encoding of a model, cut
// into chunks; it can be made without a key, because what it decodes to must
// have the signed digest. A Policy verifies all of that in a fixed order. The
// bytes are in docs/artifact.md.
//
// Everything read here may come from an attacker: sizes are checked before
// memory is allocated, and no input panics.
package artifact

import (
	"errors"
	"fmt"

	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/internal/cbor"
)

// Errors. Those returned wrap them and say what was found, why it is refused
// and what to do.
var (
	// ErrTruncated: the bytes end early; fetch them again.
	ErrTruncated = errors.New("truncated")
	// ErrTooLarge: over a limit of the protocol or of the signed release.
	ErrTooLarge = errors.New("too large")
	// ErrCorrupt: not what this format looks like, or not what was hashed.
	ErrCorrupt = errors.New("corrupt")
	// ErrFormat: written by a newer version of this software.
	ErrFormat = errors.New("unknown format")
	// ErrInvalid: readable, but the model makes no sense.
	ErrInvalid = errors.New("invalid model")
	// ErrUnsigned: there is no signature at all.
	ErrUnsigned = errors.New("unsigned")
	// ErrWrongKey: signed, but no signature is by a key of the role.
	ErrWrongKey = errors.New("signed by a wrong key")
	// ErrThreshold: signed by too few keys of the role.
	ErrThreshold = errors.New("too few signatures")
	// ErrFleet: made for another fleet.
	ErrFleet = errors.New("of another fleet")
	// ErrName: made under another model name than asked for.
	ErrName = errors.New("of another model")
	// ErrABI: needs another kernel.
	ErrABI = errors.New("needs another kernel")
	// ErrUnwanted: no verified want and no local install named it.
	ErrUnwanted = errors.New("not asked for")
	// ErrDowngrade: below the security floor.
	ErrDowngrade = errors.New("below the security floor")
	// ErrExpired: its not_after has passed.
	ErrExpired = errors.New("expired")
	// ErrDigest: the decoded model does not have the signed digest.
	ErrDigest = errors.New("digest does not match")
	// ErrBase: the model that a delta or head starts from is missing, damaged,
	// or of another shape.
	ErrBase = errors.New("base version")
	// ErrNonFinite: a weight, scale or constant is NaN or infinite.
	ErrNonFinite = errors.New("not finite")
)

// Format is the format number of releases, roots and descriptors.
const Format = 1

// Limits of this format, beside those of package protocol.
const (
	// MaxDecoded is the largest model: all tensor data, in bytes.
	MaxDecoded = 128 << 20
	// MaxManifest is the largest manifest, in bytes.
	MaxManifest = 256 << 10
	// MaxTensors is the largest number of tensors.
	MaxTensors = 128
	// MaxLayers is the largest number of layers.
	MaxLayers = 16
	// MaxUnits is the largest number of units of an LSTM or GRU: up to there an int32
	// holds any sum of int8 products.
	MaxUnits = 1024
	// MaxHorizon and MaxOutputs bound what a model predicts at once.
	MaxHorizon = 4096
	MaxOutputs = 4096
	// MaxSteps is the longest window or warm-up.
	MaxSteps = 1 << 16
	// MaxDescriptor is the largest encoded descriptor, in bytes.
	MaxDescriptor = 96 << 10
	// MaxEnvelope is the largest signed document, in bytes.
	MaxEnvelope = protocol.MaxPayload
	// MaxSignatures is the largest number of signatures on one document.
	MaxSignatures = 32
	// MaxKeys is the largest number of keys of a role.
	MaxKeys = 32
)

// A checker verifies its own values; both directions use it.
type checker interface{ check() error }

// appendDocument appends the deterministic CBOR of m.
func appendDocument(b []byte, what string, m checker, most int) ([]byte, error) {
	if err := m.check(); err != nil {
		return b, fmt.Errorf("encode %s: %w", what, err)
	}
	out, err := cbor.Append(b, m)
	if err != nil {
		return b, fmt.Errorf("encode %s: %w: %v", what, ErrInvalid, err)
	}
	if n := len(out) - len(b); n > most {
		return b, fmt.Errorf("encode %s: %w: %d bytes, at most %d", what, ErrTooLarge, n, most)
	}
	return out, nil
}

// decodeDocument decodes b, deterministic CBOR, into m, which must be new.
func decodeDocument(b []byte, what string, m checker, most int) error {
	if len(b) > most {
		return fmt.Errorf("decode %s: %w: %d bytes, at most %d", what, ErrTooLarge, len(b), most)
	}
	if err := cbor.DecodeCanonical(b, m); err != nil {
		return fmt.Errorf("decode %s: %w: %v", what, ErrCorrupt, err)
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

// firstError returns the first error that is not nil.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
