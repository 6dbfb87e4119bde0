package chart

import (
	"fmt"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// A Curve is a figure of each epoch, from the first.
type Curve struct {
	Name   string
	Values []float64
}

// wide is how many times the smallest value the largest is where an axis is
// logarithmic.
const wide = 20

// Learning draws the losses of a training over its epochs, and below it the learning
// rate. best is the epoch whose weights were kept, from 1, 0 for none.
func Learning(title string, losses []Curve, rate []float64, best int) (*Chart, error) {
	p := panel(title, "", "loss")
	lo, hi := 0.0, 0.0
	for i, c := range losses {
		for _, v := range c.Values {
			if lo == 0 || v < lo {
				lo = v
			}
			hi = max(hi, v)
		}
		line, err := plotter.NewLine(points(c.Values))
		if err != nil {
			return nil, fmt.Errorf("chart of %s: %w", c.Name, err)
		}
		line.Color, line.Width = []paint{blue, orange}[i%2], vg.Points(1.5)
		p.Add(line)
		p.Legend.Add(c.Name, line)
		if best > 0 && best <= len(c.Values) && i == len(losses)-1 {
			mark, err := plotter.NewScatter(plotter.XYs{{X: float64(best), Y: c.Values[best-1]}})
			if err != nil {
				return nil, fmt.Errorf("chart of %s: %w", c.Name, err)
			}
			mark.GlyphStyle = draw.GlyphStyle{Color: green, Radius: 3.5, Shape: draw.CircleGlyph{}}
			p.Add(mark)
			p.Legend.Add(fmt.Sprintf("kept: epoch %d", best), mark)
		}
	}
	if lo > 0 && hi > wide*lo {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	}
	r := panel("", "epoch", "learning rate")
	line, err := plotter.NewLine(points(rate))
	if err != nil {
		return nil, fmt.Errorf("chart of the learning rate: %w", err)
	}
	line.Color, line.Width = blue, vg.Points(1.5)
	r.Add(line)
	r.Y.Min = 0
	for _, q := range []*plot.Plot{p, r} {
		q.X.Min, q.X.Max = 1, float64(max(len(rate), 2))
		q.X.Tick.Marker = wholeTicks{}
	}
	return grid([]*plot.Plot{p, r}, 1), nil
}

// points are values over 1, 2, …
func points(values []float64) plotter.XYs {
	xy := make(plotter.XYs, len(values))
	for i, v := range values {
		xy[i] = plotter.XY{X: float64(i + 1), Y: v}
	}
	return xy
}

// wholeTicks has ticks at whole numbers only.
type wholeTicks struct{}

func (wholeTicks) Ticks(min, max float64) (ticks []plot.Tick) {
	for _, t := range (plot.DefaultTicks{}).Ticks(min, max) {
		if t.Value == float64(int(t.Value)) {
			ticks = append(ticks, t)
		}
	}
	return ticks
}
