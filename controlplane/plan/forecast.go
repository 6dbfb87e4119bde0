package plan

import (
	"fmt"
	"math"
	"time"
)

// A Forecast is what a plan would do.
type Forecast struct {
	Devices int             `json:"devices"` // of the target
	Bytes   int64           `json:"bytes"`   // to fetch, by all devices together
	Seconds float64         `json:"seconds"` // until all have it, as long as nothing has to be waited for
	Most    float64         `json:"most_seconds"`
	Stages  []StageForecast `json:"stages"`
}

// A StageForecast is a stage of a Forecast.
type StageForecast struct {
	Name    string  `json:"name"`
	Shadow  bool    `json:"shadow,omitempty"`
	Quality string  `json:"quality"`
	Devices int     `json:"devices"` // in all
	New     int     `json:"new"`     // that fetch it now
	Bytes   int64   `json:"bytes"`   // that those fetch
	Seconds float64 `json:"seconds"` // expected
	Most    float64 `json:"most_seconds"`
	Hold    bool    `json:"hold,omitempty"`
}

const (
	// judging is how long a quality check takes, at one sample a minute: the
	// median of equal versions in simulation.
	judging = 30 * time.Minute
	// differing likewise, without pairs.
	differing = 24 * time.Hour
	// settling is how long a device takes to try a version it has fetched.
	settling = time.Minute
	// tellingInputs is how long it takes until devices have told their inputs.
	tellingInputs = 65 * time.Minute
)

// Forecast returns what p would do with devices in the order of their draw, of
// which each fetches so many bytes.
func (p Plan) Forecast(bytes []int64) Forecast {
	f := Forecast{Devices: len(bytes), Seconds: time.Duration(p.Before).Seconds(), Most: time.Duration(p.Before).Seconds()}
	fetched := 0
	for i, size := range p.Sizes(len(bytes)) {
		s := p.Stages[i]
		out := StageForecast{Name: s.Name, Shadow: s.Shadow, Quality: s.Quality, Devices: size, Hold: s.Hold}
		for ; fetched < size; fetched++ {
			out.New++
			out.Bytes += bytes[fetched]
		}
		expected := Duration(p.Spread(out.Bytes) + settling)
		switch {
		case p.measures(i):
			expected += Duration(differing)
		case s.Quality == Paired:
			expected += Duration(judging)
		}
		if s.Checks.MaxDrift != nil {
			expected = max(expected, Duration(tellingInputs))
		}
		out.Seconds = time.Duration(max(expected, s.Minimum)).Seconds()
		out.Most = time.Duration(s.Deadline).Seconds()
		f.Bytes += out.Bytes
		f.Seconds += out.Seconds
		f.Most += out.Most
		f.Stages = append(f.Stages, out)
	}
	return f
}

// CheckSpread reports a stage whose downloads do not fit into its deadline, as an
// *Error: those that wait for their turn would count as failed.
func (p Plan) CheckSpread(f Forecast) error {
	for i, s := range f.Stages {
		spread, deadline := p.Spread(s.Bytes), time.Duration(p.Stages[i].Deadline)
		if spread <= deadline {
			continue
		}
		least := int64(math.Ceil(float64(s.Bytes) / deadline.Seconds()))
		return &Error{Stage: i, Name: s.Name, Key: "bytes_per_second", Text: fmt.Sprintf(
			"%d devices fetch %d bytes, which takes %s at %d bytes a second, and the deadline is %s; allow %d bytes a second or more, or a later deadline",
			s.New, s.Bytes, Duration(spread.Round(time.Second)), p.BytesPerSecond, Duration(deadline), least)}
	}
	return nil
}

// Spread is over how long downloads of so many bytes are spread.
func (p Plan) Spread(bytes int64) time.Duration {
	if p.BytesPerSecond <= 0 {
		return 0
	}
	return time.Duration(min(float64(bytes)/float64(p.BytesPerSecond)*float64(time.Second), 1<<62)) // 146 years
}
