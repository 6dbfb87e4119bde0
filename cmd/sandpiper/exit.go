package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/sandpiper-edge/sandpiper/cmd/internal/config"
	"github.com/sandpiper-edge/sandpiper/controlplane"
	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// Exit codes. Scripts rely on them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitDenied      = 4
	exitUnreachable = 5
	exitTimeout     = 6
	exitPartly      = 7
	exitRefused     = 8 // a check refused
)

// exitCodes is shown by `sandpiper help`.
const exitCodes = `Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 denied, 5 unreachable, 6 timeout,
7 done in part, 8 refused by a check.`

// A usageError is a command line that says nothing we can do.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// usagef returns a usageError.
func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

var (
	// errPartly means that some of what was asked was done and some was not.
	errPartly = errors.New("done in part")
	// errRefused means that a check said no.
	errRefused = errors.New("refused")
)

// report writes err, if any, to w and returns the exit code it stands for.
func report(w io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	for i, line := range strings.Split(strings.TrimSpace(err.Error()), "\n") {
		if i == 0 {
			line = "error: " + line
		}
		fmt.Fprintln(w, line)
	}
	return exitCode(err)
}

// exitCode returns the code that err stands for.
func exitCode(err error) int {
	var problem *api.Problem
	var usage *usageError
	var file *config.Error
	switch {
	case errors.As(err, &usage), errors.As(err, &file), errors.Is(err, protocol.ErrID):
		return exitUsage
	case errors.Is(err, errPartly):
		return exitPartly
	case errors.As(err, &problem):
		return problemCode(problem)
	case errors.Is(err, errRefused):
		return exitRefused
	case errors.Is(err, api.ErrUnreachable):
		return exitUnreachable
	case errors.Is(err, context.DeadlineExceeded):
		return exitTimeout
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, controlplane.ErrNotInitialized):
		return exitNotFound
	case errors.Is(err, fs.ErrPermission):
		return exitDenied
	default:
		return exitFailed
	}
}

// problemCode returns the code that an answer of the control plane stands for.
func problemCode(p *api.Problem) int {
	switch p.Code() {
	case api.CodeNotFound:
		return exitNotFound
	case api.CodeDenied:
		return exitDenied
	case api.CodeUnreachable, api.CodeBusy:
		return exitUnreachable
	case api.CodeTimeout:
		return exitTimeout
	case api.CodeNoPrevious:
		return exitPartly
	case api.CodeRefused:
		return exitRefused
	case api.CodeUsage:
		return exitUsage
	}
	if p.Code() == "" && p.Status/100 == 4 { // the request does not fit the API's schema
		return exitUsage
	}
	return exitFailed
}
