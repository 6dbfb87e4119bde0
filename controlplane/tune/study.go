// Package tune searches for the model that is accurate enough, small enough and
// fast enough: random search with successive halving (Jamieson and Talwalkar,
// "Non-stochastic Best Arm Identification and Hyperparameter Optimization", 2016;
// Li et al., "Hyperband", 2018, the bracket with the most trials).
//
// Every trial is trained for a ninth of the epochs. The third with the lowest
// validation loss goes on to a third of them, and a third of those to the end; each
// goes on from its checkpoint, so nothing is trained twice. The test rows are not
// looked at before one trial is published.
//
//	DIR/tunings/ID/study.json    the Study, replaced after every change
//	DIR/tunings/ID/data/N        the files of data
//	DIR/tunings/ID/N.checkpoint  of trial N
package tune

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/train"
)

const (
	// MaxTrials is the largest number of trials of a study.
	MaxTrials = 1000
	// eta is the part of the trials that goes on, as one in so many, and the ratio
	// of epochs from one rung to the next.
	eta   = 3
	rungs = 3
)

// The states of a Study.
const (
	Running = "running"
	Stopped = "stopped" // before its end: by somebody, or when its budget was spent
	Done    = "done"
)

// The states of a Trial.
const (
	Waiting  = "waiting"  // for its next epochs
	Dropped  = "dropped"  // others were better at a rung
	Finished = "finished" // trained to its end
	Failed   = "failed"
)

// A Study is one search.
type Study struct {
	ID      string    `json:"id"`
	Model   string    `json:"model"`
	State   string    `json:"state"`
	Reason  string    `json:"reason,omitempty"` // of a study that stopped
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`

	Options json.RawMessage `json:"options"` // of training, as the caller wrote them; those of a trial are in its Config
	Space   Space           `json:"space"`
	Seed    uint64          `json:"seed"`
	Tier    string          `json:"tier"`   // of the kernel that predictions are measured on
	Budget  float64         `json:"budget"` // seconds of training; 0: no limit
	Spent   float64         `json:"spent"`  // seconds
	Rungs   []int           `json:"rungs"`  // epochs after which trials are compared, the last being all
	Files   []File          `json:"files"`
	Data    string          `json:"data,omitempty"` // SHA-256 of the data, hex

	Trials []Trial `json:"trials"`
}

// A File is one file of the data, kept as N in the study's folder.
type File struct {
	Name string `json:"name,omitempty"`
	Part string `json:"part,omitempty"` // that it is held out for
}

// A Trial is one configuration and what came of it so far.
type Trial struct {
	N       int     `json:"trial"` // from 1
	Config  Config  `json:"config"`
	State   string  `json:"state"`
	Error   string  `json:"error,omitempty"`
	Epochs  int     `json:"epochs"`             // trained
	Best    int     `json:"best_epoch"`         // whose validation loss is ValLoss
	ValLoss float64 `json:"val_loss,omitempty"` // lowest so far, on scaled targets; 0 before the first epoch
	Seconds float64 `json:"seconds"`            // of training
	Bytes   int     `json:"bytes,omitempty"`    // that a device fetches to install the int8 model: payload and descriptor
	US      float64 `json:"us,omitempty"`       // of one prediction on Tier: a window, or a step of a stream model
	// Pareto: no other trial is at least as good in loss, bytes and time.
	Pareto bool `json:"pareto"`

	Version string `json:"version,omitempty"` // that was published from it
}

// rungsOf returns after how many epochs trials are compared: a ninth, a third, all.
func rungsOf(epochs int) []int {
	var out []int
	for i := range rungs {
		at := int(math.Ceil(float64(epochs) / math.Pow(eta, float64(rungs-1-i))))
		if !slices.Contains(out, at) {
			out = append(out, at)
		}
	}
	return out
}

// next returns the trial to train and up to which epoch, having dropped those that
// a complete rung leaves behind; nil if nothing is left to train. It is a function
// of s alone, so a study that was interrupted anywhere goes on as if it had not been.
func (s *Study) next() (*Trial, int) {
	for i, epochs := range s.Rungs {
		var waiting []*Trial
		for j := range s.Trials {
			if s.Trials[j].State == Waiting {
				waiting = append(waiting, &s.Trials[j])
			}
		}
		for _, t := range waiting {
			if t.Epochs < epochs {
				return t, epochs
			}
		}
		if i < len(s.Rungs)-1 {
			s.halve(i)
		}
	}
	return nil, 0
}

// halve drops all trials that wait at rung i but the best. Trials that finished
// early, by their patience, compete too.
func (s *Study) halve(i int) {
	var at []*Trial
	for j := range s.Trials {
		if t := &s.Trials[j]; t.Epochs > 0 && (t.State == Waiting || t.State == Finished) {
			at = append(at, t)
		}
	}
	slices.SortStableFunc(at, func(a, b *Trial) int {
		switch {
		case a.ValLoss < b.ValLoss:
			return -1
		case a.ValLoss > b.ValLoss:
			return 1
		}
		return a.N - b.N
	})
	keep := keepers(len(s.Trials), i+1)
	for j, t := range at {
		if j >= keep && t.State == Waiting {
			t.State = Dropped
		}
	}
}

// keepers is how many of n trials there are behind rung i, from 1.
func keepers(n, i int) int { return max(1, int(math.Ceil(float64(n)/math.Pow(eta, float64(i))))) }

// markPareto marks the trials that no other dominates.
func (s *Study) markPareto() {
	for i := range s.Trials {
		t := &s.Trials[i]
		t.Pareto = t.measured() && !slices.ContainsFunc(s.Trials, func(o Trial) bool {
			return o.measured() && o.ValLoss <= t.ValLoss && o.Bytes <= t.Bytes && o.US <= t.US &&
				(o.ValLoss < t.ValLoss || o.Bytes < t.Bytes || o.US < t.US)
		})
	}
}

func (t *Trial) measured() bool { return t.State != Failed && t.Epochs > 0 }

// Best returns the finished trial with the lowest validation loss, nil if none is.
func (s *Study) Best() *Trial {
	var best *Trial
	for i := range s.Trials {
		if t := &s.Trials[i]; t.State == Finished && (best == nil || t.ValLoss < best.ValLoss) {
			best = t
		}
	}
	return best
}

var (
	// ErrNotFound: no such study or trial.
	ErrNotFound = errors.New("not found")
	// ErrState: a study that cannot do this now. The text says why.
	ErrState = errors.New("tuning")
	// ErrNoValidation: the options hold out no rows to compare trials by.
	ErrNoValidation = errors.New("no validation rows")
)

// observe takes over what training gave.
func (t *Trial) observe(history []train.Epoch) {
	t.Epochs, t.ValLoss, t.Best, t.Seconds = len(history), 0, 0, 0
	for _, e := range history {
		t.Seconds += e.Seconds
		if e.ValLoss != nil && (t.Best == 0 || *e.ValLoss < t.ValLoss) {
			t.ValLoss, t.Best = *e.ValLoss, e.Epoch
		}
	}
}
