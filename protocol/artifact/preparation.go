package artifact

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// Limits of a Preparation.
const (
	MaxCategoryValues = 64 // texts in a dictionary
	MaxRegimes        = 64
	MaxRegimeValues   = 1 << 14 // regimes × inputs
	MaxPeriodMS       = 366 * 24 * 3600 * 1000
)

// preparationVersion is the only version of a Preparation there is.
const preparationVersion = 1

// Cycles are the calendar's, in their order.
var Cycles = []string{"hour", "weekday", "yearday"}

// A Preparation says how rows, as requests carry them, become the inputs of the
// graph, beyond scaling: kernel/prepare does so, in this order. A model without
// one has a graph of as many inputs as the schema has features.
//
//   - A category's text becomes its place in the dictionary, and that place a 1
//     among zeros: one input for each text and a last one for any other.
//   - Each calendar cycle adds two inputs behind those of the features, the sine
//     and the cosine of the row's place in it, in UTC.
//   - Inputs are scaled, with regimes by the means and factors of the regime the
//     row is in.
type Preparation struct {
	Version    int        `cbor:"version" json:"version"`
	Categories []Category `cbor:"categories,omitempty" json:"categories,omitempty"` // ascending by feature
	Calendar   []string   `cbor:"calendar,omitempty" json:"calendar,omitempty"`     // of Cycles, in their order
	// PeriodMS is the time between the rows of a request, which gives that of the
	// last one; 0 without a calendar.
	PeriodMS int64    `cbor:"period_ms,omitempty" json:"period_ms,omitempty"`
	Regimes  *Regimes `cbor:"regimes,omitempty" json:"regimes,omitempty"`
}

// NewPreparation returns an empty Preparation.
func NewPreparation() *Preparation { return &Preparation{Version: preparationVersion} }

// A Category is a feature that is a text.
type Category struct {
	Feature int      `cbor:"feature" json:"feature"`
	Values  []string `cbor:"values" json:"values"` // the dictionary, ascending by bytes
}

// Regimes are operating conditions, each with its own scaling of the inputs. A row
// is in the one whose centre is nearest by the features named, each weighted by
// the scaler's Inv.
type Regimes struct {
	Features []int  `cbor:"features" json:"features"`
	Centers  Floats `cbor:"centers" json:"centers"` // regimes × Features, raw units
	Mean     Floats `cbor:"mean" json:"mean"`       // regimes × inputs
	Inv      Floats `cbor:"inv" json:"inv"`         // regimes × inputs
}

// Len is the number of regimes.
func (r *Regimes) Len() int { return len(r.Centers) / max(1, len(r.Features)) }

// Inputs is the number of inputs that the graph has for the schema's rows.
func (s *Schema) Inputs() int {
	n := len(s.Features)
	if p := s.Prepare; p != nil {
		for _, c := range p.Categories {
			n += len(c.Values)
		}
		n += 2 * len(p.Calendar)
	}
	return n
}

// Timed reports whether a row's time matters.
func (s *Schema) Timed() bool { return s.Prepare != nil && len(s.Prepare.Calendar) > 0 }

// Dictionaries are those of the features, nil for one that is a number; nil if all
// are. They are shared and must not be changed.
func (s *Schema) Dictionaries() [][]string {
	if s.Prepare == nil || len(s.Prepare.Categories) == 0 {
		return nil
	}
	d := make([][]string, len(s.Features))
	for _, c := range s.Prepare.Categories {
		d[c.Feature] = c.Values
	}
	return d
}

// inputOf returns the first input of a feature.
func (s *Schema) inputOf(feature int) int {
	n := feature
	for _, c := range s.Prepare.Categories {
		if c.Feature < feature {
			n += len(c.Values)
		}
	}
	return n
}

// validate checks p as part of s, whose columns are valid.
func (p *Preparation) validate(s *Schema) error {
	if p.Version != preparationVersion {
		return fmt.Errorf("%w: preparation of version %d, this is %d", ErrInvalid, p.Version, preparationVersion)
	}
	if len(p.Categories) == 0 && len(p.Calendar) == 0 && p.Regimes == nil {
		return fmt.Errorf("%w: a preparation of nothing; leave it out", ErrInvalid)
	}
	if err := firstError(p.validateCategories(s), p.validateCalendar()); err != nil {
		return err
	}
	if n := s.Inputs(); n > protocol.MaxFeatures || s.Window*n > protocol.MaxWindowValues {
		return fmt.Errorf("%w: a window of %d rows of %d inputs, at most %d inputs and %d values",
			ErrTooLarge, s.Window, n, protocol.MaxFeatures, protocol.MaxWindowValues)
	}
	return p.validateRegimes(s)
}

func (p *Preparation) validateCategories(s *Schema) error {
	for i, c := range p.Categories {
		if s.Detector != nil && slices.Contains(s.Detector.Features, c.Feature) {
			return fmt.Errorf("%w: feature %d is a text, and its residual is judged", ErrInvalid, c.Feature)
		}
		if c.Feature < 0 || c.Feature >= len(s.Features) || i > 0 && c.Feature <= p.Categories[i-1].Feature {
			return fmt.Errorf("%w: category %d is feature %d of %d; want them ascending, each once", ErrInvalid, i, c.Feature, len(s.Features))
		}
		if len(c.Values) < 1 || len(c.Values) > MaxCategoryValues {
			return fmt.Errorf("%w: feature %d has a dictionary of %d texts, want 1 to %d", ErrInvalid, c.Feature, len(c.Values), MaxCategoryValues)
		}
		for k, v := range c.Values {
			if v == "" || len(v) > protocol.MaxName || !utf8.ValidString(v) || k > 0 && v <= c.Values[k-1] {
				return fmt.Errorf("%w: text %.80q of feature %d: want 1 to %d bytes of UTF-8, ascending, each once", ErrInvalid, v, c.Feature, protocol.MaxName)
			}
		}
	}
	return nil
}

func (p *Preparation) validateCalendar() error {
	last := -1
	for _, name := range p.Calendar {
		i := slices.Index(Cycles, name)
		if i <= last {
			return fmt.Errorf("%w: calendar %.40q; want some of %v, in that order, each once", ErrInvalid, name, Cycles)
		}
		last = i
	}
	if timed := last >= 0; timed && (p.PeriodMS < 1 || p.PeriodMS > MaxPeriodMS) || !timed && p.PeriodMS != 0 {
		return fmt.Errorf("%w: a period of %d ms; want 1 to %d with a calendar, and 0 without", ErrInvalid, p.PeriodMS, int64(MaxPeriodMS))
	}
	return nil
}

func (p *Preparation) validateRegimes(s *Schema) error {
	r := p.Regimes
	if r == nil {
		return nil
	}
	n, inputs := r.Len(), s.Inputs()
	if len(r.Features) < 1 || len(r.Features) > len(s.Features) || n < 1 || n > MaxRegimes || len(r.Centers) != n*len(r.Features) ||
		n*inputs > MaxRegimeValues || len(r.Mean) != n*inputs || len(r.Inv) != n*inputs {
		return fmt.Errorf("%w: %d values for the centres of regimes told apart by %d features, with %d means and %d factors for %d inputs; at most %d regimes, and %d regimes × inputs",
			ErrInvalid, len(r.Centers), len(r.Features), len(r.Mean), len(r.Inv), inputs, MaxRegimes, MaxRegimeValues)
	}
	isText := func(feature int) bool {
		return slices.ContainsFunc(p.Categories, func(c Category) bool { return c.Feature == feature })
	}
	for i, f := range r.Features {
		if f < 0 || f >= len(s.Features) || i > 0 && f <= r.Features[i-1] || isText(f) {
			return fmt.Errorf("%w: regimes told apart by the features %v; want numbers, ascending, each once", ErrInvalid, r.Features)
		}
	}
	for _, v := range r.Inv {
		if v < 0 {
			return fmt.Errorf("%w: a regime has the factor %v", ErrInvalid, v)
		}
	}
	return firstError(allFinite("centre of a regime", r.Centers), allFinite("mean of a regime", r.Mean), allFinite("factor of a regime", r.Inv))
}

// goldenRow fills row with the values of u, one for each feature, and reads one
// more random number for the regime.
func (m *Model) goldenRow(row, u []float32, r uint64) {
	p := m.Schema.Prepare
	for f := range row {
		i := m.Schema.inputOf(f)
		row[f] = float32(u[f]*m.Scaler.Std[i]) + m.Scaler.Mean[i]
	}
	if g := p.Regimes; g != nil {
		m.goldenInRegime(row, u, int(r%uint64(g.Len())))
	}
	for _, c := range p.Categories {
		row[c.Feature] = float32(int((u[c.Feature]+3)/6*float32(len(c.Values)+1)) % (len(c.Values) + 1))
	}
}

// goldenInRegime puts row into regime k: at its centre, and the other features
// within 3 of its deviations.
func (m *Model) goldenInRegime(row, u []float32, k int) {
	g, inputs := m.Schema.Prepare.Regimes, m.Schema.Inputs()
	for f := range row {
		i := k*inputs + m.Schema.inputOf(f)
		if row[f] = g.Mean[i]; g.Inv[i] > 0 {
			row[f] = float32(u[f]/g.Inv[i]) + g.Mean[i]
		}
	}
	for j, f := range g.Features {
		row[f] = g.Centers[k*len(g.Features)+j]
	}
}

// GoldenTimes returns the times of the last rows of the golden inputs, in
// milliseconds since 1970 UTC: those of Golden.Seed before 2106, nil if the model
// reads no time.
func (m *Model) GoldenTimes() []int64 {
	if !m.Schema.Timed() {
		return nil
	}
	s := ^m.Golden.Seed
	times := make([]int64, GoldenVectors)
	for i := range times {
		var r uint64
		s, r = splitmix64(s)
		times[i] = int64(r>>32) * 1000
	}
	return times
}
