package train

import (
	"fmt"
	"slices"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/bptt"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// A Base is a version whose training goes on: its float32 weights are the
// first ones, and its scaler stays, because the weights belong to it. So does its
// pipeline, unless that is left out. The update of a device from it is small if the
// learning rate and the data are.
type Base struct {
	Ref     string // for messages
	Digest  protocol.Digest
	Model   *artifact.Model
	Weights *kernel.Weights
}

// setDefaults fills in what o leaves open and b says.
func (b *Base) setDefaults(o *Options) {
	s, layers := b.Model.Schema, b.Weights.Graph.Layers
	setDefault(&o.Task, b.Model.Task)
	setDefault(&o.Window, s.NetworkWindow())
	setDefault(&o.State, s.State)
	setDefault(&o.Layer, layers[0].Kind.String())
	if len(o.Units) == 0 {
		for _, l := range layers[:b.Weights.Graph.Recurrent()] {
			o.Units = append(o.Units, l.Units)
		}
	}
	if len(o.Features) == 0 {
		o.Features = names(s.Features)
	}
	o.Preparation.fill(preparation(b.Model))
	switch d := s.Detector; {
	case o.Task == Classify && len(s.Labels) > len(s.Targets):
		setDefault(&o.Loss, bptt.BinaryCrossentropy)
	case o.Task == Anomaly && d != nil:
		setDefault(&o.Residual, d.Residual)
		setDefault(&o.Smooth, d.Smooth)
		if len(o.Targets) == 0 {
			o.Targets = names(b.network().Targets)
		}
		if o.Anchor == "" && b.anchored() {
			o.Anchor = "last"
		}
	}
	if o.Task != Forecast {
		return
	}
	setDefault(&o.Horizon, s.Horizon)
	if len(o.Targets) == 0 {
		o.Targets = names(s.Targets)
	}
	if o.Anchor == "" && b.anchored() {
		o.Anchor = "last"
	}
	o.Skip = o.Skip || b.Model.Skip != nil
}

// network is the schema of what the network takes and gives, which a detector hides.
func (b *Base) network() artifact.Schema {
	s := b.Model.Schema
	d := s.Detector
	if d == nil {
		return s
	}
	s.Window, s.Targets = s.NetworkWindow(), nil
	for _, f := range d.Features {
		s.Targets = append(s.Targets, s.Features[f])
	}
	return s
}

func (b *Base) anchored() bool {
	return slices.ContainsFunc(b.Model.Scaler.Anchor, func(feature int32) bool { return feature >= 0 })
}

func names(columns []artifact.Column) (names []string) {
	for _, c := range columns {
		names = append(names, c.Name)
	}
	return names
}

// goOn makes the scaler that of the version to go on from, if there is one. The
// error, of ErrOptions, says what that version has otherwise than the run.
func (r *run) goOn() error {
	b := r.o.From
	if b == nil {
		return nil
	}
	was, is := b.network(), r.schema()
	plan, err := predictor.PlanOf(b.Model)
	if err != nil {
		return err
	}
	sc := &plan.Scaler
	for _, c := range []struct {
		name    string
		was, is any
	}{
		{"features", names(was.Features), names(is.Features)},
		{"targets", names(was.Targets), names(is.Targets)},
		{"window", was.Window, is.Window},
		{"horizon", was.Horizon, is.Horizon},
		{"state", was.State, is.State},
		{"labels", was.Labels, is.Labels},
		{"layers", describe(b.Weights.Graph), describe(r.graph())},
		{"anchor", sc.Anchor, r.sc.Anchor},
		{"skip path", b.Model.Skip != nil, r.o.Skip},
		{"calendar", preparationOf(was).Calendar, preparationOf(is).Calendar},
		{"ms between rows", preparationOf(was).PeriodMS, preparationOf(is).PeriodMS},
	} {
		if err := b.differs(c.name, c.was, c.is); err != nil {
			return err
		}
	}
	r.sc, r.prep = sc, was.Prepare
	return nil
}

// keeps returns an error if o prepares texts or regimes otherwise than b.
func (b *Base) keeps(o Preparation) error {
	was := preparation(b.Model)
	for _, c := range []struct {
		name    string
		was, is any
	}{
		{"categories", sorted(was.Categories), sorted(o.Categories)}, {"regimes", was.Regimes, o.Regimes},
		{"regime columns", sorted(was.RegimeColumns), sorted(o.RegimeColumns)},
	} {
		if err := b.differs(c.name, c.was, c.is); err != nil {
			return err
		}
	}
	return nil
}

func sorted(names []string) []string { return slices.Sorted(slices.Values(names)) }

// differs returns an error if what b has of a name is not what the run has.
func (b *Base) differs(name string, was, is any) error {
	if was, is := fmt.Sprint(was), fmt.Sprint(is); was != is {
		return fmt.Errorf("%w: %s: %s has %s, this run %s; train with the same to go on from it, or begin anew", ErrOptions, name, b.Ref, was, is)
	}
	return nil
}

// pipeline is how devices feed the new version by themselves: as the one before,
// whose columns it has.
func (r *run) pipeline() *artifact.Pipeline {
	if r.o.From == nil || r.o.Unfed {
		return nil
	}
	return r.o.From.Model.Pipeline
}

// describe returns kind, units and activation of the layers.
func describe(g kernel.Graph) (layers []string) {
	for _, l := range g.Layers {
		layers = append(layers, fmt.Sprintf("%s(%d) %s", l.Kind, l.Units, l.Activation))
	}
	return layers
}

func (r *run) graph() kernel.Graph {
	s := r.schema()
	return r.o.graph(s.Inputs(), r.train.Outputs())
}

// first returns the weights to begin with, in the form in which they learn.
func (r *run) first() (*kernel.Weights, error) {
	g := r.o.learned(r.graph())
	if r.o.From == nil {
		w, err := bptt.Init(g, r.o.Seed)
		if err != nil {
			return nil, err
		}
		if r.skip != nil {
			// It begins as the path alone, which random outputs would spoil.
			clear(w.Layers[len(w.Layers)-1].Kernel)
		}
		r.forgetUnknown(w)
		return w, nil
	}
	w := &kernel.Weights{Graph: g}
	for _, l := range r.o.From.Weights.Layers {
		w.Layers = append(w.Layers, kernel.LayerWeights{
			Kernel: slices.Clone(l.Kernel), Recurrent: slices.Clone(l.Recurrent), Bias: slices.Clone(l.Bias),
		})
	}
	return w, nil
}
