package past

import (
	"math/rand/v2"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// newModel returns a small LSTM with random weights of the seed.
func newModel(seed uint64) (*artifact.Model, *kernel.Weights, error) {
	const units, features, window = 4, 2, 4
	rng := rand.New(rand.NewPCG(seed, units))
	random := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = rng.Float32() - 0.5
		}
		return v
	}
	w := &kernel.Weights{
		Graph: kernel.Graph{Features: features, Layers: []kernel.Layer{{Kind: kernel.LSTM, Units: units}, {Kind: kernel.Dense, Units: 1}}},
		Layers: []kernel.LayerWeights{
			{Kernel: random(features * 4 * units), Recurrent: random(units * 4 * units), Bias: random(4 * units)},
			{Kernel: random(units), Bias: random(1)},
		},
	}
	q, err := kernel.Quantize(w)
	if err != nil {
		return nil, nil, err
	}
	m, err := predictor.FromQuant(q, artifact.Schema{
		Features: []artifact.Column{{Name: "flow", Unit: "l/s"}, {Name: "pressure", Unit: "bar"}}, Targets: []artifact.Column{{Name: "wear"}},
		Window: window, State: artifact.StateWindow, Horizon: 1,
	}, artifact.TaskForecast, kernel.Scaler{Mean: []float32{10, 3}, Std: []float32{2, 0.5}, Inv: []float32{0.5, 2}, OutMean: []float32{1}, OutStd: []float32{0.25}})
	return m, w, err
}
