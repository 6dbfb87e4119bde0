//go:build !unix || solaris || aix

package controlplane

import (
	"errors"
	"os"
)

// tryLock refuses: without a lock, two processes could open one folder.
func tryLock(*os.File) error { return errors.ErrUnsupported }
