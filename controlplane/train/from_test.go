package train

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// seasons are rows of two sines from the given one on.
func seasons(from, rows int) string {
	var b strings.Builder
	b.WriteString("t,load,heat\n")
	for i := from; i < from+rows; i++ {
		x := float64(i)
		fmt.Fprintf(&b, "%d,%.4f,%.4f\n", i, 20+3*math.Sin(x/5)+math.Sin(x/1.7), 5+2*math.Cos(x/5)+0.001*x)
	}
	return b.String()
}

func trained(t *testing.T, o Options, data string) *Result {
	t.Helper()
	r, err := Run(t.Context(), o, strings.NewReader(data), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func base(r *Result) *Base { return &Base{Ref: "m:v1", Model: r.Model, Weights: r.Weights} }

var seasonOptions = Options{
	Task: Forecast, Time: "t", Targets: []string{"load"}, Features: []string{"load", "heat"}, Window: 8, Horizon: 2, Units: []int{6},
	Anchor: "last", Epochs: 2, Seed: 3,
}

// TestGoingOn: the first weights are the base's, the scaler stays, and what is
// not said of columns, window and layers is as it was.
func TestGoingOn(t *testing.T) {
	for _, o := range []Options{
		seasonOptions,
		{Task: RUL, Time: "t", Features: []string{"heat"}, Window: 5, Cap: 50, Units: []int{5}, Epochs: 1, Validation: NoValidation},
		{Task: Forecast, Time: "t", Targets: []string{"load"}, Window: 6, Horizon: 1, State: Stream, Settings: Settings{Layer: "gru"}, Units: []int{4, 3}, Epochs: 1},
	} {
		first := trained(t, o, seasons(0, 200))
		before := slices.Clone(first.Weights.Layers[0].Kernel)
		next := Options{Time: "t", Cap: o.Cap, Validation: o.Validation, Epochs: 1, LearningRate: 1e-9, From: base(first)}
		second := trained(t, next, seasons(150, 200))
		if !reflect.DeepEqual(second.Model.Scaler, first.Model.Scaler) || !reflect.DeepEqual(second.Model.Schema, first.Model.Schema) {
			t.Errorf("%s: scaler %+v, schema %+v, want %+v, %+v", o.Task, second.Model.Scaler, second.Model.Schema, first.Model.Scaler, first.Model.Schema)
		}
		if !reflect.DeepEqual(second.Weights.Graph, first.Weights.Graph) {
			t.Errorf("%s: graph %+v, want %+v", o.Task, second.Weights.Graph, first.Weights.Graph)
		}
		for i, l := range second.Weights.Layers {
			for j, tensor := range [][]float32{l.Kernel, l.Recurrent, l.Bias} {
				was := [][]float32{first.Weights.Layers[i].Kernel, first.Weights.Layers[i].Recurrent, first.Weights.Layers[i].Bias}[j]
				for k, v := range tensor {
					if math.Abs(float64(v-was[k])) > 1e-6 {
						t.Fatalf("%s: weight %d of layer %d was %v and is %v, although the rate is next to nothing", o.Task, k, i, was[k], v)
					}
				}
			}
		}
		next.LearningRate = 0.1
		trained(t, next, seasons(150, 200))
		if !slices.Equal(first.Weights.Layers[0].Kernel, before) {
			t.Errorf("%s: training went on in the weights of the version itself", o.Task)
		}
	}
}

func TestHeadOnlyLeavesTheRest(t *testing.T) {
	first := trained(t, seasonOptions, seasons(0, 200))
	second := trained(t, Options{Time: "t", Epochs: 1, From: base(first), HeadOnly: true}, seasons(150, 200))
	if _, err := artifact.PackHead(second.Model, first.Model); err != nil {
		t.Error(err)
	}
	if last := len(first.Weights.Layers) - 1; slices.Equal(second.Weights.Layers[last].Kernel, first.Weights.Layers[last].Kernel) {
		t.Error("the last layer did not learn")
	}
	o := seasonOptions
	o.HeadOnly = true
	if _, err := Run(t.Context(), o, strings.NewReader(seasons(0, 200)), nil); !errors.Is(err, ErrOptions) {
		t.Errorf("the last layer alone on nothing: %v", err)
	}
}

func TestGoingOnIsRefusedWhereItDoesNotFit(t *testing.T) {
	first := base(trained(t, seasonOptions, seasons(0, 200)))
	for name, c := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"task":     {func(o *Options) { o.Task = RUL }, "task: m:v1 has forecast, this run rul"},
		"features": {func(o *Options) { o.Features = []string{"heat", "load"} }, "features: m:v1 has [load heat], this run [heat load]"},
		"targets":  {func(o *Options) { o.Targets = []string{"heat"} }, "targets: m:v1 has [load], this run [heat]"},
		"window":   {func(o *Options) { o.Window = 9 }, "window: m:v1 has 8, this run 9"},
		"horizon":  {func(o *Options) { o.Horizon = 3 }, "horizon: m:v1 has 2, this run 3"},
		"state":    {func(o *Options) { o.State, o.Anchor = Stream, "none" }, "state: m:v1 has window, this run stream"},
		"units":    {func(o *Options) { o.Units = []int{7} }, "layers: m:v1 has [lstm(6) linear dense(2) linear], this run [lstm(7)"},
		"layer":    {func(o *Options) { o.Layer = kernel.GRU.String() }, "this run [gru(6)"},
		"anchor":   {func(o *Options) { o.Anchor = "none" }, "anchor: m:v1 has [0 0], this run []"},
	} {
		o := Options{Time: "t", Epochs: 1, From: first}
		c.change(&o)
		_, err := Run(t.Context(), o, strings.NewReader(seasons(0, 200)), nil)
		if !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "or begin anew") {
			t.Errorf("%s: %v, want ErrOptions with %q", name, err, c.want)
		}
	}
}

// TestUpdateSizes trains LSTM(128) on the first part of a series, goes on with
// newer rows for an epoch of Adam at 1e-4, and prints what a device that has the
// first version receives.
func TestUpdateSizes(t *testing.T) {
	o := seasonOptions
	o.Units, o.Epochs = []int{128}, 1
	first := trained(t, o, seasons(0, 400))
	for _, headOnly := range []bool{false, true} {
		pack, most := artifact.PackDelta, 27_000
		if headOnly {
			pack, most = artifact.PackHead, 2_000-900 // announcement without payload, and want
		}
		second := trained(t, Options{Time: "t", Epochs: 1, LearningRate: 1e-4, From: base(first), HeadOnly: headOnly}, seasons(300, 400))
		update, err := pack(second.Model, first.Model)
		if err != nil {
			t.Fatal(err)
		}
		full, err := artifact.Pack(second.Model)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes in place of %d, codecs %v", update.Kind, update.Size, full.Size, update.Codecs)
		if int(update.Size) > most {
			t.Errorf("%s: %d bytes, want at most %d", update.Kind, update.Size, most)
		}
		rel := artifact.Release{Digest: update.Digest, MaxTransfer: full.Size, MaxDecoded: full.Decoded}
		got, err := artifact.Unpack(update.Descriptor, update.Payload, first.Model, &rel)
		if err != nil {
			t.Fatal(err)
		}
		for i := range got.Tensors {
			if !bytes.Equal(got.Tensors[i].Data, second.Model.Tensors[i].Data) {
				t.Errorf("%s: tensor %s differs", update.Kind, got.Tensors[i].Name)
			}
		}
	}
}

// A version that devices feed by themselves goes on being fed, unless its
// successor is to be without that.
func TestGoingOnKeepsThePipeline(t *testing.T) {
	first := base(trained(t, seasonOptions, seasons(0, 200)))
	fed := *first.Model
	fed.Pipeline = &artifact.Pipeline{
		Inputs:   []artifact.Input{{Column: "load"}, {Column: "heat"}},
		PeriodMS: 1000, ToleranceMS: 2000, GapMS: 30_000, Stride: 1,
	}
	first.Model = &fed
	for _, unfed := range []bool{false, true} {
		next := trained(t, Options{Time: "t", Epochs: 1, From: first, HeadOnly: true, Unfed: unfed}, seasons(150, 200))
		if p := next.Model.Pipeline; unfed && p != nil || !unfed && !reflect.DeepEqual(p, fed.Pipeline) {
			t.Errorf("left out %t: the pipeline is %+v", unfed, p)
		}
		if err := next.Model.Validate(); err != nil {
			t.Error(err)
		}
	}
	if _, err := (Options{Task: RUL, Time: "t", Unfed: true}).withDefaults(); !errors.Is(err, ErrOptions) {
		t.Errorf("a new model without a pipeline to leave out: %v, want ErrOptions", err)
	}
}
