package kernel

import (
	"errors"
	"math"
	"strings"
	"testing"
)

func testScaler() Scaler {
	return Scaler{
		Mean: []float32{10, -1, 5}, Std: []float32{2, 0.5, 0}, Inv: []float32{0.5, 2, 0},
		OutMean: []float32{100, 7}, OutStd: []float32{4, 3},
	}
}

func TestScalerInAndOut(t *testing.T) {
	s := testScaler()
	raw := []float32{12, -1, 5, 8, 0, 99}
	x := make([]float32, 6)
	if err := s.In(x, raw); err != nil {
		t.Fatal(err)
	}
	equalBits(t, "in", x, []float32{1, 0, 0, -1, 2, 0}) // a constant column scales to 0 whatever arrives
	y := []float32{0.5, -1, 2, 0}
	if err := s.Out(y, y, nil); err != nil {
		t.Fatal(err)
	}
	equalBits(t, "out", y, []float32{102, 4, 108, 7})
}

func TestScalerAnchor(t *testing.T) {
	s := testScaler()
	s.Anchor = []int{1, 1}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	raw := []float32{12, 3, 5, 8, 4, 5}
	x := make([]float32, 6)
	if err := s.In(x, raw); err != nil {
		t.Fatal(err)
	}
	// Feature 1 is taken from its last value, 4; the others from their means.
	equalBits(t, "in", x, []float32{1, -2, 0, -1, 0, 0})
	y := []float32{0.5, -1}
	if err := s.Out(y, y, raw[3:]); err != nil {
		t.Fatal(err)
	}
	equalBits(t, "out", y, []float32{6, 1})
	s.Anchor = []int{-1, 1}
	y = []float32{0.5, -1}
	if err := s.Out(y, y, raw[3:]); err != nil {
		t.Fatal(err)
	}
	equalBits(t, "one output without an anchor", y, []float32{102, 1})
	if err := s.Out(y, y, raw); !errors.Is(err, ErrShape) {
		t.Errorf("Out with two last rows = %v, want ErrShape", err)
	}
}

func TestScalerRoundsEachOperation(t *testing.T) {
	// Values whose fused multiply-add differs from two roundings, so that a
	// port that fuses fails here.
	s := Scaler{Mean: []float32{0}, Std: []float32{1}, Inv: []float32{1}, OutMean: []float32{-1 - 0x1p-11}, OutStd: []float32{1 + 0x1p-12}}
	y := []float32{1 + 0x1p-12}
	if err := s.Out(y, y, nil); err != nil {
		t.Fatal(err)
	}
	equalBits(t, "out", y, []float32{0}) // 2⁻²⁴ if fused
}

func TestScalerRefuses(t *testing.T) {
	s := testScaler()
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	in := []struct {
		name string
		raw  []float32
		want error
	}{
		{"empty", nil, ErrShape},
		{"half a row", []float32{1, 2, 3, 4}, ErrShape},
		{"NaN", []float32{1, nan, 5}, ErrNonFinite},
		{"NaN in a constant column", []float32{1, 1, nan}, ErrNonFinite},
		{"infinite in a constant column", []float32{1, 1, inf}, ErrNonFinite},
		{"infinite", []float32{-inf, 1, 1}, ErrNonFinite},
		{"beyond 2^20", []float32{10 + 2*(1<<20) + 2, 1, 1}, ErrRange},
		{"overflow", []float32{10, math.MaxFloat32, 5}, ErrRange},
	}
	for _, c := range in {
		if err := s.In(make([]float32, len(c.raw)), c.raw); !errors.Is(err, c.want) {
			t.Errorf("In(%s) = %v, want %v", c.name, err, c.want)
		}
	}
	var value *ValueError
	if err := s.In(make([]float32, 6), []float32{1, 1, 1, 1, nan, 1}); !errors.As(err, &value) || value.Row != 1 || value.Feature != 1 ||
		!strings.HasPrefix(value.Error(), "row 2, feature 2 is NaN") {
		t.Errorf("In(NaN in row 2, feature 2) = %v, want a ValueError that says so, counting from 1", err)
	}
	if err := s.In(make([]float32, 3), []float32{10 + 2*(1<<20), 1, 1}); err != nil {
		t.Errorf("In(2^20) = %v", err)
	}
	if err := s.In(make([]float32, 2), make([]float32, 3)); !errors.Is(err, ErrShape) {
		t.Errorf("In(short destination) = %v, want ErrShape", err)
	}
	for _, n := range []int{0, 1, 3} {
		if err := s.Out(make([]float32, n), make([]float32, n), nil); !errors.Is(err, ErrShape) {
			t.Errorf("Out(%d values) = %v, want ErrShape", n, err)
		}
	}
	bad := []struct {
		name   string
		change func(*Scaler)
		want   error
	}{
		{"no features", func(s *Scaler) { *s = Scaler{} }, ErrShape},
		{"too many features", func(s *Scaler) { s.Mean = make([]float32, 257) }, ErrShape},
		{"no outputs", func(s *Scaler) { s.OutMean = nil }, ErrShape},
		{"short std", func(s *Scaler) { s.Std = s.Std[:2] }, ErrShape},
		{"short inv", func(s *Scaler) { s.Inv = s.Inv[:2] }, ErrShape},
		{"long output std", func(s *Scaler) { s.OutStd = make([]float32, 3) }, ErrShape},
		{"NaN mean", func(s *Scaler) { s.Mean[1] = nan }, ErrNonFinite},
		{"infinite inv", func(s *Scaler) { s.Inv[1] = inf }, ErrNonFinite},
		{"NaN output mean", func(s *Scaler) { s.OutMean[0] = nan }, ErrNonFinite},
		{"negative std", func(s *Scaler) { s.Std[0] = -1 }, ErrRange},
		{"anchor of one output", func(s *Scaler) { s.Anchor = []int{0} }, ErrShape},
		{"anchor beyond the features", func(s *Scaler) { s.Anchor = []int{0, 3} }, ErrShape},
		{"negative anchor", func(s *Scaler) { s.Anchor = []int{0, -2} }, ErrShape},
	}
	for _, c := range bad {
		s := testScaler()
		c.change(&s)
		if err := s.Validate(); !errors.Is(err, c.want) {
			t.Errorf("Validate(%s) = %v, want %v", c.name, err, c.want)
		}
	}
}
