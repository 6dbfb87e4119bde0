package agent

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// An Installed names a version that a file put in place.
type Installed struct {
	Name    string          `json:"name"`
	Version string          `json:"version"` // NAME:vN
	Digest  protocol.Digest `json:"digest"`
	Running bool            `json:"running"` // false: it is on trial from the next start
}

// maxFile is the largest artifact file: a transfer, its release and descriptor.
const maxFile = protocol.MaxTransfer + protocol.MaxPayload

// Install verifies an artifact file as strictly as a version from the control
// plane and puts it in place, on trial. It holds until a newer want. Without
// Run the version is cached and on trial from the next start.
//
// The error wraps what the check that failed says: artifact.ErrUnsigned,
// artifact.ErrDowngrade, predictor.ErrGolden and so on; nothing has changed.
func (a *Agent) Install(ctx context.Context, r io.Reader) (Installed, error) {
	v, err := a.verifyFile(io.LimitReader(r, maxFile), activating)
	if err != nil {
		return Installed{}, &refusedError{err}
	}
	name := v.slot.Model
	out := Installed{Name: name, Version: v.held.version(name), Digest: v.held.Digest}
	d := delivery{event: event{kind: evInstalled, model: name, held: v.held}, slot: &v.slot, ready: v.predictor}
	out.Running, err = a.submit(ctx, d)
	if err != nil {
		return Installed{}, fmt.Errorf("install %s: %w", out.Version, err)
	}
	return out, nil
}

// A refusedError is about the file, not about the device.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return "install: " + e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

// Refused reports whether an error of Install means that the file did not pass
// a check.
func Refused(err error) bool {
	var r *refusedError
	return errors.As(err, &r)
}
