package api

import (
	"context"
	"net"
	"os/user"
	"strconv"
)

// tokenHolder is the caller over TCP: there is one token.
const tokenHolder = "admin token"

type callerKey struct{}

func withCaller(ctx context.Context, who string) context.Context {
	return context.WithValue(ctx, callerKey{}, who)
}

// withPeer is an http.Server's ConnContext: on a Unix socket the caller is the
// user at its other end.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	if u, ok := c.(*net.UnixConn); ok {
		if uid, ok := peerUID(u); ok {
			return withCaller(ctx, userName(uid))
		}
	}
	return ctx
}

// caller names who makes the request of ctx. A request in this process, or of
// a peer that the system does not tell, is the process's own user's: the socket
// is open to nobody else.
func caller(ctx context.Context) string {
	if who, ok := ctx.Value(callerKey{}).(string); ok {
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
