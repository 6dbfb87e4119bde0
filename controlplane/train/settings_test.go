package train

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/bptt"
)

// set gives a field a value that is not its zero, another one for each i.
func set(f reflect.Value, i int) {
	switch f.Kind() {
	case reflect.String:
		f.SetString("name")
	case reflect.Bool:
		f.SetBool(true)
	case reflect.Int:
		f.SetInt(int64(i))
	case reflect.Float32, reflect.Float64:
		f.SetFloat(float64(i))
	case reflect.Slice:
		f.Set(reflect.MakeSlice(f.Type(), 1, 1))
		set(f.Index(0), i)
	case reflect.Pointer:
		f.Set(reflect.New(f.Type().Elem()))
		set(f.Elem(), i)
	default:
		panic(f.Kind())
	}
}

// A setting that is forgotten on the way to the trainer, or into the report,
// shows here by name.
func TestEverySettingReachesTheTrainerAndTheReport(t *testing.T) {
	var all Settings
	v := reflect.ValueOf(&all).Elem()
	base := Options{Settings: Settings{GlobalClipNorm: -1}}.config(false)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		one := Options{Settings: Settings{GlobalClipNorm: -1}}
		set(reflect.ValueOf(&one.Settings).Elem().Field(i), i+2)
		if name != "Layer" && cmp.Equal(base, one.config(false)) {
			t.Errorf("%s changes nothing in the trainer's configuration", name)
		}
		set(v.Field(i), i+2)
	}
	if diff := cmp.Diff(all, all.used(Options{Settings: all}.config(false))); diff != "" {
		t.Errorf("what was set and what the report repeats differ (-set +report):\n%s", diff)
	}
}

func TestDefaultsOfSettings(t *testing.T) {
	yes, no := true, false
	for _, tt := range []struct {
		name       string
		s          Settings
		validation bool
		clip       float32
		restore    bool
	}{
		{"none", Settings{}, true, 1, true},
		{"nothing held out", Settings{}, false, 1, false},
		{"another clip", Settings{ClipNorm: 2}, true, 0, true},
		{"no clip", Settings{GlobalClipNorm: -1}, true, 0, true},
		{"the last epoch's weights", Settings{RestoreBest: &no}, true, 1, false},
		{"the best of the training loss", Settings{RestoreBest: &yes}, false, 1, true},
	} {
		c := Options{Settings: tt.s}.config(tt.validation)
		if c.GlobalClipNorm != tt.clip || c.RestoreBest != tt.restore {
			t.Errorf("%s: global clipnorm %v, restore best %v, want %v and %v", tt.name, c.GlobalClipNorm, c.RestoreBest, tt.clip, tt.restore)
		}
	}
}

func TestOneDropoutIsThatOfEveryLayer(t *testing.T) {
	for _, tt := range []struct {
		units       []int
		rates, want []float64
	}{
		{[]int{4, 3}, []float64{0.2}, []float64{0.2, 0.2}},
		{[]int{4, 3}, []float64{0.2, 0}, []float64{0.2, 0}},
		{[]int{4}, []float64{0.2}, []float64{0.2}},
	} {
		o := Options{Units: tt.units, Settings: Settings{Dropout: tt.rates}}
		if got := o.config(true).Dropout; !cmp.Equal(got, tt.want) {
			t.Errorf("%v of %v units: %v, want %v", tt.rates, tt.units, got, tt.want)
		}
	}
}

func TestSettingsRefused(t *testing.T) {
	for _, tt := range []struct {
		edit func(*Options)
		want error
		says string
	}{
		{func(o *Options) { o.Task = "forcast" }, ErrOptions, `no task "forcast"; did you mean "forecast"?`},
		{func(o *Options) { o.Layer = "GRU" }, ErrOptions, `no layer "GRU"; did you mean "gru"?`},
		{func(o *Options) { o.Layer = "transformer" }, ErrOptions, `there are lstm and gru`},
		{func(o *Options) { o.Optimizer = "adma" }, ErrOptions, `no optimizer "adma"; did you mean "adam"?`},
		{func(o *Options) { o.Optimizer = "RMSprop" }, ErrOptions, `did you mean "rmsprop"?`},
		{func(o *Options) { o.Optimizer = "lion" }, ErrOptions, `there are adam, adamw, sgd and rmsprop`},
		{func(o *Options) { o.Loss = "hubber" }, ErrOptions, `no loss "hubber"; did you mean "huber"?`},
		{func(o *Options) { o.Loss = "binary_crossentropy" }, ErrOptions, `the loss binary_crossentropy is of classes, and the task rul predicts numbers; use mse, mae or huber`},
		{func(o *Options) { o.Schedule = "cosin" }, ErrOptions, `no schedule "cosin"; did you mean "cosine"?`},
		{func(o *Options) { o.Monitor = "val_los" }, ErrOptions, `no monitor "val_los"; did you mean "val_loss"?`},
		{func(o *Options) { o.LearningRate = -1 }, ErrOptions, "learning rate -1, want above 0, at most 1"},
		{func(o *Options) { o.Beta1 = 1 }, bptt.ErrConfig, "beta1 1: want 0 or more, below 1"},
		{func(o *Options) { o.Epsilon = math.NaN() }, bptt.ErrConfig, "epsilon NaN: want 0 or more"},
		{func(o *Options) { o.Momentum = 0.9 }, bptt.ErrConfig, "momentum needs optimizer sgd or rmsprop, not adam"},
		{func(o *Options) { o.Optimizer, o.Momentum = "sgd", 2 }, bptt.ErrConfig, "momentum 2: want 0 to 1"},
		{func(o *Options) { o.WeightDecay = -1 }, bptt.ErrConfig, "weight decay -1: want 0 or more"},
		{func(o *Options) { o.HuberDelta = 1 }, bptt.ErrConfig, "huber delta needs loss huber, not mse"},
		{func(o *Options) { o.L2 = math.Inf(1) }, bptt.ErrConfig, "kernel L2 +Inf: want 0 or more"},
		{func(o *Options) { o.ClipValue = -1 }, bptt.ErrConfig, "clipvalue -1: want above 0"},
		{func(o *Options) { o.ClipValue, o.GlobalClipNorm = 1, 1 }, bptt.ErrConfig, "only one of clipvalue, clipnorm and global clipnorm can be set"},
		{func(o *Options) { o.Schedule = "cosine" }, bptt.ErrConfig, "decay steps 0: want at least 1"},
		{func(o *Options) { o.DecaySteps = 10 }, bptt.ErrConfig, "decay steps needs schedule exponential or cosine, not none"},
		{func(o *Options) { o.ReduceLRFactor = 0.5 }, bptt.ErrConfig, "set after how many epochs it reduces"},
		{func(o *Options) { o.ReduceLRPatience, o.ReduceLRFactor = 2, 1.5 }, bptt.ErrConfig, "reduce LR factor 1.5: want above 0, below 1"},
		{func(o *Options) { o.MinDelta = -1 }, bptt.ErrConfig, "min delta -1: want 0 or more"},
		{func(o *Options) { o.Dropout = []float64{1} }, bptt.ErrConfig, "dropout 1 after layer 0, want 0 or more and below 1"},
		{func(o *Options) { o.Dropout = []float64{0.1, 0.2} }, bptt.ErrConfig, "dropout has 2 rates, want 1"},
		{func(o *Options) { o.StartFromEpoch = -1 }, bptt.ErrConfig, "start from epoch -1: want 0 or more"},
	} {
		o := rulOptions
		tt.edit(&o)
		// There is no data to read: it is not the data's turn yet.
		if _, err := Run(t.Context(), o, strings.NewReader(""), nil); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("Run = %v, want %v saying %q", err, tt.want, tt.says)
		}
	}
}

func TestReportRepeatsWhatWasUsed(t *testing.T) {
	o := rulOptions
	o.LearningRate = 0
	o.Settings = Settings{Layer: "gru", Optimizer: "sgd", Momentum: 0.9, Nesterov: true, Loss: "huber"}
	res := run1(t, o, engines(12, 1))
	if l := res.Weights.Graph.Layers[0]; l.Kind != kernel.GRU || l.Units != 8 {
		t.Errorf("layer %v(%d), want gru(8)", l.Kind, l.Units)
	}
	got := *res.Report.Training
	if got.Rate != 0.01 || got.Batch != 32 {
		t.Errorf("learning rate %v, batch %d", got.Rate, got.Batch)
	}
	yes := true
	want := Settings{Layer: "gru", Optimizer: "sgd", Momentum: 0.9, Nesterov: true, Loss: "huber", HuberDelta: 1, GlobalClipNorm: 1, RestoreBest: &yes}
	if diff := cmp.Diff(want, got.Settings); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	if tensors := res.Report.Quantization.Tensors; tensors[0].Name != "gru/kernel" || tensors[0].Shape != [2]int{3, 24} {
		t.Errorf("tensors %+v", tensors)
	}
}

// Without RestoreBest the weights are the last epoch's, whichever was best.
func TestBestEpochIsThatOfTheWeights(t *testing.T) {
	no := false
	o := rulOptions
	o.Epochs = 8
	o.Schedule, o.Boundaries, o.Values = "step", []int{15}, []float64{0.01, 1} // goes well, then jumps
	best := run1(t, o, engines(12, 1)).Report.Training
	o.RestoreBest = &no
	last := run1(t, o, engines(12, 1)).Report.Training
	if best.BestEpoch == 8 || last.BestEpoch != 8 {
		t.Errorf("best epoch %d with restore best, want one before the last; %d without, want 8", best.BestEpoch, last.BestEpoch)
	}
	o.RestoreBest, o.StartFromEpoch = nil, 8
	if none := run1(t, o, engines(12, 1)).Report.Training; none.BestEpoch != 8 {
		t.Errorf("best epoch %d where none was looked at, want the last", none.BestEpoch)
	}
}

// Weights go into both losses and not into what they are divided by, as Keras's
// sample_weight: with weight 2 everywhere a network that hardly moves has twice
// the loss. The figures of the report are without weights.
func TestWeightsGoIntoTheLosses(t *testing.T) {
	o := rulOptions
	o.Epochs, o.LearningRate, o.Features = 1, 1e-9, []string{"a", "b"}
	data := engines(12, 1)
	with := func(weight string) string {
		lines := strings.Split(strings.TrimSpace(data), "\n")
		for i := range lines {
			lines[i] += map[bool]string{true: ",w", false: "," + weight}[i == 0]
		}
		return strings.Join(lines, "\n")
	}
	for _, state := range States {
		o.State, o.Weight = state, ""
		plain := run1(t, o, data).Report
		o.Weight = "w"
		double := run1(t, o, with("2")).Report
		p, d := plain.Training.History[0], double.Training.History[0]
		for _, l := range []struct {
			name       string
			got, plain float64
			want       float64 // got/plain
		}{
			{"loss", d.Loss, p.Loss, 2},
			{"validation loss", *d.ValLoss, *p.ValLoss, 2},
			{"rmse", double.Metrics.Float32["rmse"], plain.Metrics.Float32["rmse"], 1},
		} {
			if math.Abs(l.got/l.plain-l.want) > 1e-4 {
				t.Errorf("%s: %s %v with weight 2, %v without", state, l.name, l.got, l.plain)
			}
		}
		if double.Training.Weight != "w" {
			t.Errorf("weight column %q in the report", double.Training.Weight)
		}
	}
	if _, err := Run(t.Context(), o, strings.NewReader(with("0")), nil); !errors.Is(err, dataset.ErrWeight) {
		t.Errorf("Run with weight 0 everywhere = %v, want ErrWeight", err)
	}
}
