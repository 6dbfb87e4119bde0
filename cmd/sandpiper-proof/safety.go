package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// badInput runs the table test of bad inputs and counts its rows.
func badInput(ctx context.Context, h *house) (string, error) {
	out, err := output(h.command(ctx, "go", "test", "-count=1", "-v", "-run", "^TestBadInput", "./cmd/sandpiper"))
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out[max(0, len(out)-1500):])
	}
	rows := strings.Count(string(out), "    --- PASS: TestBadInput")
	if rows < 100 {
		return fmt.Sprintf("%d rows", rows), fmt.Errorf("the table has fewer rows than the page of bad inputs it stands for")
	}
	return fmt.Sprintf("%d rows", rows), nil
}

// agentKilled kills the agent at random moments of 100 updates. A device keeps
// three versions, so going round five of them downloads each time.
func agentKilled(ctx context.Context, h *house) (string, error) {
	const versions, kills = 5, 100
	s, d, window, err := h.boilerDevice(ctx, versions)
	if err != nil {
		return "", err
	}
	defer s.close()
	defer func() { d.remove() }()

	// What each version answers, undisturbed; and how long an update takes.
	answers := map[string][]json.Number{}
	var took time.Duration
	for v := range versions {
		version := fmt.Sprintf("boiler:v%d", v+1)
		begin := time.Now()
		if err := d.moveTo(ctx, version, window); err != nil {
			return "", err
		}
		took = time.Since(begin)
		r, err := d.predict("boiler", window)
		if err != nil {
			return "", err
		}
		answers[version] = r.Y
	}

	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	for k := range kills {
		version := fmt.Sprintf("boiler:v%d", k%versions+1)
		fail := func(err error) (string, error) {
			return "", fmt.Errorf("kill %d of %d on the way to %s (seed %d): %w", k+1, kills, version, seed, err)
		}
		if _, err := s.run(ctx, "rollout", "start", version, "--to", "all"); err != nil {
			return fail(err)
		}
		time.Sleep(time.Duration(random.Int64N(int64(took))))
		d.kill()
		if err := d.start(ctx); err != nil {
			return fail(err)
		}
		r, err := d.predict("boiler", window)
		if err != nil {
			return fail(fmt.Errorf("after the restart: %w", err))
		}
		if !slices.Equal(r.Y, answers[r.Version]) {
			return fail(fmt.Errorf("%s answers %v, want %v", r.Version, r.Y, answers[r.Version]))
		}
		if err := d.active(ctx, "boiler", version, window); err != nil {
			return fail(err)
		}
		if err := d.settled(ctx, "boiler"); err != nil {
			return fail(err)
		}
	}
	return fmt.Sprintf("%d kills within %s of each rollout, 0 violations", kills, took.Round(time.Millisecond)), nil
}

// moveTo rolls version out and waits until it is active and its trial over.
func (d *device) moveTo(ctx context.Context, version string, window []byte) error {
	if _, err := d.site.run(ctx, "rollout", "start", version, "--to", "all"); err != nil {
		return err
	}
	if err := d.active(ctx, "boiler", version, window); err != nil {
		return err
	}
	return d.settled(ctx, "boiler")
}

// settled waits until the agent has no update of model under way.
func (d *device) settled(ctx context.Context, model string) error {
	return until(ctx, 30*time.Second, func() bool {
		b, err := d.get("/status")
		var status struct {
			Models map[string]struct{ Phase string }
		}
		return err == nil && json.Unmarshal(b, &status) == nil && status.Models[model].Phase == "idle"
	})
}

// controlPlaneKilled acknowledges operations on a server that is killed at a
// random moment and started again, 100 times, and looks for each of them in the
// end: what one restart lost would still be missing then.
func controlPlaneKilled(ctx context.Context, h *house) (string, error) {
	const kills = 100
	s, err := h.newSite(ctx)
	if err != nil {
		return "", err
	}
	defer s.close()
	if _, err := s.boiler(ctx, 128, 1); err != nil {
		return "", err
	}
	if err := s.serve(ctx); err != nil {
		return "", err
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	var devices, aliases []string
	rolledOut := false
	for k := range kills {
		dead := make(chan struct{})
		wait := time.Duration(random.Int64N(int64(400 * time.Millisecond)))
		go func() { time.Sleep(wait); s.close(); close(dead) }()
		for i := 0; ; i++ { // until an operation fails because the server died
			device, alias := fmt.Sprintf("pump-%d-%d", k, i), fmt.Sprintf("tag-%d-%d", k, i)
			if _, err := s.run(ctx, "fleet", "add", device, "--out", s.dir+"/"+device+".toml"); err != nil {
				break
			}
			devices = append(devices, device)
			if _, err := s.run(ctx, "model", "tag", "boiler:v1", alias); err != nil {
				break
			}
			aliases = append(aliases, alias)
			if _, err := s.run(ctx, "rollout", "start", "boiler:v1", "--to", "all"); err != nil {
				break
			}
			rolledOut = true
		}
		<-dead
		if err := s.serve(ctx); err != nil {
			return "", fmt.Errorf("kill %d (seed %d): %w", k+1, seed, err)
		}
	}
	have, err := s.run(ctx, "fleet", "ls", "-o", "name")
	if err != nil {
		return "", err
	}
	shown, err := s.run(ctx, "model", "show", "boiler:v1", "-o", "json")
	if err != nil {
		return "", err
	}
	lost := 0
	names := strings.Fields(string(have))
	for _, d := range devices {
		if !slices.Contains(names, d) {
			lost++
		}
	}
	for _, a := range aliases {
		if !strings.Contains(string(shown), `"`+a+`"`) {
			lost++
		}
	}
	status, err := s.run(ctx, "rollout", "status", "boiler", "-o", "json")
	if rolledOut && (err != nil || !strings.Contains(string(status), "boiler")) {
		return "", errors.Join(errors.New("the rollout is lost"), err)
	}
	figure := fmt.Sprintf("%d kills, %d devices and %d aliases acknowledged, %d lost", kills, len(devices), len(aliases), lost)
	if len(devices) < kills/2 {
		return figure, fmt.Errorf("too few operations to mean anything")
	}
	return figure, atMost(float64(lost), 0)
}
