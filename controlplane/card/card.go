// Package card makes the model card of a version: what it is for, what it was
// made from, how good it is and what it costs to ship, as a struct and as
// Markdown (Mitchell et al. 2019, Model Cards for Model Reporting).
//
// A card says nothing that is not kept with the version: the report of its
// training, which holds what its maker said about its use, and the registry's
// record.
package card

import (
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/controlplane/train"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A Version is what the registry says of a version.
type Version struct {
	Ref      string           `json:"ref"` // NAME:vN
	Digest   protocol.Digest  `json:"digest"`
	Task     string           `json:"task"`
	Layers   string           `json:"layers,omitempty"`
	Created  time.Time        `json:"created"`
	Signed   bool             `json:"signed"`
	Parent   *protocol.Digest `json:"parent,omitempty"`
	Forced   string           `json:"forced,omitempty"` // who added it past the check of int8
	Bytes    int              `json:"bytes"`            // of its full transfer
	Smallest int              `json:"smallest,omitempty"`
}

// A Card is a model card. All that a report tells is absent for a version that
// came without one.
type Card struct {
	Version
	Use train.Use `json:"use,omitzero"`

	Data       *Data               `json:"data,omitempty"`
	Training   *Training           `json:"training,omitempty"`
	Evaluation *Evaluation         `json:"evaluation,omitempty"`
	Int8       *train.Gate         `json:"int8_check,omitempty"`
	Warnings   []string            `json:"warnings,omitempty"`
	Cleaning   *dataset.Cleaning   `json:"cleaning,omitempty"`
	Settings   *train.Settings     `json:"settings,omitempty"`
	ByTarget   []train.Part        `json:"by_target,omitempty"`
	Tensors    []train.TensorError `json:"tensors,omitempty"`
}

// Data is what the model was trained on and reads.
type Data struct {
	Digest   string         `json:"digest"` // SHA-256, hex
	Features []string       `json:"features"`
	Targets  []string       `json:"targets"`
	Window   int            `json:"window"`
	State    string         `json:"state"`
	Horizon  int            `json:"horizon,omitempty"`
	Split    *dataset.Split `json:"split,omitempty"`
	// Validation is the fraction of whole groups held out; 0 with a Split.
	Validation float64 `json:"validation,omitempty"`
}

// Training is how the weights came about.
type Training struct {
	Windows    int     `json:"windows"`
	Validation int     `json:"validation_windows"`
	Parameters int     `json:"parameters"`
	Epochs     int     `json:"epochs"`
	BestEpoch  int     `json:"best_epoch"`
	Seed       uint64  `json:"seed"`
	Seconds    float64 `json:"seconds"`
	Run        string  `json:"run,omitempty"`
}

// Evaluation is how good the model was on rows it was not trained on.
type Evaluation struct {
	Rows      string                    `json:"rows"` // as in a report
	Items     int                       `json:"items"`
	Metrics   train.Pair                `json:"metrics"`
	Intervals map[string]train.Interval `json:"intervals,omitempty"`
	Baselines map[string]train.Metrics  `json:"baselines"`
	Verdict   *train.Verdict            `json:"verdict,omitempty"`
}

// New makes the card of v. r is the report of its training, nil if there is
// none.
func New(v Version, r *train.Report) *Card {
	c := &Card{Version: v}
	if r == nil {
		return c
	}
	c.Use, c.Warnings, c.Cleaning, c.ByTarget = r.Use, r.Warnings, r.Cleaning, r.ByTarget
	c.Data = &Data{
		Digest: r.Data, Features: r.Features, Targets: r.Targets, Window: r.Window, State: r.State, Horizon: r.Horizon,
	}
	if s := r.Setup; s != nil {
		c.Data.Split, c.Data.Validation = s.Split, s.Validation
	}
	c.Evaluation = &Evaluation{r.Evaluated, r.Items, r.Metrics, r.Intervals, r.Baselines, r.Verdict}
	if t := r.Training; t != nil {
		c.Settings = &t.Settings
		c.Training = &Training{t.Windows, t.Validation, t.Parameters, t.Epochs, t.BestEpoch, r.Seed, r.Seconds, t.Run}
	}
	if q := r.Quantization; q != nil {
		c.Int8, c.Tensors = &q.Gate, q.Tensors
	}
	return c
}
