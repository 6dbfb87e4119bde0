package chart

import (
	"fmt"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
)

// Confusion draws how often each class, a row, was taken for each, a column: right in
// green, wrong in red, the fuller the larger its part of the row.
func Confusion(classes []string, counts [][]int) (*Chart, error) {
	n := len(classes)
	p := panel("actual class against predicted class", "predicted", "actual")
	var labels plotter.XYLabels
	for i, row := range counts {
		sum := 0
		for _, c := range row {
			sum += c
		}
		for j, count := range row {
			x, y := float64(j), float64(n-1-i)
			labels.XYs = append(labels.XYs, plotter.XY{X: x, Y: y})
			labels.Labels = append(labels.Labels, fmt.Sprint(count))
			if count == 0 {
				continue
			}
			fill := red
			if i == j {
				fill = green
			}
			fill.A = uint8(0x10 + 0x38*count/sum) // the numbers are to be read
			box, err := plotter.NewPolygon(plotter.XYs{{X: x - .48, Y: y - .48}, {X: x + .48, Y: y - .48}, {X: x + .48, Y: y + .48}, {X: x - .48, Y: y + .48}})
			if err != nil {
				return nil, fmt.Errorf("chart of the confusion: %w", err)
			}
			box.Color, box.LineStyle.Width = fill, 0
			p.Add(box)
		}
	}
	numbers, err := plotter.NewLabels(labels)
	if err != nil {
		return nil, fmt.Errorf("chart of the confusion: %w", err)
	}
	for i := range numbers.TextStyle {
		s := &numbers.TextStyle[i]
		s.Font, s.Color = font.Font{Typeface: "Liberation", Variant: "Sans", Size: vg.Length(max(11-n/4, 5))}, ink
		s.XAlign, s.YAlign = text.XCenter, text.YCenter
	}
	p.Add(numbers)
	var across, down []plot.Tick
	for i, c := range classes {
		across = append(across, plot.Tick{Value: float64(i), Label: brief(c)})
		down = append(down, plot.Tick{Value: float64(n - 1 - i), Label: brief(c)})
	}
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.ConstantTicks(across), plot.ConstantTicks(down)
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = -.5, float64(n)-.5, -.5, float64(n)-.5
	p.X.Padding, p.Y.Padding = 0, 0
	return &Chart{rows: [][]*plot.Plot{{p}}, tall: true}, nil
}

// brief is the first 16 characters of a name.
func brief(s string) string {
	if r := []rune(s); len(r) > 16 {
		return string(r[:15]) + "…"
	}
	return s
}
