//go:build !linux && !darwin

package store

// DiskFree does not know.
func DiskFree(string) (uint64, bool) { return 0, false }
