package dataset

import (
	"fmt"
	"slices"
	"time"
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
	if c := t.times; c.other != nil {
		at := time.Unix(0, c.at[0])
		t.Cleaning.note("times are of several zones, such as %s and %s: rows are ordered by the moment, and shown at %[1]s", at.In(c.zone).Format("-07:00"), at.In(c.other).Format("-07:00"))
	}
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
	nx := len(t.Features)
	aggregateRows(t.X, nx, by, row, end, to)
	for f := range nx {
		if by == "mean" && t.IsText(f) { // the last one; to is none of the rows but the first
			t.X[to*nx+f] = t.X[(end-1)*nx+f]
		}
	}
	aggregateRows(t.Y, len(t.Targets), by, row, end, to)
	if t.Weights != nil {
		aggregateRows(t.Weights, 1, by, row, end, to)
	}
	if t.Labels != nil {
		from := end - 1
		if how == KeepFirst {
			from = row
		}
		t.Labels.Of[to] = t.Labels.Of[from]
	}
	t.times.at[to] = t.times.at[row]
}

// truncate leaves n rows.
func (t *Table) truncate(n int) {
	t.X, t.Y = t.X[:n*len(t.Features)], t.Y[:n*len(t.Targets)]
	if t.Weights != nil {
		t.Weights = t.Weights[:n]
	}
	if t.Labels != nil {
		t.Labels.Of = t.Labels.Of[:n]
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
