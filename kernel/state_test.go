package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"
)

func bothModels(t testing.TB, g Graph, seed uint64) []*Model {
	w := randomWeights(t, g, seed)
	return everyModel(t, w)
}

func TestSavedStateGoesOnWithTheSameBits(t *testing.T) {
	for _, m := range append(bothModels(t, stackedGraph(true), 3), bothModels(t, mixedGraph(true), 3)...) {
		window := randomWindow(1, 20, 5)
		s, y := m.NewState(), make([]float32, m.outputs)
		for i := range 10 {
			if err := m.Step(s, y, window[i*5:][:5]); err != nil {
				t.Fatal(err)
			}
		}
		saved, err := s.AppendBinary([]byte("prefix"))
		if err != nil {
			t.Fatal(err)
		}
		restored, copied := m.NewState(), m.NewState()
		if err := restored.UnmarshalBinary(saved[len("prefix"):]); err != nil {
			t.Fatal(err)
		}
		if err := copied.CopyFrom(s); err != nil {
			t.Fatal(err)
		}
		y1, y2 := make([]float32, m.outputs), make([]float32, m.outputs)
		for i := 10; i < 20; i++ {
			x := window[i*5:][:5]
			if err := errors.Join(m.Step(s, y, x), m.Step(restored, y1, x), m.Step(copied, y2, x)); err != nil {
				t.Fatal(err)
			}
			equalBits(t, typeName(m)+" restored", y1, y)
			equalBits(t, typeName(m)+" copied", y2, y)
		}
	}
}

func TestPredictLeavesTheStateAtTheWindowsEnd(t *testing.T) {
	for _, m := range append(bothModels(t, lstmGraph(20, 3), 3), bothModels(t, gruGraph(20, 3), 3)...) {
		window := randomWindow(1, 9, 3)
		a, b, ya, yb := m.NewState(), m.NewState(), make([]float32, 1), make([]float32, 1)
		if err := errors.Join(m.Predict(a, ya, window[:24]), m.Step(a, ya, window[24:]), m.Predict(b, yb, window)); err != nil {
			t.Fatal(err)
		}
		equalBits(t, typeName(m), ya, yb)
	}
}

func TestStateRefusesDamagedBytes(t *testing.T) {
	for _, m := range bothModels(t, Graph{2, []Layer{{Kind: LSTM, Units: 3, Sequences: true}, {Kind: LSTM, Units: 5}}}, 3) {
		s := m.NewState()
		if err := m.Step(s, make([]float32, 5), []float32{1, 2}); err != nil {
			t.Fatal(err)
		}
		good, _ := s.AppendBinary(nil)
		for n := range good {
			if err := m.NewState().UnmarshalBinary(good[:n]); !errors.Is(err, ErrState) {
				t.Errorf("%s: first %d bytes = %v, want ErrState", typeName(m), n, err)
			}
		}
		change := func(at int, v ...byte) []byte {
			b := bytes.Clone(good)
			copy(b[at:], v)
			return b
		}
		hidden := 3 + 2 + 4*3
		cases := []struct {
			name string
			b    []byte
			want error
		}{
			{"trailing byte", append(bytes.Clone(good), 0), ErrState},
			{"version", change(0, 2), ErrState},
			{"type", change(1, 1-good[1]), ErrState},
			{"layers", change(2, 3), ErrState},
			{"units", change(3, 0, 5), ErrState},
			{"NaN cell", change(5, 0x7f, 0xc0), ErrNonFinite},
			{"infinite cell", change(5, 0xff, 0x80, 0, 0), ErrNonFinite},
		}
		if m.Int8() {
			cases = append(cases, struct {
				name string
				b    []byte
				want error
			}{"hidden -128", change(hidden, 0x80), ErrRange})
		} else {
			cases = append(cases, struct {
				name string
				b    []byte
				want error
			}{"hidden 2", change(hidden, 0x40, 0, 0, 0), ErrRange})
		}
		for _, c := range cases {
			before, _ := s.AppendBinary(nil)
			if err := s.UnmarshalBinary(c.b); !errors.Is(err, c.want) {
				t.Errorf("%s %s: %v, want %v", typeName(m), c.name, err, c.want)
			}
			if after, _ := s.AppendBinary(nil); !bytes.Equal(before, after) {
				t.Errorf("%s %s: the state changed", typeName(m), c.name)
			}
		}
	}
}

// TestStateOfAGRU holds the bytes: the float32 hidden state, whatever the type.
func TestStateOfAGRU(t *testing.T) {
	g := Graph{2, []Layer{{Kind: GRU, Units: 3, Sequences: true}, {Kind: LSTM, Units: 5, Sequences: true}, {Kind: GRU, Units: 2}}}
	for _, m := range bothModels(t, g, 3) {
		s, y := m.NewState(), make([]float32, 2)
		if err := m.Step(s, y, []float32{1, 2}); err != nil {
			t.Fatal(err)
		}
		good, _ := s.AppendBinary(nil)
		size := 3 + (2 + 4*3) + (2 + 4*5 + 5) + (2 + 4*2)
		if !m.Int8() {
			size += 3 * 5
		}
		if len(good) != size {
			t.Fatalf("%s: %d bytes, want %d", typeName(m), len(good), size)
		}
		last := good[size-4*2:]
		for u, v := range y { // no head: the output is the hidden state
			if got := binary.BigEndian.Uint32(last[4*u:]); got != math.Float32bits(v) {
				t.Errorf("%s: unit %d is stored as %#08x, want %#08x", typeName(m), u, got, math.Float32bits(v))
			}
		}
		for n := range good {
			if err := m.NewState().UnmarshalBinary(good[:n]); !errors.Is(err, ErrState) {
				t.Errorf("%s: first %d bytes = %v, want ErrState", typeName(m), n, err)
			}
		}
		for _, v := range []float32{1.001, -1.001, float32(math.NaN()), float32(math.Inf(1))} {
			bad := bytes.Clone(good)
			binary.BigEndian.PutUint32(bad[3+2:], math.Float32bits(v))
			if err := s.UnmarshalBinary(bad); !errors.Is(err, ErrRange) {
				t.Errorf("%s: hidden state %v = %v, want ErrRange", typeName(m), v, err)
			}
			if after, _ := s.AppendBinary(nil); !bytes.Equal(good, after) {
				t.Errorf("%s: the state changed", typeName(m))
			}
		}
	}
}

func TestStateBelongsToItsModel(t *testing.T) {
	a, b := bothModels(t, lstmGraph(4, 2), 1)[0], bothModels(t, lstmGraph(4, 2), 2)[0]
	s, y, x := b.NewState(), make([]float32, 1), []float32{1, 2}
	for name, err := range map[string]error{
		"Step": a.Step(s, y, x), "Predict": a.Predict(s, y, x), "PredictBatch": a.PredictBatch(s, y, x, 1),
		"CopyFrom": a.NewState().CopyFrom(s),
	} {
		if !errors.Is(err, ErrState) {
			t.Errorf("%s with another model's state = %v, want ErrState", name, err)
		}
	}
}

// FuzzState: whatever decodes encodes to the same bytes, and the model steps
// from it to finite outputs.
func FuzzState(f *testing.F) {
	g := Graph{1, []Layer{{Kind: LSTM, Units: 3, Sequences: true}, {Kind: LSTM, Units: 2}, {Kind: Dense, Units: 1}}}
	models := bothModels(f, g, 5)
	models = append(models, bothModels(f, Graph{1, []Layer{{Kind: LSTM, Units: 2, Sequences: true}, {Kind: GRU, Units: 3}, {Kind: Dense, Units: 1}}}, 5)...)
	for _, m := range models {
		s := m.NewState()
		if err := m.Step(s, make([]float32, 1), []float32{1}); err != nil {
			f.Fatal(err)
		}
		b, _ := s.AppendBinary(nil)
		f.Add(b)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range models {
			s := m.NewState()
			if s.UnmarshalBinary(b) != nil {
				continue
			}
			if again, _ := s.AppendBinary(nil); !bytes.Equal(again, b) {
				t.Fatalf("%s: % x encodes to % x", typeName(m), b, again)
			}
			y := make([]float32, 1)
			if err := m.Step(s, y, []float32{-1}); err != nil || !finite(y[0]) || math.IsNaN(float64(y[0])) {
				t.Fatalf("%s: step from % x = %v, %v", typeName(m), b, y, err)
			}
		}
	})
}
