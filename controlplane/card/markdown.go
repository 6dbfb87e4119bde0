package card

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/controlplane/train"
)

// Markdown is the card for people. The same card gives the same bytes.
func (c *Card) Markdown() string {
	p := &page{}
	p.line("# Model card: %s", c.Ref)
	if e := c.Evaluation; e != nil && e.Verdict != nil {
		p.line("**Verdict**: %s.", escape(e.Verdict.Text))
	}
	c.use(p)
	p.line("## The version")
	rows := [][]string{
		{"task", c.Task}, {"digest", "`" + c.Digest.String() + "`"}, {"created", c.Created.UTC().Format("2006-01-02 15:04:05 UTC")},
		{"signed", yesNo(c.Signed)},
	}
	if c.Layers != "" {
		rows = append(rows, []string{"layers", c.Layers})
	}
	rows = append(rows, []string{"bytes to ship", strconv.Itoa(c.Bytes)})
	if c.Smallest > 0 && c.Smallest < c.Bytes {
		rows = append(rows, []string{"smallest update", strconv.Itoa(c.Smallest)})
	}
	if c.Parent != nil {
		rows = append(rows, []string{"went on from", "`" + c.Parent.String() + "`"})
	}
	if c.Forced != "" {
		rows = append(rows, []string{"added past the check of int8 by", c.Forced})
	}
	p.table([]string{"", ""}, rows)
	c.data(p)
	c.evaluation(p)
	if len(c.Warnings) > 0 {
		p.line("## Warnings of the training")
		for _, w := range c.Warnings {
			p.item(w)
		}
	}
	return p.b.String()
}

func (c *Card) use(p *page) {
	p.line("## Use")
	if c.Use == (train.Use{}) {
		p.line("Nobody said what it is for.")
		return
	}
	for _, f := range []struct{ name, text string }{
		{"Intended", c.Use.Intended}, {"Limits", c.Use.Limits}, {"Contact", c.Use.Contact},
	} {
		if f.text != "" {
			p.item(f.name + ": " + f.text)
		}
	}
}

func (c *Card) data(p *page) {
	d := c.Data
	if d == nil {
		p.line("It came without the report of its training.")
		return
	}
	p.line("## Data and training")
	rows := [][]string{
		{"data, SHA-256", "`" + d.Digest + "`"}, {"reads", strings.Join(d.Features, ", ")}, {"predicts", strings.Join(d.Targets, ", ")},
		{"window", fmt.Sprintf("%d rows, state %s", d.Window, d.State)},
	}
	if d.Horizon > 0 {
		rows = append(rows, []string{"rows ahead", strconv.Itoa(d.Horizon)})
	}
	switch {
	case d.Split != nil:
		rows = append(rows, []string{"training, validation, test", splitWords(*d.Split)})
	case d.Validation > 0:
		rows = append(rows, []string{"held out", fmt.Sprintf("%g %% of the groups, whole", 100*d.Validation)})
	}
	if t := c.Training; t != nil {
		rows = append(rows,
			[]string{"windows", fmt.Sprintf("%d of training, %d of validation", t.Windows, t.Validation)},
			[]string{"parameters", strconv.Itoa(t.Parameters)},
			[]string{"epochs", fmt.Sprintf("%d, the best was %d; seed %d", t.Epochs, t.BestEpoch, t.Seed)})
	}
	p.table([]string{"", ""}, rows)
}

func splitWords(s dataset.Split) string {
	parts := make([]string, 3)
	for i := range parts {
		parts[i] = strconv.Itoa(s.Rows[i])
		if s.Rows == [3]int{} {
			parts[i] = strconv.FormatFloat(s.Fractions[i], 'g', 3, 64)
		} else if s.Rows[i] == dataset.Rest {
			parts[i] = "the rest"
		}
	}
	text := strings.Join(parts, ", ")
	if s.By != "" {
		text += " by " + s.By
	}
	if s.Gap > 0 {
		text += fmt.Sprintf(", a gap of %d rows between", s.Gap)
	}
	return text
}

func (c *Card) evaluation(p *page) {
	e := c.Evaluation
	if e == nil {
		return
	}
	p.line("## Figures")
	p.line("Of %d windows (%s rows); 95 %% intervals are those of the int8 model, which is what ships.", e.Items, e.Rows)
	head := []string{"", "int8", "95 %", "float32"}
	baselines := slices.Sorted(maps.Keys(e.Baselines))
	for _, b := range baselines {
		head = append(head, strings.ReplaceAll(b, "_", "-"))
	}
	var rows [][]string
	for _, m := range slices.Sorted(maps.Keys(e.Metrics.Int8)) {
		row := []string{m, figure(e.Metrics.Int8, m), "", figure(e.Metrics.Float32, m)}
		if i, ok := e.Intervals[m]; ok {
			row[2] = fmt.Sprintf("%.4g to %.4g", float64(i[0]), float64(i[1]))
		}
		for _, b := range baselines {
			row = append(row, figure(e.Baselines[b], m))
		}
		rows = append(rows, row)
	}
	p.table(head, rows)
	if len(c.ByTarget) == 0 || e.Verdict == nil {
		return
	}
	metric := e.Verdict.Metric
	head = append([]string{metric + " of", "int8", "float32"}, head[4:]...)
	rows = nil
	for _, t := range c.ByTarget {
		row := []string{t.Target, figure(t.Metrics.Int8, metric), figure(t.Metrics.Float32, metric)}
		for _, b := range baselines {
			row = append(row, figure(t.Baselines[b], metric))
		}
		rows = append(rows, row)
	}
	p.table(head, rows)
}

// figure is a figure with four digits, or a dash.
func figure(m train.Metrics, name string) string {
	if v, ok := m[name]; ok {
		return strconv.FormatFloat(v, 'g', 4, 64)
	}
	return "–"
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// A page is Markdown under construction.
type page struct{ b strings.Builder }

// line adds a paragraph or a heading.
func (p *page) line(format string, args ...any) {
	if p.b.Len() > 0 {
		p.b.WriteByte('\n')
	}
	fmt.Fprintf(&p.b, format+"\n", args...)
}

// item adds to a list, whose first one leaves a line free.
func (p *page) item(text string) {
	if s := p.b.String(); !strings.HasPrefix(s[strings.LastIndexByte(s[:len(s)-1], '\n')+1:], "- ") {
		p.b.WriteByte('\n')
	}
	p.b.WriteString("- " + escape(text) + "\n")
}

func (p *page) table(head []string, rows [][]string) {
	p.b.WriteByte('\n')
	p.row(head)
	p.row(slices.Repeat([]string{"---"}, len(head)))
	for _, r := range rows {
		p.row(r)
	}
}

func (p *page) row(cells []string) {
	for _, c := range cells {
		p.b.WriteString("| " + escape(c) + " ")
	}
	p.b.WriteString("|\n")
}

// escaped are what text from outside could break the page with: a new line, a
// cell's border, a tag.
var escaped = strings.NewReplacer("\r", "", "\n", " ", "|", `\|`, "<", "&lt;")

func escape(s string) string { return escaped.Replace(s) }
