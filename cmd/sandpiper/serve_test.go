package main

import (
	"strings"
	"testing"

	"github.com/sandpiper-edge/sandpiper/cmd/internal/config"
)

// TestListenersSayWhatToWrite: the address that is meant, with the port that was given.
func TestListenersSayWhatToWrite(t *testing.T) {
	for _, tt := range []struct{ broker, http, want string }{
		{"127.0.0.1:1", "", ""},
		{"127.0.0.1:1", "[::1]:2", ""},
		{"127.0.0.1:1", "0.0.0.0:9999", "write 127.0.0.1:9999, and let a proxy with TLS"},
		{"127.0.0.1:1", ":9999", "write 127.0.0.1:9999, and let a proxy with TLS"},
		{"192.168.0.7:1884", "", "write 127.0.0.1:1884, and let devices elsewhere use a broker with TLS, broker.url"},
		{"127.0.0.1:1", "9999", "--http-listen \"9999\" is not an address; write host:port, such as 127.0.0.1:8080"},
		{"", "", "--broker-listen \"\" is not an address; write host:port, such as 127.0.0.1:1883"},
	} {
		var cfg config.Server
		cfg.Broker.Listen, cfg.HTTP.Listen = tt.broker, tt.http
		switch err := checkListeners(cfg); {
		case tt.want == "" && err != nil:
			t.Errorf("%q and %q: %v", tt.broker, tt.http, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || exitCode(err) != exitUsage):
			t.Errorf("%q and %q: %v, want %s", tt.broker, tt.http, err, tt.want)
		}
	}
}
