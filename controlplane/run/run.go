// Package run keeps training runs, so that none of them is lost: not to a
// process that is killed, a client that goes away, a disk that is full or a
// power cut. Each has a folder:
//
//	DIR/runs/ID/run.json     the Run; the options as they were given
//	DIR/runs/ID/checkpoint   what it takes to go on, of the last epoch or of the
//	                         batch where the run was stopped (package bptt)
//	DIR/runs/ID/best         the same of the best epoch, should checkpoint be
//	                         damaged
//	DIR/runs/last            highest number among the runs that were removed
//
// Each file is replaced as a whole, synced. A run that is done has no
// checkpoints any more: what is left of it are a few kilobytes.
//
// An ID is MODEL-N. N counts all runs of the folder, and none is given twice,
// because versions name the run they come from.
package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/controlplane/train"
)

var (
	// ErrNotFound: no run has this ID. The text suggests one.
	ErrNotFound = store.ErrNotFound
	// ErrState: what was asked for cannot be done with a run in its state. The
	// text says which it is.
	ErrState = errors.New("wrong state")
	// ErrStopped: the run ended before its time, and can go on.
	ErrStopped = errors.New("stopped")
)

// A stateError matches ErrState.
type stateError string

func (e stateError) Error() string        { return string(e) }
func (e stateError) Is(target error) bool { return target == ErrState }

func stateErrorf(format string, args ...any) error { return stateError(fmt.Sprintf(format, args...)) }

// A State is where a run stands.
//
//	running ──▶ done
//	   │  ▲
//	   ▼  │ resume
//	stopped, failed, interrupted
type State string

const (
	Running State = "running"
	// Stopped: on request, or because its client or the control plane went.
	Stopped State = "stopped"
	// Failed: training returned an error.
	Failed State = "failed"
	// Done: its model is a version.
	Done State = "done"
	// Interrupted: its process died. On disk that is a run which is Running and
	// has nobody who runs it: the folder belongs to one process at a time.
	Interrupted State = "interrupted"
)

// A Run is one training run.
type Run struct {
	ID      string    `json:"id"`
	Model   string    `json:"model" doc:"The model it makes a version of"`
	State   State     `json:"state" doc:"running, stopped, failed, interrupted or done"`
	Reason  string    `json:"reason,omitempty" doc:"Why it is stopped, failed or interrupted"`
	Version string    `json:"version,omitempty" doc:"NAME:vN, once it is done"`
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated" doc:"When what it has done was kept last"`
	Data    string    `json:"data" doc:"SHA-256 of its data"`
	Resumed int       `json:"resumed" doc:"How often it went on after an interruption"`
	Epochs  int       `json:"epochs" doc:"Epochs there will be, unless it stops early"`
	Epoch   int       `json:"epoch" doc:"Finished epochs"`
	Batch   int       `json:"batch" doc:"Batches of the epoch after those that its checkpoint has"`

	Options json.RawMessage `json:"options" doc:"What it was begun with"`
	History []train.Epoch   `json:"history,omitempty" doc:"What the finished epochs gave; not in a listing"`
}

// Best returns the epoch whose weights are the best so far, nil before there
// is one.
func (r *Run) Best() *train.Epoch {
	for i := len(r.History) - 1; i >= 0; i-- {
		if r.History[i].Best {
			return &r.History[i]
		}
	}
	return nil
}
