package api

import (
	"context"
	"net"
	"os/user"
	"strconv"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/fleet"
)

// tokenHolder is the caller over TCP with the token that init wrote.
const tokenHolder = "admin token"

// holder is how the holder of another token is called.
func holder(t fleet.APIToken) string { return "token " + t.Name }

type roleKey struct{}

// withRole returns a context whose caller may do what the role may; without, a
// caller is the administrator by the way they came.
func withRole(ctx context.Context, r fleet.Role) context.Context {
	return context.WithValue(ctx, roleKey{}, r)
}

func roleOf(ctx context.Context) fleet.Role {
	if r, ok := ctx.Value(roleKey{}).(fleet.Role); ok {
		return r
	}
	return fleet.Admin
}

// withPeer is an http.Server's ConnContext: on a Unix socket the caller is the
// user at its other end.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	if u, ok := c.(*net.UnixConn); ok {
		if uid, ok := peerUID(u); ok {
			return audit.By(ctx, userName(uid))
		}
	}
	return ctx
}

// caller names who makes the request of ctx. A request in this process, or of
// a peer that the system does not tell, is the process's own user's: the socket
// is open to nobody else.
func caller(ctx context.Context) string {
	if who := audit.Who(ctx); who != audit.ControlPlane {
		return who
	}
	u, err := user.Current()
	if err != nil {
		return "unknown user"
	}
	return u.Username
}

// userName is the name of a user of this machine, or its number if it has none.
func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	u, err := user.LookupId(id)
	if err != nil {
		return "uid " + id
	}
	return u.Username
}
