//go:build !linux

package main

import "testing"

func smallDisk(t *testing.T, _ string) string {
	t.Helper()
	t.Skip("a disk that can be filled or write-protected is made on Linux only")
	return ""
}

func writeProtect(*testing.T, string) {}

func fullDevice(t *testing.T) string {
	t.Helper()
	t.Skip("there is no /dev/full")
	return ""
}
