package agent

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A hold is why the owner of the device keeps a model where it is, whatever
// the control plane wants. `have` reports it as the reason why a wanted version
// is not in place.
type hold string

const (
	holdNone     hold = ""
	holdPinned   hold = protocol.HoldPinned
	holdReturned hold = protocol.HoldReturned
)

// Errors of Pin, Unpin and Rollback. Nothing has changed then.
var (
	// ErrNotHere: the device has no such model, or its cache no such version.
	ErrNotHere = errors.New("not on this device")
	// ErrFloor: the version is below the security floor, which wins over the
	// owner too.
	ErrFloor = errors.New("below the security floor")
	// ErrReturned: the owner went back already, and once more would be forward.
	ErrReturned = errors.New("rolled back already")
)

// objection says why what the owner asks for in e cannot be; nil if it can.
func objection(s state, e event) error {
	r, known := s.Models[e.model]
	if !known {
		return fmt.Errorf("model %s: %w", e.model, ErrNotHere)
	}
	to := r.Active
	switch e.kind {
	case evPinned:
		if e.held.Number == 0 || e.held.Number == r.Active.Number {
			break
		}
		if to = r.Previous; e.held.Number != to.Number {
			to = held{}
		}
	case evReturned:
		if r.Hold == holdReturned {
			return fmt.Errorf("%w: %s is in place; unpin %s lets it follow the control plane again", ErrReturned, r.Active.version(e.model), e.model)
		}
		to = r.Previous
	default:
		return nil
	}
	switch {
	case to.none() && e.kind == evReturned:
		return fmt.Errorf("a version of %s before %s: %w; install it from a file", e.model, orNone(r.Active.version(e.model)), ErrNotHere)
	case to.none() && e.held.Number != 0:
		return fmt.Errorf("%s: %w, which has %s; install it from a file", e.held.as(e.model), ErrNotHere, r.cached(e.model))
	case to.none():
		return fmt.Errorf("a version of %s: %w", e.model, ErrNotHere)
	case to.Number < r.Floor:
		return fmt.Errorf("%s: %w, %s", to.version(e.model), ErrFloor, held{Number: r.Floor}.as(e.model))
	}
	return nil
}

// as is version for a number alone.
func (h held) as(name string) string { return name + ":v" + strconv.FormatUint(h.Number, 10) }

func orNone(version string) string {
	if version == "" {
		return "none"
	}
	return version
}

// cached names the versions that the owner can hold.
func (r rollout) cached(name string) string {
	if r.Previous.none() {
		return orNone(r.Active.version(name))
	}
	return r.Active.version(name) + " and " + r.Previous.version(name)
}

// keepsFromWant reports whether the owner's hold stands against the wanted
// version. It does not when nothing answers: a device shall have a model.
func (r *rollout) keepsFromWant() bool { return r.Hold != holdNone && !r.Active.none() }

// owner does what the device's owner asks for, which nothing speaks against.
func (d *decision) owner(e event) {
	switch e.kind {
	case evPinned:
		if n := e.held.Number; n != 0 && n != d.Active.Number {
			d.back()
		} else if d.Hold == holdPinned {
			return
		}
		d.Hold = holdPinned
		d.tell(toldPinned, d.Active, "by the device's owner")
	case evReturned:
		from := d.Active
		d.back()
		if d.Hold == holdNone {
			d.Hold = holdReturned
		}
		d.tell(toldRolledBack, from, "by the device's owner")
	case evUnpinned:
		if d.Hold == holdNone {
			return
		}
		d.Hold = holdNone
		d.tell(toldUnpinned, d.Active, "by the device's owner")
	}
	d.do(doReport)
	d.pursue()
}

// back puts the previous version in place. It was confirmed before, so it needs
// no trial; the one it takes turns with stays in the cache, unless it was on
// trial.
func (d *decision) back() {
	if d.Phase == trying {
		d.goBack()
		return
	}
	d.Active, d.Previous = d.Previous, d.Active
	d.tidyShadow()
	d.do(doServe)
	d.do(doExport)
}

// A Placed is the version of a model after the owner asked for something.
type Placed struct {
	Name    string          `json:"name"`
	Version string          `json:"version"` // NAME:vN
	Digest  protocol.Digest `json:"digest"`
	Hold    string          `json:"hold,omitempty"` // pinned, rolled_back, or empty: it follows the control plane
	Running bool            `json:"running"`        // false: in place from the next start
}

// Pin holds a model on a version, whatever the control plane wants, until
// Unpin. Ref is MODEL, for the version in place, or MODEL:vN for one of the
// cache. A version on trial can be pinned and still fails it: the pin is then
// one on the version before. A file that is installed takes the pin along.
//
// Errors wrap ErrNotHere or ErrFloor, or are of the disk. All three methods work
// without Run too, and what they decide then is in place from the next start.
func (a *Agent) Pin(ctx context.Context, ref string) (Placed, error) {
	model, version, versioned := strings.Cut(ref, ":")
	e := event{kind: evPinned, model: model}
	if versioned {
		n, err := strconv.ParseUint(strings.TrimPrefix(version, "v"), 10, 63)
		if err != nil || n == 0 || !strings.HasPrefix(version, "v") {
			return Placed{}, fmt.Errorf("pin %.80q: %w; write MODEL, or MODEL:vN for a version in the cache", ref, ErrNotHere)
		}
		e.held.Number = n
	}
	return a.ask(ctx, "pin", e)
}

// Unpin lets a model follow the control plane again, after Pin or Rollback. The
// error wraps ErrNotHere.
func (a *Agent) Unpin(ctx context.Context, model string) (Placed, error) {
	return a.ask(ctx, "unpin", event{kind: evUnpinned, model: model})
}

// Rollback puts the previous version of a model in place, from the cache. It
// stays until a newer want, or Unpin; a pin stays a pin. Errors wrap
// ErrNotHere, ErrFloor or ErrReturned.
func (a *Agent) Rollback(ctx context.Context, model string) (Placed, error) {
	return a.ask(ctx, "rollback", event{kind: evReturned, model: model})
}

func (a *Agent) ask(ctx context.Context, what string, e event) (Placed, error) {
	running, err := a.submit(ctx, delivery{event: e})
	if err != nil {
		return Placed{}, fmt.Errorf("%s: %w", what, err)
	}
	r := a.snapshot.Load().Models[e.model]
	return Placed{
		Name: e.model, Version: r.Active.version(e.model), Digest: r.Active.Digest, Hold: string(r.Hold), Running: running,
	}, nil
}

// submit has d decided, by the loop or, where none runs, by this call.
func (a *Agent) submit(ctx context.Context, d delivery) (running bool, err error) {
	done := make(chan error, 1)
	d.done = done
	select {
	case a.installs <- d:
		select {
		case err = <-done:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		return true, err
	case <-a.owner: // nobody decides: this call does
		err = a.decide(ctx, nil, d)
		a.owner <- struct{}{}
		return false, err
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}
