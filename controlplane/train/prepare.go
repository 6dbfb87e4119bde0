package train

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/kernel/prepare"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// A Preparation says how rows become what the network reads. It is fitted on the
// training rows and goes with the model: devices are given the rows as they are.
type Preparation struct {
	Scale    []string `json:"scale,omitempty" doc:"Of features: zscore, minmax or robust (median and interquartile range), or COLUMN=one of these; none: zscore"`
	Calendar []string `json:"calendar,omitempty" doc:"Features made of the time, in UTC: hour (of the day), weekday, yearday, each as sine and cosine; requests then give t, the time of their last row"`
	// Categories are read as texts whatever they look like.
	Categories    []string `json:"categories,omitempty" doc:"Columns that are texts: one input for each text of the training rows, at most 64, and one for any other; requests give the texts"`
	Regimes       int      `json:"regimes,omitempty" doc:"Operating conditions to find in the training rows, each of which gets a scaling of its own"`
	RegimeColumns []string `json:"regime_columns,omitempty" doc:"Columns that tell regimes apart"`
}

// check refuses what needs no data to be refused.
func (p Preparation) check() error {
	for _, s := range p.Scale {
		how := s[strings.LastIndexByte(s, '=')+1:]
		if !slices.Contains(dataset.Scales, how) {
			return unknown("scale", how, dataset.Scales)
		}
	}
	for i, c := range p.Calendar {
		if _, err := prepare.ParseCycle(c); err != nil {
			return unknown("calendar", c, artifact.Cycles)
		}
		if slices.Contains(p.Calendar[:i], c) {
			return fmt.Errorf("%w: calendar %s twice", ErrOptions, c)
		}
	}
	return nil
}

// cycles are the calendar's, in their order.
func (p Preparation) cycles() (list []prepare.Cycle) {
	for _, c := range p.Calendar {
		if cycle, err := prepare.ParseCycle(c); err == nil { // check had no objection
			list = append(list, cycle)
		}
	}
	slices.Sort(list)
	return list
}

// scales says how each feature is scaled. The error is ErrOptions for a column that
// is none of them.
func (p Preparation) scales(features []string) ([]string, error) {
	how := slices.Repeat([]string{dataset.ZScore}, len(features))
	for _, s := range p.Scale {
		at := strings.LastIndexByte(s, '=')
		if at < 0 {
			for f := range how {
				how[f] = s
			}
		}
	}
	for _, s := range p.Scale {
		at := strings.LastIndexByte(s, '=')
		if at < 0 {
			continue
		}
		f := slices.Index(features, s[:at])
		if f < 0 {
			return nil, fmt.Errorf("%w: a scale for %q, which is no feature", ErrOptions, s[:at])
		}
		how[f] = s[at+1:]
		if slices.Contains(p.Categories, s[:at]) {
			return nil, fmt.Errorf("%w: a scale for %q, which is a category and has none", ErrOptions, s[:at])
		}
	}
	return how, nil
}

// preparation is that of a model, as options; how its columns were scaled stays in
// its scaler.
func preparation(m *artifact.Model) Preparation {
	a := preparationOf(m.Schema)
	p := Preparation{Calendar: a.Calendar}
	for _, c := range a.Categories {
		p.Categories = append(p.Categories, m.Schema.Features[c.Feature].Name)
	}
	if g := a.Regimes; g != nil {
		p.Regimes = g.Len()
		for _, f := range g.Features {
			p.RegimeColumns = append(p.RegimeColumns, m.Schema.Features[f].Name)
		}
	}
	return p
}

// fill takes from q what p leaves open.
func (p *Preparation) fill(q Preparation) {
	if len(p.Calendar) == 0 {
		p.Calendar = q.Calendar
	}
	if len(p.Categories) == 0 {
		p.Categories = q.Categories
	}
	if p.Regimes == 0 && len(p.RegimeColumns) == 0 {
		p.Regimes, p.RegimeColumns = q.Regimes, q.RegimeColumns
	}
}

// cyclesOf are those of the calendar of a model.
func cyclesOf(m *artifact.Model) []prepare.Cycle { return preparation(m).cycles() }

// preparationOf is that of a schema, an empty one for none.
func preparationOf(s artifact.Schema) *artifact.Preparation {
	return cmp.Or(s.Prepare, &artifact.Preparation{})
}

// readTable reads data, with the model's numbers for texts, and adds what it makes of
// the rows' times.
func (e *evaluated) readTable(data dataset.Files, c dataset.Columns) (*dataset.Table, error) {
	t, err := dataset.ReadFiles(data, c, e.setup.Read)
	if err != nil {
		return nil, err
	}
	return t.Encode(e.model.Schema.Dictionaries()).WithCalendar(cyclesOf(e.model))
}

// prepareTables gives texts their numbers and adds what is made of the rows' times.
func (r *run) prepareTables() error {
	r.columns = len(r.table.Features)
	if err := r.encode(); err != nil {
		return err
	}
	return r.addCalendar()
}

// encode fixes the dictionaries of categories: those of the version to go on from, or
// the texts of the training rows.
func (r *run) encode() error {
	for f, name := range r.table.Features {
		if !r.table.IsText(f) {
			continue
		}
		if r.dictionaries == nil {
			r.dictionaries = make([][]string, r.columns)
		}
		d, others := r.learned.Dictionary(r.parts.Train, f, artifact.MaxCategoryValues)
		if r.o.From != nil {
			d = r.o.From.dictionary(name)
		}
		switch {
		case len(d) == 0:
			return fmt.Errorf("%w: the category %q has no text in the training rows; leave it out", ErrOptions, name)
		case others == 0:
			r.untrained = append(r.untrained, f)
		case len(d) == artifact.MaxCategoryValues:
			r.warn("column %q has more than %d texts: %d training rows have one of the rarer ones, or none, and share an input", name, len(d), others)
		}
		r.dictionaries[f] = d
		p := r.preparation()
		p.Categories = append(p.Categories, artifact.Category{Feature: f, Values: d})
	}
	if r.dictionaries == nil {
		return nil
	}
	same := r.learned == r.table
	r.table = r.table.Encode(r.dictionaries)
	if same {
		r.learned = r.table
	} else {
		r.learned = r.learned.Encode(r.dictionaries)
	}
	s := r.schema()
	return r.checkInputs(s.Inputs())
}

// dictionary is that of the version's feature of that name, nil if it has none.
func (b *Base) dictionary(feature string) []string {
	for f, d := range b.Model.Schema.Dictionaries() {
		if b.Model.Schema.Features[f].Name == feature {
			return d
		}
	}
	return nil
}

// checkInputs refuses more inputs than a network or a window may have.
func (r *run) checkInputs(n int) error {
	if n > kernel.MaxFeatures || r.o.Window > protocol.MaxWindowValues/n {
		return fmt.Errorf("%w: a window of %d rows of %d inputs, at most %d inputs and %d values", ErrOptions, r.o.Window, n, kernel.MaxFeatures, protocol.MaxWindowValues)
	}
	return nil
}

// forgetUnknown makes the input of unknown texts say nothing where no training row
// has one, which would leave it what it began with.
func (r *run) forgetUnknown(w *kernel.Weights) {
	l := w.Layers[0].Kernel
	row := len(l) / w.Graph.Features
	for _, f := range r.untrained {
		clear(l[(r.firstInput(f)+len(r.dictionaries[f]))*row:][:row])
	}
}

// addCalendar adds what is made of the rows' times.
func (r *run) addCalendar() error {
	cycles := r.o.cycles()
	if len(cycles) == 0 {
		return nil
	}
	same := r.learned == r.table
	period, err := r.table.PeriodMS()
	if err != nil {
		return err
	}
	if r.table, err = r.table.WithCalendar(cycles); err != nil {
		return err
	}
	if same {
		r.learned = r.table
	} else if r.learned, err = r.learned.WithCalendar(cycles); err != nil {
		return err
	}
	p := r.preparation()
	p.PeriodMS = period
	for _, c := range cycles {
		p.Calendar = append(p.Calendar, c.String())
	}
	s := r.schema()
	return r.checkInputs(s.Inputs())
}

// preparation is that of the model to be, which it may begin.
func (r *run) preparation() *artifact.Preparation {
	if r.prep == nil {
		r.prep = artifact.NewPreparation()
	}
	return r.prep
}

// fitScaler fits the scaler of the inputs on the training rows.
func (r *run) fitScaler() error {
	how, err := r.o.scales(r.table.Features[:r.columns])
	if err != nil {
		return err
	}
	for f := range r.dictionaries {
		if r.dictionaries[f] != nil {
			how[f] = dataset.ZScore // of numbers that say nothing
		}
	}
	for range len(r.table.Features) - r.columns {
		how = append(how, dataset.ZScore)
	}
	sc, constant, notes := r.learned.Scaler(r.normal(r.parts.Train), how)
	for i := r.columns; i < len(r.table.Features); i++ { // of the calendar, which has its scale
		sc.Mean[i], sc.Std[i], sc.Inv[i] = 0, 1, 1
	}
	for _, i := range constant {
		switch {
		case i >= r.columns:
		case r.table.IsText(i):
			r.warn("column %q has one text in the training rows, and tells the network nothing", r.table.Features[i])
		default:
			r.warn("column %q is constant in the training rows and scales to 0, whatever it holds later", r.table.Features[i])
		}
	}
	for _, n := range notes {
		r.warn("%s", n)
	}
	r.sc = r.inputs(sc)
	return nil
}

// makePlan fixes how rows are prepared, from here on and on devices.
func (r *run) makePlan() (err error) {
	r.plan, err = predictor.Plan(r.schema(), *r.sc)
	return err
}
