package dataset

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// A Cleaning counts what was done to the rows of a data set, and what is odd
// about them.
type Cleaning struct {
	Rows       int      `json:"rows"`                   // read
	Used       int      `json:"rows_used"`              // in the table
	OutOfOrder int      `json:"out_of_order,omitempty"` // rows that were sorted in
	Duplicates int      `json:"duplicates,omitempty"`   // rows with the time of another that became one with it
	Period     string   `json:"period,omitempty"`       // between most rows, if at least 9 in 10 are equally far apart
	Gaps       int      `json:"gaps,omitempty"`         // longer than max_gap, or than 1.5 periods
	LongestGap string   `json:"longest_gap,omitempty"`
	Resampled  int      `json:"rows_resampled,omitempty"` // rows after resampling
	Empty      int      `json:"rows_empty,omitempty"`     // of these, those without a row in their time
	Dropped    int      `json:"rows_dropped,omitempty"`   // for a missing value
	NoTarget   int      `json:"rows_without_target,omitempty"`
	Filled     []Filled `json:"filled,omitempty"`
	Outliers   []Count  `json:"outliers,omitempty"` // training values that were taken for missing ones
	Converted  []string `json:"converted,omitempty"`
	Constant   []string `json:"constant_dropped,omitempty"` // columns that were left out
	Notes      []string `json:"notes,omitempty"`            // in plain words, what has no number here

	split bool // gaps are what no window crosses
}

// Filled counts the missing values of one feature that were filled in: carried
// forward from the row before, back from the first value where a group begins
// without one, from both sides, or with zero.
type Filled struct {
	Column       string `json:"column"`
	Forward      int    `json:"forward,omitempty"`
	Backward     int    `json:"backward,omitempty"`
	Interpolated int    `json:"interpolated,omitempty"`
	Zero         int    `json:"zero,omitempty"`
}

// A Count is of one column.
type Count struct {
	Column string `json:"column"`
	Count  int    `json:"count"`
}

func (c *Cleaning) note(format string, args ...any) {
	if n := fmt.Sprintf(format, args...); !slices.Contains(c.Notes, n) {
		c.Notes = append(c.Notes, n)
	}
}

// Warnings tells in plain words what was done to the data.
func (t *Table) Warnings() []string {
	w := t.Cleaning.warnings()
	for _, c := range t.Skipped {
		w = append(w, fmt.Sprintf("column %q holds text and is not used as a feature", c))
	}
	return w
}

func (c *Cleaning) warnings() (w []string) {
	say := func(format string, args ...any) { w = append(w, fmt.Sprintf(format, args...)) }
	for _, s := range c.Converted {
		say("converted %s: a device must send the converted unit", s)
	}
	if c.OutOfOrder > 0 {
		say("%d rows were not in time order and were sorted in", c.OutOfOrder)
	}
	if c.Duplicates > 0 {
		say("%d rows had the time of another one and became one row with it", c.Duplicates)
	}
	switch {
	case c.Gaps > 0 && c.split:
		say("%d gaps, the longest %s: no window crosses them", c.Gaps, c.LongestGap)
	case c.Gaps > 0:
		say("rows are %s apart, but %d times further, once %s: windows cross these gaps; the option max_gap keeps them from it", c.Period, c.Gaps, c.LongestGap)
	}
	if c.Resampled > 0 {
		say("%d rows were resampled to %d, %d of them in a time without a row: a device must send rows made like that", c.Rows, c.Resampled, c.Empty)
	}
	for _, f := range c.Filled {
		switch {
		case f.Zero > 0:
			say("column %q: %d missing values are 0", f.Column, f.Zero)
		case f.Interpolated > 0:
			say("column %q: %d missing values interpolated, which looks ahead as no device can, and %d more filled (%d from the row before, %d from the first value of the group)",
				f.Column, f.Interpolated, f.Forward+f.Backward, f.Forward, f.Backward)
		default:
			say("column %q: %d missing values filled (%d from the row before, %d from the first value of the group)",
				f.Column, f.Forward+f.Backward, f.Forward, f.Backward)
		}
	}
	if len(c.Filled) > 0 {
		say("missing values were filled in these data: a device is given complete rows, and must fill in what its sensors miss the same way")
	}
	if c.Dropped > 0 {
		say("%d rows with a missing value were dropped: no window crosses their place", c.Dropped)
	}
	if c.NoTarget > 0 {
		say("%d rows have no target: no window that would predict one is trained on or evaluated", c.NoTarget)
	}
	for _, o := range c.Outliers {
		say("column %q: %d outliers among the training rows were taken for missing values; other rows, and what a device sends, stay as they are", o.Column, o.Count)
	}
	for _, name := range c.Constant {
		say("column %q is constant in the training rows and was left out", name)
	}
	return append(w, c.Notes...)
}

// clean brings the rows into order and makes every value finite.
func (t *Table) clean(r *rules, missing bool) error {
	t.Cleaning.Rows = t.Rows()
	t.Cleaning.Converted = r.Convert
	if r.sorts() || r.merges() {
		if t.times.kind == noTime {
			return fmt.Errorf("%w: order and duplicates need a time column; name it", ErrOptions)
		}
		t.sort()
		if r.merges() {
			t.merge(r.Duplicates)
		} else if err := t.refuseDuplicates(); err != nil {
			return err
		}
	}
	if err := t.findGaps(r.MaxGap); err != nil {
		return err
	}
	if r.Resample != "" {
		empty, err := t.resample(r)
		if err != nil {
			return err
		}
		missing = missing || empty
	}
	if missing {
		if err := t.fill(r); err != nil {
			return err
		}
	}
	if t.Cleaning.Used = t.Rows(); t.Cleaning.Used == 0 {
		return fmt.Errorf("%w: every one of %d rows has a missing value; leave a column out, or fill in with the option missing", ErrEmpty, t.Cleaning.Rows)
	}
	return nil
}

// sort brings the rows of each group into time order, rows of one time staying as
// they were.
func (t *Table) sort() {
	if t.Cleaning.OutOfOrder == 0 {
		return
	}
	order := make([]int32, t.Rows())
	for i := range order {
		order[i] = int32(i)
	}
	for _, g := range t.Groups {
		slices.SortStableFunc(order[g.Start:g.End], func(a, b int32) int { return t.times.compare(int(a), int(b)) })
	}
	t.arrange(order)
}

// refuseDuplicates returns an error for rows of a group that have one time.
func (t *Table) refuseDuplicates() error {
	for _, g := range t.Groups {
		for row := g.Start + 1; row < g.End; row++ {
			if t.times.compare(row, row-1) == 0 {
				return fmt.Errorf("%w: two rows with the time %q%s; remove one, or say with the option duplicates which one counts", ErrOrder, t.times.format(row), inGroup(g))
			}
		}
	}
	return nil
}

// inGroup says which group, if it has a name.
func inGroup(g Group) string {
	if g.Name == "" {
		return ""
	}
	return fmt.Sprintf(" in group %q", g.Name)
}

// merge makes the rows of a group that have one time one row.
func (t *Table) merge(how string) {
	groups, to := t.Groups, 0
	for i, g := range groups {
		start := to
		for row := g.Start; row < g.End; {
			end := row + 1
			for end < g.End && t.times.compare(end, row) == 0 {
				end++
			}
			t.mergeRows(how, row, end, to)
			row, to = end, to+1
		}
		groups[i].Start, groups[i].End = start, to
	}
	t.Cleaning.Duplicates = len(t.times.at) - to
	t.truncate(to)
}

// mergeRows writes one row made of the rows [row, end) to row to, which is none
// behind them.
func (t *Table) mergeRows(how string, row, end, to int) {
	by := map[string]string{KeepFirst: "first", KeepLast: "last", TakeMean: "mean"}[how]
	aggregateRows(t.X, len(t.Features), by, row, end, to)
	aggregateRows(t.Y, len(t.Targets), by, row, end, to)
	if t.Weights != nil {
		aggregateRows(t.Weights, 1, by, row, end, to)
	}
	t.times.at[to] = t.times.at[row]
}

// aggregates are the values of Options.ResampleBy.
var aggregates = []string{"mean", "min", "max", "first", "last", "sum"}

// aggregateRows makes rows [row, end) of the matrix v of n columns one, row to.
// Missing values do not count; where there is nothing else the result is missing.
func aggregateRows(v []float32, n int, by string, row, end, to int) {
	if end-row == 1 {
		copy(v[to*n:][:n], v[row*n:][:n])
		return
	}
	for f := range n {
		a := aggregate{by: by}
		for r := row; r < end; r++ {
			a.add(v[r*n+f])
		}
		v[to*n+f] = a.value()
	}
}

// An aggregate is made of values.
type aggregate struct {
	by    string
	n     int
	one   float32
	total float64
}

func (a *aggregate) add(v float32) {
	if v != v {
		return
	}
	a.total += float64(v)
	if a.n++; a.n == 1 || a.by == "last" || a.by == "min" && v < a.one || a.by == "max" && v > a.one {
		a.one = v
	}
}

func (a *aggregate) value() float32 {
	switch {
	case a.n == 0:
		return nan32
	case a.by == "sum":
		return float32(a.total)
	case a.by == "mean" || a.by == "":
		return float32(a.total / float64(a.n))
	}
	return a.one
}

// truncate leaves n rows.
func (t *Table) truncate(n int) {
	t.X, t.Y = t.X[:n*len(t.Features)], t.Y[:n*len(t.Targets)]
	if t.Weights != nil {
		t.Weights = t.Weights[:n]
	}
	if t.unknown != nil {
		t.unknown = t.unknown[:n]
	}
	if t.times.kind != noTime {
		t.times.at = t.times.at[:n]
	}
}

// findGaps counts the gaps, and breaks the rows at those longer than maxGap,
// unless it is empty.
func (t *Table) findGaps(maxGap string) error {
	if t.times.kind == noTime {
		if maxGap != "" {
			_, err := t.times.tick("max_gap", maxGap)
			return err
		}
		return nil
	}
	c := &t.Cleaning
	period, regular := t.period()
	if regular {
		c.Period = t.times.span(period)
	}
	longest := tick{period.whole + period.whole/2, period.decimal * 1.5}
	if maxGap != "" {
		var err error
		if longest, err = t.times.tick("max_gap", maxGap); err != nil {
			return err
		}
		c.split = true
	} else if !regular {
		return nil
	}
	var worst tick
	for _, g := range t.Groups {
		for row := g.Start + 1; row < g.End; row++ {
			d := t.times.apart(row, row-1)
			if !d.longer(longest) {
				continue
			}
			c.Gaps++
			if d.longer(worst) {
				worst = d
			}
			if c.split {
				t.breaks = append(t.breaks, row)
			}
		}
	}
	if c.Gaps > 0 {
		c.LongestGap = t.times.span(worst)
	}
	return nil
}

// period returns the time between two rows that most have, and whether 9 in 10 do.
func (t *Table) period() (p tick, regular bool) {
	// Boyer and Moore's majority vote: what more than half of them have wins.
	votes, n := 0, 0
	each := func(f func(tick)) {
		for _, g := range t.Groups {
			for row := g.Start + 1; row < g.End; row++ {
				f(t.times.apart(row, row-1))
			}
		}
	}
	each(func(d tick) {
		switch n++; {
		case votes == 0:
			p, votes = d, 1
		case d == p:
			votes++
		default:
			votes--
		}
	})
	same := 0
	each(func(d tick) {
		if d == p {
			same++
		}
	})
	return p, n > 0 && 10*same >= 9*n && p.longer(tick{})
}

// segments calls f with each run of rows of g that belong together.
func (t *Table) segments(g Group, f func(start, end int)) {
	i, _ := slices.BinarySearch(t.breaks, g.Start+1)
	start := g.Start
	for ; i < len(t.breaks) && t.breaks[i] < g.End; i++ {
		f(start, t.breaks[i])
		start = t.breaks[i]
	}
	if start < g.End {
		f(start, g.End)
	}
}

// maxStretch is how many times as many rows resampling may make.
const maxStretch = 1000

// resample makes rows that are all as far apart as the option says, and reports
// whether one of them has a missing value.
func (t *Table) resample(r *rules) (missing bool, err error) {
	step, err := t.times.tick("resample", r.Resample)
	if err != nil {
		return false, err
	}
	if t.times.kind == decimalTime {
		for row := range t.Rows() {
			if math.Abs(t.times.float(row)) > 1<<53*step.decimal {
				return false, fmt.Errorf("%w: resample %s: the steps are too short for times such as %s", ErrOptions, r.Resample, t.times.format(row))
			}
		}
	}
	type bins struct {
		start, end  int // rows
		first, last int64
	}
	var all []bins
	// Two rows far apart are not to fill the memory.
	rows, limit := int64(0), min(maxStretch*int64(t.Rows()), int64(MaxValues/(len(t.Features)+len(t.Targets)+4)))
	out := &Table{Features: t.Features, Targets: t.Targets, Skipped: t.Skipped, Cleaning: t.Cleaning, times: t.times}
	for _, g := range t.Groups {
		from := rows
		t.segments(g, func(start, end int) {
			b := bins{start, end, t.times.bin(start, step), t.times.bin(end-1, step)}
			if n := len(all); start > g.Start && n > 0 && all[n-1].last >= b.first {
				b.first = all[n-1].last + 1 // a gap shorter than a bin: its row belongs to what came before
			}
			if b.first > b.last {
				all[len(all)-1].end = end
				return
			}
			if start > g.Start {
				out.breaks = append(out.breaks, int(rows))
			}
			all = append(all, b)
			n := b.last - b.first + 1
			if n <= 0 || n > limit { // or more than int64 holds
				n = limit + 1
			}
			rows = min(rows+n, limit+1)
		})
		if rows > limit {
			return false, fmt.Errorf("%w: resample %s makes more than %d rows of %d; take longer steps, or keep gaps apart with max_gap", ErrTooLarge, r.Resample, limit, t.Rows())
		}
		out.Groups = append(out.Groups, Group{Name: g.Name, Start: int(from), End: int(rows), Part: g.Part})
	}
	nx, ny := len(t.Features), len(t.Targets)
	out.X, out.Y, out.times.at = make([]float32, int(rows)*nx), make([]float32, int(rows)*ny), make([]int64, rows)
	if t.Weights != nil {
		out.Weights = make([]float32, rows)
	}
	to, empty := 0, 0
	one := make([]float32, nx+ny)
	for _, b := range all {
		row := b.start
		for bin := b.first; to < int(rows); bin++ {
			end := row
			for end < b.end && (t.times.bin(end, step) <= bin || bin == b.last) {
				end++
			}
			if end == row {
				empty++
			}
			t.aggregate(r.ResampleBy, row, end, one)
			copy(out.X[to*nx:][:nx], one)
			copy(out.Y[to*ny:][:ny], one[nx:])
			missing = missing || slices.ContainsFunc(one, func(v float32) bool { return v != v })
			if t.Weights != nil {
				out.Weights[to] = t.meanWeight(row, end)
			}
			out.times.at[to] = t.times.begin(bin, step)
			row, to = end, to+1
			if bin == b.last {
				break
			}
		}
	}
	out.Cleaning.Resampled, out.Cleaning.Empty = int(rows), empty
	*t = *out
	return missing, nil
}

// aggregate writes the features and the targets of one row made of rows [row, end).
func (t *Table) aggregate(by string, row, end int, dst []float32) {
	nx, ny := len(t.Features), len(t.Targets)
	for f := range nx + ny {
		a := aggregate{by: by}
		for r := row; r < end; r++ {
			if f < nx {
				a.add(t.X[r*nx+f])
			} else {
				a.add(t.Y[r*ny+f-nx])
			}
		}
		dst[f] = a.value()
	}
}

// meanWeight is the mean weight of rows [row, end), or that of the row before if
// there are none.
func (t *Table) meanWeight(row, end int) float32 {
	if row == end {
		return t.Weights[row-1]
	}
	a := aggregate{by: "mean"}
	for ; row < end; row++ {
		a.add(t.Weights[row])
	}
	return a.value()
}

// fill does with missing values what the options say.
func (t *Table) fill(r *rules) error {
	n := len(t.Features)
	if r.Missing != DropRows && r.Missing != FillZero {
		for f, name := range t.Features {
			if err := t.someValue(t.X, n, f, name); err != nil {
				return err
			}
		}
	}
	for f, name := range t.Features {
		count := Filled{Column: name}
		for _, g := range t.Groups {
			t.segments(g, func(start, end int) {
				s := series{t.X, n, f, start, end}
				switch r.Missing {
				case FillZero:
					count.Zero += s.zero()
				case Interpolate:
					count.Interpolated += s.interpolate(&t.times, r.FillLimit)
					s.carry(&count, r.FillLimit)
				case DropRows:
				default:
					s.carry(&count, r.FillLimit)
				}
			})
		}
		if count.Forward+count.Backward+count.Interpolated+count.Zero > 0 {
			t.Cleaning.Filled = append(t.Cleaning.Filled, count)
		}
	}
	if err := t.fillTargets(r); err != nil {
		return err
	}
	t.dropIncomplete(r.Missing == DropRows)
	return nil
}

// someValue returns an error if a column has none in some group.
func (t *Table) someValue(v []float32, n, f int, name string) error {
	for _, g := range t.Groups {
		row := g.Start
		for row < g.End && v[row*n+f] != v[row*n+f] {
			row++
		}
		if row < g.End {
			continue
		}
		return fmt.Errorf("column %q: %w: every value is missing%s; leave the column or the group out", name, ErrMalformed, inGroup(g))
	}
	return nil
}

// fillTargets makes the targets finite, remembering which nobody measured. Those
// are what was measured last, for the baselines that repeat it.
func (t *Table) fillTargets(r *rules) error {
	n := len(t.Targets)
	for f, name := range t.Targets {
		for _, g := range t.Groups {
			s := series{t.Y, n, f, g.Start, g.End}
			switch r.Missing {
			case DropRows:
				continue
			case FillZero:
				s.zero()
				continue
			}
			for row := g.Start; row < g.End; row++ {
				if v := t.Y[row*n+f]; v != v {
					if t.unknown == nil {
						t.unknown = make([]bool, t.Rows())
					}
					t.unknown[row] = true
				}
			}
			s.carry(&Filled{}, 0)
		}
		if r.Missing != DropRows && r.Missing != FillZero {
			if err := t.someValue(t.Y, n, f, name); err != nil {
				return err
			}
		}
	}
	for _, u := range t.unknown {
		if u {
			t.Cleaning.NoTarget++
		}
	}
	return nil
}

// dropIncomplete leaves out rows that still have a missing value; the rows around
// one are no neighbours.
func (t *Table) dropIncomplete(targets bool) {
	nx, ny := len(t.Features), len(t.Targets)
	incomplete := func(row int) bool {
		bad := slices.ContainsFunc(t.X[row*nx:][:nx], func(v float32) bool { return v != v })
		return bad || targets && slices.ContainsFunc(t.Y[row*ny:][:ny], func(v float32) bool { return v != v })
	}
	var breaks []int
	var groups []Group
	to, next := 0, 0 // next of t.breaks
	for _, g := range t.Groups {
		start, broken := to, false
		for row := g.Start; row < g.End; row++ {
			if next < len(t.breaks) && t.breaks[next] == row {
				next, broken = next+1, true
			}
			if incomplete(row) {
				broken = true
				continue
			}
			if broken && to > start {
				breaks = append(breaks, to)
			}
			broken = false
			t.move(row, to)
			to++
		}
		if to > start {
			groups = append(groups, Group{Name: g.Name, Start: start, End: to, Part: g.Part})
		}
	}
	t.Cleaning.Dropped = t.Rows() - to
	t.truncate(to)
	t.Groups, t.breaks = groups, breaks
}

// A series is rows [start, end) of column f of a row-major matrix of n columns.
type series struct {
	v          []float32
	n, f       int
	start, end int
}

func (s series) at(row int) *float32 { return &s.v[row*s.n+s.f] }

func (s series) isMissing(row int) bool { v := *s.at(row); return v != v }

// zero makes missing values 0 and returns how many.
func (s series) zero() (n int) {
	for row := s.start; row < s.end; row++ {
		if s.isMissing(row) {
			*s.at(row) = 0
			n++
		}
	}
	return n
}

// carry carries values forward over missing ones, and the first one back over
// those before it, at most limit rows far unless that is 0.
func (s series) carry(count *Filled, limit int) {
	first := s.start
	for first < s.end && s.isMissing(first) {
		first++
	}
	if first == s.end {
		return
	}
	for row := first - 1; row >= s.start && (limit == 0 || first-row <= limit); row-- {
		*s.at(row) = *s.at(first)
		count.Backward++
	}
	last := first // the last one measured
	for row := first + 1; row < s.end; row++ {
		switch {
		case !s.isMissing(row):
			last = row
		case limit == 0 || row-last <= limit:
			*s.at(row) = *s.at(last)
			count.Forward++
		}
	}
}

// interpolate puts missing values between two others on the line between them, in
// time where there is one, and returns how many. Runs longer than limit rows are
// left, unless it is 0.
func (s series) interpolate(times *timeColumn, limit int) (n int) {
	when := func(row int) float64 {
		if times.kind == noTime {
			return float64(row)
		}
		return times.float(row)
	}
	last := -1
	for row := s.start; row < s.end; row++ {
		if s.isMissing(row) {
			continue
		}
		if gap := row - last - 1; last >= 0 && gap > 0 && (limit == 0 || gap <= limit) {
			a, b := float64(*s.at(last)), float64(*s.at(row))
			for k := last + 1; k < row; k++ {
				part := (when(k) - when(last)) / (when(row) - when(last))
				*s.at(k) = float32(a + (b-a)*part)
				n++
			}
		}
		last = row
	}
	return n
}

// WithoutOutliers returns a table whose rows of p have no outliers, the others
// being those of t: values further than z robust standard deviations from the
// median, both of the rows of p. 1.4826 times the median of the distances from the
// median is the standard deviation of normal values (Iglewicz and Hoaglin 1993); a
// column in which more than half of the values are one has none. A feature that is
// an outlier is as its group had it before, or as the median where there is
// nothing before; a target is one that nobody measured.
func (t *Table) WithoutOutliers(p Part, z float64) *Table {
	out := *t
	out.X, out.unknown = slices.Clone(t.X), slices.Clone(t.unknown)
	if out.unknown == nil {
		out.unknown = make([]bool, t.Rows())
	}
	out.Cleaning.Outliers = nil
	count := map[string]int{}
	for f, name := range t.Features {
		median, limit := robust(t.X, len(t.Features), f, p, z)
		for _, s := range p {
			before := float32(median)
			for row := s.Start; row < s.End; row++ {
				v := out.X[row*len(t.Features)+f]
				if math.Abs(float64(v)-median) <= limit {
					before = v
					continue
				}
				out.X[row*len(t.Features)+f] = before
				count[name]++
			}
		}
	}
	for f, name := range t.Targets {
		median, limit := robust(t.Y, len(t.Targets), f, p, z)
		n := 0
		for _, s := range p {
			for row := s.Start; row < s.End; row++ {
				if math.Abs(float64(t.Y[row*len(t.Targets)+f])-median) > limit {
					out.unknown[row] = true
					n++
				}
			}
		}
		count[name] = max(count[name], n)
	}
	for _, name := range slices.Concat(t.Features, t.Targets) {
		if n := count[name]; n > 0 {
			out.Cleaning.Outliers = append(out.Cleaning.Outliers, Count{name, n})
			delete(count, name)
		}
	}
	return &out
}

// robust returns the median of a column over the rows of p, and how far from it a
// value is no outlier.
func robust(v []float32, n, f int, p Part, z float64) (median, limit float64) {
	var column []float32
	for _, s := range p {
		for row := s.Start; row < s.End; row++ {
			column = append(column, v[row*n+f])
		}
	}
	if len(column) == 0 {
		return 0, math.Inf(1)
	}
	slices.Sort(column)
	m := column[len(column)/2]
	for i, x := range column {
		column[i] = float32(math.Abs(float64(x) - float64(m)))
	}
	slices.SortFunc(column, cmp.Compare)
	if mad := float64(column[len(column)/2]); mad > 0 {
		return float64(m), z * 1.4826 * mad
	}
	return float64(m), math.Inf(1)
}

// Without returns the table without the features at the given indices.
func (t *Table) Without(features []int) *Table {
	out := *t
	n, kept := len(t.Features), []int{}
	out.Features = nil
	for f, name := range t.Features {
		if slices.Contains(features, f) {
			out.Cleaning.Constant = append(slices.Clip(out.Cleaning.Constant), name)
			continue
		}
		kept = append(kept, f)
		out.Features = append(out.Features, name)
	}
	out.X = make([]float32, 0, t.Rows()*len(kept))
	for row := range t.Rows() {
		for _, f := range kept {
			out.X = append(out.X, t.X[row*n+f])
		}
	}
	return &out
}
