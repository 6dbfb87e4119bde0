package train

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/kernel/prepare"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// A Detection says how a detector came to its threshold, and how it does at others.
type Detection struct {
	Residual  string   `json:"residual"`
	Features  []string `json:"features"` // that are watched
	Smooth    int      `json:"smooth"`   // rows
	Quantile  float64  `json:"threshold_quantile"`
	Factor    float64  `json:"threshold_factor"`
	Threshold float32  `json:"threshold"`
	// Rows are how many normal rows, before those that are evaluated, the threshold is
	// a multiple of a quantile of the scores of.
	Rows int `json:"threshold_rows"`
	// At has the figures at other factors.
	At []AtFactor `json:"at_factors,omitempty"`
	// Groups has those of each group, at the model's threshold.
	Groups []GroupDetection `json:"groups,omitempty"`
}

// AtFactor has the figures at another threshold factor.
type AtFactor struct {
	Factor float64 `json:"threshold_factor"`
	Pair
}

// A GroupDetection has the int8 model's figures of one group.
type GroupDetection struct {
	Group   string  `json:"group"`
	Metrics Metrics `json:"int8"`
}

// A rule is how residuals become an alarm: of the model the int8 network's, of a
// baseline its own, so that each has the threshold that it would have.
type rule struct {
	Inv       []float32 `json:"inv"`
	Quantile  float32   `json:"quantile"` // of the scores of normal rows; the threshold is a multiple of it
	Threshold float32   `json:"threshold"`
	Rows      int       `json:"rows"`
}

// detector is what a run of Anomaly knows of labels.
type detector struct{ normal int } // class, −1 without labels

// watch makes the watched features the targets, and finds out what is normal.
func (r *run) watch() error {
	r.detector.normal = -1
	if l := r.table.Labels; l != nil {
		name, err := normalLabel(r.o.Normal, l)
		if err != nil {
			return err
		}
		r.setup.Normal = name
		r.detector.normal = slices.Index(l.Classes, name)
	}
	if err := r.table.Watch(r.o.Targets); err != nil {
		return err
	}
	if rows := r.o.Window + r.o.Horizon + r.o.Smooth - 1; rows > artifact.MaxSteps || rows > protocol.MaxWindowValues/len(r.table.Features) {
		return fmt.Errorf("%w: a window of %d rows and residuals of %d, of %d features, at most %d values in all; use fewer",
			ErrOptions, r.o.Window, r.o.Smooth, len(r.table.Features), protocol.MaxWindowValues)
	}
	return nil
}

// normal are the rows of p that a network of normal rows learns from.
func (r *run) normal(p dataset.Part) dataset.Part {
	if r.o.Task != Anomaly || r.detector.normal < 0 {
		return p
	}
	return r.table.RowsOf(p, r.detector.normal)
}

// keepNormal leaves windows of normal rows alone.
func (r *run) keepNormal(w *dataset.Windows, name string) error {
	if r.o.Task != Anomaly || r.detector.normal < 0 {
		return nil
	}
	if n := w.Keep(r.detector.normal); n > 0 {
		r.warn("%d %s windows were left out: they hold rows that are not %s", n, name, r.setup.Normal)
	}
	if w.Len() == 0 {
		return fmt.Errorf("%s rows: %w: no window of %d rows that are %s", name, dataset.ErrTooFewRows, w.Shape.Window+w.Shape.Horizon, r.setup.Normal)
	}
	return nil
}

// detect makes a detector of the network's model, with the rule that fits it.
func (r *run) detect(ctx context.Context, network *artifact.Model, q *kernel.QuantWeights) (*artifact.Model, error) {
	p, err := predictor.Open(network)
	if err != nil {
		return nil, err
	}
	if r.setup.Rules == nil {
		r.setup.Rules = map[string]rule{}
	}
	known := slices.Concat(r.parts.Train, r.parts.Validation)
	r.setup.Residual, r.setup.Smooth, r.setup.Quantile, r.setup.Factor = r.o.Residual, r.o.Smooth, r.o.ThresholdQuantile, r.o.ThresholdFactor
	for name, f := range r.forecasters(p.PredictBatch) {
		if r.setup.Rules[name], err = r.fitRule(ctx, f, known); err != nil {
			return nil, err
		}
	}
	own := r.setup.Rules[modelRule]
	schema := network.Schema
	schema.Window = r.o.Window + r.o.Horizon + r.o.Smooth - 1
	schema.Targets = []artifact.Column{{Name: artifact.ScoreName}}
	schema.Detector = &artifact.Detector{Residual: r.o.Residual, Features: r.watched(), Inv: own.Inv, Smooth: r.o.Smooth, Threshold: own.Threshold}
	return predictor.FromQuantSkip(q, r.skip, schema, Anomaly, *r.sc)
}

// watched are the indexes of the targets among the features.
func (r *run) watched() (columns []int) {
	for _, t := range r.table.Targets {
		columns = append(columns, slices.Index(r.table.Features, t))
	}
	return columns
}

// modelRule is the model's own name among the rules.
const modelRule = "model"

// A forecaster says what it expects of n windows of raw rows for the network, as raw
// values of the watched features.
type forecaster func(y, rows []float32, n int) error

// forecasters are the model's network and the baselines. They share nothing.
func (r *run) forecasters(network forecaster) map[string]forecaster {
	all := baselineForecasters(r.o.Residual, len(r.table.Features), r.watched(), r.setup, r.plan)
	all[modelRule] = network
	return all
}

// baselineForecasters are the simple ways to expect a row: as the mean of the training
// rows, and of the next step as the last row, or by the linear map of the window.
func baselineForecasters(residual string, features int, watched []int, s *Setup, plan *prepare.Plan) map[string]forecaster {
	each := func(f func(y, rows []float32) error) forecaster {
		return func(y, rows []float32, n int) error {
			in, out := len(rows)/n, len(watched)
			for i := range n {
				if err := f(y[i*out:][:out], rows[i*in:][:in]); err != nil {
					return err
				}
			}
			return nil
		}
	}
	all := map[string]forecaster{"mean": each(func(y, _ []float32) error { copy(y, toFloat32(s.Mean)); return nil })}
	if residual != artifact.NextStep {
		return all
	}
	all["repeat_last"] = each(func(y, rows []float32) error {
		for o, f := range watched {
			y[o] = rows[len(rows)-features+f]
		}
		return nil
	})
	if m := s.Linear; m != nil {
		x := make([]float32, m.inputs)
		all["linear"] = each(func(y, rows []float32) error {
			if err := plan.In(x, rows); err != nil {
				return err
			}
			m.predict(y, x)
			return plan.Out(y, y, rows[len(rows)-features:])
		})
	}
	return all
}

// fitRule fits the factors to the residuals of f on the normal rows of p, and the
// threshold to its scores there.
func (r *run) fitRule(ctx context.Context, f forecaster, p dataset.Part) (rule, error) {
	w, err := r.table.Windows(p, r.o.shape())
	if err != nil {
		return rule{}, err
	}
	if r.detector.normal >= 0 {
		w.Keep(r.detector.normal)
	}
	out := len(r.table.Targets)
	squares, y, target := make([]float64, out), make([]float32, out), make([]float32, out)
	rows := make([]float32, w.Inputs())
	for i := range w.Len() {
		if i%256 == 0 && ctx.Err() != nil {
			return rule{}, context.Cause(ctx)
		}
		w.Rows(i, rows)
		if err := f(y, rows, 1); err != nil {
			return rule{}, fmt.Errorf("window ending at %s of group %q: %w", w.Time(i), w.Group(i), err)
		}
		w.Target(i, target)
		for o, v := range target {
			d := float64(v) - float64(y[o])
			squares[o] += d * d
		}
	}
	u := rule{Inv: make([]float32, out)}
	for o, sum := range squares {
		if inv := float32(1 / math.Sqrt(sum/float64(w.Len()))); inv-inv == 0 { // finite: the residual is not 0 always
			u.Inv[o] = inv
		}
	}
	if w, err = r.table.Windows(p, dataset.Shape{Window: r.o.Window + r.o.Horizon + r.o.Smooth - 1}); err != nil {
		return rule{}, fmt.Errorf("rows for the threshold: %w", err)
	}
	if r.detector.normal >= 0 {
		w.Keep(r.detector.normal)
	}
	if w.Len() == 0 {
		return rule{}, fmt.Errorf("rows for the threshold: %w: no %d normal rows follow each other; smooth over fewer", dataset.ErrTooFewRows, w.Shape.Window)
	}
	d := &artifact.Detector{Residual: r.o.Residual, Features: r.watched(), Inv: u.Inv, Smooth: r.o.Smooth}
	scores, err := scoresOf(ctx, f, d, w, r.o.Window)
	if err != nil {
		return rule{}, err
	}
	u.Rows, u.Quantile = len(scores), quantile(scores, r.o.ThresholdQuantile)
	u.Threshold = u.Quantile * float32(r.o.ThresholdFactor)
	return u, nil
}

// scoresOf scores every window as a device with the forecaster f would, whose own
// windows have the given rows.
func scoresOf(ctx context.Context, f forecaster, d *artifact.Detector, w *dataset.Windows, window int) ([]float32, error) {
	out, features := len(d.Features), w.Inputs()/w.Shape.Window
	scores := make([]float32, w.Len())
	rows, windows, y := make([]float32, w.Inputs()), make([]float32, d.Smooth*window*features), make([]float32, d.Smooth*out)
	for i := range scores {
		if i%256 == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		w.Rows(i, rows)
		for k := range d.Smooth {
			copy(windows[k*window*features:][:window*features], rows[k*features:])
		}
		if err := f(y, windows, d.Smooth); err != nil {
			return nil, fmt.Errorf("window ending at %s of group %q: %w", w.Time(i), w.Group(i), err)
		}
		scores[i] = predictor.Score(d, y, rows[len(rows)-d.Smooth*features:], features)
	}
	return scores, nil
}

// quantile is the q-th quantile of values, between two by linear interpolation.
func quantile(values []float32, q float64) float32 {
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + float32(at-float64(i))*(sorted[i+1]-sorted[i])
}

// readAnomaly reads the data of an evaluation, with labels if the training had any.
func (e *evaluated) readAnomaly(data dataset.Files, o EvalOptions) (err error) {
	c := e.columns()
	c.Label = e.setup.Label
	if e.table, err = e.readTable(data, c); err != nil {
		return err
	}
	e.warnings = e.table.Warnings()
	if e.windows, err = e.partWindows(o, e.shape()); err != nil {
		return err
	}
	e.countShort()
	return nil
}

// judgeAnomalies scores every window and compares the alarm with the label of its last
// row.
func (e *evaluated) judgeAnomalies(ctx context.Context, rep *Report, int8s, floats *predictor.Predictor) error {
	d := e.model.Schema.Detector
	rep.Detection = &Detection{
		Residual: d.Residual, Smooth: d.Smooth, Quantile: e.setup.Quantile, Factor: e.setup.Factor, Threshold: d.Threshold, Rows: e.setup.Rules[modelRule].Rows,
	}
	for _, f := range d.Features {
		rep.Detection.Features = append(rep.Detection.Features, e.table.Features[f])
	}
	var scores [2][]float32
	for k, p := range []*predictor.Predictor{int8s, floats} {
		if p == nil {
			continue
		}
		var err error
		if scores[k], err = predictAll(ctx, p, e.windows); err != nil {
			return err
		}
	}
	rows := e.verdicts()
	rep.Metrics.Int8 = at(rows, scores[0], d.Threshold)
	if floats != nil {
		rep.Metrics.Float32 = at(rows, scores[1], d.Threshold)
		differ := 0
		for i, s := range scores[0] {
			if (s > d.Threshold) != (scores[1][i] > d.Threshold) {
				differ++
			}
		}
		rep.Metrics.Float32["differs"], rep.Metrics.Int8["differs"] = 0, float64(differ)/float64(len(rows))
	}
	if q := e.setup.Rules[modelRule].Quantile; q > 0 {
		for _, factor := range []float64{1, 2, 3, 4, 5} {
			a := AtFactor{Factor: factor, Pair: Pair{Int8: at(rows, scores[0], q*float32(factor))}}
			if floats != nil {
				a.Float32 = at(rows, scores[1], q*float32(factor))
			}
			rep.Detection.At = append(rep.Detection.At, a)
		}
	}
	ends := (&evaluation{w: e.windows, setup: e.setup, reach: e.windows.Shape.Window}).blocks()
	tallied := count{baselines: map[string]tally{}, figures: countMetrics}
	if err := e.baselineAlarms(ctx, rep, d, rows, func(name string) { tallied.baselines[name] = tallyRows(rows, ends) }); err != nil {
		return err
	}
	_ = at(rows, scores[0], d.Threshold) // the rows' alarms are the model's again
	if e.table.Labels != nil {
		tallied.model = tallyRows(rows, ends)
		tallied.fill(rep, e.setup.Seed)
	}
	if len(e.table.Groups) > 1 {
		for i := 0; i < len(rows); {
			j := i
			for j < len(rows) && rows[j].group == rows[i].group {
				j++
			}
			rep.Detection.Groups = append(rep.Detection.Groups, GroupDetection{e.table.Groups[rows[i].group].Name, detectionMetrics(rows[i:j])})
			i = j
		}
	}
	if e.predictions {
		rep.Predictions = anomalyPredictions(e.windows, rows, scores[1], scores[0])
	}
	return nil
}

// verdicts are the windows' last rows, with what they are and without what is said.
func (e *evaluated) verdicts() []judged {
	rows := make([]judged, e.windows.Len())
	for i := range rows {
		_, last := e.windows.Span(i)
		rows[i] = judged{group: e.table.GroupOf(last), row: last}
		if l := e.table.Labels; l != nil {
			rows[i].anomaly = l.Classes[e.windows.Label(i)] != e.setup.Normal
		}
	}
	return rows
}

// at says of every row whether its score is above the threshold, and returns the
// figures.
func at(rows []judged, scores []float32, threshold float32) Metrics {
	for i, s := range scores {
		rows[i].score, rows[i].alarm = s, s > threshold
	}
	return detectionMetrics(rows)
}

// baselineAlarms judges the baselines by the rules that were fitted to them, and calls
// tell with the name of each while its alarms are those of rows.
func (e *evaluated) baselineAlarms(ctx context.Context, rep *Report, d *artifact.Detector, rows []judged, tell func(name string)) error {
	rep.Baselines = map[string]Metrics{}
	schema := e.model.Schema
	for name, f := range baselineForecasters(d.Residual, len(e.table.Features), d.Features, e.setup, e.plan) {
		u, ok := e.setup.Rules[name]
		if !ok || len(u.Inv) != len(d.Features) || name == "mean" && len(e.setup.Mean) != len(d.Features) {
			continue
		}
		own := *d
		own.Inv = u.Inv
		scores, err := scoresOf(ctx, f, &own, e.windows, schema.NetworkWindow())
		if err != nil {
			return err
		}
		rep.Baselines[name] = at(rows, scores, u.Threshold)
		tell(name)
	}
	return nil
}

// anomalyPredictions lists every row with its score: truth is 1 of an anomaly.
func anomalyPredictions(w *dataset.Windows, rows []judged, floats, int8s []float32) []Prediction {
	out := make([]Prediction, len(rows))
	for i, r := range rows {
		truth := float32(0)
		if r.anomaly {
			truth = 1
		}
		alarm := r.alarm
		out[i] = Prediction{Group: w.Group(i), Time: w.Time(i), Truth: []float32{truth}, Int8: int8s[i : i+1], Scalar: true, Alarm: &alarm}
		if floats != nil {
			out[i].Float32 = floats[i : i+1]
		}
	}
	return out
}
