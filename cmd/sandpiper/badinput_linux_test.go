package main

import (
	"os"
	"syscall"
	"testing"
)

// smallDisk returns a folder on a file system of its own, of size bytes. It
// takes the rights of root, and skips the test without them.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("sandpiper-test", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("no disk that can be filled or write-protected: mount a tmpfs, as root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// writeProtect makes the file system of dir, from smallDisk, read-only.
func writeProtect(t *testing.T, dir string) {
	t.Helper()
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Skipf("remount read-only: %v", err)
	}
}

// fullDevice is a file that every write to fails for want of space.
func fullDevice(t *testing.T) string {
	t.Helper()
	const path = "/dev/full"
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no file that is always full: %v", err)
	}
	return path
}
