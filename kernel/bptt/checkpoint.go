package bptt

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

var (
	// ErrCheckpoint: bytes that are no whole checkpoint, or one that another
	// version of the program wrote.
	ErrCheckpoint = errors.New("unusable checkpoint")
	// ErrOtherRun: a checkpoint of a run with another configuration, graph or
	// data. The text names what differs.
	ErrOtherRun = errors.New("checkpoint of another run")
)

// A Checkpoint is all that a run needs to go on as if it had never stopped.
// The order of the windows follows from the seed and the epoch, so no random
// generator has a state to keep.
type Checkpoint struct {
	origin
	position
	state []field
}

// An origin is what a run was begun with.
type origin struct {
	config                     []byte // JSON of the completed Config
	graph, data                string
	windows, validation, steps int
}

// A position is how far a run is.
type position struct {
	epochs []Epoch // finished
	// Of the epoch under way: batches trained, the sum of their losses, each
	// times its windows, and the time they took.
	batches int
	sum     float64
	spent   time.Duration
	done    bool // nothing is left to train
}

// Epochs returns what the finished epochs gave. The caller does not change it.
func (p *position) Epochs() []Epoch { return p.epochs }

// Batches returns how many batches were trained of the epoch after those.
func (p *position) Batches() int { return p.batches }

// A field is one value of a run's state, under a name of its own: what a
// checkpoint keeps and a resumed run takes back. value is a []float32 of fixed
// length, or a pointer to a []float32 of any length, a float64, an int or a bool.
type field struct {
	name  string
	value any
}

// restore sets the values of state to those of saved, which has the same
// fields unless another version of the program wrote it.
func restore(state, saved []field) error {
	if len(state) != len(saved) {
		return fmt.Errorf("%w: %d values of state, this version has %d: train from the start", ErrCheckpoint, len(saved), len(state))
	}
	for i, f := range state {
		if from := saved[i]; from.name != f.name || !set(f.value, from.value) {
			return fmt.Errorf("%w: state %d is %.40q, this version has %q, or of another size: train from the start", ErrCheckpoint, i, from.name, f.name)
		}
	}
	return nil
}

// set sets the value that to points at to that of from, and reports whether it
// has the kind and length for it.
func set(to, from any) bool {
	switch to := to.(type) {
	case []float32:
		v, ok := from.(*[]float32)
		return ok && len(to) == len(*v) && copy(to, *v) == len(to)
	case *[]float32:
		v, ok := from.(*[]float32)
		if ok {
			*to = append((*to)[:0], *v...)
		}
		return ok
	case *float64:
		return setValue(to, from)
	case *int:
		return setValue(to, from)
	case *bool:
		return setValue(to, from)
	}
	return false
}

func setValue[T any](to *T, from any) bool {
	v, ok := from.(*T)
	if ok {
		*to = *v
	}
	return ok
}

// newOrigin describes a run of cfg, which is complete.
func newOrigin(cfg Config, g kernel.Graph, data string, train, val Source) (origin, error) {
	config, err := json.Marshal(cfg)
	if err != nil {
		return origin{}, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	o := origin{config: config, graph: describe(g), data: data, windows: train.Len(), steps: train.Steps()}
	if val != nil {
		o.validation = val.Len()
	}
	return o, nil
}

// describe writes g on one line.
func describe(g kernel.Graph) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d features", g.Features)
	for _, l := range g.Layers {
		fmt.Fprintf(&b, ", %v(%d %v", l.Kind, l.Units, l.Activation)
		if l.Sequences {
			b.WriteString(" sequences")
		}
		b.WriteByte(')')
	}
	return b.String()
}

// check returns an error that names what of the run o differs from that of the
// checkpoint, and matches ErrOtherRun.
func (c *Checkpoint) check(o origin, g kernel.Graph) error {
	var differ []string
	add := func(name string, was, is any) {
		if was != is {
			differ = append(differ, fmt.Sprintf("%s is %v and was %v", name, is, was))
		}
	}
	if err := compareConfigs(c.config, o.config, g, add); err != nil {
		return err
	}
	add("the graph", c.graph, o.graph)
	add("the data", c.data, o.data)
	add("the number of training windows", c.windows, o.windows)
	add("the number of validation windows", c.validation, o.validation)
	add("the steps of a window", c.steps, o.steps)
	if len(differ) > 0 {
		return fmt.Errorf("%w: %s; resume with what it began with, or train from the start", ErrOtherRun, strings.Join(differ, ", "))
	}
	return nil
}

// compareConfigs calls add with each field of two encoded configurations. A
// field that the older one lacks had its default.
func compareConfigs(was, is []byte, g kernel.Graph, add func(name string, was, is any)) error {
	older, err := Config{}.withDefaults(g)
	if err != nil {
		return err
	}
	var newer Config
	if err := json.Unmarshal(was, &older); err != nil {
		return fmt.Errorf("%w: configuration: %w", ErrCheckpoint, err)
	}
	if err := json.Unmarshal(is, &newer); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	a, b := reflect.ValueOf(older), reflect.ValueOf(newer)
	for i := range a.NumField() {
		// As text, which slices have too.
		add(a.Type().Field(i).Name, fmt.Sprint(a.Field(i)), fmt.Sprint(b.Field(i)))
	}
	return nil
}
