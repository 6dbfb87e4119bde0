package link

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// The answers of CONNACK that mean the credentials (MQTT 3.1.1 §3.2.2.3).
var (
	errBadLogin      = packets.ErrorRefusedBadUsernameOrPassword
	errNotAuthorized = packets.ErrorRefusedNotAuthorised
)

// dialer returns a function that connects to tcp://host:port, or over TLS to
// tls://host:port. TCP_NODELAY is Go's default: small replies are not held
// back for the peer's delayed acknowledgement.
func dialer(broker string, config *tls.Config) (func(context.Context) (net.Conn, error), error) {
	u, err := url.Parse(broker)
	if err != nil || u.Port() == "" || u.Hostname() == "" {
		return nil, fmt.Errorf("broker %q: write tcp://host:port or tls://host:port", broker)
	}
	d := &net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}
	switch u.Scheme {
	case "tcp", "mqtt":
		return func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", u.Host) }, nil
	case "tls", "mqtts", "ssl":
		t := &tls.Dialer{NetDialer: d, Config: config}
		return func(ctx context.Context) (net.Conn, error) { return t.DialContext(ctx, "tcp", u.Host) }, nil
	}
	return nil, fmt.Errorf("broker %q: unknown scheme %q; write tcp://host:port or tls://host:port", broker, u.Scheme)
}
