package dataset

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sandpiper-edge/sandpiper/kernel"
)

func TestScalerSeesTrainingRowsOnly(t *testing.T) {
	rows := "1,4\n3,4\n5,4\n"
	c := Columns{Features: []string{"a", "b"}}
	train := Part{{0, 0, 3}}
	want, constant := NewScaler(read(t, "a,b\n"+rows, c).FeatureMoments(train))
	got, _ := NewScaler(read(t, "a,b\n"+rows+"1e6,9\n-1e6,8\n", c).FeatureMoments(train))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("later rows changed the scaler: %s", diff)
	}
	if diff := cmp.Diff([]int{1}, constant); diff != "" {
		t.Errorf("constant columns: %s", diff)
	}
	if want.Inv[1] != 0 || want.Std[1] != 0 || want.Mean[1] != 4 {
		t.Errorf("constant column: mean %v std %v inv %v, want 4 0 0", want.Mean[1], want.Std[1], want.Inv[1])
	}
}

func TestConstantColumnScalesToZero(t *testing.T) {
	table := read(t, "a,b,y\n1,7,1\n2,7,2\n3,7,3\n4,1e9,4\n", Columns{Targets: []string{"y"}})
	sc, _ := NewScaler(table.FeatureMoments(Part{{0, 0, 3}}))
	sc.OutMean, sc.OutStd = []float32{2}, []float32{1}
	w, err := table.Windows(table.All(), Shape{Window: 2})
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSource(w, plain(t, sc), Unlimited)
	if err != nil {
		t.Fatal(err)
	}
	x, y := make([]float32, 4), make([]float32, 1)
	s.Window(2, x, y)
	if x[1] != 0 || x[3] != 0 || y[0] != 2 {
		t.Errorf("window %v → %v, want zeros for b and 2", x, y)
	}
}

// What a perfect model answers on scaled windows is, scaled back by the
// kernel, the raw target, with and without anchor.
func TestSourceInvertsTheKernelsScaler(t *testing.T) {
	table := read(t, "a,b\n3,10\n5,20\n4,40\n9,70\n7,20\n6,50\n2,10\n", Columns{Features: []string{"a", "b"}, Targets: []string{"b"}})
	for _, anchor := range [][]int{nil, {1, 1}, {-1, 1}} {
		sc, _ := NewScaler(table.FeatureMoments(table.All()))
		sc.OutMean, sc.OutStd, sc.Anchor = []float32{31, 32}, []float32{5, 7}, anchor
		w, err := table.Windows(table.All(), Shape{Window: 3, Horizon: 2})
		if err != nil {
			t.Fatal(err)
		}
		s, err := NewSource(w, plain(t, sc), Unlimited)
		if err != nil {
			t.Fatal(err)
		}
		for i := range w.Len() {
			raw, x, y, truth, back := make([]float32, 6), make([]float32, 6), make([]float32, 2), make([]float32, 2), make([]float32, 2)
			s.Window(i, x, y)
			w.Rows(i, raw)
			w.Target(i, truth)
			if err := sc.Out(back, y, raw[4:]); err != nil {
				t.Fatal(err)
			}
			for o := range back {
				if math.Abs(float64(back[o]-truth[o])) > 1e-4 {
					t.Errorf("anchor %v window %d output %d: %v, want %v", anchor, i, o, back[o], truth[o])
				}
			}
			if anchor != nil && (x[5] != 0 || x[4] == 0) {
				t.Errorf("anchored window %d ends in %v, want 0 for b alone", i, x[4:])
			}
		}
	}
}

func TestSourceCapsTheTarget(t *testing.T) {
	table := numbered(t, 9)
	if err := table.SetRemaining(nil); err != nil {
		t.Fatal(err)
	}
	w, err := table.Windows(table.All(), Shape{Window: 2})
	if err != nil {
		t.Fatal(err)
	}
	sc, _ := NewScaler(table.FeatureMoments(table.All()))
	sc.OutMean, sc.OutStd = []float32{1}, []float32{2}
	s, err := NewSource(w, plain(t, sc), 5)
	if err != nil {
		t.Fatal(err)
	}
	x, y := make([]float32, 4), make([]float32, 1)
	for i, want := range []float32{2, 2, 2, 1.5, 1, 0.5, 0, -0.5} { // min(5, 7…0) − 1, halved
		s.Window(i, x, y)
		if y[0] != want {
			t.Errorf("target %d = %v, want %v", i, y[0], want)
		}
	}
}

func TestSourceRefusesWhatTheDeviceWouldRefuse(t *testing.T) {
	table := read(t, "a,y\n1,1\n2,2\n3,3\n3e30,4\n", Columns{Targets: []string{"y"}})
	sc, _ := NewScaler(table.FeatureMoments(Part{{0, 0, 3}}))
	sc.OutMean, sc.OutStd = []float32{2}, []float32{1}
	w, err := table.Windows(table.All(), Shape{Window: 2})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewSource(w, plain(t, sc), Unlimited); !errors.Is(err, kernel.ErrRange) || !strings.Contains(err.Error(), "ending at 4") {
		t.Errorf("NewSource = %v, want ErrRange at row 4", err)
	}
	sc.OutMean, sc.OutStd = []float32{2, 2}, []float32{1, 1}
	if _, err := NewSource(w, plain(t, sc), Unlimited); !errors.Is(err, kernel.ErrShape) {
		t.Errorf("NewSource with two outputs = %v, want ErrShape", err)
	}
}
