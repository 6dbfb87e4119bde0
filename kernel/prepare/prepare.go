// Package prepare turns the rows that sensors give into what a network reads, and
// its outputs back: the same bits wherever it runs, on a device and in training.
//
// A row goes through these steps, in this order:
//
//	columns   as a client gives them: numbers in the sensors' own units, and for a
//	          category the place of its text in the model's dictionary
//	extended  with sine and cosine of each calendar cycle, from the row's time
//	inputs    each category's number becomes a 1 among zeros (one-hot)
//	scaled    by the scaler; or by that of the regime the row is in
package prepare

import (
	"errors"
	"fmt"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

var (
	// ErrPlan: a Config that contradicts itself or is beyond a limit.
	ErrPlan = errors.New("preparation")
	// ErrTime: a time beyond ±MaxTime.
	ErrTime = errors.New("time out of range")
)

// Limits of a Config.
const (
	MaxValues       = 64 // texts in a dictionary
	MaxRegimes      = 64
	MaxRegimeValues = 1 << 14                // regimes × inputs
	MaxPeriod       = 366 * 24 * 3600 * 1000 // ms between rows
)

// A Config says how rows are prepared.
type Config struct {
	Columns    int        // values of a row as a client gives it
	Categories []Category // ascending by column
	Calendar   []Cycle    // ascending
	PeriodMS   int64      // between the rows of a request; with Calendar 1 to MaxPeriod, else 0
	// Scaler is of inputs, but for its anchors, which are columns. One-hot and
	// calendar inputs have mean 0 and factor 1.
	Scaler  kernel.Scaler
	Regimes *Regimes // nil: the scaler's means and factors hold for every row
	// Stream is of models that carry a state: what is anchored are their outputs
	// alone, to the row before them. A window's anchored inputs are too.
	Stream bool
}

// A Category is a column whose numbers stand for texts: 0 to Values−1, and anything
// else for a text that is not known. It has an input for each of these, the last
// one for the unknown.
type Category struct{ Column, Values int }

// Regimes are operating conditions, each with its own scaling. A row is in the one
// whose centre is nearest, the first of equals: the least Σ ((x−centre)·Inv)² over
// Inputs, in that order, float32, each operation rounded separately.
type Regimes struct {
	Inputs    []int     // that tell regimes apart
	Centers   []float32 // regimes × Inputs, raw units
	Mean, Inv []float32 // regimes × inputs of the network
}

// Len is the number of regimes.
func (r *Regimes) Len() int { return len(r.Centers) / max(1, len(r.Inputs)) }

// A Plan prepares rows. It is immutable and safe for concurrent use.
type Plan struct {
	Config
	in, out kernel.Scaler // anchored to inputs, and to columns
	column  []int         // of each input, among the extended ones
	first   []int         // input of each column, extended
}

// Plain returns the plan that scales and does nothing else. The error is that of New.
func Plain(s kernel.Scaler) (*Plan, error) { return New(Config{Columns: len(s.Mean), Scaler: s}) }

// New checks c and keeps it; it must not be changed afterwards. Errors are ErrPlan
// and those of kernel.Scaler.
func New(c Config) (*Plan, error) {
	p := &Plan{Config: c}
	if err := p.lay(); err != nil {
		return nil, err
	}
	p.in, p.out = c.Scaler, c.Scaler
	if err := c.Scaler.Validate(); err != nil {
		return nil, err
	}
	if n := len(c.Scaler.Mean); n != len(p.column) {
		return nil, fmt.Errorf("%w: a scaler of %d inputs, the columns make %d", ErrPlan, n, len(p.column))
	}
	if err := p.anchor(); err != nil {
		return nil, err
	}
	if err := p.checkRegimes(); err != nil {
		return nil, err
	}
	// Out looks at the length alone, that of a raw row.
	p.out.Mean = make([]float32, p.Width())
	return p, nil
}

// lay gives each column its inputs.
func (p *Plan) lay() error {
	if p.Columns < 1 || p.Columns > kernel.MaxFeatures {
		return fmt.Errorf("%w: %d columns, want 1 to %d", ErrPlan, p.Columns, kernel.MaxFeatures)
	}
	next := 0
	for c := range p.Columns {
		p.first = append(p.first, len(p.column))
		n := 1
		if next < len(p.Categories) && p.Categories[next].Column == c {
			k := p.Categories[next]
			if k.Values < 1 || k.Values > MaxValues {
				return fmt.Errorf("%w: column %d has a dictionary of %d texts, want 1 to %d", ErrPlan, c, k.Values, MaxValues)
			}
			next, n = next+1, k.Values+1
		}
		for range n {
			p.column = append(p.column, c)
		}
	}
	if next < len(p.Categories) {
		return fmt.Errorf("%w: category of column %d: columns are below %d, ascending, each once", ErrPlan, p.Categories[next].Column, p.Columns)
	}
	for i, c := range p.Calendar {
		if int(c) >= len(cycles) || i > 0 && c <= p.Calendar[i-1] {
			return fmt.Errorf("%w: calendar %v: want %v, ascending, each once", ErrPlan, p.Calendar, cycles)
		}
		for range 2 {
			p.first = append(p.first, len(p.column))
			p.column = append(p.column, len(p.first)-1)
		}
	}
	if has := len(p.Calendar) > 0; p.PeriodMS < 0 || p.PeriodMS > MaxPeriod || has != (p.PeriodMS > 0) {
		return fmt.Errorf("%w: a period of %d ms with %d calendar cycles, want 1 to %d, and 0 without them", ErrPlan, p.PeriodMS, len(p.Calendar), int64(MaxPeriod))
	}
	if len(p.column) > kernel.MaxFeatures {
		return fmt.Errorf("%w: %d inputs, at most %d", ErrPlan, len(p.column), kernel.MaxFeatures)
	}
	return nil
}

// anchor moves the anchors of the scaler for inputs to inputs.
func (p *Plan) anchor() error {
	var inputs []int
	for o, c := range p.Scaler.Anchor {
		switch {
		case c >= p.Columns, c >= 0 && p.values(c) > 0:
			return fmt.Errorf("%w: output %d is anchored to column %d, which is no number that a client gives", ErrPlan, o, c)
		case c >= 0 && p.Regimes != nil:
			return fmt.Errorf("%w: an anchor and regimes; the change between two rows has no scale of one regime", ErrPlan)
		case c >= 0:
			c = p.first[c]
		}
		inputs = append(inputs, c)
	}
	if p.in.Anchor = inputs; p.Stream {
		p.in.Anchor = nil
	}
	return nil
}

// values is the size of a column's dictionary, 0 without one.
func (p *Plan) values(column int) int {
	for _, c := range p.Categories {
		if c.Column == column {
			return c.Values
		}
	}
	return 0
}

func (p *Plan) checkRegimes() error {
	r, inputs := p.Regimes, len(p.column)
	if r == nil {
		return nil
	}
	n := r.Len()
	switch {
	case len(r.Inputs) < 1 || len(r.Inputs) > inputs || n < 1 || n > MaxRegimes || n*inputs > MaxRegimeValues || len(r.Centers) != n*len(r.Inputs):
		return fmt.Errorf("%w: %d regimes, told apart by %d of %d inputs, with %d values of their centres; want 1 to %d, and at most %d regimes × inputs",
			ErrPlan, n, len(r.Inputs), inputs, len(r.Centers), MaxRegimes, MaxRegimeValues)
	case len(r.Mean) != n*inputs || len(r.Inv) != n*inputs:
		return fmt.Errorf("%w: %d means and %d factors for %d regimes of %d inputs", ErrPlan, len(r.Mean), len(r.Inv), n, inputs)
	}
	for k, i := range r.Inputs {
		if i < 0 || i >= inputs || k > 0 && i <= r.Inputs[k-1] || p.column[i] >= p.Columns || p.values(p.column[i]) > 0 {
			return fmt.Errorf("%w: regimes told apart by the inputs %v: want numbers that a client gives, ascending, each once", ErrPlan, r.Inputs)
		}
	}
	for _, v := range [][]float32{r.Centers, r.Mean, r.Inv} {
		for _, v := range v {
			if v-v != 0 {
				return fmt.Errorf("%w: a regime has the value %v", ErrPlan, v)
			}
		}
	}
	for _, v := range r.Inv {
		if v < 0 {
			return fmt.Errorf("%w: a regime has the factor %v, want 0 or more", ErrPlan, v)
		}
	}
	return nil
}

// Width is the number of values of an extended row.
func (p *Plan) Width() int { return len(p.first) }

// Inputs is the number of values of a prepared row.
func (p *Plan) Inputs() int { return len(p.column) }

// InputOf is the first input of an extended column, its only one unless it is a
// category.
func (p *Plan) InputOf(column int) int { return p.first[column] }

// Timed reports whether rows are extended by their times.
func (p *Plan) Timed() bool { return len(p.Calendar) > 0 }

// AppendRow appends row, Columns values, extended by its time in milliseconds
// since 1970 UTC, which only a Timed plan reads. The error is ErrTime.
func (p *Plan) AppendRow(dst, row []float32, ms int64) ([]float32, error) {
	dst = append(dst, row...)
	if !p.Timed() {
		return dst, nil
	}
	if ms < -MaxTime || ms > MaxTime {
		return dst, fmt.Errorf("%w: %d ms since 1970, want at most %d either way", ErrTime, ms, int64(MaxTime))
	}
	for _, c := range p.Calendar {
		sin, cos := c.At(ms)
		dst = append(dst, sin, cos)
	}
	return dst, nil
}

// Extend returns rows, each of Columns values, extended by their times: the last
// one's is ms, and PeriodMS lie between them. Of a plan that is not Timed they
// are rows itself. Errors are those of AppendRow, and *kernel.ShapeError.
func (p *Plan) Extend(rows []float32, ms int64) ([]float32, error) {
	if !p.Timed() {
		return rows, nil
	}
	if len(rows)%p.Columns != 0 {
		return nil, &kernel.ShapeError{What: "rows", Want: (len(rows)/p.Columns + 1) * p.Columns, Got: len(rows)}
	}
	n := len(rows) / p.Columns
	out := make([]float32, 0, n*p.Width())
	for k := range n {
		var err error
		if out, err = p.AppendRow(out, rows[k*p.Columns:][:p.Columns], ms-int64(n-1-k)*p.PeriodMS); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// In prepares raw, whole extended rows, into dst, whole rows of inputs, which may
// be raw itself where there is no category. Errors are those of kernel.Scaler.In,
// the features being columns; dst is then undefined.
func (p *Plan) In(dst, raw []float32) error {
	width, inputs := p.Width(), p.Inputs()
	rows := len(raw) / width
	if rows < 1 || len(raw) != rows*width {
		return &kernel.ShapeError{What: "raw rows", Want: (rows + 1) * width, Got: len(raw)}
	}
	if len(dst) != rows*inputs {
		return &kernel.ShapeError{What: "prepared rows", Want: rows * inputs, Got: len(dst)}
	}
	if len(p.Categories) > 0 {
		for r := range rows {
			p.expand(dst[r*inputs:][:inputs], raw[r*width:][:width])
		}
		raw = dst
	}
	var err error
	if p.Regimes == nil {
		err = p.in.In(dst, raw)
	} else {
		err = p.scaleByRegime(dst, raw)
	}
	if err != nil {
		return p.inColumns(err)
	}
	return nil
}

// inColumns makes the feature of a *kernel.ValueError, which is an input, a column.
func (p *Plan) inColumns(err error) error {
	var v *kernel.ValueError
	if errors.As(err, &v) {
		v.Feature = p.column[v.Feature]
	}
	return err
}

// expand writes the inputs of one row that are not scaled yet.
func (p *Plan) expand(dst, row []float32) {
	next := 0
	for c, v := range row {
		i := p.first[c]
		if next == len(p.Categories) || p.Categories[next].Column != c {
			dst[i] = v
			continue
		}
		n := p.Categories[next].Values
		next++
		clear(dst[i:][:n+1])
		k := n
		if v >= 0 && v < float32(n) && float32(int(v)) == v {
			k = int(v)
		}
		dst[i+k] = 1
	}
}

// scaleByRegime is kernel.Scaler.In with the statistics of each row's regime.
func (p *Plan) scaleByRegime(dst, raw []float32) error {
	n := len(p.column)
	for at := 0; at < len(raw); at += n {
		r := p.regime(raw[at:][:n])
		mean, inv := p.Regimes.Mean[r*n:][:n], p.Regimes.Inv[r*n:][:n]
		for i, v := range raw[at:][:n] {
			x := float32(v-mean[i]) * inv[i]
			if !(x >= -kernel.MaxInput && x <= kernel.MaxInput) { // a NaN too, which Inf·0 is
				err := kernel.ErrRange
				if v-v != 0 {
					err = kernel.ErrNonFinite
				}
				return &kernel.ValueError{Row: at / n, Feature: i, Value: v, Err: err}
			}
			dst[at+i] = x
		}
	}
	return nil
}

// regime is the one that a row of inputs, not scaled yet, is in.
func (p *Plan) regime(row []float32) int {
	r := p.Regimes
	best, least := 0, float32(0)
	for k := range r.Len() {
		centre, sum := r.Centers[k*len(r.Inputs):], float32(0)
		for j, i := range r.Inputs {
			d := float32(row[i]-centre[j]) * p.Scaler.Inv[i]
			sum += float32(d * d)
		}
		if k == 0 || sum < least {
			best, least = k, sum
		}
	}
	return best
}

// Regime returns the regime of an extended row. The plan has regimes.
func (p *Plan) Regime(row []float32) int {
	if len(p.Categories) > 0 {
		inputs := make([]float32, p.Inputs())
		p.expand(inputs, row)
		row = inputs
	}
	return p.regime(row)
}

// Out turns y, whole rows of outputs, into raw units in dst, which may be y
// itself; last is the last extended row of the window, read only with anchors.
// Lengths that disagree are a *kernel.ShapeError.
func (p *Plan) Out(dst, y, last []float32) error { return p.out.Out(dst, y, last) }
