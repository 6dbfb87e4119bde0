// Package chart draws what training, evaluations and data sets show, as SVG and
// PNG.
//
// Both have no background, and colours in the middle of the scale of brightness: a
// contrast of at least 3:1 (WCAG 2.2 §1.4.11) to white and to the near-black #0d1117 of
// a dark page. An SVG draws its text in more contrast where the page says that it is
// light or dark (prefers-color-scheme).
package chart

import (
	"bytes"
	"fmt"
	"image/color"
	"io"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The colours, with their contrast to white and to #0d1117.
var (
	ink    = color.NRGBA{0x7d, 0x85, 0x90, 0xff} // 3.7, 5.1: text, axes
	blue   = color.NRGBA{0x3b, 0x82, 0xf6, 0xff} // 3.7, 5.1: what was measured; what comes first
	orange = color.NRGBA{0xd9, 0x73, 0x0d, 0xff} // 3.3, 5.8: what a model says; what comes second
	red    = color.NRGBA{0xe5, 0x53, 0x4b, 0xff} // 3.7, 5.1: anomalies, errors
	green  = color.NRGBA{0x2d, 0xa0, 0x4e, 0xff} // 3.4, 5.6: what is best
)

// faint is c to be drawn behind other things.
func faint(c color.NRGBA) color.NRGBA {
	c.A = 0x50
	return c
}

const (
	width     = 7.5 * vg.Inch
	rowHeight = 2.6 * vg.Inch
	dpi       = 144
)

// A Chart is one picture: panels in rows.
type Chart struct {
	rows [][]*plot.Plot
	tall bool // a single panel about as tall as it is wide
	flat bool // panels of half the height

	named bool // ticks have names of rows, such as times
}

// panel returns an empty plot.
func panel(title, x, y string) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	for style, size := range map[*text.Style]vg.Length{
		&p.Title.TextStyle: 11, &p.X.Label.TextStyle: 9, &p.Y.Label.TextStyle: 9,
		&p.X.Tick.Label: 8, &p.Y.Tick.Label: 8, &p.Legend.TextStyle: 9,
	} {
		style.Font, style.Color = font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}, ink
	}
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.LineStyle.Color, a.Tick.LineStyle.Color = ink, ink
	}
	p.Title.Padding = 4
	p.Legend.Top = true
	p.Legend.ThumbnailWidth = 14
	return p
}

// draw draws the panels on c.
func (c *Chart) draw(canvas draw.Canvas) {
	tiles := draw.Tiles{Rows: len(c.rows), Cols: len(c.rows[0]), PadX: 14, PadY: 14, PadTop: 6, PadBottom: 6, PadLeft: 6, PadRight: 10}
	if c.named {
		tiles.PadLeft, tiles.PadRight = 20, 20 // for half a name
	}
	canvases := plot.Align(c.rows, tiles, canvas)
	for i, row := range c.rows {
		for j, p := range row {
			if p != nil {
				p.Draw(canvases[i][j])
			}
		}
	}
}

func (c *Chart) height() vg.Length {
	switch {
	case c.tall:
		return 5.5 * vg.Inch
	case c.flat:
		return 1.3*vg.Inch*vg.Length(len(c.rows)) + 0.4*vg.Inch
	}
	return rowHeight * vg.Length(len(c.rows))
}

// WritePNG writes the chart as PNG with a transparent background.
func (c *Chart) WritePNG(w io.Writer) error {
	canvas := vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(width, c.height()), vgimg.UseDPI(dpi), vgimg.UseBackgroundColor(color.Transparent))}
	c.draw(draw.New(canvas))
	_, err := canvas.WriteTo(w)
	return err
}

// scheme gives the ink more contrast where the page says what it is drawn on. It is
// !important, because the elements have their colour in a style of their own.
const scheme = `<style>
@media (prefers-color-scheme:light){[style*="fill:%[1]s"]{fill:#424a53!important}[style*="stroke:%[1]s"]{stroke:#6e7781!important}}
@media (prefers-color-scheme:dark){[style*="fill:%[1]s"]{fill:#c9d1d9!important}[style*="stroke:%[1]s"]{stroke:#8b949e!important}}
</style>
`

// WriteSVG writes the chart as SVG.
func (c *Chart) WriteSVG(w io.Writer) error {
	canvas := vgsvg.NewWith(vgsvg.UseWH(width, c.height()))
	c.draw(draw.New(canvas))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return err
	}
	// Arial and Helvetica are as wide, which the places of texts depend on.
	svg := strings.ReplaceAll(b.String(), "font-family:Liberation Sans;", "font-family:Liberation Sans,Arial,Helvetica,sans-serif;")
	head := strings.Index(svg, "<g ")
	if head < 0 {
		head = len(svg)
	}
	hex := fmt.Sprintf("#%02X%02X%02X", ink.R, ink.G, ink.B)
	_, err := io.WriteString(w, svg[:head]+fmt.Sprintf(scheme, hex)+svg[head:])
	return err
}

// grid arranges panels in rows of cols.
func grid(panels []*plot.Plot, cols int) *Chart {
	c := &Chart{}
	for len(panels) > 0 {
		row := make([]*plot.Plot, cols)
		panels = panels[copy(row, panels):]
		c.rows = append(c.rows, row)
	}
	return c
}
