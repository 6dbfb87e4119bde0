package quality

import (
	"cmp"
	"math"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// Newer reports whether a says more than b, both of the same (device, stage,
// boot, A, B). Everything in a report is cumulative, so the one with more pairs
// is the later one; without truth there are none, and what else grows decides.
// It is a strict total order up to reports that say the same: whatever is lost,
// comes twice or out of order, the largest that came is the one that is kept.
func Newer(a, b protocol.Quality) bool {
	return cmp.Or(
		cmp.Compare(a.Pairs, b.Pairs),
		cmp.Compare(a.Skipped, b.Skipped),
		cmp.Compare(uint32(a.BadA)+uint32(a.BadB), uint32(b.BadA)+uint32(b.BadB)),
		cmp.Compare(a.BadB, b.BadB),
		cmp.Compare(a.Disagreement, b.Disagreement),
		cmp.Compare(a.LastS, b.LastS),
		cmp.Compare(a.SumA, b.SumA), cmp.Compare(a.SumB, b.SumB),
		cmp.Compare(a.SquareA, b.SquareA), cmp.Compare(a.SquareB, b.SquareB),
		cmp.Compare(a.MaxA, b.MaxA), cmp.Compare(a.MaxB, b.MaxB),
		cmp.Compare(a.FirstS, b.FirstS), cmp.Compare(a.Flags, b.Flags),
	) > 0
}

// Sums are what one device said of a pair of versions, over all its starts.
type Sums struct {
	Pairs, Skipped   uint64
	BadA, BadB       uint64
	SumA, SumB       float64 // Σ|e|
	SquareA, SquareB float64 // Σe², shown to people
	MaxA, MaxB       float64
	Disagreement     float64 // Σ|y_A − y_B|
}

// Add adds the newest report of one start.
func (s *Sums) Add(q protocol.Quality) {
	s.Pairs += uint64(q.Pairs)
	s.Skipped += uint64(q.Skipped)
	s.BadA += uint64(q.BadA)
	s.BadB += uint64(q.BadB)
	s.SumA += q.SumA
	s.SumB += q.SumB
	s.SquareA += q.SquareA
	s.SquareB += q.SquareB
	s.MaxA = math.Max(s.MaxA, float64(q.MaxA))
	s.MaxB = math.Max(s.MaxB, float64(q.MaxB))
	s.Disagreement += float64(q.Disagreement)
}

// Possible reports whether errors could have made the sums: largest, mean and
// root mean square error are in order. Rounding of the device's 32-bit maximum
// is allowed for.
func Possible(q protocol.Quality) bool {
	return possible(q.Pairs, q.SumA, q.SquareA, float64(q.MaxA)) && possible(q.Pairs, q.SumB, q.SquareB, float64(q.MaxB))
}

func possible(pairs uint32, sum, square, most float64) bool {
	const slack = 1 + 1e-6
	n := float64(pairs)
	if pairs == 0 {
		return sum == 0 && square == 0 && most == 0
	}
	return sum <= n*most*slack && // mean ≤ largest
		most <= sum*slack && // the largest is one of them
		sum*sum <= n*square*slack && // Cauchy-Schwarz
		square <= most*sum*slack
}
