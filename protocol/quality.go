package protocol

import (
	"fmt"
	"math"
)

// MaxQuality is the size of the largest Quality, in bytes.
const MaxQuality = 112

// Flags of a Quality.
const (
	// QualityShadow: the candidate B runs as shadow; otherwise B is active
	// and A, the version it replaced, runs beside it.
	QualityShadow = 1 << 0
)

// A Quality reports the errors of two versions on the same inputs, on
// sp1/F/d/D/q. Sums are cumulative since the stage began on this boot, so a
// receiver keeps, for each (device, stage, boot, A, B), the record with the
// largest Pairs. Deterministic CBOR, one array in this order, at most
// MaxQuality bytes.
//
// With several outputs the error e of a pair is the mean over the outputs of
// |error| divided by the training standard deviation of that output.
type Quality struct {
	_ struct{} `cbor:",toarray"`

	Format uint8
	Flags  uint8
	Stage  uint32
	Boot   uint32
	A, B   [8]byte // first bytes of the digests: in place, candidate

	FirstS, LastS uint32 // first and last pair, seconds since the stage began
	Pairs         uint32
	Skipped       uint32 // only one of the two forecasts exists
	BadA, BadB    uint16 // non-finite or missing outputs

	SumA, SumB       float64 // Σ|e|
	SquareA, SquareB float64 // Σe²
	MaxA, MaxB       float32 // max |e|
	Disagreement     float32 // Σ|y_A − y_B|, works without truth
}

// AppendBinary appends the deterministic CBOR of m.
func (m Quality) AppendBinary(b []byte) ([]byte, error) { return appendCBOR(b, "quality", &m) }

// UnmarshalBinary decodes deterministic CBOR.
func (m *Quality) UnmarshalBinary(b []byte) error {
	*m = Quality{}
	return decodeCBOR(b, "quality", m)
}

func (m *Quality) check() error {
	if err := checkFormat(int(m.Format)); err != nil {
		return err
	}
	for _, v := range [...]float64{m.SumA, m.SumB, m.SquareA, m.SquareB,
		float64(m.MaxA), float64(m.MaxB), float64(m.Disagreement)} {
		if !(v >= 0 && v <= math.MaxFloat64) {
			return fmt.Errorf("%w: a sum is %v, want 0 or more and finite", ErrInvalid, v)
		}
	}
	if m.Flags&^QualityShadow != 0 {
		return fmt.Errorf("%w: flags %#x", ErrInvalid, m.Flags)
	}
	if m.FirstS > m.LastS {
		return fmt.Errorf("%w: first pair after the last", ErrInvalid)
	}
	return nil
}
