package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/sandpiper-edge/sandpiper/agent"
	"github.com/sandpiper-edge/sandpiper/cmd/internal/config"
)

// A usageError is a command line that says nothing we can do.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

var (
	// errUnreachable: no agent answers on the socket.
	errUnreachable = errors.New("no agent answers")
	// errRefused: the agent did not accept a model file.
	errRefused = errors.New("refused")
)

// exitCode returns the code that err stands for.
func exitCode(err error) int {
	var usage *usageError
	var file *config.Error
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage), errors.As(err, &file):
		return exitUsage
	case errors.Is(err, errRefused):
		return exitRefused
	case errors.Is(err, errUnreachable):
		return exitUnreachable
	case errors.Is(err, context.DeadlineExceeded):
		return exitTimeout
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, agent.ErrNotHere):
		return exitNotFound
	case errors.Is(err, fs.ErrPermission):
		return exitDenied
	}
	return exitFailed
}
