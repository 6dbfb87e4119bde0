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
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/rollout"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	firmwaresim "github.com/sandpiper-edge/sandpiper/firmware-sim"
)

const (
	rolloutKills   = 200
	brokerRestarts = 100
	killSites      = 6   // control planes that are killed side by side
	killFleet      = 24  // devices of each
	killLights     = 120 // light ones, of those whose versions are judged
	killModel      = "boiler"
)

// rolloutKilled kills a control plane with SIGKILL at random moments of rollouts,
// until there were so many kills, and compares how each ended with how it ends
// undisturbed. external: it restarts a broker apart from the control plane instead.
func rolloutKilled(kills int, external bool) check {
	return func(ctx context.Context, h *house) (string, error) {
		seed := uint64(time.Now().UnixNano())
		k, err := newKilling(ctx, h, external)
		if err != nil {
			return "", err
		}
		all := tales()
		if err := k.tellAll(ctx, all); err != nil {
			return "", err
		}
		k.left.Store(int64(kills))
		var told atomic.Int64
		g, ctx := errgroup.WithContext(ctx)
		for worker := range killSites {
			g.Go(func() error {
				random := rand.New(rand.NewPCG(seed, uint64(worker)))
				for i := worker; k.left.Load() > 0; i += killSites {
					t := all[i%len(all)]
					n, err := k.compare(ctx, t, random)
					if err != nil {
						return fmt.Errorf("%q, after %d (seed %d): %w", t.name, n, seed, err)
					}
					h.logf("%q: ended the same after %d", t.name, n)
					told.Add(1)
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return "", err
		}
		return fmt.Sprintf("%d in %d rollouts of %d and %d devices, each ended as undisturbed", int64(kills)-k.left.Load(), told.Load(), killFleet, killLights), nil
	}
}

// A killing is what all its control planes and devices are copied from.
type killing struct {
	h        *house
	external bool         // it is the broker that is killed
	base     *stand       // with boiler:v1 active on every device
	lit      *stand       // with boiler:v1 wanted of light devices, which remember nothing
	left     atomic.Int64 // kills that are to come

	mu     sync.Mutex          // guards what follows
	ending map[string][]string // of the undisturbed, by tale
}

// A stand is a folder with a control plane and its devices, which may run.
type stand struct {
	site     *site
	devices  []firmwaresim.DeviceConfig
	fleet    string
	root     []byte
	broker   string // address
	external bool   // the broker is not the server's
}

// newKilling makes three versions and a fleet that runs the first.
func newKilling(ctx context.Context, h *house, external bool) (*killing, error) {
	s, err := h.newSite(ctx)
	if err != nil {
		return nil, err
	}
	for seed := range 3 {
		if _, err := s.boiler(ctx, 8, seed+1); err != nil {
			return nil, err
		}
	}
	k := &killing{h: h, external: external, base: &stand{site: s}, ending: map[string][]string{}}
	if k.lit, err = k.base.copy(ctx); err != nil {
		return nil, err
	}
	if err := k.base.listen(); err != nil {
		return nil, err
	}
	for i := range killLights {
		k.lit.devices = append(k.lit.devices, firmwaresim.DeviceConfig{ID: fmt.Sprintf("device-%05d", i+1)})
	}
	for i := range killFleet {
		k.base.devices = append(k.base.devices, firmwaresim.DeviceConfig{ID: fmt.Sprintf("d%02d", i), Restart: 50 * time.Millisecond})
	}
	if err := k.lit.settle(ctx, func() error { return nil }); err != nil {
		return nil, err
	}
	d := k.base
	return k, d.settle(ctx, func() error {
		return d.with(ctx, tale{}, func(ctx context.Context, f devices) error {
			return until(ctx, time.Minute, func() bool { return d.done(ctx, f) })
		})
	})
}

// settle adds the devices of d to its control plane, wants the first version of them
// all, and calls f before the control plane ends.
func (d *stand) settle(ctx context.Context, f func() error) error {
	if err := d.site.serve(ctx, d.flags()...); err != nil {
		return err
	}
	defer d.site.close()
	c := api.NewSocketClient(d.site.dir)
	defer c.Close()
	for i := range d.devices {
		added, err := c.AddDevice(ctx, api.NewDevice{ID: d.devices[i].ID})
		if err != nil {
			return err
		}
		d.fleet, d.root, d.devices[i].Token = added.Fleet, added.Root, added.Token
	}
	if err := until(ctx, time.Minute, func() bool { s, err := c.Server(ctx); return err == nil && s.Connected }); err != nil {
		return err
	}
	if _, err := c.StartRollout(ctx, api.NewRollout{Ref: killModel + ":v1", To: "all", Plan: plan.Plan{Name: rollout.Direct}}); err != nil {
		return err
	}
	return f()
}

// listen chooses the broker's port: not one that an outgoing connection may take
// while nobody listens there.
func (d *stand) listen() error {
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(10_000))
		if l, err := net.Listen("tcp", addr); err == nil {
			d.broker = addr
			return l.Close()
		}
	}
	return errors.New("no free port between 20000 and 30000")
}

// copy makes a stand that goes on from where d stopped.
func (d *stand) copy(ctx context.Context) (*stand, error) {
	dir, err := os.MkdirTemp(d.site.h.dir, "stand-")
	if err != nil {
		return nil, err
	}
	if _, err := output(d.site.h.command(ctx, "cp", "-a", filepath.Dir(d.site.dir)+"/.", dir)); err != nil {
		return nil, err
	}
	next := *d
	next.site = &site{h: d.site.h, dir: filepath.Join(dir, filepath.Base(d.site.dir)), bin: d.site.bin}
	return &next, next.listen()
}

// flags are those of its server.
func (d *stand) flags() []string {
	if d.external {
		return nil // it is in its configuration
	}
	return []string{"--broker-listen", d.broker, "--http-listen", ""}
}

// of returns where a tale begins.
func (k *killing) of(t tale) *stand {
	if t.ratio != 0 {
		return k.lit
	}
	return k.base
}

// tellAll has every tale told undisturbed.
func (k *killing) tellAll(ctx context.Context, all []tale) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, t := range all {
		g.Go(func() error {
			d, err := k.of(t).copy(ctx)
			var e ending
			if err == nil {
				e, _, err = k.tell(ctx, d, t, nil)
			}
			if err != nil {
				return fmt.Errorf("%q, undisturbed: %w", t.name, err)
			}
			k.mu.Lock()
			defer k.mu.Unlock()
			k.ending[t.name] = e.lines
			return nil
		})
	}
	return g.Wait()
}

// compare tells a tale with kills, and returns after how many it had ended. That it
// ended otherwise than undisturbed is an error.
func (k *killing) compare(ctx context.Context, t tale, random *rand.Rand) (kills int, err error) {
	d, err := k.of(t).copy(ctx)
	if err != nil {
		return 0, err
	}
	e, kills, err := k.tell(ctx, d, t, random)
	if err != nil {
		return kills, err
	}
	if diff := difference(k.ending[t.name], e.lines); diff != "" {
		return kills, fmt.Errorf("it ended otherwise (- undisturbed, + killed):\n%s", diff)
	}
	return kills, errors.Join(d.changeOneByte(ctx, random), os.RemoveAll(filepath.Dir(d.site.dir)))
}

// tell serves d until a tale has ended, and kills the control plane at moments that
// random draws; nil: never.
func (k *killing) tell(ctx context.Context, d *stand, t tale, random *rand.Rand) (e ending, kills int, err error) {
	live := d.live
	if k.external {
		if err := d.useExternal(); err != nil {
			return e, 0, err
		}
		live = d.liveBroker
	}
	err = d.with(ctx, t, func(ctx context.Context, f devices) error {
		ended := make(chan struct{})
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error {
			for {
				select {
				case <-ended:
					return nil
				default:
				}
				killed, err := live(ctx, k.lifetime(random), ended)
				if err != nil {
					return err
				}
				if killed {
					kills++
					k.left.Add(-1)
				}
			}
		})
		if k.external {
			g.Go(func() error { _, err := d.live(ctx, forever, ended); return err })
		}
		g.Go(func() error {
			defer close(ended)
			return d.attend(ctx, t, f)
		})
		return g.Wait()
	})
	if err != nil {
		return e, kills, err
	}
	e, err = d.ending(ctx)
	return e, kills, err
}

// forever is longer than any tale.
const forever = time.Hour

// lifetime draws how long a control plane lives, as long as there are kills left.
// Rollouts go on after the first ten seconds; before, it starts, and devices come
// back.
func (k *killing) lifetime(random *rand.Rand) time.Duration {
	switch {
	case random == nil || k.left.Load() <= 0:
		return forever
	case random.IntN(5) < 4:
		return time.Duration(random.Int64N(int64(1200 * time.Millisecond)))
	}
	return 10*time.Second + time.Duration(random.Int64N(int64(2500*time.Millisecond)))
}

// live runs the server for so long, or until ended is closed, and kills it; killed is
// whether that was before the end. That it ends by itself is an error.
func (d *stand) live(ctx context.Context, lifetime time.Duration, ended <-chan struct{}) (killed bool, err error) {
	cmd := d.site.h.command(ctx, d.site.bin, append([]string{"serve", "--dir", d.site.dir}, d.flags()...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		return false, err
	}
	died := make(chan struct{})
	go func() { err = cmd.Wait(); close(died) }()
	select {
	case <-died:
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		return false, fmt.Errorf("the control plane ended by itself: %v: %s", err, bytes.TrimSpace(log.Bytes()[max(0, log.Len()-1000):]))
	case <-time.After(lifetime):
		killed = true
	case <-ended:
	}
	_ = cmd.Process.Kill()
	<-died
	if i := bytes.Index(log.Bytes(), []byte("level=ERROR")); i >= 0 {
		return false, fmt.Errorf("the control plane logged an error: %s", log.Bytes()[i:min(log.Len(), i+500)])
	}
	return killed, nil
}

// attend is the person of a tale, until that has ended.
func (d *stand) attend(ctx context.Context, t tale, f devices) error {
	c := api.NewSocketClient(d.site.dir)
	defer c.Close()
	started, last := false, ending{}
	return until(ctx, 10*time.Minute, func() bool {
		time.Sleep(100 * time.Millisecond)
		if !started && d.done(ctx, f) { // an error: it is killed, or was before it could say so
			started = t.start(ctx, c, 2) == nil
		}
		if !started {
			return false
		}
		s, err := c.StagedRollout(ctx, killModel)
		if err != nil {
			return false
		}
		if s.State.Phase == plan.Held {
			if act := t.held[s.Plan.Stages[s.State.Stage].Name]; act != nil {
				_ = act(ctx, c) // again, as long as it is held
			}
		}
		if s.State.Phase.Live() || !s.Settled() {
			return false
		}
		before := last
		last, err = d.ending(ctx)
		return err == nil && last.done(f) && slices.Equal(last.lines, before.lines) // nothing was on its way any more
	})
}

// changeOneByte checks that the record of changes is whole, and that it is not once
// a byte of it is another.
func (d *stand) changeOneByte(ctx context.Context, random *rand.Rand) error {
	var e audit.Entry
	s, err := store.Open(ctx, d.site.dir)
	if err != nil {
		return err
	}
	err = s.View(ctx, func(tx store.Tx) error {
		head, err := tx.AuditHead(ctx)
		if err != nil {
			return err
		}
		entries, err := tx.AuditFrom(ctx, random.Uint64N(head.Seq), 1)
		if err == nil {
			e = entries[0]
		}
		return err
	})
	if err := errors.Join(err, s.Close()); err != nil { // which takes the log into the database
		return err
	}
	if _, err := d.site.run(ctx, "audit", "verify"); err != nil {
		return err
	}
	file := filepath.Join(d.site.dir, "control.db")
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	row := append([]byte(e.Detail), e.Hash[:]...) // its last two columns
	i, bit := random.IntN(len(row)), byte(1)<<random.IntN(8)
	for from := 0; ; { // a page that was split has what moved still behind its rows
		at := bytes.Index(b[from:], row)
		if at < 0 {
			return fmt.Errorf("a byte of entry %d of the record was changed wherever %s has it, and `audit verify` did not see it", e.Seq, file)
		}
		at += from
		from = at + 1
		b[at+i] ^= bit
		if err := os.WriteFile(file, b, 0o600); err != nil {
			return err
		}
		if _, err := d.site.run(ctx, "audit", "verify"); err != nil {
			if !strings.Contains(err.Error(), fmt.Sprintf("entry %d ", e.Seq)) {
				return fmt.Errorf("a byte of entry %d was changed, and `audit verify` says %w", e.Seq, err)
			}
			return nil
		}
		b[at+i] ^= bit
	}
}
