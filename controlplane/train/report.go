package train

import (
	"encoding/json"
	"fmt"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
)

// A Report is what training or an evaluation found, as JSON.
type Report struct {
	Model   string `json:"model"`
	Version string `json:"version"` // NAME:vN or what the registry calls it; set by the caller
	Task    string `json:"task"`
	// Evaluated says which rows the figures are of: "test" or "validation" (held
	// out by the split), "truth" (last window of each group, against a truth
	// file), "all" (every row of a file given to Evaluate) or "training" (nothing
	// was held out: the figures flatter).
	Evaluated string             `json:"evaluated"`
	Items     int                `json:"items"` // windows evaluated
	Seed      uint64             `json:"seed"`
	Seconds   float64            `json:"seconds"`
	Metrics   Pair               `json:"metrics"`
	Baselines map[string]Metrics `json:"baselines"` // on the same windows
	// Intervals are those of the int8 model's figures, by a bootstrap over groups or
	// stretches of time; absent where there are too few.
	Intervals map[string]Interval `json:"intervals,omitempty"`
	Verdict   *Verdict            `json:"verdict,omitempty"`
	ByTarget  []Part              `json:"by_target,omitempty"` // of a forecast of several
	BySteps   *Steps              `json:"by_step,omitempty"`   // of a forecast of several
	Warnings  []string            `json:"warnings"`

	Features []string `json:"features"`
	Targets  []string `json:"targets"`
	Window   int      `json:"window"`
	State    string   `json:"state"` // window, or stream: window rows are the warm-up
	Horizon  int      `json:"horizon,omitempty"`
	Data     string   `json:"data"` // SHA-256 of the data file evaluated, hex; of several that of sha256sum's list of them
	// Cleaning is what was done to the rows.
	Cleaning *dataset.Cleaning `json:"cleaning,omitempty"`

	Classification *Classification `json:"classification,omitempty"` // of classify
	Detection      *Detection      `json:"detection,omitempty"`      // of anomaly

	// These are of a report that Run made.
	Training     *Training     `json:"training,omitempty"`
	Quantization *Quantization `json:"quantization,omitempty"`
	Setup        *Setup        `json:"setup,omitempty"`
	Use          Use           `json:"use,omitzero"` // as its maker said

	Predictions []Prediction `json:"predictions,omitempty"`
}

// A Pair holds the figures of the float32 network, nil where its weights are
// not at hand, and of the int8 model made from it.
type Pair struct {
	Float32 Metrics `json:"float32"`
	Int8    Metrics `json:"int8"`
}

// Training tells how the weights came about.
type Training struct {
	Windows    int     `json:"windows"` // that were trained on
	Validation int     `json:"validation_windows"`
	Weight     string  `json:"weight,omitempty"` // column of the windows' weights
	Units      []int   `json:"units"`
	Parameters int     `json:"parameters"`
	Epochs     int     `json:"epochs"`     // run
	BestEpoch  int     `json:"best_epoch"` // whose weights were kept
	Batch      int     `json:"batch"`
	Rate       float64 `json:"learning_rate"`
	Patience   int     `json:"patience,omitempty"`
	Settings           // with the defaults that applied
	// SkipRidge are the penalties of the skip path that the validation windows
	// chose, of each target that has one; absent without a path.
	SkipRidge []float64 `json:"skip_ridge,omitempty"`
	History   []Epoch   `json:"history"`
	Run       string    `json:"run,omitempty"`     // its id; set by the caller
	Resumed   int       `json:"resumed,omitempty"` // how often it was interrupted and went on; likewise
}

// An Epoch is one pass over the training windows. Losses are of scaled targets,
// with penalties; ValLoss is null without validation windows.
type Epoch struct {
	Epoch        int      `json:"epoch"`
	Loss         float64  `json:"loss"`
	ValLoss      *float64 `json:"val_loss"`
	LearningRate float64  `json:"learning_rate"` // of the last update
	Seconds      float64  `json:"seconds"`
	Best         bool     `json:"best,omitempty"` // the loss watched was the lowest so far
}

// A Setup is what Evaluate needs to know of the training beyond the model.
type Setup struct {
	Time       string         `json:"time,omitempty"`  // column
	Group      string         `json:"group,omitempty"` // column
	Column     bool           `json:"target_column,omitempty"`
	Pad        bool           `json:"pad,omitempty"`
	Cap        float64        `json:"cap,omitempty"` // rul; 0: none
	Anchor     string         `json:"anchor,omitempty"`
	Season     int            `json:"season,omitempty"` // rows; 0: unknown
	Split      *dataset.Split `json:"split,omitempty"`
	Validation float64        `json:"validation,omitempty"` // of a report before Split could be by group: that of rul
	Seed       uint64         `json:"seed"`
	Data       string         `json:"data"` // SHA-256 of the training file, hex
	// Files are the SHA-256 of the files of each part, hex, where files are held out.
	Files map[string]string `json:"files,omitempty"`
	// Read is how the files were read and cleaned; an evaluation does the same.
	Read dataset.Options `json:"read,omitzero"`
	// Prepare is what was asked for; what it came to is in the model.
	Prepare Preparation `json:"prepare,omitzero"`
	// Mean and Std are the mean of the targets and the standard deviation, over
	// the training rows, in raw units. Forecasts scale errors by Std; the `mean`
	// baseline of rul predicts Mean.
	Mean   []float64 `json:"target_mean"`
	Std    []float64 `json:"target_std"`
	Label  string    `json:"label,omitempty"`  // column, of classify and anomaly
	Series bool      `json:"series,omitempty"` // classify: each group is one window
	// These are of anomaly: the label of normal rows, how residuals are judged, and
	// what was fitted for it to the residuals of the model and of each baseline.
	Normal   string          `json:"normal,omitempty"`
	Residual string          `json:"residual,omitempty"`
	Smooth   int             `json:"smooth,omitempty"`
	Quantile float64         `json:"threshold_quantile,omitempty"`
	Factor   float64         `json:"threshold_factor,omitempty"`
	Rules    map[string]rule `json:"rules,omitempty"`
	// Linear is the fitted linear map, on scaled windows; absent where it would
	// be too large.
	Linear *linearMap `json:"linear,omitempty"`
}

// ParseReport reads a report back, as the registry keeps it.
func ParseReport(b []byte) (*Report, error) {
	var r Report
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	return &r, nil
}

// Brief returns the report without the fitted baseline weights, for people to read.
func (r Report) Brief() Report {
	if r.Setup != nil && r.Setup.Linear != nil {
		s := *r.Setup
		s.Linear = nil
		r.Setup = &s
	}
	return r
}

// A Prediction is one evaluated window. Values are in raw units and print as
// the shortest decimal that gives the same float32.
type Prediction struct {
	Group string // as the file writes it; empty without a group column
	Time  string // of the window's last row, as the file writes it
	// Truth, Float32 and Int8 are what came, what the float32 network said (nil
	// without its weights) and what the model said. One value with rul, printed
	// as a number; Horizon × Targets with forecast, printed as a flat array; with
	// classify the probabilities; with anomaly the score, the truth being 1 of an
	// anomaly and else 0.
	Truth, Float32, Int8 []float32
	Scalar               bool
	Label, Told          string // of classify: the label that a window has, and the one the model told
	Alarm                *bool  // of anomaly: whether the model's score is above the threshold
}

type predictionJSON struct {
	Group   string          `json:"group"`
	Time    string          `json:"time"`
	Truth   json.RawMessage `json:"truth"`
	Float32 json.RawMessage `json:"float32"`
	Int8    json.RawMessage `json:"int8"`
	Label   string          `json:"label,omitempty"`
	Told    string          `json:"told,omitempty"`
	Alarm   *bool           `json:"alarm,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (p Prediction) MarshalJSON() ([]byte, error) {
	j := predictionJSON{Group: p.Group, Time: p.Time, Label: p.Label, Told: p.Told, Alarm: p.Alarm}
	for _, f := range []struct {
		dst *json.RawMessage
		v   []float32
	}{{&j.Truth, p.Truth}, {&j.Float32, p.Float32}, {&j.Int8, p.Int8}} {
		var v any = f.v // encoding/json prints float32 with the fewest digits
		if f.v == nil {
			v = nil
		} else if p.Scalar {
			v = f.v[0]
		}
		b, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		*f.dst = b
	}
	return json.Marshal(j)
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *Prediction) UnmarshalJSON(b []byte) error {
	var j predictionJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	*p = Prediction{Group: j.Group, Time: j.Time, Label: j.Label, Told: j.Told, Alarm: j.Alarm}
	for _, f := range []struct {
		dst *[]float32
		raw json.RawMessage
	}{{&p.Truth, j.Truth}, {&p.Float32, j.Float32}, {&p.Int8, j.Int8}} {
		switch {
		case len(f.raw) == 0 || string(f.raw) == "null":
		case f.raw[0] == '[':
			if err := json.Unmarshal(f.raw, f.dst); err != nil {
				return err
			}
		default:
			p.Scalar = true
			*f.dst = make([]float32, 1)
			if err := json.Unmarshal(f.raw, &(*f.dst)[0]); err != nil {
				return err
			}
		}
	}
	return nil
}
