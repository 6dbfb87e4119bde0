package predictor

import (
	"errors"
	"math"
	"reflect"
	"testing"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// withSkip is a model of the fixture with a skip path in which output o reads
// feature o, the last output none.
func withSkip(t *testing.T, f *fixture) (*artifact.Model, *kernel.SkipWeights) {
	t.Helper()
	n := f.schema.Outputs()
	features, weights, bias := make([]int, n), make([]float32, f.schema.Window*n), make([]float32, n)
	for o := range n {
		features[o], bias[o] = o, float32(o)-1.5
	}
	features[n-1] = -1
	for i := range weights {
		weights[i] = float32(math.Sin(float64(i))) / 3
	}
	s, err := kernel.QuantizeSkip(weights, bias, features)
	if err != nil {
		t.Fatal(err)
	}
	m, err := FromQuantSkip(f.quant, s, f.schema, artifact.TaskForecast, f.scaler)
	if err != nil {
		t.Fatal(err)
	}
	return m, s
}

// What a skip path adds is a weighted sum of the scaled column, in raw units.
func TestSkipIsAddedToTheNetwork(t *testing.T) {
	f := newFixture(t, lastState(), 6, artifact.StateWindow)
	f.scaler.Anchor = []int{-1, 1, -1, -1}
	m, s := withSkip(t, f)
	if got := Skip(m); !reflect.DeepEqual(got, s) {
		t.Fatalf("Skip = %+v, want %+v", got, s)
	}
	rows := rawRows(3, 6)
	x := make([]float32, len(rows))
	if err := f.scaler.In(x, rows); err != nil {
		t.Fatal(err)
	}
	float, err := OpenFloat32(f.weights, f.schema, f.scaler)
	if err != nil {
		t.Fatal(err)
	}
	floatSkip, err := OpenFloat32Of(m, f.weights)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string][2]*Predictor{"int8": {open(t, f.artifact(t)), open(t, m)}, "float32": {float, floatSkip}} {
		plain, got := predict(t, c[0], rows), predict(t, c[1], rows)
		for o := range got {
			sum := float64(s.Bias[o])
			for r := range 6 {
				if o < 3 {
					sum += float64(s.Kernel[r*4+o]) * float64(s.Scale[o]) * float64(x[r*3+o])
				}
			}
			if want := float64(plain[o]) + 8*sum; math.Abs(float64(got[o])-want) > 1e-3 {
				t.Errorf("%s output %d: %v, want %v, without the path %v", name, o, got[o], want, plain[o])
			}
		}
		y := make([]float32, 40*4)
		batch := make([]float32, 0, 40*len(rows))
		for range 40 {
			batch = append(batch, rows...)
		}
		if err := c[1].PredictBatch(y, batch, 40); err != nil || !reflect.DeepEqual(y[39*4:], got) {
			t.Errorf("%s: the last of 40 windows at once is %v (%v), alone %v", name, y[39*4:], err, got)
		}
	}
}

// A model with a path comes through a transfer whole, and as a head on top of
// another with the same path.
func TestSkipTravels(t *testing.T) {
	f := newFixture(t, lastState(), 6, artifact.StateWindow)
	base, _ := withSkip(t, f)
	last := len(f.quant.Layers) - 1
	f.quant.Layers[last].Bias[0]++
	m, _ := withSkip(t, f)
	for name, pack := range map[string]func() (*artifact.Transfer, error){
		"full":  func() (*artifact.Transfer, error) { return artifact.Pack(m) },
		"delta": func() (*artifact.Transfer, error) { return artifact.PackDelta(m, base) },
		"head":  func() (*artifact.Transfer, error) { return artifact.PackHead(m, base) },
	} {
		transfer, err := pack()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		caps := &artifact.Release{Digest: transfer.Digest, MaxTransfer: transfer.Size, MaxDecoded: transfer.Decoded}
		back, err := artifact.Unpack(transfer.Descriptor, transfer.Payload, base, caps)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := open(t, back).Check(); err != nil {
			t.Errorf("%s: Check = %v", name, err)
		}
	}
}

func TestSkipOfAnotherShapeIsRefused(t *testing.T) {
	f := newFixture(t, lastState(), 6, artifact.StateWindow)
	_, s := withSkip(t, f)
	s.Features[0] = 3
	if _, err := FromQuantSkip(f.quant, s, f.schema, artifact.TaskForecast, f.scaler); !errors.Is(err, kernel.ErrShape) {
		t.Errorf("a feature that there is not: %v, want kernel.ErrShape", err)
	}
	_, s = withSkip(t, f)
	f.schema.State = artifact.StateStream
	if _, err := FromQuantSkip(f.quant, s, f.schema, artifact.TaskForecast, f.scaler); !errors.Is(err, artifact.ErrInvalid) {
		t.Errorf("a stream model: %v, want artifact.ErrInvalid", err)
	}
}
