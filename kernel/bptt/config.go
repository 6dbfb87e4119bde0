package bptt

import (
	"fmt"
	"math"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

// The losses, named as in Keras.
const (
	MSE                     = "mse"
	BinaryCrossentropy      = "binary_crossentropy"      // last activation sigmoid
	CategoricalCrossentropy = "categorical_crossentropy" // last activation softmax, one-hot targets
)

// A Config is how to train. The zero value of each field means its default.
type Config struct {
	Epochs    int // 10
	BatchSize int // 32 windows; the last batch of an epoch may be smaller

	// Adam (Kingma and Ba 2015) as in keras-team/keras
	// keras/src/optimizers/adam.py: Epsilon is added after the square root of
	// the uncorrected second moment.
	LearningRate float64 // 0.001
	Beta1        float64 // 0.9
	Beta2        float64 // 0.999
	Epsilon      float64 // 1e-7

	Loss string // MSE

	// Seed fixes the order of the windows in every epoch.
	Seed uint64
	// Ordered keeps the windows in the order of the Source in every epoch.
	Ordered bool

	// At most one of the three is set, as in Keras; 0 means no clipping.
	ClipValue      float32 // bound on each gradient's absolute value
	ClipNorm       float32 // bound on the Euclidean norm of each tensor's gradient
	GlobalClipNorm float32 // bound on the norm of all gradients together

	// Patience stops the run after as many epochs in a row without a loss below
	// the best so far, as Keras's EarlyStopping; 0 trains all epochs. The loss
	// watched is that of the validation set, or of training if there is none.
	Patience int
	// MinDelta is the smallest decrease of the loss that counts.
	MinDelta float64
	// RestoreBest ends with the weights of the epoch with the lowest loss
	// rather than the last one's, also when the run was not stopped early.
	RestoreBest bool

	// Shards is into how many parts a batch is cut, and so the most cores that
	// are used: 4. The gradients' last bits depend on it.
	Shards int
}

// withDefaults fills in c's zero fields and checks it against the graph.
func (c Config) withDefaults(g kernel.Graph) (Config, error) {
	setDefault(&c.Epochs, 10)
	setDefault(&c.BatchSize, 32)
	setDefault(&c.LearningRate, 1e-3)
	setDefault(&c.Beta1, 0.9)
	setDefault(&c.Beta2, 0.999)
	setDefault(&c.Epsilon, 1e-7)
	setDefault(&c.Loss, MSE)
	setDefault(&c.Shards, 4)
	for _, f := range []struct {
		name  string
		value float64
		ok    bool
	}{
		{"epochs", float64(c.Epochs), c.Epochs > 0},
		{"batch size", float64(c.BatchSize), c.BatchSize > 0},
		{"learning rate", c.LearningRate, positive(c.LearningRate)},
		{"beta1", c.Beta1, c.Beta1 > 0 && c.Beta1 < 1},
		{"beta2", c.Beta2, c.Beta2 > 0 && c.Beta2 < 1},
		{"epsilon", c.Epsilon, positive(c.Epsilon)},
		{"clipvalue", float64(c.ClipValue), c.ClipValue == 0 || positive(c.ClipValue)},
		{"clipnorm", float64(c.ClipNorm), c.ClipNorm == 0 || positive(c.ClipNorm)},
		{"global clipnorm", float64(c.GlobalClipNorm), c.GlobalClipNorm == 0 || positive(c.GlobalClipNorm)},
		{"patience", float64(c.Patience), c.Patience >= 0},
		{"min delta", c.MinDelta, c.MinDelta >= 0 && !math.IsInf(c.MinDelta, 0)},
		{"shards", float64(c.Shards), c.Shards > 0},
	} {
		if !f.ok {
			return c, fmt.Errorf("%s %v is out of range: %w", f.name, f.value, ErrConfig)
		}
	}
	if c.clips() > 1 {
		return c, fmt.Errorf("only one of clipvalue, clipnorm and global clipnorm can be set: %w", ErrConfig)
	}
	return c, c.checkLoss(g)
}

// checkLoss refuses a cross-entropy on anything but the activation that gives
// the probabilities it is of.
func (c Config) checkLoss(g kernel.Graph) error {
	last := g.Layers[len(g.Layers)-1]
	want := last.Activation
	switch c.Loss {
	case MSE:
	case BinaryCrossentropy:
		want = kernel.Sigmoid
	case CategoricalCrossentropy:
		want = kernel.Softmax
	default:
		return fmt.Errorf("loss %q: want %s, %s or %s: %w", c.Loss, MSE, BinaryCrossentropy, CategoricalCrossentropy, ErrConfig)
	}
	if last.Activation != want {
		return fmt.Errorf("loss %s after activation %v, want %v: %w", c.Loss, last.Activation, want, ErrConfig)
	}
	return nil
}

func (c Config) clips() int {
	n := 0
	for _, v := range [...]float32{c.ClipValue, c.ClipNorm, c.GlobalClipNorm} {
		if v != 0 {
			n++
		}
	}
	return n
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

func positive[T float32 | float64](v T) bool { return v > 0 && !math.IsInf(float64(v), 0) }
