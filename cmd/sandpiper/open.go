package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/sandpiper-edge/sandpiper/cmd/internal/config"
	"github.com/sandpiper-edge/sandpiper/controlplane"
	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/broker"
)

// lockLook is how often a command that waits for the folder looks whether the
// process that has it serves.
const lockLook = 250 * time.Millisecond

// open returns a client of the control plane in --dir: of the server that runs
// there, or else of one that is opened in this process until done.
func (a *app) open(ctx context.Context) (c *api.Client, done func() error, err error) {
	cfg, err := config.LoadServer(a.configFile())
	if err != nil {
		return nil, nil, err
	}
	for deadline := time.Now().Add(a.lockWait); ; {
		c = api.NewSocketClient(a.dir)
		if err := c.Ping(ctx); err == nil {
			return c, func() error { c.Close(); return nil }, nil
		} else if !errors.Is(err, api.ErrUnreachable) {
			return nil, nil, err
		}
		cp, err := a.openControlPlane(ctx, cfg, a.commandLog(), min(lockLook, a.lockWait))
		if err == nil {
			return api.NewLocalClient(newAPI(cp, cfg, a.commandLog(), false).Handler()), cp.Close, nil
		}
		var locked *controlplane.LockedError
		if !errors.As(err, &locked) {
			return nil, nil, err
		}
		if time.Now().After(deadline) {
			locked.Waited = a.lockWait
			return nil, nil, err
		}
	}
}

// commandLog is the log of a control plane that one command opens: what goes
// wrong inside it.
func (a *app) commandLog() *slog.Logger {
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// openControlPlane opens --dir as cfg says.
func (a *app) openControlPlane(ctx context.Context, cfg config.Server, log *slog.Logger, wait time.Duration) (*controlplane.ControlPlane, error) {
	password, err := readPassword(cfg.Broker.PasswordFile)
	if err != nil {
		return nil, err
	}
	cp, err := controlplane.Open(ctx, controlplane.Config{
		Dir: a.dir, Listen: cfg.Broker.Listen, Limits: broker.Limits{Clients: cfg.Limits.MaxClients},
		BrokerURL: cfg.Broker.URL, BrokerUsername: cfg.Broker.Username, BrokerPassword: password,
		LockWait: wait, Log: log,
	})
	if err != nil {
		return nil, err
	}
	if name := cp.Fleet.Name(); name != cfg.Fleet {
		return nil, errors.Join(&config.Error{File: a.configFile(), Message: fmt.Sprintf(
			"fleet is %q, and this folder was made for fleet %q; write that name, or make another folder with `sandpiper init --fleet %s`", cfg.Fleet, name, cfg.Fleet)}, cp.Close())
	}
	return cp, nil
}

// readPassword reads the password of the external broker; "" without a file.
func readPassword(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("broker.password_file: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// newAPI returns the handlers over cp.
func newAPI(cp *controlplane.ControlPlane, cfg config.Server, log *slog.Logger, serving bool) *api.API {
	return api.New(api.Config{
		ControlPlane: cp, Version: version, Broker: brokerURL(cp, cfg), Serving: serving,
		MaxUpload: cfg.Limits.MaxUploadBytes, Log: log,
	})
}

// brokerURL is where devices find the broker; "" where only a running server
// knows, because it takes a free port.
func brokerURL(cp *controlplane.ControlPlane, cfg config.Server) string {
	if url := cp.BrokerURL(); url != "" && cfg.Broker.Advertise == "" {
		return url
	}
	u, err := url.Parse(cfg.BrokerURL())
	if err != nil || u.Port() == "0" {
		return ""
	}
	return cfg.BrokerURL()
}

// noteStandstill says that what was stored or shown does not move at the moment:
// no server runs, or it has lost its broker.
func (a *app) noteStandstill(ctx context.Context, c *api.Client) {
	switch s, err := c.Server(ctx); {
	case err != nil:
	case !s.Serving:
		a.notef("warning: no server is running, so nothing moves, and devices are shown as it last knew them; start one with `sandpiper serve`")
	case !s.Connected:
		a.notef("warning: the control plane has no connection to its broker, %s, so nothing reaches devices, and they are shown as it last knew them; its log says why", s.Broker)
	}
}
