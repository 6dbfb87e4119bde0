package bptt

import (
	"runtime"
	"strconv"
	"testing"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

// BenchmarkReferenceEpoch is the run that DESIGN §4 compares: LSTM(128) and
// Dense(1) on 4,000 windows of 50×8 in batches of 32, here a sixteenth of an
// epoch at a time. Its GFLOP/s are of matrix products alone, to compare with
// gemm's BenchmarkFMALoop.
func BenchmarkReferenceEpoch(b *testing.B) {
	const windows, steps, features, units = 4000, 50, 8, 128
	g := graph(features, lstmLayer(units), denseLayer(1, kernel.Linear))
	src := randomWindows(g, MSE, windows, steps, 1)
	for _, cores := range []int{1, 2} {
		b.Run("cores="+strconv.Itoa(cores), func(b *testing.B) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
			e := start(b, Config{}, mustInit(g), src)
			order := ascending(make([]int, windows))
			n := 0
			for b.Loop() {
				for range windows / 16 / 32 {
					lo := n * 32 % (windows / 32 * 32)
					e.train(src, order[lo:lo+32])
					n++
				}
			}
			rate := float64(32*n) / b.Elapsed().Seconds()
			b.ReportMetric(rate, "samples/s")
			b.ReportMetric(windows/rate, "s/epoch")
			b.ReportMetric(rate*steps*2*(3*units+2*features)*4*units/1e9, "GFLOP/s")
		})
	}
}
