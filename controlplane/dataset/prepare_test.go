package dataset

import (
	"slices"
	"testing"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/prepare"
)

// TestAnchoredStreamLearnsChanges: each row's target is relative to that row, and its
// features are not.
func TestAnchoredStreamLearnsChanges(t *testing.T) {
	table := read(t, "a,b\n1,10\n3,20\n6,30\n10,40\n15,50\n", Columns{Targets: []string{"a"}, TargetsAsFeatures: true})
	plan, err := prepare.New(prepare.Config{
		Columns: 2, Stream: true, Scaler: kernel.Scaler{
			Mean: []float32{0, 30}, Std: []float32{1, 10}, Inv: []float32{1, 0.1}, OutMean: []float32{99}, OutStd: []float32{0.5}, Anchor: []int{0},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := table.NewStream(table.All(), Shape{Window: 4, Horizon: 1}, 0, plan, Unlimited)
	if err != nil {
		t.Fatal(err)
	}
	x, y := make([]float32, 8), make([]float32, 4)
	s.Window(0, x, y)
	if want := []float32{1, -2, 3, -1, 6, 0, 10, 1}; !slices.Equal(x, want) {
		t.Errorf("inputs %v, want %v", x, want)
	}
	if want := []float32{4, 6, 8, 10}; !slices.Equal(y, want) { // changes of 2 to 5, in halves
		t.Errorf("targets %v, want %v", y, want)
	}
}
