package api

import (
	"net"
	"syscall"
)

// peerUID is the user of the process that connected (unix(7), SO_PEERCRED).
func peerUID(c *net.UnixConn) (uid uint32, ok bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, false
	}
	var cred *syscall.Ucred
	if control := raw.Control(func(fd uintptr) {
		cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); control != nil || err != nil {
		return 0, false
	}
	return cred.Uid, true
}
