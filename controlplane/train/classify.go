package train

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/kernel/bptt"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// classes are what a run of Classify tells apart.
type classes struct {
	labels []string
	series bool // each group is one window, as long as it is
}

// classTargets makes the classes of the training rows the targets.
func (r *run) classTargets() error {
	l := r.table.Labels
	seen := make([]bool, len(l.Classes))
	for _, s := range r.parts.Train {
		for _, class := range l.Of[s.Start:s.End] {
			seen[class] = true
		}
	}
	for i, name := range l.Classes {
		switch {
		case !seen[i]:
		case len(name) > protocol.MaxName:
			return fmt.Errorf("%w: the label %.40q has more than %d bytes; shorten it", ErrOptions, name, protocol.MaxName)
		default:
			r.classes.labels = append(r.classes.labels, name)
		}
	}
	if b := r.o.From; b != nil {
		r.classes.labels = b.Model.Schema.Labels
	}
	single := r.o.Loss == bptt.BinaryCrossentropy
	switch n := len(r.classes.labels); {
	case n < 2:
		return fmt.Errorf("%w: every training row has the label %q; there is nothing to tell apart", ErrOptions, r.classes.labels[0])
	case single && n > 2:
		return fmt.Errorf("%w: the loss %s is of two classes, column %q has %d; use %s", ErrOptions, r.o.Loss, l.Column, n, bptt.CategoricalCrossentropy)
	}
	if err := r.table.AsTargets(r.classes.labels, single); err != nil {
		return err
	}
	r.classes.series = r.o.Stride == 0 && r.table.OneLabel()
	r.setup.Series = r.classes.series
	if !r.classes.series && r.o.Window == 0 {
		return fmt.Errorf("%w: windows are classified, by the label of their last row, since labels change within groups or a stride is given; say how many rows a window has", ErrOptions)
	}
	return nil
}

// series cuts a part into one window for each group. The longest training series says
// how many rows the model takes, unless the options do.
func (r *run) series(t *dataset.Table, p dataset.Part, name string) (*dataset.Windows, error) {
	w, truncated, err := t.Series(p, r.o.Window)
	if err != nil {
		return nil, fmt.Errorf("%s rows: %w", name, err)
	}
	if truncated > 0 {
		r.warn("%d %s series are longer than %d rows, and their last ones count", truncated, name, r.o.Window)
	}
	if most := min(artifact.MaxSteps, protocol.MaxWindowValues/len(t.Features)); w.Shape.Window > most {
		return nil, fmt.Errorf("%w: a series of %d rows of %d features, at most %d rows; give a window, and the last rows of longer series count", ErrOptions, w.Shape.Window, len(t.Features), most)
	}
	r.o.Window = w.Shape.Window
	return w, nil
}

// classOutputs leaves probabilities as they are, and notes how frequent the classes
// are in the training windows.
func (r *run) classOutputs() error {
	count := r.classCounts()
	n := len(r.table.Targets)
	for _, c := range count[len(count)-n:] {
		r.sc.OutMean, r.sc.OutStd = append(r.sc.OutMean, 0), append(r.sc.OutStd, 1)
		r.setup.Mean = append(r.setup.Mean, float64(c)/float64(r.train.Len()))
	}
	for i, c := range count {
		if c == 0 {
			r.warn("no training window has the label %q", r.classes.labels[i])
		}
	}
	return nil
}

// classCounts returns how many training windows each class has.
func (r *run) classCounts() []int {
	count := make([]int, len(r.classes.labels))
	y := make([]float32, r.train.Outputs())
	for i := range r.train.Len() {
		r.train.Target(i, y)
		count[predictor.Class(y)]++
	}
	return count
}

// weightClasses gives the windows of src the weights of their classes, if there are
// any.
func (r *run) weightClasses(src bptt.Source) (bptt.Source, error) {
	if r.o.Task != Classify {
		return src, nil
	}
	weights, err := r.o.classWeights(r.classes.labels, r.classCounts())
	if err != nil || weights == nil {
		return src, err
	}
	return bptt.ClassWeighted(src, r.graph(), weights)
}

// summaryValues is how many numbers of a series the linear map sees, for each input.
const summaryValues = 4

// summaries are series as the linear map of classes sees them, whatever their length:
// the mean, the deviation, the first and the last value of each input.
type summaries struct {
	src   *dataset.Source
	width int // values of a prepared row
	x     []float32
}

func newSummaries(src *dataset.Source) *summaries {
	return &summaries{src: src, width: src.Inputs() / src.Steps(), x: make([]float32, src.Inputs())}
}

// Len is the number of series.
func (s *summaries) Len() int { return s.src.Len() }

// Window fills x with the summary of series i and y with its target.
func (s *summaries) Window(i int, x, y []float32) {
	s.src.Window(i, s.x, y)
	summarize(x, s.x[s.src.Padding(i)*s.width:], s.width)
}

// summarize writes the summary of prepared rows of width values to x, width ×
// summaryValues.
func summarize(x, rows []float32, width int) {
	n := float64(len(rows) / width)
	for f := range width {
		var sum, squares float64
		for i := f; i < len(rows); i += width {
			sum += float64(rows[i])
			squares += float64(rows[i]) * float64(rows[i])
		}
		mean := sum / n
		copy(x[f*summaryValues:], []float32{
			float32(mean), float32(math.Sqrt(max(0, squares/n-mean*mean))), rows[f], rows[len(rows)-width+f],
		})
	}
}

// readClassify reads the data of an evaluation, with its labels.
func (e *evaluated) readClassify(data dataset.Files, o EvalOptions) error {
	if e.setup.Label == "" {
		return fmt.Errorf("%w: the version came without a training report, which names the label column", ErrOptions)
	}
	c := e.columns()
	c.Label = e.setup.Label
	var err error
	if e.table, err = e.readTable(data, c); err != nil {
		return err
	}
	e.warnings = e.table.Warnings()
	labels := e.model.Schema.Labels
	if err := e.table.AsTargets(labels, len(e.model.Schema.Targets) < len(labels)); err != nil {
		return err
	}
	if !e.setup.Series {
		if e.windows, err = e.partWindows(o, e.shape()); err == nil {
			e.countShort()
		}
		return err
	}
	part, err := e.choosePart(o)
	if err != nil {
		return err
	}
	var truncated int
	if e.windows, truncated, err = e.table.Series(part, e.model.Schema.Window); truncated > 0 {
		e.warnings = append(e.warnings, fmt.Sprintf("%d series are longer than the %d rows that the model takes, and their last ones count", truncated, e.model.Schema.Window))
	}
	return err
}

// judgeClasses predicts every window and compares it with its label.
func (e *evaluated) judgeClasses(ctx context.Context, rep *Report, int8s, floats *predictor.Predictor) error {
	truth := make([]int, e.windows.Len())
	y := make([]float32, e.windows.Outputs())
	for i := range truth {
		e.windows.Target(i, y)
		truth[i] = predictor.Class(y)
	}
	labels := e.model.Schema.Labels
	rep.Classification = &Classification{Labels: labels}
	var predicted [2][]float32
	for k, p := range []*predictor.Predictor{int8s, floats} {
		if p == nil {
			continue
		}
		var err error
		if predicted[k], err = predictSeries(ctx, p, e.windows); err != nil {
			return err
		}
		c := classFigure(predicted[k], truth, len(labels))
		if k == 0 {
			rep.Classification.Int8, rep.Metrics.Int8 = c, c.metrics()
		} else {
			rep.Classification.Float32, rep.Metrics.Float32 = c, c.metrics()
		}
	}
	ends := (&evaluation{w: e.windows, setup: e.setup, reach: e.windows.Shape.Window}).blocks()
	tallied := count{model: classTally(predicted[0], truth, len(labels), ends), baselines: map[string]tally{}, figures: confusionMetrics}
	rep.Baselines = map[string]Metrics{}
	baseline := func(name string, told []float32) {
		rep.Baselines[name] = classFigure(told, truth, len(labels)).metrics()
		tallied.baselines[name] = classTally(told, truth, len(labels), ends)
	}
	if mean := e.setup.Mean; len(mean) == e.windows.Outputs() {
		most := oneHot(predictor.Class(toFloat32(mean)), len(mean))
		baseline("majority", slices.Repeat(most, len(truth)))
	}
	linear, err := e.linearClasses(ctx)
	if err != nil {
		return err
	}
	if linear != nil {
		baseline("linear", linear)
	}
	tallied.fill(rep, e.setup.Seed)
	if e.predictions {
		rep.Predictions = classPredictions(e.windows, labels, truth, predicted[1], predicted[0])
	}
	return nil
}

func toFloat32(v []float64) []float32 {
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(x)
	}
	return out
}

// oneHot is the target of a class, of n outputs.
func oneHot(class, n int) []float32 {
	y := make([]float32, n)
	if n == 1 {
		y[0] = float32(class)
	} else {
		y[class] = 1
	}
	return y
}

// linearClasses predicts by the linear map of the training; nil if there is none.
func (e *evaluated) linearClasses(ctx context.Context) ([]float32, error) {
	m, w := e.setup.Linear, e.windows
	width := e.plan.Inputs()
	if m == nil || m.inputs != summaryValues*width || m.outputs != w.Outputs() {
		return nil, nil
	}
	predicted := make([]float32, w.Len()*m.outputs)
	rows, x, summary := make([]float32, w.Inputs()), make([]float32, w.Shape.Window*width), make([]float32, m.inputs)
	for i := range w.Len() {
		if i%256 == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		w.Rows(i, rows)
		if err := e.plan.In(x, rows); err != nil {
			return nil, err
		}
		summarize(summary, x[w.Padding(i)*width:], width)
		m.predict(predicted[i*m.outputs:][:m.outputs], summary)
	}
	return predicted, nil
}

// predictSeries predicts every window from the rows it has, windows × outputs, on all
// cores.
func predictSeries(ctx context.Context, p *predictor.Predictor, w *dataset.Windows) ([]float32, error) {
	n, features := p.Outputs(), w.Inputs()/w.Shape.Window
	out := make([]float32, w.Len()*n)
	g, ctx := errgroup.WithContext(ctx)
	workers := runtime.GOMAXPROCS(0)
	for k := range workers {
		g.Go(func() error {
			rows := make([]float32, w.Inputs())
			for i := k; i < w.Len(); i += workers {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				w.Rows(i, rows)
				if err := p.Predict(out[i*n:][:n], rows[w.Padding(i)*features:]); err != nil {
					return fmt.Errorf("window ending at %s of group %q: %w", w.Time(i), w.Group(i), err)
				}
			}
			return nil
		})
	}
	return out, g.Wait()
}

// classPredictions lists every window with its label and the one told.
func classPredictions(w *dataset.Windows, labels []string, truth []int, floats, int8s []float32) []Prediction {
	n := len(int8s) / len(truth)
	out := make([]Prediction, len(truth))
	for i, class := range truth {
		y := int8s[i*n:][:n:n]
		out[i] = Prediction{
			Group: w.Group(i), Time: w.Time(i), Truth: oneHot(class, n), Int8: y,
			Label: labels[class], Told: labels[predictor.Class(y)],
		}
		if floats != nil {
			out[i].Float32 = floats[i*n:][:n:n]
		}
	}
	return out
}
