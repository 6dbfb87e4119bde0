package pipeline

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// TestReportsMergeWhateverTheLinkDoes: a receiver that keeps for each start the
// report with the most pairs has the sums of all pairs that it can know of,
// whichever reports were lost, came twice or in another order.
func TestReportsMergeWhateverTheLinkDoes(t *testing.T) {
	const seed = 5
	rng := rand.New(rand.NewPCG(seed, seed))
	for run := range 200 {
		var sent []protocol.Quality
		errors := make(map[uint32][][2]float64) // by start, of every pair
		for boot := range uint32(1 + rng.IntN(3)) {
			s := NewSums([]float32{1}, 1)
			p := NewPairs(s, 1, true)
			said := make(map[string][2]float32) // by stream, at the tick before
			streams := []string{"a", "b", "c"}
			for tick := range uint64(20 + rng.IntN(60)) {
				for _, stream := range streams[:1+rng.IntN(3)] { // some hear nothing
					truth := rng.Float32()
					p.Arrived(stream, tick, values(truth), uint32(tick))
					for len(errors[boot]) < int(s.Quality().Pairs) {
						f := said[stream]
						errors[boot] = append(errors[boot], [2]float64{apart(f[0], truth), apart(f[1], truth)})
					}
					y := [2]float32{rng.Float32(), rng.Float32()}
					said[stream] = y
					say(p, stream, tick, y[:1], y[1:], truth)
				}
				if rng.IntN(5) == 0 {
					q := s.Quality()
					q.Boot = boot
					sent = append(sent, q)
				}
			}
		}
		var got []protocol.Quality
		for _, q := range sent {
			for range rng.IntN(4) { // lost, or twice
				got = append(got, q)
			}
		}
		rng.Shuffle(len(got), func(i, j int) { got[i], got[j] = got[j], got[i] })
		best := make(map[uint32]protocol.Quality)
		for _, q := range got {
			if q.Pairs >= best[q.Boot].Pairs {
				best[q.Boot] = q
			}
		}
		for boot, q := range best {
			var a, b, squares, most float64
			for _, e := range errors[boot][:q.Pairs] {
				a, b, squares, most = a+e[0], b+e[1], squares+e[1]*e[1], max(most, e[0])
			}
			if math.Abs(q.SumA-a) > 1e-9 || math.Abs(q.SumB-b) > 1e-9 || math.Abs(q.SquareB-squares) > 1e-9 || q.MaxA != float32(most) {
				t.Fatalf("seed %d run %d start %d: %+v, want sums %v and %v of %d pairs", seed, run, boot, q, a, b, q.Pairs)
			}
		}
	}
}

func apart(y, truth float32) float64 { return math.Abs(float64(y) - float64(truth)) }
