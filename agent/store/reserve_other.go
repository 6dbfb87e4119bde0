//go:build !linux

package store

import "os"

// reserve makes f size bytes long.
func reserve(f *os.File, size int64) error { return f.Truncate(size) }
