package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
)

func agentBinary(ctx context.Context, h *house) (string, error) {
	var figures []string
	var largest int64
	for _, goarch := range []string{"amd64", "arm64", "arm", "riscv64"} {
		path, err := h.build(ctx, goarch, "./cmd/sandpiper-agent")
		if err != nil {
			return "", err
		}
		info, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		largest = max(largest, info.Size())
		figures = append(figures, fmt.Sprintf("%s %.1f MB", goarch, float64(info.Size())/1e6))
	}
	return strings.Join(figures, ", "), atMost(float64(largest)/1e6, 10)
}

// boiler trains a version of the example in docs/examples: one epoch of an LSTM of
// so many units, enough where only its bytes and its speed matter.
func (s *site) boiler(ctx context.Context, units, seed int) (version string, err error) {
	var r struct{ Version string }
	err = s.runJSON(ctx, &r, "train", "boiler", "--data", "docs/examples/boiler.csv", "--task", "forecast", "--time", "time",
		"--target", "temperature", "--features", "temperature,power", "--window", "24", "--horizon", "6",
		"--units", strconv.Itoa(units), "--epochs", "1", "--seed", strconv.Itoa(seed))
	if !strings.Contains(r.Version, ":") {
		r.Version = "boiler:" + r.Version
	}
	return r.Version, err
}

// boilerDevice serves a site with one device on which a boiler version is
// active; changes come before its first start.
func (h *house) boilerDevice(ctx context.Context, seeds int, changes ...func(*device) error) (*site, *device, []byte, error) {
	agent, err := h.build(ctx, nativeArch(), "./cmd/sandpiper-agent")
	if err != nil {
		return nil, nil, nil, err
	}
	window, err := os.ReadFile(h.root + "/docs/examples/boiler-window.json")
	if err != nil {
		return nil, nil, nil, err
	}
	s, err := h.newSite(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	for seed := range seeds {
		if _, err := s.boiler(ctx, 128, seed+1); err != nil {
			return nil, nil, nil, err
		}
	}
	if err := s.serve(ctx); err != nil {
		return nil, nil, nil, err
	}
	d, err := s.addDevice(ctx, "cellar", agent)
	for _, change := range changes {
		if err == nil {
			err = change(d)
		}
	}
	if err == nil {
		err = d.start(ctx)
	}
	if err == nil {
		_, err = s.run(ctx, "rollout", "start", "boiler:v1", "--to", "all")
	}
	if err == nil {
		err = d.active(ctx, "boiler", "boiler:v1", window)
	}
	if err != nil {
		if d != nil {
			d.remove()
		}
		s.close()
		return nil, nil, nil, err
	}
	return s, d, window, nil
}

// installSize adds up what a device receives to install LSTM(128).
func installSize(ctx context.Context, h *house) (string, error) {
	s, err := h.newSite(ctx)
	if err != nil {
		return "", err
	}
	version, err := s.boiler(ctx, 128, 1)
	if err != nil {
		return "", err
	}
	file := s.dir + "/boiler.spm"
	if _, err := s.run(ctx, "model", "export", version, file); err != nil {
		return "", err
	}
	info, err := os.Stat(file)
	if err != nil {
		return "", err
	}
	// The file holds what the messages hold; each of at most four adds a topic.
	kb := float64(info.Size()+4*64) / 1e3
	return fmt.Sprintf("%.1f KB", kb), atMost(kb, 76)
}
