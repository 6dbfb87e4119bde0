package quality

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// history is what one start of a device reports, cumulative.
func history(rng *rand.Rand, boot uint32, n int, truth bool) []protocol.Quality {
	var out []protocol.Quality
	q := protocol.Quality{Format: 1, Stage: 1, Boot: boot}
	for range n {
		for range rng.IntN(8) {
			if !truth || rng.IntN(5) == 0 {
				q.Skipped++
				q.Disagreement += rng.Float32()
				continue
			}
			a, b := rng.ExpFloat64(), rng.ExpFloat64()
			q.Pairs++
			q.SumA, q.SumB = q.SumA+a, q.SumB+b
			q.SquareA, q.SquareB = q.SquareA+a*a, q.SquareB+b*b
			q.MaxA, q.MaxB = max(q.MaxA, float32(a)), max(q.MaxB, float32(b))
			q.LastS++
		}
		out = append(out, q)
	}
	return out
}

// TestMergeUnderLossDuplicatesAndReordering: what is kept is, of each start, the
// last report that came through, so the sums are those of a true moment.
func TestMergeUnderLossDuplicatesAndReordering(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		type delivery struct {
			boot, index int
			q           protocol.Quality
		}
		var deliveries []delivery
		last := map[int]protocol.Quality{}
		for boot := range 1 + rng.IntN(4) {
			for i, q := range history(rng, uint32(boot), 1+rng.IntN(20), seed%3 != 0) {
				copies := rng.IntN(3) // lost, once, twice
				if copies > 0 {
					last[boot] = q
				}
				for range copies {
					deliveries = append(deliveries, delivery{boot, i, q})
				}
			}
		}
		rng.Shuffle(len(deliveries), func(i, j int) { deliveries[i], deliveries[j] = deliveries[j], deliveries[i] })
		kept := map[int]protocol.Quality{}
		for _, d := range deliveries {
			if old, ok := kept[d.boot]; !ok || Newer(d.q, old) {
				kept[d.boot] = d.q
			}
		}
		var got, want Sums
		for boot := range 4 {
			got.Add(kept[boot])
			want.Add(last[boot])
		}
		if got != want {
			t.Fatalf("seed %d: %+v, want %+v", seed, got, want)
		}
	}
}

func TestNewerIsAnOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	small := func() uint32 { return rng.Uint32N(2) }
	random := func() protocol.Quality {
		return protocol.Quality{
			Flags: uint8(small()), FirstS: small(), LastS: small(), Pairs: small(), Skipped: small(), BadA: uint16(small()), BadB: uint16(small()),
			SumA: float64(small()), SumB: float64(small()), SquareA: float64(small()), SquareB: float64(small()),
			MaxA: float32(small()), MaxB: float32(small()), Disagreement: float32(small()),
		}
	}
	for range 20000 {
		a, b, c := random(), random(), random()
		if (a == b) == (Newer(a, b) || Newer(b, a)) || Newer(a, b) && Newer(b, a) {
			t.Fatalf("no order between %+v and %+v", a, b)
		}
		if Newer(a, b) && Newer(b, c) && !Newer(a, c) {
			t.Fatalf("the order of %+v, %+v, %+v decides", a, b, c)
		}
	}
}

func TestPossible(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, q := range history(rng, 1, 50, true) {
		if !Possible(q) {
			t.Fatalf("refused what errors made: %+v", q)
		}
	}
	good := protocol.Quality{Pairs: 2, SumA: 3, SquareA: 5, MaxA: 2, SumB: 3, SquareB: 5, MaxB: 2}
	if !Possible(good) {
		t.Fatal("refused errors 1 and 2")
	}
	for name, change := range map[string]func(*protocol.Quality){
		"sums without pairs":     func(q *protocol.Quality) { q.Pairs = 0 },
		"mean above largest":     func(q *protocol.Quality) { q.SumB = 4.1 },
		"largest above sum":      func(q *protocol.Quality) { q.MaxB = 3.1; q.SquareB = 9 },
		"squares below the mean": func(q *protocol.Quality) { q.SquareB = 4.4 },
		"squares above largest":  func(q *protocol.Quality) { q.SquareB = 6.1 },
		"an error that is none":  func(q *protocol.Quality) { q.SumA = 0 },
	} {
		q := good
		if change(&q); Possible(q) {
			t.Errorf("%s: took %+v", name, q)
		}
	}
}

func TestSumsOverStarts(t *testing.T) {
	var s Sums
	for _, q := range []protocol.Quality{
		{Pairs: 2, Skipped: 1, BadB: 3, SumA: 1, SumB: 2, SquareA: 3, SquareB: 4, MaxA: 5, MaxB: 1, Disagreement: 2},
		{Pairs: 4, BadA: 1, SumA: 1, SumB: 1, SquareA: 1, SquareB: 1, MaxA: 2, MaxB: 6, Disagreement: 1},
	} {
		s.Add(q)
	}
	if want := (Sums{6, 1, 1, 3, 2, 3, 4, 5, 5, 6, 3}); s != want {
		t.Errorf("sums are %+v, want %+v", s, want)
	}
	if slices.Contains([]float64{s.MaxA, s.MaxB}, 0) {
		t.Error("no largest error")
	}
}
