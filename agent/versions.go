package agent

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A versionKey names a version as usage reports do.
type versionKey struct {
	model   string
	version [8]byte
}

// A versionUse is what is counted of a version, and when it was counted last.
type versionUse struct {
	protocol.VersionCount
	used uint64
}

// A verdict is what became of an input that a version was given.
type verdict uint8

const (
	ranWell  verdict = iota
	notFit           // the input is none, or not one of this version
	ranBadly         // the output is missing or not finite
)

// verdictOf tells the fault of an input from that of a version.
func verdictOf(err error) verdict {
	switch {
	case err == nil:
		return ranWell
	case errors.Is(err, kernel.ErrShape), errors.Is(err, kernel.ErrRange), errors.Is(err, kernel.ErrNonFinite):
		return notFit
	}
	return ranBadly
}

// about changes what is counted of a version. When there are too many, the one
// that was used longest ago gives way.
func (u *usage) about(model string, d protocol.Digest, change func(c *protocol.VersionCount)) {
	k := versionKey{model, [8]byte(d[:8])}
	u.mu.Lock()
	defer u.mu.Unlock()
	c := u.versions[k]
	if c == nil {
		if len(u.versions) >= protocol.MaxVersionCounts {
			oldest := slices.MinFunc(slices.Collect(maps.Values(u.versions)), func(x, y *versionUse) int { return cmp.Compare(x.used, y.used) })
			delete(u.versions, versionKey{oldest.Model, oldest.Version})
		}
		c = &versionUse{VersionCount: protocol.VersionCount{Model: model, Version: k.version}}
		u.versions[k] = c
	}
	u.uses++
	c.used = u.uses
	change(&c.VersionCount)
	u.dirty = true
}

// ran counts an input of a version. How long it took is kept while judged.
func (u *usage) ran(model string, d protocol.Digest, v verdict, took time.Duration, judged bool) {
	u.about(model, d, func(c *protocol.VersionCount) {
		switch v {
		case notFit:
			c.Refused++
			return
		case ranBadly:
			c.Failed++
			return
		}
		c.Answered++
		if !judged {
			return
		}
		bucket := protocol.LatencyBucket(uint64(max(0, took.Microseconds())))
		if short := bucket + 1 - len(c.Latency); short > 0 {
			c.Latency = append(c.Latency, make([]uint64, short)...)
		}
		c.Latency[bucket]++
	})
}

// scored counts the error of an output, and that of the naive forecast for the
// same truth, negative if it is not known.
func (u *usage) scored(model string, d protocol.Digest, e, naive float64) {
	u.about(model, d, func(c *protocol.VersionCount) {
		c.N++
		c.Sum, c.Square = min(c.Sum+e, math.MaxFloat64), min(c.Square+e*e, math.MaxFloat64)
		if naive >= 0 {
			c.NaiveN++
			c.Naive = min(c.Naive+naive, math.MaxFloat64)
		}
	})
}

// versionCounts is what is reported of all versions, in a fixed order.
func (u *usage) versionCounts() []protocol.VersionCount {
	out := make([]protocol.VersionCount, 0, len(u.versions))
	for _, c := range u.versions {
		out = append(out, c.VersionCount)
	}
	slices.SortFunc(out, func(x, y protocol.VersionCount) int {
		return cmp.Or(cmp.Compare(x.Model, y.Model), slices.Compare(x.Version[:], y.Version[:]))
	})
	return out
}

// A QualityStatus is how far a version's outputs were from the truth since the
// start of the agent: in the output's unit or, of several outputs, the mean over
// them in training standard deviations.
type QualityStatus struct {
	N    uint64  `json:"n"` // outputs compared with their truth
	MAE  float64 `json:"mae"`
	RMSE float64 `json:"rmse"`
	// NaiveMAE is that of the forecast "as the last value", where it is known.
	NaiveMAE *float64 `json:"naive_mae,omitempty"`
}

// String says it in words: the skill is the error saved beside the naive
// forecast's.
func (q *QualityStatus) String() string {
	out := fmt.Sprintf("MAE %.4g, RMSE %.4g of %d outputs", q.MAE, q.RMSE, q.N)
	if q.NaiveMAE != nil && *q.NaiveMAE > 0 {
		out += fmt.Sprintf("; as the last value %.4g (skill %+.0f %%)", *q.NaiveMAE, 100*(1 - q.MAE / *q.NaiveMAE))
	}
	return out
}

// quality returns the quality of a version; nil if no truth came.
func (u *usage) quality(model string, d protocol.Digest) *QualityStatus {
	u.mu.Lock()
	defer u.mu.Unlock()
	c := u.versions[versionKey{model, [8]byte(d[:8])}]
	if c == nil || c.N == 0 {
		return nil
	}
	n := float64(c.N)
	out := &QualityStatus{N: c.N, MAE: c.Sum / n, RMSE: math.Sqrt(c.Square / n)}
	if c.NaiveN > 0 {
		naive := c.Naive / float64(c.NaiveN)
		out.NaiveMAE = &naive
	}
	return out
}
