package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// useExternal has the server connect to a broker at d.broker in place of its own.
func (d *stand) useExternal() error {
	d.external = true
	return os.WriteFile(filepath.Join(d.site.dir, "sandpiper.toml"), fmt.Appendf(nil, "[broker]\nurl = %q\n[http]\nlisten = \"\"\n", "tcp://"+d.broker), 0o600)
}

// liveBroker runs that broker, which begins with nothing, for so long or until ended
// is closed.
func (d *stand) liveBroker(ctx context.Context, lifetime time.Duration, ended <-chan struct{}) (killed bool, err error) {
	b, err := openBroker(d.broker, d.fleet)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	select {
	case <-ctx.Done():
	case <-time.After(lifetime):
		killed = true
	case <-ended:
	}
	cancel()
	err = <-done
	b.Close()
	return killed, err
}
