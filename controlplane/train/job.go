package train

import (
	"errors"

	"github.com/sandpiper-edge/sandpiper/kernel/bptt"
)

// ErrOtherData: the data is not what the job began with.
var ErrOtherData = errors.New("the data is another")

// A Job is a training that may be interrupted, and go on later. All but the
// options may be left out.
type Job struct {
	Options
	Progress func(Progress) // called from the goroutine of Run

	// Begin is called once the data is read and the options hold, with the
	// SHA-256 of the data, hex, and how many epochs there are to be.
	Begin func(data string, epochs int) error
	// Save is called at the end of each epoch and when the context ends, with
	// what it takes to go on and what the finished epochs gave. c is valid until
	// Save returns; an error ends the job.
	Save func(c *bptt.Checkpoint, history []Epoch) error

	// Data is the SHA-256 that the data must have, or Run returns ErrOtherData.
	Data string
	// Resume is where the job goes on.
	Resume *bptt.Checkpoint

	// Stop, above 0, ends the job after so many epochs with the model of its best
	// weights by then. No baseline is fitted and nothing is evaluated: the report
	// has Training alone, and the test rows stay unseen.
	Stop int
}
