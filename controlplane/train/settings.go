package train

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sandpiper-edge/sandpiper/controlplane/near"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/bptt"
)

// Settings are the finer points of how a network is made and trained, by the
// names that Keras has for them. The zero value of each means its default, which
// is Keras's but for GlobalClipNorm and RestoreBest. A setting that the optimizer,
// loss or schedule does not have is an error.
type Settings struct {
	Layer   string    `json:"layer,omitempty" doc:"Of every recurrent layer: lstm or gru"`
	Dropout []float64 `json:"dropout,omitempty" doc:"Part of the outputs of each recurrent layer that is dropped in training; one for all of them, or one for each"`

	Optimizer   string  `json:"optimizer,omitempty" doc:"adam, adamw, sgd or rmsprop"`
	Beta1       float64 `json:"beta1,omitempty" doc:"Of adam and adamw"`
	Beta2       float64 `json:"beta2,omitempty" doc:"Of adam and adamw"`
	Epsilon     float64 `json:"epsilon,omitempty" doc:"Of adam, adamw and rmsprop"`
	Momentum    float64 `json:"momentum,omitempty" doc:"Of sgd and rmsprop"`
	Nesterov    bool    `json:"nesterov,omitempty" doc:"Of sgd: whether it looks ahead by its momentum"`
	Rho         float64 `json:"rho,omitempty" doc:"Of rmsprop"`
	Centered    bool    `json:"centered,omitempty" doc:"Of rmsprop: whether it divides by the deviation of the gradient"`
	WeightDecay float64 `json:"weight_decay,omitempty" doc:"Part of each weight, times the learning rate, that an update takes away"`

	Noise float64 `json:"noise,omitempty" doc:"Standard deviation of noise that is added to scaled inputs in training, as by GaussianNoise"`
	Crop  float64 `json:"crop,omitempty" doc:"Of classify: part of the first rows of a series, at most, that training leaves out, anew at every update"`

	UseEMA                bool    `json:"use_ema,omitempty" doc:"Whether the model is an exponential moving average of the weights, which is what is validated too"`
	EMAMomentum           float64 `json:"ema_momentum,omitempty" doc:"Part of the average that an update keeps"`
	EMAOverwriteFrequency int     `json:"ema_overwrite_frequency,omitempty" doc:"Updates after which the weights become the average; 0: never"`

	Loss        string  `json:"loss,omitempty" doc:"mse, mae or huber; of classify categorical_crossentropy (softmax) or binary_crossentropy (one sigmoid for two classes)"`
	HuberDelta  float64 `json:"huber_delta,omitempty" doc:"Of huber: error from which on it is linear"`
	L2          float64 `json:"l2,omitempty" doc:"Penalty on the squares of the kernels"`
	RecurrentL2 float64 `json:"recurrent_l2,omitempty" doc:"Penalty on the squares of the recurrent kernels"`
	BiasL2      float64 `json:"bias_l2,omitempty" doc:"Penalty on the squares of the biases"`

	ClipValue      float32 `json:"clipvalue,omitempty" doc:"Bound on each gradient's absolute value"`
	ClipNorm       float32 `json:"clipnorm,omitempty" doc:"Bound on the norm of each tensor's gradient"`
	GlobalClipNorm float32 `json:"global_clipnorm,omitempty" doc:"Bound on the norm of all gradients together; 1 unless another clip is set, negative for none"`

	Schedule     string    `json:"schedule,omitempty" doc:"Of the learning rate, counted in updates: step, exponential or cosine"`
	Boundaries   []int     `json:"boundaries,omitempty" doc:"Of step: last update of each rate but the last"`
	Values       []float64 `json:"values,omitempty" doc:"Of step: the rates"`
	DecaySteps   int       `json:"decay_steps,omitempty" doc:"Of exponential and cosine: updates of one decay"`
	DecayRate    float64   `json:"decay_rate,omitempty" doc:"Of exponential: factor of one decay"`
	Staircase    bool      `json:"staircase,omitempty" doc:"Of exponential: whether it decays all at once"`
	Alpha        float64   `json:"alpha,omitempty" doc:"Of cosine: last rate as a part of the first"`
	WarmupTarget float64   `json:"warmup_target,omitempty" doc:"Of cosine: rate after the warm-up, which begins at the learning rate"`
	WarmupSteps  int       `json:"warmup_steps,omitempty" doc:"Of cosine: updates of the warm-up"`

	Monitor          string  `json:"monitor,omitempty" doc:"What decides about stopping, the best epoch and the rate: val_loss, or loss"`
	MinDelta         float64 `json:"min_delta,omitempty" doc:"Smallest decrease of the monitored loss that counts"`
	StartFromEpoch   int     `json:"start_from_epoch,omitempty" doc:"Epochs that are not looked at first, for stopping and the best one"`
	RestoreBest      *bool   `json:"restore_best,omitempty" doc:"Whether the weights are those of the best epoch rather than the last; the default with validation windows"`
	ReduceLRPatience int     `json:"reduce_lr_patience,omitempty" doc:"Epochs without a lower monitored loss before the rate is reduced; 0: never"`
	ReduceLRFactor   float64 `json:"reduce_lr_factor,omitempty" doc:"New rate as a part of the old one"`
	ReduceLRMinDelta float64 `json:"reduce_lr_min_delta,omitempty" doc:"Smallest decrease that counts"`
	ReduceLRCooldown int     `json:"reduce_lr_cooldown,omitempty" doc:"Epochs after a reduction that do not count"`
	ReduceLRMinLR    float64 `json:"reduce_lr_min_lr,omitempty" doc:"Smallest rate"`
}

// Layers are the kinds that Settings.Layer can have, the default first.
var Layers = []string{kernel.LSTM.String(), kernel.GRU.String()}

// Losses are those of the tasks that predict numbers; the default first.
var Losses = []string{bptt.MSE, bptt.MAE, bptt.Huber}

// ClassLosses are those of classes; the default first.
var ClassLosses = []string{bptt.CategoricalCrossentropy, bptt.BinaryCrossentropy}

// checkNames refuses names that do not exist, with the one that was meant.
func (s Settings) checkNames(task string) error {
	if task != Classify && slices.Contains(ClassLosses, s.Loss) {
		return fmt.Errorf("%w: the loss %s is of classes, and the task %s predicts numbers; use %s", ErrOptions, s.Loss, task, list(Losses, "or"))
	}
	for _, n := range []struct {
		what, name string
		names      []string
	}{
		{"layer", s.Layer, Layers}, {"optimizer", s.Optimizer, bptt.Optimizers}, {"loss", s.Loss, slices.Concat(Losses, ClassLosses)},
		{"schedule", s.Schedule, bptt.Schedules}, {"monitor", s.Monitor, bptt.Monitors},
	} {
		if n.name != "" && !slices.Contains(n.names, n.name) {
			return unknown(n.what, n.name, n.names)
		}
	}
	return nil
}

// unknown says what was probably meant, or what there is.
func unknown(what, name string, names []string) error {
	if meant := near.Match(strings.ToLower(name), names); meant != "" {
		return fmt.Errorf("%w: no %s %.60q; did you mean %q?", ErrOptions, what, name, meant)
	}
	return fmt.Errorf("%w: no %s %.60q; there are %s", ErrOptions, what, name, list(names, "and"))
}

// list joins two names or more: a, b and c.
func list(names []string, word string) string {
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " " + word + " " + names[last]
}

// config is what the trainer is told. validation says whether there are
// validation windows.
func (o Options) config(validation bool) bptt.Config {
	s := o.Settings
	clip := s.GlobalClipNorm
	if clip == 0 && s.ClipValue == 0 && s.ClipNorm == 0 {
		clip = 1
	}
	dropout := s.Dropout
	if len(dropout) == 1 && len(o.Units) > 1 {
		dropout = slices.Repeat(dropout, len(o.Units))
	}
	restore := validation
	if s.RestoreBest != nil {
		restore = *s.RestoreBest
	}
	return bptt.Config{
		Epochs: o.Epochs, BatchSize: o.Batch, Seed: o.Seed, Stateful: o.State == Stream,
		Optimizer: s.Optimizer, LearningRate: o.LearningRate, Beta1: s.Beta1, Beta2: s.Beta2, Epsilon: s.Epsilon,
		Momentum: s.Momentum, Nesterov: s.Nesterov, Rho: s.Rho, Centered: s.Centered, WeightDecay: s.WeightDecay,
		UseEMA: s.UseEMA, EMAMomentum: s.EMAMomentum, EMAOverwriteFrequency: s.EMAOverwriteFrequency,
		Dropout: dropout, Noise: s.Noise, Crop: s.Crop, Loss: s.Loss, HuberDelta: s.HuberDelta, KernelL2: s.L2, RecurrentL2: s.RecurrentL2, BiasL2: s.BiasL2,
		ClipValue: s.ClipValue, ClipNorm: s.ClipNorm, GlobalClipNorm: max(clip, 0),
		Schedule: bptt.Schedule{
			Kind: s.Schedule, Boundaries: s.Boundaries, Values: s.Values, DecaySteps: s.DecaySteps, DecayRate: s.DecayRate,
			Staircase: s.Staircase, Alpha: s.Alpha, WarmupTarget: s.WarmupTarget, WarmupSteps: s.WarmupSteps,
		},
		ReduceLR: bptt.ReduceLR{
			Patience: s.ReduceLRPatience, Factor: s.ReduceLRFactor, MinDelta: s.ReduceLRMinDelta,
			Cooldown: s.ReduceLRCooldown, MinLR: s.ReduceLRMinLR,
		},
		Monitor: s.Monitor, Patience: o.Patience, MinDelta: s.MinDelta, StartFromEpoch: s.StartFromEpoch, RestoreBest: restore,
	}
}

// used are the settings of a complete configuration, for the report.
func (s Settings) used(c bptt.Config) Settings {
	return Settings{
		Layer: s.Layer, Dropout: c.Dropout, Noise: c.Noise, Crop: c.Crop,
		Optimizer: c.Optimizer, Beta1: c.Beta1, Beta2: c.Beta2, Epsilon: c.Epsilon,
		Momentum: c.Momentum, Nesterov: c.Nesterov, Rho: c.Rho, Centered: c.Centered, WeightDecay: c.WeightDecay,
		UseEMA: c.UseEMA, EMAMomentum: c.EMAMomentum, EMAOverwriteFrequency: c.EMAOverwriteFrequency,
		Loss: c.Loss, HuberDelta: c.HuberDelta, L2: c.KernelL2, RecurrentL2: c.RecurrentL2, BiasL2: c.BiasL2,
		ClipValue: c.ClipValue, ClipNorm: c.ClipNorm, GlobalClipNorm: c.GlobalClipNorm,
		Schedule: c.Schedule.Kind, Boundaries: c.Schedule.Boundaries, Values: c.Schedule.Values,
		DecaySteps: c.Schedule.DecaySteps, DecayRate: c.Schedule.DecayRate, Staircase: c.Schedule.Staircase,
		Alpha: c.Schedule.Alpha, WarmupTarget: c.Schedule.WarmupTarget, WarmupSteps: c.Schedule.WarmupSteps,
		Monitor: c.Monitor, MinDelta: c.MinDelta, StartFromEpoch: c.StartFromEpoch, RestoreBest: &c.RestoreBest,
		ReduceLRPatience: c.ReduceLR.Patience, ReduceLRFactor: c.ReduceLR.Factor, ReduceLRMinDelta: c.ReduceLR.MinDelta,
		ReduceLRCooldown: c.ReduceLR.Cooldown, ReduceLRMinLR: c.ReduceLR.MinLR,
	}
}
