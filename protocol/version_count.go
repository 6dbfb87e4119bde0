package protocol

import (
	"fmt"
	"math"
	"math/bits"
)

const (
	// MaxVersionCounts is the largest number of versions in one usage report.
	MaxVersionCounts = 32
	// LatencyBuckets is the number of buckets of VersionCount.Latency.
	LatencyBuckets = 96
)

// A VersionCount says how one version of a model did, cumulative since the
// start of the agent like all of Usage: what it predicted, for callers and
// pipelines or as the version that runs beside the active one, and how far that
// was from the truth, where the truth is known. An error is that of Quality.
type VersionCount struct {
	Model    string  `cbor:"model"`
	Version  [8]byte `cbor:"v"` // first bytes of the digest, as in Quality
	Answered uint64  `cbor:"answered,omitempty"`
	Refused  uint64  `cbor:"refused,omitempty"` // requests that do not fit the version, or are none
	Failed   uint64  `cbor:"failed,omitempty"`  // outputs that are missing or not finite
	// Latency counts predictions made while the version was judged, by the time
	// they took in the kernel: element i those of LatencyBucket i, without
	// zeros at the end, all together at most Answered. Elements add up over
	// starts and devices.
	Latency []uint64 `cbor:"lat,omitempty"`

	N      uint64  `cbor:"n,omitempty"`  // outputs compared with their truth
	Sum    float64 `cbor:"e,omitempty"`  // Σ|e|
	Square float64 `cbor:"e2,omitempty"` // Σe²
	// Naive is Σ|e| of the forecast "as the last value", over those NaiveN of
	// the N for which that value is known.
	NaiveN uint64  `cbor:"naive_n,omitempty"`
	Naive  float64 `cbor:"naive,omitempty"`
}

// LatencyBucket returns the bucket of a prediction that took us microseconds:
// eight of 1 µs, then four to each doubling, so that a bound is at most a
// quarter above the one before. The last has everything from 29 s on.
func LatencyBucket(us uint64) int {
	shift := max(0, bits.Len64(us)-3)
	return min(4*shift+int(us>>shift), LatencyBuckets-1)
}

// LatencyBound returns the time, in microseconds, below which the predictions
// of bucket i are; the last has no bound, and gets the largest value.
func LatencyBound(i int) uint64 {
	switch {
	case i >= LatencyBuckets-1:
		return math.MaxUint64
	case i < 8:
		return uint64(i + 1)
	}
	shift := i/4 - 1
	return uint64(i-4*shift+1) << shift
}

// LatencyQuantile returns the bound of the bucket that holds the quantile q,
// 0 to 1, of the predictions counted in buckets; 0 if there are none.
func LatencyQuantile(buckets []uint64, q float64) uint64 {
	var total uint64
	for _, n := range buckets {
		total += n
	}
	rank := uint64(math.Ceil(q * float64(total)))
	for i, n := range buckets {
		if rank <= n && n > 0 {
			return LatencyBound(i)
		}
		rank -= n
	}
	return 0
}

func (c *VersionCount) check() error {
	if err := firstError(CheckID(c.Model), checkUint("answered", c.Answered), checkUint("refused", c.Refused),
		checkUint("failed", c.Failed), checkUint("n", c.N), checkUint("naive_n", c.NaiveN),
		checkLen("lat", len(c.Latency), LatencyBuckets)); err != nil {
		return err
	}
	var timed uint64 // below 2^60
	for _, n := range c.Latency {
		if err := checkUint("lat", n); err != nil {
			return err
		}
		timed += n
	}
	if timed > c.Answered {
		return fmt.Errorf("%w: lat has %d predictions of %d answered", ErrInvalid, timed, c.Answered)
	}
	if n := len(c.Latency); n > 0 && c.Latency[n-1] == 0 {
		return fmt.Errorf("%w: lat ends with a zero", ErrInvalid)
	}
	for _, v := range [...]float64{c.Sum, c.Square, c.Naive} {
		if !(v >= 0 && v <= math.MaxFloat64) {
			return fmt.Errorf("%w: a sum is %v, want 0 or more and finite", ErrInvalid, v)
		}
	}
	if c.NaiveN > c.N {
		return fmt.Errorf("%w: naive_n is %d of n %d", ErrInvalid, c.NaiveN, c.N)
	}
	return nil
}
