package artifact

import (
	"fmt"
	"math"
	"strconv"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A Release is what the role release signs about a version: its digest, name
// and number, where it came from, and what a device must hold it to.
// Deterministic CBOR, at most protocol.MaxRelease bytes with its envelope.
type Release struct {
	Format  int             `cbor:"format"`
	Name    string          `cbor:"name"`
	Version uint64          `cbor:"version"` // from 1
	Digest  protocol.Digest `cbor:"digest"`  // of the model
	Fleet   string          `cbor:"fleet"`
	Lineage Lineage         `cbor:"lineage"`
	// Metrics are for people, by lower snake case name.
	Metrics map[string]float64 `cbor:"metrics,omitempty"`
	// MaxTransfer and MaxDecoded bound every transfer of this model, in
	// bytes: its payload, and the manifest and tensors it decodes to.
	MaxTransfer uint32 `cbor:"max_transfer"`
	MaxDecoded  uint32 `cbor:"max_decoded"`
	ABI         int    `cbor:"abi"` // of the kernel that computes the golden outputs
	// NotAfter gates activation, UTC ms, 0 for never. An active version stays.
	NotAfter int64 `cbor:"not_after,omitempty"`
	// Floor is the lowest version of this name that a device may run once
	// this one is confirmed.
	Floor  uint64         `cbor:"floor,omitempty"`
	Issued int64          `cbor:"issued"` // UTC ms
	Extra  protocol.Extra `cbor:"extra,omitzero"`
}

// Lineage says what a version was made from.
type Lineage struct {
	Data   string           `cbor:"data,omitempty"` // digest of the training data
	Run    string           `cbor:"run,omitempty"`  // training run
	Parent *protocol.Digest `cbor:"parent,omitempty"`
	// Forced is who added the version although its int8 form is worse than the
	// bound of its task allows; empty if it is not.
	Forced string `cbor:"forced,omitempty"`
}

// String returns NAME:vN.
func (r *Release) String() string { return r.Name + ":v" + strconv.FormatUint(r.Version, 10) }

// AppendBinary appends the deterministic CBOR of r, to be signed.
func (r Release) AppendBinary(b []byte) ([]byte, error) {
	return appendDocument(b, "release", &r, protocol.MaxRelease)
}

// UnmarshalBinary decodes deterministic CBOR. It verifies no signature.
func (r *Release) UnmarshalBinary(b []byte) error {
	*r = Release{}
	return decodeDocument(b, "release", r, protocol.MaxRelease)
}

func (r *Release) check() error {
	if err := firstError(checkFormat(r.Format), protocol.CheckID(r.Name), protocol.CheckFleet(r.Fleet)); err != nil {
		return err
	}
	switch {
	case r.Version == 0 || r.Version > protocol.MaxInteger:
		return fmt.Errorf("%w: version number %d", ErrCorrupt, r.Version)
	case r.Floor > r.Version:
		return fmt.Errorf("%w: the floor %d is above the version %d itself", ErrCorrupt, r.Floor, r.Version)
	case r.Digest.IsZero():
		return fmt.Errorf("%w: the digest is missing", ErrCorrupt)
	case r.MaxTransfer == 0 || r.MaxTransfer > protocol.MaxTransfer || r.MaxDecoded == 0 || r.MaxDecoded > MaxDecoded:
		return fmt.Errorf("%w: caps of %d bytes packed and %d decoded, at most %d and %d",
			ErrTooLarge, r.MaxTransfer, r.MaxDecoded, protocol.MaxTransfer, MaxDecoded)
	case r.ABI < 1 || r.ABI > 1<<16:
		return fmt.Errorf("%w: kernel ABI %d", ErrCorrupt, r.ABI)
	case r.NotAfter < 0 || r.NotAfter > protocol.MaxInteger || r.Issued < 0 || r.Issued > protocol.MaxInteger:
		return fmt.Errorf("%w: times %d and %d are not UTC milliseconds", ErrCorrupt, r.NotAfter, r.Issued)
	}
	for name, v := range r.Metrics {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("metric %.48q: %w", name, ErrNonFinite)
		}
	}
	return nil
}
