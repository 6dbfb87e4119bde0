package artifact

import (
	"errors"
	"math"
	"slices"
	"testing"
)

func TestReferenceIsPartOfAModel(t *testing.T) {
	m := model(3, 7)
	without, err := m.Digest()
	if err != nil {
		t.Fatal(err)
	}
	m.Reference = &Reference{Features: []Histogram{{Floats{1, 2.5}, []uint16{3000, 3000, 4000}}, {nil, []uint16{10000}}}}
	with, err := m.Digest()
	if err != nil || with == without {
		t.Errorf("digests %s and %s, %v", with, without, err)
	}
	encoded, err := m.encodeManifest()
	if err != nil {
		t.Fatal(err)
	}
	var w manifest
	if err := decodeDocument(encoded, "manifest", &w, MaxManifest); err != nil {
		t.Fatal(err)
	}
	if got := w.model().Reference; got == nil || len(got.Features) != 2 || !slices.Equal(got.Features[0].Edges, Floats{1, 2.5}) {
		t.Errorf("read back: %+v", got)
	}
	counts := make([]uint64, m.Reference.Bins())
	for _, v := range []float32{-1, 1, 1.1, 2.5, 9, float32(math.Inf(1))} {
		m.Reference.Count(counts, []float32{v, v, v})
	}
	if !slices.Equal(counts, []uint64{2, 2, 2, 6}) {
		t.Errorf("counts %v", counts)
	}
	if n := testing.AllocsPerRun(100, func() { m.Reference.Count(counts, []float32{1, 2, 3}) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	many := Reference{Features: make([]Histogram, 3)}
	for i := range many.Features {
		for k := range 50 {
			many.Features[i].Edges = append(many.Features[i].Edges, float32(k))
		}
		many.Features[i].Parts = make([]uint16, 51)
	}
	for name, r := range map[string]*Reference{
		"of nothing":    {},
		"of more":       {Features: make([]Histogram, 4)},
		"without parts": {Features: []Histogram{{Floats{1}, []uint16{1}}}},
		"not ascending": {Features: []Histogram{{Floats{1, 1}, []uint16{1, 1, 1}}}},
		"not finite":    {Features: []Histogram{{Floats{float32(math.NaN())}, []uint16{1, 1}}}},
		"too many":      &many,
	} {
		m.Reference = r
		if err := m.Validate(); !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrNonFinite) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
