package artifact

import (
	"fmt"
	"math"
)

// MaxReferenceBins is the largest number of bins of a Reference, all features together:
// counts of them fit in 640 bytes.
const MaxReferenceBins = 128

// A Reference says how the features were spread over the rows that a model was trained
// on, so that a device can count what it is given in the same bins, and how far that
// drifted can be told from the counts. It is of the first features of the schema, and
// may be of fewer than all.
type Reference struct {
	Features []Histogram `cbor:"features"`
}

// A Histogram is the bins of one feature, in raw units. A value v is in the first bin
// whose edge is v or more, and in the last if there is none.
type Histogram struct {
	Edges Floats   `cbor:"edges"` // upper bounds, ascending, of all bins but the last
	Parts []uint16 `cbor:"parts"` // of the rows, in 1/10000: one more than there are edges
}

// Bins returns the number of bins of all features.
func (r *Reference) Bins() (n int) {
	for i := range r.Features {
		n += len(r.Features[i].Parts)
	}
	return n
}

// Count adds one to the bin of each feature of a row: counts are the bins of the
// features, one feature after the other.
func (r *Reference) Count(counts []uint64, row []float32) {
	for i := range r.Features {
		h := &r.Features[i]
		bin := 0
		for bin < len(h.Edges) && row[i] > h.Edges[bin] {
			bin++
		}
		counts[bin]++
		counts = counts[len(h.Parts):]
	}
}

func (r *Reference) validate(s Schema) error {
	switch n := len(r.Features); {
	case n == 0 || n > len(s.Features):
		return fmt.Errorf("%w: a reference of %d features, the schema has %d", ErrInvalid, n, len(s.Features))
	case r.Bins() > MaxReferenceBins:
		return fmt.Errorf("%w: a reference of %d bins, at most %d", ErrTooLarge, r.Bins(), MaxReferenceBins)
	}
	for i, h := range r.Features {
		if len(h.Parts) != len(h.Edges)+1 {
			return fmt.Errorf("%w: reference of feature %d: %d parts between %d edges", ErrInvalid, i, len(h.Parts), len(h.Edges))
		}
		for k, e := range h.Edges {
			if f := float64(e); math.IsNaN(f) || math.IsInf(f, 0) {
				return fmt.Errorf("%w: an edge of the reference of feature %d", ErrNonFinite, i)
			}
			if k > 0 && !(h.Edges[k-1] < e) {
				return fmt.Errorf("%w: reference of feature %d: its edges do not ascend", ErrInvalid, i)
			}
		}
	}
	return nil
}
