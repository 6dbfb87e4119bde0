package train

import (
	"math"
	"math/rand/v2"
	"testing"
)

// ofErrors are the sums of blocks of windows with the given errors.
func ofErrors(s scorer, errs []float64, ends []int) []sums {
	blocks := make([]sums, len(ends))
	at := 0
	for k, end := range ends {
		blocks[k].windows = float64(end - at)
		for ; at < end; at++ {
			blocks[k].add(s.of(0, errs[at], 0))
		}
	}
	return blocks
}

func figuresOf(s scorer, errs []float64, ends []int, seed uint64) []Metrics {
	return newBootstrap(len(ends), seed).figures(s, ofErrors(s, errs, ends))
}

func equalBlocks(n, length int) (ends []int) {
	for end := length; end <= n; end += length {
		ends = append(ends, end)
	}
	return ends
}

// Of independent normal errors the mean squared error of n has a standard error
// of √(2/n)·σ²: the interval is 1.96 of them to each side.
func TestIntervalIsThatOfTheMean(t *testing.T) {
	const n = 400
	rng := rand.New(rand.NewPCG(1, 1))
	errs := make([]float64, n)
	mse := 0.0
	for i := range errs {
		errs[i] = rng.NormFloat64()
		mse += errs[i] * errs[i] / n
	}
	s := scorer{task: Forecast, std: []float64{1}, windows: n}
	i := intervals(figuresOf(s, errs, equalBlocks(n, 1), 5))["mse"]
	half := 1.96 * math.Sqrt(2.0/n)
	lo, hi := float64(i[0]), float64(i[1])
	if !(lo < mse && mse < hi) || math.Abs((hi-lo)/(2*half)-1) > 0.15 {
		t.Errorf("interval %v of %v, want about ± %v", i, mse, half)
	}
	again := intervals(figuresOf(s, errs, equalBlocks(n, 1), 5))["mse"]
	if again != i {
		t.Errorf("the same seed gives %v and %v", i, again)
	}
}

// Errors that come in runs of ten tell a tenth as much: blocks see that, single
// windows do not.
func TestBlocksSeeThatErrorsHangTogether(t *testing.T) {
	const n = 1000
	rng := rand.New(rand.NewPCG(2, 1))
	errs := make([]float64, n)
	for i := range errs {
		if errs[i] = errs[max(i-1, 0)]; i%10 == 0 {
			errs[i] = rng.NormFloat64()
		}
	}
	s := scorer{task: Forecast, std: []float64{1}, windows: n}
	width := func(length int) float64 {
		i := intervals(figuresOf(s, errs, equalBlocks(n, length), 1))["mse"]
		return float64(i[1] - i[0])
	}
	if ratio := width(10) / width(1); ratio < 2.5 || ratio > 4 {
		t.Errorf("the interval is %v times as wide, want √10", ratio)
	}
}

// A score is a sum: of blocks of unequal length it is that of as many windows as
// there are.
func TestScoresOfResamplesAreOfAsManyWindows(t *testing.T) {
	s := scorer{task: RUL, cap: math.Inf(1), windows: 6}
	for _, m := range figuresOf(s, []float64{1, 1, 1, 1, 1, 1}, []int{1, 2, 6}, 1) {
		almost(t, "score", m["cmapss_score"], 6*(math.Exp(0.1)-1))
		almost(t, "mse", m["mse"], 1)
	}
}

func TestBlocksAreWholeGroupsOrStretches(t *testing.T) {
	o := forecastOptions
	r := run1(t, o, hours(640)).Report // 115 windows of one group, a season of 24
	if r.Intervals != nil {
		t.Errorf("intervals %v from 4 days", r.Intervals)
	}
	o.Split = "300,50,290"
	r = run1(t, o, hours(640)).Report // 285
	i, ok := r.Intervals["mse"]
	if m := Figure(r.Metrics.Int8["mse"]); !ok || !(i[0] < m && m < i[1]) {
		t.Errorf("interval %v of %v", i, m)
	}
	o = rulOptions
	if r = run1(t, o, engines(12, 1)).Report; r.Intervals == nil { // 3 groups, in stretches of a window
		t.Error("no intervals of 3 engines")
	}
}

func TestMergedBlocksCoverAll(t *testing.T) {
	ends := merged(equalBlocks(7777, 7))
	if len(ends) != maxBlocks || ends[len(ends)-1] != 7777 {
		t.Fatalf("%d blocks up to %d", len(ends), ends[len(ends)-1])
	}
	for k := 1; k < len(ends); k++ {
		if n := ends[k] - ends[k-1]; n < 14 || n > 21 {
			t.Errorf("block %d has %d windows", k, n)
		}
	}
}
