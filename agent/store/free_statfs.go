//go:build linux || darwin

package store

import "golang.org/x/sys/unix"

// DiskFree returns the bytes that an unprivileged process may still write to
// the file system of dir.
func DiskFree(dir string) (uint64, bool) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil || s.Bsize < 0 {
		return 0, false
	}
	return s.Bavail * uint64(s.Bsize), true
}
