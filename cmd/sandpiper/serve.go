package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/cmd/internal/config"
	"github.com/sandpiper-edge/sandpiper/controlplane/api"
)

// drainTime is how long requests under way have when the server stops.
const drainTime = 10 * time.Second

func newServeCommand(a *app) *cobra.Command {
	var brokerListen, httpListen string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the control plane: broker, HTTP API and rollouts",
		Long: `Run the control plane until SIGINT or SIGTERM: the MQTT broker (unless
sandpiper.toml names an external one), the HTTP API, and DIR/api.sock, through
which commands on the same --dir reach it.`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.server != "" {
				return usagef("serve runs a control plane here; leave --server and SANDPIPER_SERVER out")
			}
			cfg, err := config.LoadServer(a.configFile())
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("broker-listen") {
				cfg.Broker.Listen, cfg.Broker.URL = brokerListen, ""
			}
			if cmd.Flags().Changed("http-listen") {
				cfg.HTTP.Listen = httpListen
			}
			if err := checkListeners(cfg); err != nil {
				return err
			}
			return a.serve(cmd.Context(), cfg)
		},
	}
	f := cmd.Flags()
	f.StringVar(&brokerListen, "broker-listen", "", "address of the embedded broker, instead of the one in sandpiper.toml; port 0 takes a free one")
	f.StringVar(&httpListen, "http-listen", "", "address of the HTTP API, instead of the one in sandpiper.toml; empty: none")
	return cmd
}

// checkListeners refuses addresses from flags that the file could not hold.
func checkListeners(cfg config.Server) error {
	usual := config.DefaultServer()
	for _, l := range []struct{ flag, addr, usual, elsewhere string }{
		{"--broker-listen", cfg.Broker.Listen, usual.Broker.Listen, "let devices elsewhere use a broker with TLS, broker.url in the file"},
		{"--http-listen", cfg.HTTP.Listen, usual.HTTP.Listen, "let a proxy with TLS on this machine pass on what comes from others"},
	} {
		host, port, err := net.SplitHostPort(l.addr)
		switch {
		case l.addr == "" && (l.flag == "--http-listen" || cfg.Broker.URL != ""):
		case err != nil:
			return usagef("%s %q is not an address; write host:port, such as %s", l.flag, l.addr, l.usual)
		case !config.Loopback(host):
			return usagef("%s %q is reachable from other machines, and this listener has no TLS; write %s, and %s", l.flag, l.addr, net.JoinHostPort("127.0.0.1", port), l.elsewhere)
		}
	}
	return nil
}

// serve runs the control plane and its listeners until ctx ends.
func (a *app) serve(ctx context.Context, cfg config.Server) (err error) {
	log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: cfg.LogLevel}))
	cp, err := a.openControlPlane(ctx, cfg, log, a.lockWait)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cp.Close()) }()
	token, err := cp.AdminToken()
	if err != nil {
		return fmt.Errorf("admin token: %w", err)
	}
	if err := cp.Listen(); err != nil {
		return fmt.Errorf("broker: %w; if another program has the port, choose one with broker.listen in %s or --broker-listen", err, a.configFile())
	}
	listeners, err := a.listen(cfg, newAPI(cp, cfg, log, true), token)
	if err != nil {
		return err
	}
	defer os.Remove(filepath.Join(a.dir, api.SocketName))
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return cp.Run(ctx) })
	g.Go(func() error { return giveBack(ctx) })
	for _, l := range listeners {
		g.Go(func() error { return l.run(ctx, log) })
	}
	log.Info("control plane ready", "dir", a.dir, "fleet", cp.Fleet.Name(), "broker", cp.BrokerURL(), "http", addresses(listeners))
	return g.Wait()
}

// giveBack returns memory that is not in use to the system once a minute. The stack
// of a connection grows with what it reports and shrinks when garbage is collected,
// and a fleet at rest makes little garbage.
func giveBack(ctx context.Context) error {
	for minutes := time.Tick(time.Minute); ; {
		select {
		case <-minutes:
			debug.FreeOSMemory()
		case <-ctx.Done():
			return nil
		}
	}
}

// A listener is one way to the API.
type listener struct {
	ln      net.Listener
	handler http.Handler
}

// listen opens DIR/api.sock and, if there is one, the TCP address.
func (a *app) listen(cfg config.Server, handlers *api.API, token string) ([]listener, error) {
	var all []listener
	if cfg.HTTP.Listen != "" {
		ln, err := net.Listen("tcp", cfg.HTTP.Listen)
		if err != nil {
			return nil, fmt.Errorf("HTTP API: %w; if another program has the port, choose one with http.listen in %s or --http-listen", err, a.configFile())
		}
		all = append(all, listener{ln, handlers.Authenticated(token)})
	}
	ln, err := api.ListenSocket(a.dir)
	if err != nil {
		for _, l := range all {
			l.ln.Close()
		}
		return nil, err
	}
	return append(all, listener{ln, handlers.Handler()}), nil
}

// run serves until ctx ends, then lets requests under way finish.
func (l listener) run(ctx context.Context, log *slog.Logger) error {
	server := api.NewHTTPServer(l.handler, log)
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		drain, cancel := context.WithTimeout(context.Background(), drainTime)
		defer cancel()
		err := server.Shutdown(drain)
		if errors.Is(err, context.DeadlineExceeded) {
			err = server.Close() // a training run, say: its client sees the connection end
		}
		stopped <- err
	})
	err := server.Serve(l.ln)
	if stop() || !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("HTTP API: %w", err)
	}
	return <-stopped
}

// addresses lists the TCP listeners.
func addresses(all []listener) string {
	for _, l := range all {
		if l.ln.Addr().Network() == "tcp" {
			return "http://" + l.ln.Addr().String()
		}
	}
	return ""
}
