package chart

import (
	"fmt"
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

type paint = color.NRGBA

// Values are what came and what a model said of one target, as many, in the order of
// the windows, each of Steps values.
type Values struct {
	Name              string // with its unit
	Steps             int    // 0 means 1
	Actual, Predicted []float64
}

// maxPoints is how many points a panel draws, and maxSteps how many windows in a row.
const maxPoints, maxSteps = 2000, 300

// Predicted draws, a row for each target, what came and what the model said: one after
// the other, the first step of each of the last maxSteps windows, and one against the
// other, every step.
func Predicted(targets []Values) (*Chart, error) {
	c := &Chart{}
	for _, v := range targets {
		over, err := overlay(v)
		if err != nil {
			return nil, err
		}
		against := panel("predicted against actual: "+v.Name, "actual", "predicted")
		lo, hi := bounds(v.Actual, v.Predicted)
		if err := addPoints(against, v.Actual, v.Predicted); err != nil {
			return nil, err
		}
		if err := addDashed(against, plotter.XYs{{X: lo, Y: lo}, {X: hi, Y: hi}}); err != nil {
			return nil, err
		}
		against.X.Min, against.X.Max, against.Y.Min, against.Y.Max = lo, hi, lo, hi
		c.rows = append(c.rows, []*plot.Plot{over, against})
	}
	return c, nil
}

// overlay draws the last windows in their order.
func overlay(v Values) (*plot.Plot, error) {
	steps := max(v.Steps, 1)
	windows := len(v.Actual) / steps
	p := panel(v.Name, "window", "")
	for _, s := range []struct {
		name   string
		values []float64
		color  paint
	}{{"actual", v.Actual, blue}, {"predicted", v.Predicted, orange}} {
		xy := make(plotter.XYs, 0, maxSteps)
		for i := max(windows-maxSteps, 0); i < windows; i++ {
			xy = append(xy, plotter.XY{X: float64(i + 1), Y: s.values[i*steps]})
		}
		line, err := plotter.NewLine(xy)
		if err != nil {
			return nil, fmt.Errorf("chart of %s: %w", v.Name, err)
		}
		line.Color, line.Width = s.color, vg.Points(1.2)
		p.Add(line)
		p.Legend.Add(s.name, line)
	}
	roomForLegend(p, 2)
	return p, nil
}

// roomForLegend makes the value axis longer, so that a legend of so many lines covers
// nothing.
func roomForLegend(p *plot.Plot, lines float64) {
	p.Y.Max += 0.13 * lines * (p.Y.Max - p.Y.Min)
}

// Residuals draws, a row for each target, how far the model was off: how often, and
// for which actual value.
func Residuals(targets []Values) (*Chart, error) {
	c := &Chart{}
	for _, v := range targets {
		off := make([]float64, len(v.Actual))
		for i, a := range v.Actual {
			off[i] = v.Predicted[i] - a
		}
		often := panel("predicted − actual: "+v.Name, "residual", "values")
		h, err := plotter.NewHist(plotter.Values(off), 31)
		if err != nil {
			return nil, fmt.Errorf("chart of the residuals of %s: %w", v.Name, err)
		}
		h.FillColor, h.LineStyle.Color, h.LineStyle.Width = faint(blue), blue, vg.Points(0.5)
		often.Add(h)
		against := panel("residual against actual: "+v.Name, "actual", "residual")
		if err := addPoints(against, v.Actual, off); err != nil {
			return nil, err
		}
		lo, hi := bounds(v.Actual)
		if err := addDashed(against, plotter.XYs{{X: lo}, {X: hi}}); err != nil {
			return nil, err
		}
		c.rows = append(c.rows, []*plot.Plot{often, against})
	}
	return c, nil
}

// addPoints adds a point for each pair, of more than maxPoints so many of them: every
// one would hide how dense they are. Multiples of the golden ratio spread evenly over
// the pairs, and in step with no season.
func addPoints(p *plot.Plot, x, y []float64) error {
	n := min(len(x), maxPoints)
	xy := make(plotter.XYs, n)
	for k := range xy {
		i := k
		if n < len(x) {
			i = int(math.Mod(float64(k)*math.Phi, 1) * float64(len(x)))
		}
		xy[k] = plotter.XY{X: x[i], Y: y[i]}
	}
	s, err := plotter.NewScatter(xy)
	if err != nil {
		return fmt.Errorf("chart %q: %w", p.Title.Text, err)
	}
	dot := blue
	dot.A = 0x90
	s.GlyphStyle = draw.GlyphStyle{Color: dot, Radius: 1.3, Shape: draw.CircleGlyph{}}
	p.Add(s)
	return nil
}

func addDashed(p *plot.Plot, xy plotter.XYs) error {
	line, err := plotter.NewLine(xy)
	if err != nil {
		return fmt.Errorf("chart %q: %w", p.Title.Text, err)
	}
	line.Color, line.Width, line.Dashes = ink, vg.Points(1), []vg.Length{4, 3}
	p.Add(line)
	return nil
}

// bounds are the smallest and the largest value, apart.
func bounds(lists ...[]float64) (lo, hi float64) {
	lo, hi = math.Inf(1), math.Inf(-1)
	for _, l := range lists {
		if len(l) > 0 {
			lo, hi = min(lo, slices.Min(l)), max(hi, slices.Max(l))
		}
	}
	if !(lo < hi) {
		return lo - 1, lo + 1
	}
	return lo, hi
}
