package kernel

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"unsafe"
)

// guarded returns a copy of v that ends, or starts, at a page that faults.
func guarded[T any](t testing.TB, v []T, atEnd bool) []T {
	t.Helper()
	if len(v) == 0 {
		return v
	}
	size, page := len(v)*int(unsafe.Sizeof(v[0])), os.Getpagesize()
	pages := (size + page - 1) / page * page
	mem, err := syscall.Mmap(-1, 0, pages+2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Munmap(mem); err != nil {
			t.Error(err)
		}
	})
	for _, at := range []int{0, page + pages} {
		if err := syscall.Mprotect(mem[at:][:page], syscall.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	start := page
	if atEnd {
		start += pages - size
	}
	g := unsafe.Slice((*T)(unsafe.Pointer(&mem[start])), len(v))
	copy(g, v)
	return g
}

// guard puts everything the assembly reads or writes between faulting pages.
func guard(t testing.TB, m *Model, s *State, atEnd bool) {
	for _, l := range m.vectors {
		l.mem = guarded(t, l.mem, atEnd)
	}
	for _, d := range m.denses {
		d.w, d.bias = guarded(t, d.w, atEnd), guarded(t, d.bias, atEnd)
	}
	for _, states := range [][]layerState{s.layers, s.tile} {
		for i := range states {
			l := &states[i]
			l.c, l.h = guarded(t, l.c, atEnd), guarded(t, l.h, atEnd)
			l.b, l.bNext = guarded(t, l.b, atEnd), guarded(t, l.bNext, atEnd)
			l.p, l.pNext = guarded(t, l.p, atEnd), guarded(t, l.pNext, atEnd)
		}
	}
	for i := range s.denses {
		s.denses[i] = guarded(t, s.denses[i], atEnd)
	}
	s.sums, s.y = guarded(t, s.sums, atEnd), guarded(t, s.y, atEnd)
}

// TestNothingIsTouchedOutsideItsBuffer: one byte too far is a fault.
func TestNothingIsTouchedOutsideItsBuffer(t *testing.T) {
	for _, h := range []int{1, 16, 17, 33, 48} {
		for _, f := range []int{1, 33} {
			graphs := []Graph{
				lstmGraph(h, f), gruGraph(h, f),
				{f, []Layer{{Kind: LSTM, Units: h, Sequences: true}, {Kind: LSTM, Units: f}, {Kind: Dense, Units: 17}, {Kind: Dense, Units: 3}}},
				{f, []Layer{{Kind: GRU, Units: h, Sequences: true}, {Kind: GRU, Units: f}}},
			}
			for _, g := range graphs {
				for _, m := range everyModel(t, randomWeights(t, g, uint64(h))) {
					testGuarded(t, m)
				}
			}
		}
	}
}

func testGuarded(t *testing.T, m *Model) {
	const steps, n = windowRows + 3, 5
	f, out := m.graph.Features, m.outputs
	xs := randomWindow(7, n*steps, f)
	want, s := make([]float32, n*out), m.NewState()
	if err := m.PredictBatch(s, want, xs, n); err != nil { // makes the buffers of tile and window
		t.Fatal(err)
	}
	for _, atEnd := range []bool{true, false} {
		guard(t, m, s, atEnd)
		m.ReadWeights(2)
		x, y := guarded(t, xs, atEnd), guarded(t, make([]float32, n*out), atEnd)
		if err := m.PredictBatch(s, y, x, n); err != nil {
			t.Fatal(err)
		}
		equalBits(t, fmt.Sprintf("%s %v guarded batch", typeName(m), m.graph), y, want)
		x, y = guarded(t, xs[:steps*f], atEnd), guarded(t, make([]float32, out), atEnd)
		if err := m.Predict(s, y, x); err != nil {
			t.Fatal(err)
		}
		equalBits(t, fmt.Sprintf("%s %v guarded window", typeName(m), m.graph), y, want[:out])
		s.Reset()
		row := guarded(t, xs[:f], atEnd)
		for i := range steps {
			copy(row, xs[i*f:])
			if err := m.Step(s, y, row); err != nil {
				t.Fatal(err)
			}
		}
		equalBits(t, fmt.Sprintf("%s %v guarded steps", typeName(m), m.graph), y, want[:out])
	}
}
