package bptt

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

// A Config is how to train. The zero value of each field means its default,
// which is Keras's.
type Config struct {
	Epochs    int // 10
	BatchSize int // 32 windows; the last batch of an epoch may be smaller

	// Optimizer is one of Optimizers. Those of the next fields that it does not
	// have must be 0.
	Optimizer    string  // Adam
	LearningRate float64 // 0.001, SGD 0.01
	Beta1        float64 // Adam, AdamW: 0.9
	Beta2        float64 // Adam, AdamW: 0.999
	// Epsilon is 1e-7. Adam and AdamW add it after the square root of the
	// uncorrected second moment, RMSprop inside the root.
	Epsilon  float64
	Momentum float64 // SGD, RMSprop: 0
	Nesterov bool    // SGD: look ahead by the momentum
	Rho      float64 // RMSprop: 0.9
	Centered bool    // RMSprop: divide by the gradient's deviation
	// WeightDecay takes WeightDecay·rate of every weight and bias before each
	// update: AdamW 0.004, others 0. It is no part of the loss.
	WeightDecay float64

	// UseEMA keeps an exponential moving average of the weights: after an update
	// it is EMAMomentum (0.99) of what it was and the rest of the weights. The
	// average is what is validated, restored as the best and handed out, as with
	// Keras's use_ema and its callback SwapEMAWeights at each epoch; training goes
	// on in the weights themselves. They become the average every
	// EMAOverwriteFrequency updates; 0: never.
	UseEMA                bool
	EMAMomentum           float64
	EMAOverwriteFrequency int

	Loss       string  // MSE, or another of Losses
	HuberDelta float64 // Huber: 1

	// Penalties λ·Σw² on the kernels, recurrent kernels and biases of all layers,
	// in the loss and the validation loss, as keras.regularizers.L2: 0.
	KernelL2, RecurrentL2, BiasL2 float64

	// HeadOnly updates the last layer and leaves the others as they are to the
	// last bit, as trainable = False does in Keras.
	HeadOnly bool

	// Dropout has a rate for each layer but the last: of the layer's outputs that
	// are dropped in training. nil: 0.
	Dropout []float64

	// Noise is the standard deviation of what is added to every input in training,
	// drawn anew at every update, as a GaussianNoise layer in front does: 0.
	Noise float64

	// Crop leaves out up to that part of a window's first rows in training, how much
	// being drawn anew at every update: 0. Series are then learned from their ends,
	// wherever they were cut. Not with Stateful or an output for every step.
	Crop float64

	// Stateful starts a window from the state that the one before it ended in if
	// it goes on there, as a Source that is a Continuer tells, and from zero
	// otherwise: Keras's stateful=True, with the state reset where a series ends.
	// Batches have as many windows as there are series under way, up to BatchSize.
	Stateful bool

	// Seed fixes the order of the windows in every epoch, or with Stateful that of
	// the series, and what is dropped.
	Seed uint64
	// Ordered keeps them in the order of the Source in every epoch.
	Ordered bool

	// At most one of the three is set, as in Keras; 0 means no clipping.
	ClipValue      float32 // bound on each gradient's absolute value
	ClipNorm       float32 // bound on the Euclidean norm of each tensor's gradient
	GlobalClipNorm float32 // bound on the norm of all gradients together

	Schedule Schedule // of the learning rate, none unless its Kind is set
	ReduceLR ReduceLR // none unless its Patience is set; not with a Schedule

	// Monitor is the loss that ReduceLR and early stopping watch, ValLoss or
	// TrainLoss: that of the validation set, or of training if there is none.
	Monitor string
	// Patience stops the run after as many epochs in a row without a loss below
	// the best so far, as Keras's EarlyStopping; 0 trains all epochs.
	Patience int
	// MinDelta is the smallest decrease of the loss that counts.
	MinDelta float64
	// StartFromEpoch is how many epochs early stopping and RestoreBest leave out
	// at first.
	StartFromEpoch int
	// RestoreBest ends with the weights of the epoch with the lowest loss
	// rather than the last one's, also when the run was not stopped early.
	RestoreBest bool

	// Shards is into how many parts a batch is cut, and so the most cores that
	// are used: 4. The gradients' last bits depend on it.
	Shards int
}

// The losses that can be monitored, named as in Keras.
const (
	ValLoss   = "val_loss"
	TrainLoss = "loss"
)

// Monitors are the names that Config.Monitor can have.
var Monitors = []string{ValLoss, TrainLoss}

// Complete returns c with its defaults filled in, as Fit would train g with it,
// or the error that Fit would return about it.
func (c Config) Complete(g kernel.Graph) (Config, error) {
	if err := g.Validate(); err != nil {
		return c, err
	}
	return c.withDefaults(g)
}

// withDefaults fills in c's zero fields and checks it against the graph.
func (c Config) withDefaults(g kernel.Graph) (Config, error) {
	setDefault(&c.Epochs, 10)
	setDefault(&c.BatchSize, 32)
	setDefault(&c.Optimizer, Adam)
	setDefault(&c.Loss, MSE)
	setDefault(&c.Shards, 4)
	if err := c.checkNames(); err != nil {
		return c, err
	}
	c.setOptimizerDefaults()
	if c.Loss == Huber {
		setDefault(&c.HuberDelta, 1)
	}
	if c.ReduceLR.Patience != 0 {
		setDefault(&c.ReduceLR.Factor, 0.1)
		setDefault(&c.ReduceLR.MinDelta, 1e-4)
	}
	if err := c.checkRanges(); err != nil {
		return c, err
	}
	if c.clips() > 1 {
		return c, fmt.Errorf("only one of clipvalue, clipnorm and global clipnorm can be set: %w", ErrConfig)
	}
	if c.Schedule.Kind != "" && c.ReduceLR.Patience != 0 {
		return c, fmt.Errorf("schedule %s sets the learning rate, so reduce LR cannot: take one of them: %w", c.Schedule.Kind, ErrConfig)
	}
	if err := c.checkDropout(g); err != nil {
		return c, err
	}
	return c, c.checkActivation(g)
}

func (c *Config) setOptimizerDefaults() {
	rate := 1e-3
	switch c.Optimizer {
	case SGD:
		rate = 1e-2
	case RMSprop:
		setDefault(&c.Rho, 0.9)
		setDefault(&c.Epsilon, 1e-7)
	case AdamW:
		setDefault(&c.WeightDecay, 4e-3)
		fallthrough
	case Adam:
		setDefault(&c.Beta1, 0.9)
		setDefault(&c.Beta2, 0.999)
		setDefault(&c.Epsilon, 1e-7)
	}
	if c.UseEMA {
		setDefault(&c.EMAMomentum, 0.99)
	}
	if !c.Schedule.warmsUp() {
		setDefault(&c.LearningRate, rate)
	}
}

// checkNames refuses unknown names, and settings of what was not chosen.
func (c *Config) checkNames() error {
	for _, n := range []struct {
		what, name string
		want       []string
	}{
		{"optimizer", c.Optimizer, Optimizers},
		{"loss", c.Loss, Losses},
		{"monitor", c.Monitor, append([]string{""}, Monitors...)},
	} {
		if err := checkName(n.what, n.name, n.want); err != nil {
			return err
		}
	}
	if err := checkSettings("optimizer", c.Optimizer, []setting{
		{"beta1", c.Beta1 != 0, []string{Adam, AdamW}},
		{"beta2", c.Beta2 != 0, []string{Adam, AdamW}},
		{"epsilon", c.Epsilon != 0, []string{Adam, AdamW, RMSprop}},
		{"momentum", c.Momentum != 0, []string{SGD, RMSprop}},
		{"nesterov", c.Nesterov, []string{SGD}},
		{"rho", c.Rho != 0, []string{RMSprop}},
		{"centered", c.Centered, []string{RMSprop}},
	}); err != nil {
		return err
	}
	if err := checkSettings("loss", c.Loss, []setting{{"huber delta", c.HuberDelta != 0, []string{Huber}}}); err != nil {
		return err
	}
	if !c.UseEMA && (c.EMAMomentum != 0 || c.EMAOverwriteFrequency != 0) {
		return fmt.Errorf("ema momentum and overwrite frequency are of an average that is not kept: use EMA: %w", ErrConfig)
	}
	if c.ReduceLR.Patience == 0 && c.ReduceLR != (ReduceLR{}) {
		return fmt.Errorf("reduce LR has settings and no patience: set after how many epochs it reduces: %w", ErrConfig)
	}
	return c.Schedule.check()
}

func (c *Config) checkRanges() error {
	r := c.ReduceLR
	return checkRanges([]bounded{
		{"epochs", float64(c.Epochs), c.Epochs > 0, "at least 1"},
		{"batch size", float64(c.BatchSize), c.BatchSize > 0, "at least 1"},
		{"learning rate", c.LearningRate, positive(c.LearningRate) || c.LearningRate == 0, "above 0"},
		{"beta1", c.Beta1, c.Beta1 >= 0 && c.Beta1 < 1, "0 or more, below 1"},
		{"beta2", c.Beta2, c.Beta2 >= 0 && c.Beta2 < 1, "0 or more, below 1"},
		{"epsilon", c.Epsilon, notNegative(c.Epsilon), "0 or more"},
		{"momentum", c.Momentum, c.Momentum >= 0 && c.Momentum <= 1, "0 to 1"},
		{"rho", c.Rho, c.Rho >= 0 && c.Rho < 1, "0 or more, below 1"},
		{"noise", c.Noise, notNegative(c.Noise), "0 or more"},
		{"crop", c.Crop, c.Crop >= 0 && c.Crop < 1, "0 or more, below 1"},
		{"weight decay", c.WeightDecay, notNegative(c.WeightDecay), "0 or more"},
		{"ema momentum", c.EMAMomentum, c.EMAMomentum >= 0 && c.EMAMomentum <= 1, "0 to 1"},
		{"ema overwrite frequency", float64(c.EMAOverwriteFrequency), c.EMAOverwriteFrequency >= 0, "0 or more"},
		{"huber delta", c.HuberDelta, notNegative(c.HuberDelta), "above 0"},
		{"kernel L2", c.KernelL2, notNegative(c.KernelL2), "0 or more"},
		{"recurrent L2", c.RecurrentL2, notNegative(c.RecurrentL2), "0 or more"},
		{"bias L2", c.BiasL2, notNegative(c.BiasL2), "0 or more"},
		{"clipvalue", float64(c.ClipValue), notNegative(c.ClipValue), "above 0"},
		{"clipnorm", float64(c.ClipNorm), notNegative(c.ClipNorm), "above 0"},
		{"global clipnorm", float64(c.GlobalClipNorm), notNegative(c.GlobalClipNorm), "above 0"},
		{"reduce LR patience", float64(r.Patience), r.Patience >= 0, "at least 1"},
		{"reduce LR factor", r.Factor, r.Factor >= 0 && r.Factor < 1, "above 0, below 1"},
		{"reduce LR min delta", r.MinDelta, notNegative(r.MinDelta), "0 or more"},
		{"reduce LR cooldown", float64(r.Cooldown), r.Cooldown >= 0, "0 or more"},
		{"reduce LR min rate", r.MinLR, notNegative(r.MinLR), "0 or more"},
		{"patience", float64(c.Patience), c.Patience >= 0, "0 or more"},
		{"min delta", c.MinDelta, notNegative(c.MinDelta), "0 or more"},
		{"start from epoch", float64(c.StartFromEpoch), c.StartFromEpoch >= 0, "0 or more"},
		{"shards", float64(c.Shards), c.Shards > 0, "at least 1"},
	})
}

// A bounded is a value that is in its range, or not.
type bounded struct {
	name  string
	value float64
	ok    bool
	want  string
}

func checkRanges(all []bounded) error {
	for _, f := range all {
		if !f.ok {
			return fmt.Errorf("%s %v: want %s: %w", f.name, f.value, f.want, ErrConfig)
		}
	}
	return nil
}

func checkName(what, name string, want []string) error {
	if slices.Contains(want, name) {
		return nil
	}
	want = slices.DeleteFunc(slices.Clone(want), func(s string) bool { return s == "" })
	return fmt.Errorf("%s %q: want %s: %w", what, name, strings.Join(want, " or "), ErrConfig)
}

// A setting is one that only some of the named have.
type setting struct {
	name string
	set  bool
	of   []string
}

func checkSettings(what, name string, all []setting) error {
	for _, s := range all {
		if s.set && !slices.Contains(s.of, name) {
			return fmt.Errorf("%s needs %s %s, not %s: %w", s.name, what, strings.Join(s.of, " or "), cmp.Or(name, "none"), ErrConfig)
		}
	}
	return nil
}

// checkActivation refuses a cross-entropy on anything but the activation that
// gives the probabilities it is of.
func (c *Config) checkActivation(g kernel.Graph) error {
	last := g.Layers[len(g.Layers)-1]
	want := last.Activation
	switch c.Loss {
	case BinaryCrossentropy:
		want = kernel.Sigmoid
	case CategoricalCrossentropy:
		want = kernel.Softmax
	}
	if last.Activation != want {
		return fmt.Errorf("loss %s after activation %v, want %v: %w", c.Loss, last.Activation, want, ErrConfig)
	}
	return nil
}

func (c *Config) clips() int {
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

func positive[T float32 | float64](v T) bool { return v > 0 && notNegative(v) }

// notNegative reports whether v is 0 or positive, and finite.
func notNegative[T float32 | float64](v T) bool { return v >= 0 && !math.IsInf(float64(v), 0) }
