package rollout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A Comparison is what a staged rollout's version did beside the one in place, on
// the devices that were judged last.
type Comparison struct {
	Rollout Rollout           `json:"rollout"`
	InPlace string            `json:"in_place"` // the version that most of them ran
	Groups  []GroupComparison `json:"groups" nullable:"false"`
}

// A GroupComparison is that of the devices with one value of the plan's label; the
// first is of all. A is the version in place, B the candidate. Errors are in the
// unit of the output or, of several, in training standard deviations.
type GroupComparison struct {
	Group   string `json:"group"` // "" for all
	Devices int    `json:"devices"`
	Told    int    `json:"told"` // that have reported
	Pairs   uint64 `json:"pairs"`

	ErrorA float64 `json:"error_a"` // mean of |e|
	ErrorB float64 `json:"error_b"`
	RMSEA  float64 `json:"rmse_a"`
	RMSEB  float64 `json:"rmse_b"`
	// Disagreement is Σ|y_A − y_B| by device that told: it needs no truth.
	Disagreement float64 `json:"disagreement"`
	NonFinite    uint64  `json:"non_finite"` // outputs of B that are missing or no numbers
	// Latencies are p99 in the kernel, µs; 0: nobody told.
	LatencyA uint64 `json:"latency_a_us"`
	LatencyB uint64 `json:"latency_b_us"`
}

// Compare returns what the devices of the newest staged rollout of a model have
// told of both versions, by group. ErrNotFound if there was none.
func (r *Rollouts) Compare(ctx context.Context, model string) (out Comparison, err error) {
	s, err := r.Staged(ctx, model)
	if err != nil {
		return out, err
	}
	out = Comparison{Rollout: s.Rollout, InPlace: s.State.InPlace, Groups: []GroupComparison{}}
	judge := s.State.LastJudge()
	if judge == 0 {
		return out, nil
	}
	err = r.store.View(ctx, func(tx store.Tx) error {
		seats, err := tx.Seats(ctx, s.Rollout.ID, 0, plan.All)
		if err != nil {
			return err
		}
		reports, err := tx.Pairs(ctx, judge)
		if err != nil {
			return err
		}
		counts, err := tx.VersionCounts(ctx, s.Rollout.ID, model, plan.All)
		if err != nil {
			return err
		}
		var b protocol.Digest
		if err := b.UnmarshalText([]byte(s.Rollout.Digest)); err != nil {
			return err
		}
		byDevice, err := sumUp(reports)
		out.Groups = compare(seats, byDevice, counts, [8]byte(b[:8]))
		return err
	})
	if err != nil && !errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("compare versions of %q: %w", model, err)
	}
	return out, err
}

// sides are what a group told.
type sides struct {
	GroupComparison
	sums quality.Sums
	a, b protocol.VersionCount
}

func compare(seats []store.Seat, byDevice map[string]told, counts []store.DeviceVersion, b [8]byte) []GroupComparison {
	all := map[string]*sides{"": {}}
	add := func(group string, f func(*sides)) {
		f(all[""])
		if group == "" {
			return
		}
		if all[group] == nil {
			all[group] = &sides{GroupComparison: GroupComparison{Group: group}}
		}
		f(all[group])
	}
	for _, seat := range seats {
		t, has := byDevice[seat.Device]
		if !has && seat.Judge == 0 {
			continue
		}
		add(seat.Group, func(s *sides) {
			s.Devices++
			if has {
				s.Told++
			}
			s.sums.Pairs += t.sums.Pairs
			s.sums.SumA, s.sums.SumB = s.sums.SumA+t.sums.SumA, s.sums.SumB+t.sums.SumB
			s.sums.SquareA, s.sums.SquareB = s.sums.SquareA+t.sums.SquareA, s.sums.SquareB+t.sums.SquareB
			s.sums.Disagreement += t.sums.Disagreement
			s.NonFinite += t.sums.BadB
		})
	}
	for _, n := range counts {
		add(n.Group, func(s *sides) {
			if n.Version == b {
				addCounts(&s.b, n.VersionCount)
			} else {
				addCounts(&s.a, n.VersionCount)
			}
		})
	}
	out := make([]GroupComparison, 0, len(all))
	for _, s := range all {
		out = append(out, s.done())
	}
	slices.SortFunc(out, func(a, b GroupComparison) int { return cmp.Compare(a.Group, b.Group) })
	return out
}

func (s *sides) done() GroupComparison {
	g := s.GroupComparison
	g.Pairs = s.sums.Pairs
	if n := float64(g.Pairs); n > 0 {
		g.ErrorA, g.ErrorB = s.sums.SumA/n, s.sums.SumB/n
		g.RMSEA, g.RMSEB = math.Sqrt(s.sums.SquareA/n), math.Sqrt(s.sums.SquareB/n)
	}
	if g.Told > 0 {
		g.Disagreement = s.sums.Disagreement / float64(g.Told)
	}
	g.LatencyA = protocol.LatencyQuantile(s.a.Latency, 0.99)
	g.LatencyB = protocol.LatencyQuantile(s.b.Latency, 0.99)
	return g
}
