package rehearse

import (
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// alone is the number under which devices of a plan with evidence did tell their
// errors all the time, each version alone: SumA is read until a device gets the
// version, and SumB from then on.
const alone = 1

// marks are a device's errors at moments of the rollout.
type marks struct {
	began, entered protocol.Quality // when measuring began, and the newest stage that is judged did
	got            protocol.Quality // when it got its role
}

func (r *rehearsal) differs() bool { return r.plan.Evidence == plan.DiD }

// mark remembers the errors of all devices when the rollout's step calls for it.
func (r *rehearsal) mark(was plan.State) {
	if r.state.Mark == was.Mark {
		return
	}
	for i := range r.fleet {
		d := &r.fleet[i]
		if d.entered = d.pairs; r.state.Mark == 1 {
			d.began = d.pairs
		}
	}
}

// differences are what devices told before and after they got the version, and
// untouched ones at the same times.
func (r *rehearsal) differences(fresh time.Time, f *plan.Facts) {
	if !r.differs() {
		return
	}
	before := func(q protocol.Quality) plan.Sums { return plan.Sums{N: uint64(q.Pairs), Sum: q.SumA} }
	after := func(q protocol.Quality) plan.Sums { return plan.Sums{N: uint64(q.Pairs), Sum: q.SumB} }
	for i := r.state.From; i < len(r.fleet); i++ {
		d := &r.fleet[i]
		q := quality.Device{ID: d.ID, Group: d.Group}
		switch {
		case r.state.Phase == plan.Measuring && i >= r.state.Sizes[0]:
			so := before(d.pairs).Less(before(d.began))
			q.Sums = plan.Differing(so, so)
		case r.state.Phase == plan.Measuring:
			continue
		case i >= r.state.Reach:
			q.Sums = plan.Differing(before(d.entered).Less(before(d.began)), before(d.pairs).Less(before(d.entered)))
		default:
			if d.role.Version == plan.Active {
				q.Sums = plan.Differing(before(d.got).Less(before(d.began)), after(d.pairs).Less(after(d.got)))
			}
			q.Lost, q.Known = d.loss(r.at, fresh, r.plan), d.lost != ""
			f.Judged = append(f.Judged, q)
			f.JudgedActive++
			continue
		}
		f.Untouched = append(f.Untouched, q)
	}
}
