package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/sandpiper-edge/sandpiper/agent"
	"github.com/sandpiper-edge/sandpiper/cmd/internal/config"
)

// defaultConfigs are where the configuration is looked for.
var defaultConfigs = []string{"agent.toml", "/etc/sandpiper/agent.toml"}

// load reads the configuration that o names, or the first default there is.
func load(o options) (config.Agent, error) {
	if o.config != "" {
		return config.LoadAgent(o.config)
	}
	for _, path := range defaultConfigs {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return config.LoadAgent(path)
		}
	}
	return config.Agent{}, fmt.Errorf("no configuration: neither %s nor %s exists; `sandpiper fleet add DEVICE --out agent.toml` writes one: %w",
		defaultConfigs[0], defaultConfigs[1], fs.ErrNotExist)
}

// configure turns the file into the agent's configuration.
func configure(c config.Agent, stderr io.Writer) (agent.Config, error) {
	local := agent.Local{Listen: c.Local.Listen, Users: c.Local.Users, Plaintext: c.Local.Plaintext}
	if c.Local.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Local.Cert, c.Local.Key)
		if err != nil {
			return agent.Config{}, fmt.Errorf("certificate of the local listener: %w", err)
		}
		local.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	}
	return agent.Config{
		Fleet: c.Fleet, Device: c.Device, Broker: c.Broker, Username: c.Username, Token: c.Token, Root: c.Root,
		DataDir: c.DataDir, Version: version, Socket: agent.DefaultSocket(c.DataDir),
		QuotaBytes: c.Limits.QuotaBytes, DailyBytes: c.Limits.DailyBytes, QueueLen: c.Limits.QueueLen, Trial: time.Duration(c.Limits.Trial),
		MaxSlowdown: c.Limits.Slowdown,
		Fallback:    c.Fallback, Simple: c.Simple, Local: local, HomeAssistant: homeAssistant(c.HomeAssistant),
		Log: slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: c.LogLevel})),
	}, nil
}

func homeAssistant(c config.AgentHomeAssistant) agent.HomeAssistant {
	if c.Via == "" {
		return agent.HomeAssistant{}
	}
	return agent.HomeAssistant{Prefix: cmp.Or(c.Prefix, "homeassistant"), Broker: c.Via == "broker"}
}

// open opens the agent that the configuration describes.
func open(c config.Agent, stderr io.Writer) (*agent.Agent, error) {
	ac, err := configure(c, stderr)
	if err != nil {
		return nil, err
	}
	return agent.New(ac)
}

// serve runs the daemon until ctx ends.
func serve(ctx context.Context, o options, stderr io.Writer) error {
	if o.data != "" {
		return usagef("run: --data is for the other commands; the data folder is data_dir of the configuration")
	}
	c, err := load(o)
	if err != nil {
		return err
	}
	a, err := open(c, stderr)
	if err != nil {
		return err
	}
	var g sync.WaitGroup
	defer g.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g.Go(func() { trim(ctx) })
	return a.Run(ctx)
}
