package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/broker/brokertest"
	"github.com/sandpiper-edge/sandpiper/controlplane/past"
	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// agedSite returns a control plane of 10,000 devices with a year behind it, which
// takes minutes to make.
func (h *house) agedSite(ctx context.Context) (*site, error) {
	if h.aged != nil {
		return h.aged, nil
	}
	s, err := h.newSite(ctx)
	if err != nil {
		return nil, err
	}
	if err := past.Year.Fill(ctx, s.dir, h.logf); err != nil {
		return nil, err
	}
	h.aged = s
	return s, nil
}

// calls is how often each inquiry is made, once right after the start and once more.
const calls = 200

// An inquiry of the API, with its bar.
type inquiry struct {
	name string
	bar  time.Duration // of the 95th percentile
	ask  func(ctx context.Context, c *api.Client, rng *rand.Rand) error
}

var inquiries = []inquiry{
	{"fleet ls", 100 * time.Millisecond, func(ctx context.Context, c *api.Client, rng *rand.Rand) error {
		_, err := c.Devices(ctx, yearFilter(rng))
		return err
	}},
	{"rollout status", 20 * time.Millisecond, func(ctx context.Context, c *api.Client, rng *rand.Rand) error {
		_, err := c.RolloutCounts(ctx, past.Model(rng.IntN(past.Year.Models)))
		return err
	}},
	{"history at T", time.Second, func(ctx context.Context, c *api.Client, rng *rand.Rand) error {
		at := time.Now().Add(-time.Duration(rng.Int64N(int64(350 * 24 * time.Hour))))
		ran, err := c.History(ctx, past.Device(rng.IntN(past.Year.Devices)), "", at)
		if err == nil && len(ran) == 0 {
			err = fmt.Errorf("nothing ran at %s", at)
		}
		return err
	}},
}

// yearFilter returns a filter that selects some hundred devices, by what they are
// labelled, by what they report and by what they run.
func yearFilter(rng *rand.Rand) string {
	site := "site=" + past.Site(rng.IntN(1000))
	newest := fmt.Sprintf("model.%s=v%d", past.Model(rng.IntN(past.Year.Models)), past.Year.Versions)
	return []string{
		site,
		fmt.Sprintf("%s and kernel!=generic and seen<%dm and model.%s!=v7", site, 1+rng.IntN(90), past.Model(1)),
		fmt.Sprintf("hw=rev%d and line=l%d and %s", 1+rng.IntN(3), rng.IntN(8), newest),
		site + " and not up=online",
		fmt.Sprintf("cached.%s=v%d and arch=arm and line in (l%d, l%d)", past.Model(2), past.Year.Versions-1, rng.IntN(4), 4+rng.IntN(4)),
		fmt.Sprintf("(%s or free<%dMB) and id~pump-0%d*", site, 1+rng.IntN(4), rng.IntN(10)),
	}[rng.IntN(6)]
}

// servedYear starts the control plane with a year behind it.
func (h *house) servedYear(ctx context.Context) (*site, *api.Client, error) {
	s, err := h.agedSite(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := s.serve(ctx); err != nil {
		return nil, nil, err
	}
	return s, api.NewSocketClient(s.dir), nil
}

// yearQueries asks the control plane with a year behind it.
func yearQueries(ctx context.Context, h *house) (string, error) {
	s, c, err := h.servedYear(ctx)
	if err != nil {
		return "", err
	}
	defer s.close()
	defer c.Close()
	rng := rand.New(rand.NewPCG(1, 1))
	var figures []string
	var errs []error
	for _, when := range []string{"right after the start", "warm"} {
		for _, q := range inquiries {
			took := make([]time.Duration, calls)
			for i := range took {
				begin := time.Now()
				if err := q.ask(ctx, c, rng); err != nil {
					return "", fmt.Errorf("%s: %w", q.name, err)
				}
				took[i] = time.Since(begin)
			}
			slices.Sort(took)
			p95 := took[calls*95/100]
			figures = append(figures, fmt.Sprintf("%s %s: median %s, p95 %s", q.name, when, ms(took[calls/2]), ms(p95)))
			if p95 > q.bar {
				errs = append(errs, fmt.Errorf("%s: over the bar of %s", q.name, q.bar))
			}
		}
	}
	for _, args := range [][]string{
		{"fleet", "ls", "site=" + past.Site(3)}, {"history", past.Device(7), "--at", time.Now().Add(-100 * 24 * time.Hour).UTC().Format(time.RFC3339)}, {"audit", "verify"},
	} {
		begin := time.Now()
		if _, err := s.run(ctx, args...); err != nil {
			return "", err
		}
		figures = append(figures, fmt.Sprintf("%s as a command: %s", strings.Join(args[:2], " "), ms(time.Since(begin))))
	}
	head, err := c.VerifyAudit(ctx, "")
	if err != nil {
		return "", err
	}
	info, err := os.Stat(filepath.Join(s.dir, "control.db"))
	if err != nil {
		return "", err
	}
	figures = append(figures, fmt.Sprintf("%d entries of the record, %d MB", head.Seq, info.Size()/1_000_000))
	return strings.Join(figures, "; "), errors.Join(errs...)
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond)) }

// restarts is how often the control plane is killed and started.
const restarts = 5

// yearRestart kills the control plane with a year behind it and starts it again.
func yearRestart(ctx context.Context, h *house) (string, error) {
	s, c, err := h.servedYear(ctx)
	if err != nil {
		return "", err
	}
	defer s.close()
	defer c.Close()
	// Wants are published in the order of the devices' ids, so all are there when
	// that of the last is.
	last := past.Device(past.Year.Devices - 1)
	token, err := c.RenewToken(ctx, last)
	if err != nil {
		return "", err
	}
	var answered, wanted []float64
	for range restarts {
		s.close()
		a, w, err := s.restart(ctx, last, token.Token)
		if err != nil {
			return "", err
		}
		answered, wanted = append(answered, a.Seconds()), append(wanted, w.Seconds())
	}
	figure := fmt.Sprintf("of %d starts after a kill, the slowest answered after %.2f s and had the want of every device on its broker after %.2f s (medians %.2f and %.2f s)",
		restarts, slices.Max(answered), slices.Max(wanted), median(answered), median(wanted))
	return figure, atMost(max(slices.Max(answered), slices.Max(wanted)), 2)
}

// restart starts the server and returns after what time it answered a call, and a
// device that connected to its broker had its want.
func (s *site) restart(ctx context.Context, device, token string) (answered, wanted time.Duration, err error) {
	addr, err := s.brokerAddress()
	if err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	stop, logged, err := start(s.h.command(ctx, s.bin, "serve", "--dir", s.dir))
	if err != nil {
		return 0, 0, err
	}
	s.stop = stop
	c := api.NewSocketClient(s.dir)
	defer c.Close()
	const limit = 30 * time.Second
	if err := until(ctx, limit, func() bool { return c.Ping(ctx) == nil }); err != nil {
		return 0, 0, fmt.Errorf("sandpiper serve does not answer: %w: %s", err, logged())
	}
	answered = time.Since(begin)
	err = until(ctx, limit, func() bool { err := wantOf(addr, device, token); return err == nil })
	return answered, time.Since(begin), err
}

// brokerAddress returns where the embedded broker listens.
func (s *site) brokerAddress() (string, error) {
	conf, err := os.ReadFile(filepath.Join(s.dir, "sandpiper.toml"))
	_, rest, _ := bytes.Cut(conf, []byte("\n[broker]"))
	_, rest, _ = bytes.Cut(rest, []byte("listen = \""))
	addr, _, ok := bytes.Cut(rest, []byte("\""))
	if err == nil && !ok {
		err = errors.New("sandpiper.toml names no address of the broker")
	}
	return string(addr), err
}

// wantOf connects as a device and reads its want, if there is one.
func wantOf(addr, device, token string) error {
	c, err := listen(addr, device, token)
	if err != nil {
		return err
	}
	defer c.Conn.Close()
	if err := c.Conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		return err
	}
	_, err = c.Until(brokertest.PUBLISH)
	return err
}

// yearWithdrawal has all 10,000 devices told to run a version, and then told to go
// back. It watches the wants of every hundredth.
func yearWithdrawal(ctx context.Context, h *house) (string, error) {
	const watched = 100
	s, err := h.agedSite(ctx)
	if err != nil {
		return "", err
	}
	if err := s.serve(ctx); err != nil {
		return "", err
	}
	defer s.close()
	addr, err := s.brokerAddress()
	if err != nil {
		return "", err
	}
	c := api.NewSocketClient(s.dir)
	defer c.Close()
	var devices []*brokertest.Client
	for i := range watched {
		id := past.Device((i+1)*past.Year.Devices/watched - 1)
		token, err := c.RenewToken(ctx, id)
		if err != nil {
			return "", err
		}
		d, err := listen(addr, id, token.Token)
		if err != nil {
			return "", err
		}
		defer d.Conn.Close()
		devices = append(devices, d)
	}
	model, quiet := past.Model(1), plan.Plan{Stages: []plan.Stage{
		{Devices: plan.Amount{Count: 100}, Quality: plan.Off, Minimum: plan.Duration(time.Hour)}, {Devices: plan.Amount{Percent: 100}, Quality: plan.Off},
	}}
	v, err := c.Version(ctx, fmt.Sprintf("%s:v%d", model, past.Year.Versions+1))
	if err != nil {
		return "", err
	}
	if _, err := c.StartRollout(ctx, api.NewRollout{Ref: v.Ref, To: "all", Plan: quiet}); err != nil {
		return "", err
	}
	told := func(command plan.Kind, is bool) (time.Duration, error) {
		begin := time.Now()
		if _, err := c.CommandRollout(ctx, model, command); err != nil {
			return 0, err
		}
		var g errgroup.Group
		for _, d := range devices {
			g.Go(func() error { return wants(d, model, v.Digest, is) })
		}
		err := g.Wait()
		return time.Since(begin), err
	}
	there, err := told(plan.Promote, true)
	if err != nil {
		return "", err
	}
	back, err := told(plan.Abort, false)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%.2f s until the last of %d devices, of %d, had the want that takes it back; %.2f s for the one before", back.Seconds(), watched, past.Year.Devices, there.Seconds()),
		atMost(back.Seconds(), 3)
}

// listen connects as a device that subscribes to its want.
func listen(addr, device, token string) (*brokertest.Client, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c, err := brokertest.Connect(conn, brokertest.Options{ID: "d." + device, Password: token, NoKeepAlive: true})
	if err == nil {
		_, err = c.Subscribe(1, protocol.WantTopic("default", device))
	}
	if err != nil {
		conn.Close()
	}
	return c, err
}

// wants reads the wants of a device until one names the version, or until one does
// not.
func wants(c *brokertest.Client, model string, version protocol.Digest, is bool) error {
	if err := c.Conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	for {
		p, err := c.Until(brokertest.PUBLISH)
		if err != nil {
			return err
		}
		if err := c.Ack(p); err != nil {
			return err
		}
		var env artifact.Envelope
		var w protocol.Want
		if err := errors.Join(env.UnmarshalBinary(p.Payload), w.UnmarshalBinary(env.Payload)); err != nil {
			return err
		}
		if (w.Models[model].Active.Digest == version) == is {
			return nil
		}
	}
}
