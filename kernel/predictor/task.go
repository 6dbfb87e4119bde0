package predictor

import (
	"math"

	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// Label is the class that a classifier's outputs name: that of the largest, the
// first of equals, or of a single output the second from 0.5 on. It is "" of a model
// without labels.
func (p *Predictor) Label(y []float32) string {
	if len(p.schema.Labels) == 0 {
		return ""
	}
	return p.schema.Labels[Class(y)]
}

// Class is the index of the class that a classifier's outputs name.
func Class(y []float32) int {
	if len(y) == 1 {
		if y[0] >= 0.5 {
			return 1
		}
		return 0
	}
	class := 0
	for i, v := range y {
		if v > y[class] {
			class = i
		}
	}
	return class
}

// Anomaly reports whether a detector's score is above the model's threshold; ok is
// false of a model that is no detector.
func (p *Predictor) Anomaly(y []float32) (anomaly, ok bool) {
	d := p.schema.Detector
	return d != nil && y[0] > d.Threshold, d != nil
}

// score is what a detector makes of a window.
func (p *Predictor) score(s *space, score *float32, rows []float32) error {
	d, f := p.schema.Detector, p.plan.Width()
	in, out := p.window*f, len(d.Features)
	windows, y := grown(&s.rows, d.Smooth*in), grown(&s.y, d.Smooth*out)
	for i := range d.Smooth {
		copy(windows[i*in:][:in], rows[i*f:])
	}
	if err := p.predict(s, y, windows, d.Smooth); err != nil {
		return err
	}
	*score = Score(d, y, rows[len(rows)-d.Smooth*f:], f)
	return nil
}

// Score is the score of d.Smooth raw rows of features, of which y is what was expected:
// see artifact.Detector. Sums are in the order of the rows and of the features, every
// multiply and add rounded separately, so that a device gives the bits that the
// threshold was set on.
func Score(d *artifact.Detector, y, rows []float32, features int) float32 {
	out := len(d.Features)
	var squares float32
	for o, f := range d.Features {
		var sum float32
		for i := range d.Smooth {
			sum += float32((rows[i*features+f] - y[i*out+o]) * d.Inv[o])
		}
		mean := sum / float32(d.Smooth)
		squares += float32(mean * mean)
	}
	return float32(math.Sqrt(float64(squares / float32(out))))
}
