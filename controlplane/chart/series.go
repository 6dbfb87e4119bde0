package chart

import (
	"fmt"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// buckets is how many pieces a long series is drawn in: of each its smallest and its
// largest value.
const buckets = 700

// A Series is one column over its rows.
type Series struct {
	Name   string
	Values []float64 // NaN leaves a gap
}

// Columns draws series of the same rows one below the other. label names a row, and
// starts are the first rows of groups.
func Columns(list []Series, starts []int, label func(row int) string) (*Chart, error) {
	var panels []*plot.Plot
	for i, s := range list {
		p := panel(s.Name, "", "")
		if err := addSeries(p, s.Values, blue); err != nil {
			return nil, fmt.Errorf("chart of %s: %w", s.Name, err)
		}
		rowAxis(p, len(s.Values), starts, label, i+1 == len(list))
		panels = append(panels, p)
	}
	c := grid(panels, 1)
	c.flat, c.named = true, true
	return c, nil
}

// addSeries adds a line, broken where values are missing.
func addSeries(p *plot.Plot, values []float64, c paint) error {
	var run plotter.XYs
	flush := func() error {
		if len(run) == 1 { // or nothing would be seen
			run = append(run, plotter.XY{X: run[0].X + 0.5, Y: run[0].Y})
		}
		if len(run) > 0 {
			line, err := plotter.NewLine(run)
			if err != nil {
				return err
			}
			line.Color, line.Width = c, vg.Points(1)
			p.Add(line)
		}
		run = nil
		return nil
	}
	size := max(len(values)/buckets, 1)
	for from := 0; from < len(values); from += size {
		lo, hi, at := math.Inf(1), math.Inf(-1), 0.0
		for i := from; i < min(from+size, len(values)); i++ {
			if v := values[i]; v == v {
				lo, hi, at = min(lo, v), max(hi, v), float64(i)
			}
		}
		if lo > hi { // all are missing
			if err := flush(); err != nil {
				return err
			}
			continue
		}
		run = append(run, plotter.XY{X: at, Y: lo})
		if hi > lo {
			run = append(run, plotter.XY{X: at, Y: hi})
		}
	}
	return flush()
}

// rowAxis gives p an axis of n rows, with their names if it is the lowest, and a
// line before each group but the first unless there are too many.
func rowAxis(p *plot.Plot, n int, starts []int, label func(row int) string, lowest bool) {
	const names, lines = 4, 40
	var ticks []plot.Tick
	for i := range names {
		row := i * (n - 1) / max(names-1, 1)
		t := plot.Tick{Value: float64(row)}
		if lowest {
			t.Label = label(row)
		}
		ticks = append(ticks, t)
	}
	p.X.Tick.Marker = plot.ConstantTicks(ticks)
	p.X.Min, p.X.Max = 0, float64(max(n-1, 1))
	if len(starts) > lines {
		return
	}
	for _, row := range starts {
		if row > 0 {
			p.Add(&edge{row: float64(row), style: draw.LineStyle{Color: faint(ink), Width: vg.Points(1), Dashes: []vg.Length{2, 2}}})
		}
	}
}

// An edge is a line from the bottom of a plot to its top.
type edge struct {
	row   float64
	style draw.LineStyle
}

// Plot implements plot.Plotter.
func (e *edge) Plot(c draw.Canvas, p *plot.Plot) {
	x, _ := p.Transforms(&c)
	c.StrokeLine2(e.style, x(e.row), c.Min.Y, x(e.row), c.Max.Y)
}

// A Timeline is what a detector said of rows in their order.
type Timeline struct {
	Name      string
	Scores    []float64
	Threshold float64
	Alarms    []bool // rows that the detector reports
	Anomalies []bool // rows that were one; nil where nobody knows
	Label     func(row int) string
}

// Anomalies draws timelines one below the other: the score and its threshold over
// what were anomalies, and the alarms along the lower edge.
func Anomalies(list []Timeline) (*Chart, error) {
	var panels []*plot.Plot
	for _, t := range list {
		p := panel(t.Name, "", "score")
		lo, hi := bounds(t.Scores, []float64{t.Threshold, 0})
		p.Y.Min, p.Y.Max = lo, hi
		roomForLegend(p, 4)
		for _, span := range spans(t.Anomalies) {
			box, err := plotter.NewPolygon(plotter.XYs{{X: span[0], Y: lo}, {X: span[1], Y: lo}, {X: span[1], Y: hi}, {X: span[0], Y: hi}})
			if err != nil {
				return nil, fmt.Errorf("chart of %s: %w", t.Name, err)
			}
			box.Color, box.LineStyle.Width = faint(red), 0
			p.Add(box)
		}
		if err := addSeries(p, t.Scores, blue); err != nil {
			return nil, fmt.Errorf("chart of %s: %w", t.Name, err)
		}
		last := float64(len(t.Scores))
		if err := addDashed(p, plotter.XYs{{Y: t.Threshold}, {X: last, Y: t.Threshold}}); err != nil {
			return nil, err
		}
		for _, span := range spans(t.Alarms) {
			line, err := plotter.NewLine(plotter.XYs{{X: span[0], Y: lo}, {X: span[1], Y: lo}})
			if err != nil {
				return nil, fmt.Errorf("chart of %s: %w", t.Name, err)
			}
			line.Color, line.Width = orange, vg.Points(5)
			p.Add(line)
		}
		p.Legend.Add("score", sample{draw.LineStyle{Color: blue, Width: vg.Points(1)}})
		p.Legend.Add("threshold", sample{draw.LineStyle{Color: ink, Width: vg.Points(1), Dashes: []vg.Length{4, 3}}})
		p.Legend.Add("alarm", sample{draw.LineStyle{Color: orange, Width: vg.Points(5)}})
		if t.Anomalies != nil {
			p.Legend.Add("anomaly", sample{draw.LineStyle{Color: faint(red), Width: vg.Points(8)}})
		}
		label := t.Label
		if label == nil {
			label = func(row int) string { return fmt.Sprint(row + 1) }
		}
		rowAxis(p, len(t.Scores), nil, label, true)
		panels = append(panels, p)
	}
	c := grid(panels, 1)
	c.named = true
	return c, nil
}

// spans are the runs of true as [first row, row behind the last].
func spans(rows []bool) (list [][2]float64) {
	for i, v := range rows {
		switch {
		case !v:
		case i > 0 && rows[i-1]:
			list[len(list)-1][1] = float64(i + 1)
		default:
			list = append(list, [2]float64{float64(i), float64(i + 1)})
		}
	}
	return list
}

// A sample is a line in a legend.
type sample struct{ draw.LineStyle }

// Thumbnail implements plot.Thumbnailer.
func (s sample) Thumbnail(c *draw.Canvas) {
	y := c.Center().Y
	c.StrokeLine2(s.LineStyle, c.Min.X, y, c.Max.X, y)
}
