package protocol

import (
	"math"
	"testing"
)

func TestLatencyBuckets(t *testing.T) {
	for _, c := range []struct {
		us     uint64
		bucket int
	}{{0, 0}, {7, 7}, {8, 8}, {9, 8}, {10, 9}, {15, 11}, {16, 12}, {1000, 35}, {7<<22 - 1, 94}, {7 << 22, 95}, {math.MaxUint64, 95}} {
		if got := LatencyBucket(c.us); got != c.bucket {
			t.Errorf("LatencyBucket(%d) = %d, want %d", c.us, got, c.bucket)
		}
	}
	for i := range LatencyBuckets - 1 { // a bound is the first value of the next bucket
		bound := LatencyBound(i)
		if LatencyBucket(bound-1) != i || LatencyBucket(bound) != i+1 {
			t.Errorf("LatencyBound(%d) = %d, which is in bucket %d behind %d", i, bound, LatencyBucket(bound), LatencyBucket(bound-1))
		}
		if before := LatencyBound(max(0, i-1)); i > 8 && float64(bound) > 1.25*float64(before) {
			t.Errorf("bound %d is %d, more than a quarter above %d", i, bound, before)
		}
	}
	if LatencyBound(LatencyBuckets-1) != math.MaxUint64 {
		t.Error("the last bucket has a bound")
	}
}

func TestLatencyQuantile(t *testing.T) {
	buckets := []uint64{3: 98, 9: 1, 40: 1}
	for _, c := range []struct {
		q    float64
		want uint64
	}{{0, 4}, {0.5, 4}, {0.98, 4}, {0.99, 12}, {1, LatencyBound(40)}} {
		if got := LatencyQuantile(buckets, c.q); got != c.want {
			t.Errorf("quantile %v = %d, want %d", c.q, got, c.want)
		}
	}
	if got := LatencyQuantile(nil, 0.99); got != 0 {
		t.Errorf("quantile of nothing = %d", got)
	}
}
