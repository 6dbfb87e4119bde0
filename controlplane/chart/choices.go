package chart

import (
	"fmt"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// A Choice is a model that could be shipped: what it costs and how wrong it is.
type Choice struct {
	Name  string
	Loss  float64
	Bytes int     // to ship
	US    float64 // of one prediction
	// Best says that no other choice is at least as good in all three.
	Best bool
}

// Choices draws the loss of models over the bytes to ship and over the time of a
// prediction on the named kernel tier. Those that nothing beats are named.
func Choices(title, tier string, list []Choice) (*Chart, error) {
	if len(list) == 0 {
		return nil, fmt.Errorf("chart of %s: there is nothing to draw", title)
	}
	var panels []*plot.Plot
	for i, axis := range []struct {
		label string
		x     func(Choice) float64
	}{
		{"KB to ship", func(c Choice) float64 { return float64(c.Bytes) / 1e3 }},
		{"µs a prediction on " + tier, func(c Choice) float64 { return c.US }},
	} {
		p := panel(title, axis.label, "validation loss")
		title = ""
		for _, best := range []bool{false, true} {
			if err := addChoices(p, list, best, axis.x, i == 0); err != nil {
				return nil, err
			}
		}
		p.X.Min = 0
		if lo, hi := lossRange(list); lo > 0 && hi > 5*lo {
			p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
		}
		panels = append(panels, p)
	}
	return grid(panels, 1), nil
}

func lossRange(list []Choice) (lo, hi float64) {
	lo, hi = list[0].Loss, list[0].Loss
	for _, c := range list {
		lo, hi = min(lo, c.Loss), max(hi, c.Loss)
	}
	return lo, hi
}

// addChoices adds the choices that are, or are not, best.
func addChoices(p *plot.Plot, list []Choice, best bool, x func(Choice) float64, legend bool) error {
	var xy plotter.XYs
	var names []string
	for _, c := range list {
		if c.Best == best {
			xy, names = append(xy, plotter.XY{X: x(c), Y: c.Loss}), append(names, " "+c.Name)
		}
	}
	if len(xy) == 0 {
		return nil
	}
	points, err := plotter.NewScatter(xy)
	if err != nil {
		return fmt.Errorf("chart of choices: %w", err)
	}
	label := "another is as good in loss, bytes and time"
	points.GlyphStyle = draw.GlyphStyle{Color: blue, Radius: vg.Points(2.5), Shape: draw.RingGlyph{}}
	if best {
		label = "no other is as good in all three"
		points.GlyphStyle = draw.GlyphStyle{Color: green, Radius: vg.Points(3.5), Shape: draw.CircleGlyph{}}
	}
	p.Add(points)
	if legend {
		p.Legend.Add(label, points)
	}
	if !best {
		return nil
	}
	labels, err := plotter.NewLabels(plotter.XYLabels{XYs: xy, Labels: names})
	if err != nil {
		return fmt.Errorf("chart of choices: %w", err)
	}
	for i := range labels.TextStyle {
		labels.TextStyle[i] = p.X.Tick.Label
		labels.TextStyle[i].XAlign, labels.TextStyle[i].YAlign = 0, -1
	}
	p.Add(labels)
	return nil
}
