package plan

import (
	"cmp"
	"math"
	"slices"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A Counted is what a device counted of the version and of the one in place. What
// many counted is summed up so that no device decides alone, neither by its wrong
// counts nor by much to do: none weighs more than the one with the median number of
// predictions (of an even number, the lower one), and from enoughToDoubt devices on
// the one that failed most, or that has most of the slow predictions of a version, is
// left out.
type Counted struct {
	Device string
	// Before and Latency are predictions of the version in place and of the version,
	// by protocol.LatencyBucket.
	Before, Latency []uint64
	// Answered and Failed count predictions of the version.
	Answered, Failed uint64
}

const (
	// enoughToDoubt is how many devices it takes to tell one that counts wrongly
	// from the others: of two, either could be the one.
	enoughToDoubt = 3
	// tail is the quantile of latencies that is limited.
	tail = 0.99
)

// Slower is the p99 of the latency of the version, as a multiple of that of the one in
// place; nil if no device counted both. Each device's latencies are taken in units of
// its own median with the version in place, so that those which are slow by nature
// hide nothing.
func Slower(devices []Counted) *float64 {
	devices = slices.DeleteFunc(slices.Clone(devices), func(d Counted) bool { return d.slower() == nil })
	if len(devices) == 0 {
		return nil
	}
	before := quantile(devices, func(d Counted) []uint64 { return d.Before })
	ratio := quantile(devices, func(d Counted) []uint64 { return d.Latency }) / before
	return &ratio
}

// ErrorRate is the share of predictions of the version that failed; nil if there were
// none.
func ErrorRate(devices []Counted) *float64 {
	devices = slices.DeleteFunc(slices.Clone(devices), func(d Counted) bool { return d.errorRate() == nil })
	if len(devices) == 0 {
		return nil
	}
	weights := weigh(devices, Counted.predictions)
	if len(devices) >= enoughToDoubt {
		worst := 0
		for i, d := range devices {
			if *d.errorRate()*weights[i] > *devices[worst].errorRate()*weights[worst] {
				worst = i
			}
		}
		weights[worst] = 0
	}
	var all, failed float64
	for i, d := range devices {
		all += weights[i]
		failed += weights[i] * *d.errorRate()
	}
	rate := failed / all
	return &rate
}

// Beyond are the devices that are themselves beyond a limit of checks, of each check
// the worst first, and of those checks alone that all devices together are beyond.
func (h Health) Beyond(devices []Counted, checks Checks) (out []Fault) {
	for _, c := range []struct {
		name       string
		all, limit *float64
		of         func(Counted) *float64
	}{{CheckLatency, h.Latency, checks.MaxLatency, Counted.slower}, {CheckErrors, h.ErrorRate, checks.MaxErrorRate, Counted.errorRate}} {
		if c.limit == nil || c.all == nil || *c.all <= *c.limit {
			continue
		}
		var beyond []Fault
		for _, d := range devices {
			if x := c.of(d); x != nil && *x > *c.limit {
				beyond = append(beyond, Fault{Device: d.Device, Check: c.name, Figure: *x, Bound: *c.limit})
			}
		}
		out = append(out, WorstFirst(beyond)...)
	}
	return out
}

// WorstFirst sorts faults of one check.
func WorstFirst(faults []Fault) []Fault {
	slices.SortFunc(faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(b.Figure, a.Figure), cmp.Compare(a.Device, b.Device))
	})
	return faults
}

func (d Counted) predictions() float64 { return float64(d.Answered) + float64(d.Failed) }

// errorRate is that of the device alone; nil if it predicted nothing.
func (d Counted) errorRate() *float64 {
	if d.predictions() == 0 {
		return nil
	}
	rate := float64(d.Failed) / d.predictions()
	return &rate
}

// slower is the multiple of the device alone; nil if one of the versions predicted
// nothing while it was judged.
func (d Counted) slower() *float64 {
	a, b := protocol.LatencyQuantile(d.Before, tail), protocol.LatencyQuantile(d.Latency, tail)
	if a == 0 || b == 0 {
		return nil
	}
	ratio := float64(b) / float64(a)
	return &ratio
}

// weigh returns the weights of devices that counted so much, which is not 0.
func weigh(devices []Counted, size func(Counted) float64) []float64 {
	weights := make([]float64, len(devices))
	for i, d := range devices {
		weights[i] = size(d)
	}
	most := slices.Sorted(slices.Values(weights))[(len(weights)-1)/2]
	for i, w := range weights {
		weights[i] = min(w, most)
	}
	return weights
}

// A sample is so much of the weight of a device at one latency.
type sample struct {
	device          int
	latency, weight float64
}

// quantile is that of the latencies which of returns, in medians of the version in place.
func quantile(devices []Counted, of func(Counted) []uint64) float64 {
	total := func(d Counted) (sum float64) {
		for _, n := range of(d) {
			sum += float64(n)
		}
		return sum
	}
	weights := weigh(devices, total)
	var samples []sample
	for i, d := range devices {
		unit, scale := float64(protocol.LatencyQuantile(d.Before, 0.5)), weights[i]/total(d)
		for bucket, n := range of(d) {
			if n > 0 {
				samples = append(samples, sample{i, float64(protocol.LatencyBound(bucket)) / unit, scale * float64(n)})
			}
		}
	}
	slices.SortFunc(samples, func(a, b sample) int { return cmp.Compare(a.latency, b.latency) })
	at := reach(samples)
	if len(devices) < enoughToDoubt {
		return samples[at].latency
	}
	beyond := make([]float64, len(devices))
	for _, s := range samples {
		if s.latency >= samples[at].latency {
			beyond[s.device] += s.weight
		}
	}
	worst := slices.Index(beyond, slices.Max(beyond))
	samples = slices.DeleteFunc(samples, func(s sample) bool { return s.device == worst })
	return samples[reach(samples)].latency
}

// reach returns the first of samples, sorted by latency, up to which the tail begins.
func reach(samples []sample) int {
	var all, sum float64
	for _, s := range samples {
		all += s.weight
	}
	for i, s := range samples {
		if sum += s.weight; sum >= tail*all*(1-math.Pow(2, -40)) { // sums are not exact
			return i
		}
	}
	return len(samples) - 1
}
