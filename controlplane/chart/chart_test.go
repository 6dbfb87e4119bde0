package chart

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"image/png"
	"io"
	"math"
	"strings"
	"testing"
)

// samples are one chart of each kind.
func samples(t *testing.T) map[string]*Chart {
	t.Helper()
	var actual, predicted []float64
	var rows, scores []float64
	var alarms, anomalies []bool
	for i := range 900 {
		x := float64(i)
		v := 20 + 8*math.Sin(x/24)
		actual, predicted = append(actual, v), append(predicted, v+1.5*math.Sin(x*7))
		gap := v
		if i > 300 && i < 380 {
			gap = math.NaN()
		}
		rows = append(rows, gap)
		anomalies = append(anomalies, i > 400 && i < 520)
		score := 0.3 + 0.2*math.Sin(x*13)
		if anomalies[i] {
			score += 0.8
		}
		scores = append(scores, score)
		alarms = append(alarms, score > 0.7)
	}
	var loss, val, rate []float64
	for i := range 30 {
		x := float64(i)
		loss, val, rate = append(loss, math.Exp(-x/6)+0.02), append(val, math.Exp(-x/6)+0.05+x*x/9000), append(rate, 1e-3/(1+x/10))
	}
	label := func(row int) string { return fmt.Sprintf("2016-07-%02d 00:00", 1+row/24%31) }
	charts := map[string]*Chart{}
	keep := func(name string, c *Chart, err error) {
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		charts[name] = c
	}
	c, err := Learning("power-3", []Curve{{"loss", loss}, {"validation loss", val}}, rate, 17)
	keep("learning", c, err)
	two := []Values{{Name: "OT, °C", Actual: actual, Predicted: predicted}, {Name: "load, kW", Steps: 2, Actual: predicted, Predicted: actual}}
	c, err = Predicted(two)
	keep("predicted", c, err)
	c, err = Residuals(two)
	keep("residuals", c, err)
	c, err = Confusion([]string{"idle", "running", "clogged with sand and more"}, [][]int{{40, 2, 0}, {5, 30, 1}, {0, 9, 11}})
	keep("confusion", c, err)
	c, err = Anomalies([]Timeline{{Name: "valve1/3", Scores: scores, Threshold: 0.7, Alarms: alarms, Anomalies: anomalies, Label: label}, {Name: "other", Scores: scores[:400], Threshold: 0.7, Alarms: alarms[:400]}})
	keep("anomalies", c, err)
	c, err = Columns([]Series{{"temperature, °C", rows}, {"power, kW", predicted}, {"constant", make([]float64, 900)}}, []int{0, 450}, label)
	keep("columns", c, err)
	c, err = Choices("power-tune-1", "neon", []Choice{{"1", 0.9, 1300, 0.5, false}, {"2", 0.03, 2400, 1.0, true}, {"3", 0.027, 6067, 1.3, true}, {"4", 0.34, 940, 0.52, true}})
	keep("choices", c, err)
	return charts
}

// TestChartsAreSVGAndPNG draws every kind.
func TestChartsAreSVGAndPNG(t *testing.T) {
	for name, c := range samples(t) {
		var b bytes.Buffer
		if err := c.WriteSVG(&b); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		svg := b.String()
		if strings.Contains(svg, "NaN") || !strings.Contains(svg, "prefers-color-scheme:dark") || !strings.Contains(svg, "#7D8590") || !strings.Contains(svg, "Arial") {
			t.Errorf("%s: an SVG with NaN, or without its scheme", name)
		}
		if strings.Contains(strings.ToLower(svg), "#ffffff") {
			t.Errorf("%s: white is drawn", name)
		}
		for d := xml.NewDecoder(&b); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		b.Reset()
		if err := c.WritePNG(&b); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		img, err := png.Decode(&b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, _, _, a := img.At(0, 0).RGBA(); a != 0 {
			t.Errorf("%s: the background is not transparent", name)
		}
		inked := 0
		for y := range img.Bounds().Dy() {
			for x := range img.Bounds().Dx() {
				if _, _, _, a := img.At(x, y).RGBA(); a > 0 {
					inked++
				}
			}
		}
		if part := float64(inked) / float64(img.Bounds().Dx()*img.Bounds().Dy()); part < 0.01 || part > 0.6 {
			t.Errorf("%s: %.1f %% is drawn on", name, 100*part)
		}
	}
}

// luminance is the relative luminance of WCAG 2.2.
func luminance(c paint) float64 {
	linear := func(v uint8) float64 {
		if f := float64(v) / 255; f > 0.04045 {
			return math.Pow((f+0.055)/1.055, 2.4)
		} else {
			return f / 12.92
		}
	}
	return 0.2126*linear(c.R) + 0.7152*linear(c.G) + 0.0722*linear(c.B)
}

func TestColoursShowOnLightAndDark(t *testing.T) {
	contrast := func(a, b paint) float64 {
		x, y := luminance(a), luminance(b)
		return (max(x, y) + 0.05) / (min(x, y) + 0.05)
	}
	for name, c := range map[string]paint{"ink": ink, "blue": blue, "orange": orange, "red": red, "green": green} {
		for _, page := range []paint{{R: 0xff, G: 0xff, B: 0xff}, {R: 0x0d, G: 0x11, B: 0x17}} {
			if k := contrast(c, page); k < 3 {
				t.Errorf("%s has a contrast of %.2f to %v", name, k, page)
			}
		}
	}
}

func TestSpans(t *testing.T) {
	got := fmt.Sprint(spans([]bool{true, false, true, true, false, true}))
	if got != "[[0 1] [2 4] [5 6]]" {
		t.Errorf("spans %s", got)
	}
}
