// Package predictor opens a model artifact and predicts in raw sensor units.
//
// It is the one place where a model, its scaler and its kernel meet, and the
// same code on a device and in the control plane: what a release's golden
// vectors were recorded with is what checks them.
package predictor

import (
	"errors"
	"fmt"
	"sync"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/prepare"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

var (
	// ErrModel: the artifact is not one this kernel can run.
	ErrModel = errors.New("model")
	// ErrGolden: a golden vector did not reproduce. The error is a *GoldenError.
	ErrGolden = errors.New("golden vector does not reproduce")
	// ErrWindow: a stream was asked of a window model, which starts every
	// prediction from the zero state and was evaluated so.
	ErrWindow = errors.New("a window model carries no state")
)

// A Predictor predicts with one model version. It is immutable and safe for
// concurrent use.
type Predictor struct {
	model  *kernel.Model
	skip   *kernel.Skip // nil: none
	plan   *prepare.Plan
	schema artifact.Schema
	task   string
	window int                // rows of the network
	feed   *artifact.Pipeline // nil: none
	spread *artifact.Reference
	digest [32]byte // of the artifact; zero after OpenFloat32
	golden artifact.Golden
	inputs [][]float32 // of the golden vectors, extended
	space  sync.Pool   // *space
}

// space is what one prediction needs of memory.
type space struct {
	state *kernel.State
	skip  *kernel.SkipSpace // nil without a skip path
	x     []float32         // prepared rows
	rows  []float32         // of the windows that a detector looks at
	y     []float32         // what the network says about them
}

// Open validates m and packs its kernel. m may be changed afterwards. Errors
// are those of m.Validate, those of the kernel about weights, and ErrModel. It
// does not run the golden vectors: Check does.
func Open(m *artifact.Model) (*Predictor, error) {
	digest, err := m.Digest() // validates
	if err != nil {
		return nil, err
	}
	model, err := packed(m)
	if err != nil {
		return nil, err
	}
	if model.Int8() && m.Golden.Tolerance != 0 {
		return nil, fmt.Errorf("golden tolerance %v, want 0 for int8: %w", m.Golden.Tolerance, ErrModel)
	}
	p, err := newPredictor(model, Skip(m), m.Schema, fromScaler(m.Scaler))
	if err != nil {
		return nil, err
	}
	p.digest, p.golden = digest, m.Golden
	if err := p.extendGolden(m); err != nil {
		return nil, err
	}
	p.task, p.feed, p.spread = m.Task, m.Pipeline, m.Reference
	p.golden.Outputs = append([]float32(nil), m.Golden.Outputs...)
	return p, nil
}

// OpenFloat32 predicts with the float32 weights an int8 model was made from, to
// compare the two. It has no golden vectors and no digest.
func OpenFloat32(w *kernel.Weights, schema artifact.Schema, scaler kernel.Scaler) (*Predictor, error) {
	model, err := kernel.NewFloat32(w)
	if err != nil {
		return nil, err
	}
	return newPredictor(model, nil, schema, scaler)
}

// OpenFloat32Of is OpenFloat32 with the schema, the scaler and the skip path of
// the int8 model.
func OpenFloat32Of(m *artifact.Model, w *kernel.Weights) (*Predictor, error) {
	model, err := kernel.NewFloat32(w)
	if err != nil {
		return nil, err
	}
	return newPredictor(model, Skip(m), m.Schema, fromScaler(m.Scaler))
}

func newPredictor(model *kernel.Model, skip *kernel.SkipWeights, schema artifact.Schema, scaler kernel.Scaler) (*Predictor, error) {
	plan, err := Plan(schema, scaler)
	if err != nil {
		return nil, err
	}
	if err := fits(model.Graph(), schema, scaler); err != nil {
		return nil, err
	}
	p := &Predictor{model: model, plan: plan, schema: cloneSchema(schema), window: schema.NetworkWindow()}
	if skip == nil {
		p.space.New = func() any { return &space{state: model.NewState()} }
		return p, nil
	}
	if p.skip, err = kernel.NewSkip(skip, plan.Inputs()); err != nil {
		return nil, err
	}
	p.space.New = func() any { return &space{state: model.NewState(), skip: p.skip.NewSpace()} }
	return p, nil
}

// fits checks that graph, schema and scaler agree.
func fits(g kernel.Graph, schema artifact.Schema, scaler kernel.Scaler) error {
	switch f := schema.Inputs(); {
	case schema.Window < 1 || schema.Window > artifact.MaxSteps:
		return fmt.Errorf("window of %d rows, want 1 to %d: %w", schema.Window, artifact.MaxSteps, ErrModel)
	case f != g.Features || f != len(scaler.Mean):
		return fmt.Errorf("%d inputs in the schema, %d in the graph, %d in the scaler: %w", f, g.Features, len(scaler.Mean), ErrModel)
	case schema.State != artifact.StateWindow && schema.State != artifact.StateStream:
		return fmt.Errorf("state %.40q, want window or stream: %w", schema.State, ErrModel)
	case schema.State == artifact.StateStream && g.Sequences() && schema.Window != 1:
		return fmt.Errorf("a stream model that hands on sequences, with a window of %d, want 1: %w", schema.Window, ErrModel)
	}
	if want, out := schema.NetworkOutputs(), g.OutputLen(schema.NetworkWindow()); want != out || len(scaler.OutMean) != out {
		return fmt.Errorf("%d outputs in the schema, %d from the graph, %d in the scaler: %w", want, out, len(scaler.OutMean), ErrModel)
	}
	return nil
}

// Features are the names of a row's values, in order, as a client gives them.
func (p *Predictor) Features() []string {
	names := make([]string, len(p.schema.Features))
	for i, c := range p.schema.Features {
		names[i] = c.Name
	}
	return names
}

// Reference says how the features were spread over the training rows; nil if the
// model does not say. It is not to be changed.
func (p *Predictor) Reference() *artifact.Reference { return p.spread }

// Schema returns a copy of what goes in and comes out.
func (p *Predictor) Schema() artifact.Schema { return cloneSchema(p.schema) }

// Window is the number of rows of a prediction, the most if there may be fewer.
func (p *Predictor) Window() int { return p.schema.Window }

// MinWindow is the least number of rows of a prediction.
func (p *Predictor) MinWindow() int {
	if p.schema.MinWindow > 0 {
		return p.schema.MinWindow
	}
	return p.schema.Window
}

// Outputs is the number of values of a prediction.
func (p *Predictor) Outputs() int { return p.schema.Outputs() }

// Stateful reports whether this is a stream model, which NewStream can serve.
func (p *Predictor) Stateful() bool { return p.schema.State == artifact.StateStream }

// Task is what the model was made for; "" after OpenFloat32.
func (p *Predictor) Task() string { return p.task }

// Pipeline says how a device feeds the model by itself; nil: it does not. It
// is shared and must not be changed.
func (p *Predictor) Pipeline() *artifact.Pipeline { return p.feed }

// OutStd are the training standard deviations of the outputs, as a copy.
func (p *Predictor) OutStd() []float32 { return append([]float32(nil), p.plan.Scaler.OutStd...) }

// Plan is how rows are prepared: what a caller extends them with, where it is Timed.
func (p *Predictor) Plan() *prepare.Plan { return p.plan }

// Dictionaries are the texts of the features that are categories, nil for one that
// is a number; nil if all are. They are shared and must not be changed.
func (p *Predictor) Dictionaries() [][]string { return p.schema.Dictionaries() }

// Int8 reports whether the model is int8.
func (p *Predictor) Int8() bool { return p.model.Int8() }

// Predict predicts from rows, MinWindow to Window rows of raw values in the order
// of Features, oldest first, and writes Outputs raw values to y. Rows are extended
// by their times if the plan is Timed, and have Plan().Width() values. A stream model
// starts from the zero state. It allocates nothing in the long run.
//
// Errors are *kernel.ShapeError for a wrong length and *kernel.ValueError for
// a value that is not finite or scales too far; the text names the feature. A
// kernel's outputs are finite, but an absurd output scale can take them to an
// infinity: whoever must not pass that on looks at y.
func (p *Predictor) Predict(y, rows []float32) error { return p.PredictBatch(y, rows, 1) }

// PredictAppend is Predict that appends the outputs to dst.
func (p *Predictor) PredictAppend(dst, rows []float32) ([]float32, error) {
	n := len(dst)
	for range p.Outputs() {
		dst = append(dst, 0)
	}
	if err := p.Predict(dst[n:], rows); err != nil {
		return dst[:n], err
	}
	return dst, nil
}

// batch is how many windows are scaled at a time.
const batch = 32

// PredictBatch predicts n windows of as many rows each, one after the other in
// rows, and writes their outputs one after the other to y: the same bits as Predict
// for each.
func (p *Predictor) PredictBatch(y, rows []float32, n int) error {
	in, out, f := len(rows)/max(n, 1), p.Outputs(), p.plan.Width()
	if n < 1 || len(rows)%n != 0 || in%f != 0 || in/f < p.MinWindow() || in/f > p.schema.Window {
		return &kernel.ShapeError{What: "window", Want: p.schema.Window * f, Got: in}
	}
	if len(y)%n != 0 || len(y)/n != out {
		return &kernel.ShapeError{What: "outputs", Want: out, Got: len(y) / n}
	}
	s := p.space.Get().(*space)
	defer p.space.Put(s)
	if p.schema.Detector != nil {
		for i := range n {
			if err := p.score(s, &y[i], rows[i*in:][:in]); err != nil {
				return err
			}
		}
		return nil
	}
	for ; n > 0; n -= batch {
		m := min(n, batch)
		if err := p.predict(s, y[:m*out], rows[:m*in], m); err != nil {
			return err
		}
		y, rows = y[m*out:], rows[m*in:]
	}
	return nil
}

// predict runs the network on n windows, for lengths that agree.
func (p *Predictor) predict(s *space, y, rows []float32, n int) error {
	in, out, f := len(rows)/n, len(y)/n, p.plan.Width()
	inputs := in / f * p.plan.Inputs()
	x := grown(&s.x, n*inputs)
	for i := range n {
		if err := p.plan.In(x[i*inputs:][:inputs], rows[i*in:][:in]); err != nil {
			return p.named(err)
		}
	}
	if err := p.model.PredictBatch(s.state, y, x, n); err != nil {
		return err
	}
	for i := range n {
		if p.skip != nil {
			if err := p.skip.Add(s.skip, y[i*out:][:out], x[i*inputs:][:inputs]); err != nil {
				return err
			}
		}
		last := rows[i*in:][in-f : in]
		if err := p.plan.Out(y[i*out:][:out], y[i*out:][:out], last); err != nil {
			return err
		}
	}
	return nil
}

// grown returns n values of v, which grows to hold them.
func grown(v *[]float32, n int) []float32 {
	if cap(*v) < n {
		*v = make([]float32, n)
	}
	return (*v)[:n]
}

// named puts the feature's name before a ValueError.
func (p *Predictor) named(err error) error {
	var v *kernel.ValueError
	if errors.As(err, &v) && v.Feature < len(p.schema.Features) {
		return fmt.Errorf("feature %q: %w", p.schema.Features[v.Feature].Name, err)
	}
	return err
}

func cloneSchema(s artifact.Schema) artifact.Schema {
	s.Features = append([]artifact.Column(nil), s.Features...)
	s.Targets = append([]artifact.Column(nil), s.Targets...)
	s.Labels = append([]string(nil), s.Labels...)
	if s.Detector != nil {
		d := *s.Detector
		d.Features, d.Inv = append([]int(nil), d.Features...), append([]float32(nil), d.Inv...)
		s.Detector = &d
	}
	s.Prepare = clonePreparation(s.Prepare)
	return s
}
