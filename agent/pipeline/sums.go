package pipeline

import (
	"math"
	"slices"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// Sums compares two versions of a model on the same inputs: the one in place,
// A, and the candidate, B; or measures B alone, where A says nothing. Errors are
// absolute ones of the output or, of several outputs, their mean in training
// standard deviations. The zero value compares single outputs.
type Sums struct {
	// Std are the training standard deviations of the outputs; nil for one output.
	Std []float32
	// Told gets every error of either, of A in lane 0 and of B in lane 1, and
	// that of the naive forecast for the same truth, which is negative if it is
	// not known; nil: nobody asks.
	Told func(lane int, e, naive float64)

	q     protocol.Quality
	apart float64 // Σ|y_A − y_B|
}

// NewSums returns empty sums for outputs values with those standard deviations.
func NewSums(std []float32, outputs int) *Sums {
	if len(std) != outputs || outputs == 1 {
		std = nil
	}
	return &Sums{Std: std}
}

// Said takes what A and B said about one input, nil where one said nothing. It
// returns the outputs that can be compared: one that is not finite counts as
// missing.
func (s *Sums) Said(a, b []float32) [2][]float32 {
	a, b = whole(a), whole(b)
	if a == nil && s.q.BadA < math.MaxUint16 {
		s.q.BadA++
	}
	if b == nil && s.q.BadB < math.MaxUint16 {
		s.q.BadB++
	}
	if a != nil && b != nil {
		s.apart += s.distance(a, b)
	}
	return [2][]float32{a, b}
}

// whole returns y, or nil if it is missing or not finite.
func whole(y []float32) []float32 {
	if len(y) == 0 || slices.ContainsFunc(y, func(v float32) bool { return v-v != 0 }) {
		return nil
	}
	return y
}

// Skip counts inputs that one of the two could not be given.
func (s *Sums) Skip(n uint32) { s.q.Skipped += min(n, math.MaxUint32-s.q.Skipped) }

// Compare adds the pair of outputs y whose truth came, if both are there; else
// it is skipped. The naive forecast is nil if it is not known. Now is in
// seconds since the stage began.
func (s *Sums) Compare(y [2][]float32, naive, truth []float32, now uint32) {
	var e [2]float64
	asIs := -1.0
	if naive != nil {
		asIs = s.distance(naive, truth)
	}
	for lane := range y {
		if y[lane] == nil {
			continue
		}
		e[lane] = s.distance(y[lane], truth)
		if s.Told != nil {
			s.Told(lane, e[lane], asIs)
		}
	}
	if y[0] == nil || y[1] == nil {
		s.Skip(1)
		return
	}
	q := &s.q
	if q.Pairs == 0 {
		q.FirstS = now
	}
	if q.Pairs == math.MaxUint32 {
		return
	}
	q.Pairs++
	q.LastS = max(q.FirstS, now)
	q.SumA, q.SumB = q.SumA+e[0], q.SumB+e[1]
	q.SquareA, q.SquareB = q.SquareA+e[0]*e[0], q.SquareB+e[1]*e[1]
	q.MaxA, q.MaxB = max(q.MaxA, clamp32(e[0])), max(q.MaxB, clamp32(e[1]))
}

// distance is the error of y against truth, which are as long.
func (s *Sums) distance(y, truth []float32) float64 {
	sum := 0.0
	for i, v := range y {
		std := 1.0 // also of a constant in training, and of more outputs than A has
		if i < len(s.Std) && s.Std[i] != 0 {
			std = float64(s.Std[i])
		}
		sum += math.Abs(float64(v)-float64(truth[i])) / std
	}
	return sum / float64(len(y))
}

func clamp32(v float64) float32 { return float32(min(v, math.MaxFloat32)) }

// Quality returns the sums so far; the caller says of what.
func (s *Sums) Quality() protocol.Quality {
	q := s.q
	q.Format = protocol.Format
	q.Disagreement = clamp32(s.apart)
	q.SquareA, q.SquareB = min(q.SquareA, math.MaxFloat64), min(q.SquareB, math.MaxFloat64)
	return q
}
