package train

import (
	"cmp"
	"fmt"
	"math"
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
	}
	return how, nil
}

// preparation is that of a model, as options; how its columns were scaled stays in
// its scaler.
func preparation(m *artifact.Model) Preparation {
	return Preparation{Calendar: preparationOf(m.Schema).Calendar}
}

// cyclesOf are those of the calendar of a model.
func cyclesOf(m *artifact.Model) []prepare.Cycle { return preparation(m).cycles() }

// preparationOf is that of a schema, an empty one for none.
func preparationOf(s artifact.Schema) *artifact.Preparation {
	return cmp.Or(s.Prepare, &artifact.Preparation{})
}

// readTable reads data, and adds what the model makes of the rows' times.
func (e *evaluated) readTable(data dataset.Files, c dataset.Columns) (*dataset.Table, error) {
	t, err := dataset.ReadFiles(data, c, e.setup.Read)
	if err != nil {
		return nil, err
	}
	return t.WithCalendar(cyclesOf(e.model))
}

// prepareTables adds to the tables what is made of the rows' times.
func (r *run) prepareTables() error {
	r.columns = len(r.table.Features)
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
	if n := len(r.table.Features); n > kernel.MaxFeatures || r.o.Window > protocol.MaxWindowValues/n {
		return fmt.Errorf("%w: a window of %d rows of %d inputs, at most %d inputs and %d values", ErrOptions, r.o.Window, n, kernel.MaxFeatures, protocol.MaxWindowValues)
	}
	return nil
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
	for range len(r.table.Features) - r.columns {
		how = append(how, dataset.ZScore)
	}
	sc, constant, notes := r.learned.Scaler(r.normal(r.parts.Train), how)
	for i := r.columns; i < len(r.table.Features); i++ { // of the calendar, which has its scale
		sc.Mean[i], sc.Std[i], sc.Inv[i] = 0, math.Sqrt2/2, 1
	}
	for _, i := range constant {
		if i < r.columns {
			r.warn("column %q is constant in the training rows and scales to 0, whatever it holds later", r.table.Features[i])
		}
	}
	for _, n := range notes {
		r.warn("%s", n)
	}
	r.sc = sc
	return nil
}

// makePlan fixes how rows are prepared, from here on and on devices.
func (r *run) makePlan() (err error) {
	r.plan, err = predictor.Plan(r.schema(), *r.sc)
	return err
}
