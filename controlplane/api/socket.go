package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
)

// SocketName is the control plane's socket in its data folder.
const SocketName = "api.sock"

// maxSocketPath is the longest path that fits in sun_path with its final zero
// (unix(7): 108 bytes on Linux; 104 on the BSDs, so that is the bound).
const maxSocketPath = 103

// ListenSocket listens on DIR/api.sock. The socket is born in a folder of mode
// 0700, made 0600 and renamed into place, so nobody else can connect at any
// time; a socket that an earlier process left behind is replaced. The caller
// holds the lock of dir, and removes the file after closing the listener.
func ListenSocket(dir string) (net.Listener, error) {
	nursery, err := os.MkdirTemp(dir, ".sock-") // MkdirTemp uses mode 0700
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", filepath.Join(dir, SocketName), err)
	}
	defer os.RemoveAll(nursery)
	path, done, err := shortPath(nursery, "s")
	if err != nil {
		return nil, err
	}
	defer done()
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", filepath.Join(dir, SocketName), err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false) // its name is about to change
	if err := errors.Join(
		os.Chmod(filepath.Join(nursery, "s"), 0o600),
		os.Rename(filepath.Join(nursery, "s"), filepath.Join(dir, SocketName)),
	); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", filepath.Join(dir, SocketName), err), ln.Close())
	}
	return ln, nil
}

// dialSocket connects to DIR/api.sock.
func dialSocket(ctx context.Context, dir string) (net.Conn, error) {
	path, done, err := shortPath(dir, SocketName)
	if err != nil {
		return nil, err
	}
	defer done()
	return (&net.Dialer{}).DialContext(ctx, "unix", path)
}

// shortPath returns a path to dir/name that fits in a socket address. A longer
// one is reached through an open descriptor of dir, which done closes.
func shortPath(dir, name string) (path string, done func(), err error) {
	path = filepath.Join(dir, name)
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	if runtime.GOOS != "linux" {
		return "", nil, fmt.Errorf("%s is %d bytes long, and a socket's path has at most %d; use a shorter data folder", path, len(path), maxSocketPath)
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", f.Fd(), name), func() { f.Close() }, nil
}
