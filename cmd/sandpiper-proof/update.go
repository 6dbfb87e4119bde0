package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	firmwaresim "github.com/sandpiper-edge/sandpiper/firmware-sim"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// The pumps of the update checks: so many cycles of each are the first
// version's, and as many after them the newer data.
const (
	updatePumps = 25
	updateRows  = 300
	updateSeed  = 1
)

// updateSize is what a device receives of an LSTM(128) that went on for one
// epoch of Adam at 1e-4 on newer data.
func updateSize(ctx context.Context, h *house) (string, error) {
	return h.updateReceived(ctx, protocol.KindDelta, 33, "--lr", "0.0001")
}

// headSize is the same where the last layer alone went on.
func headSize(ctx context.Context, h *house) (string, error) {
	return h.updateReceived(ctx, protocol.KindHead, 2, "--head-only")
}

// updateReceived trains a version, has a device install it, goes on with flags,
// and adds up what the device receives of the second version; it must be a
// transfer of the given kind and at most bar KB.
func (h *house) updateReceived(ctx context.Context, kind string, bar float64, flags ...string) (string, error) {
	agent, err := h.build(ctx, nativeArch(), "./cmd/sandpiper-agent")
	if err != nil {
		return "", err
	}
	s, err := h.newSite(ctx)
	if err != nil {
		return "", err
	}
	defer s.close()
	older, newer, err := pumpData(filepath.Dir(s.dir))
	if err != nil {
		return "", err
	}
	if _, err := s.run(ctx, "train", "pump", "--data", older, "--task", "forecast", "--group", "unit", "--time", "cycle",
		"--target", "vibration", "--features", strings.Join(firmwaresim.Features, ","), "--window", "24", "--horizon", "1",
		"--anchor", "last", "--units", "128", "--epochs", "2", "--seed", strconv.Itoa(updateSeed)); err != nil {
		return "", err
	}
	if err := s.serve(ctx); err != nil {
		return "", err
	}
	d, err := s.addDevice(ctx, "cellar", agent)
	if err != nil {
		return "", err
	}
	defer d.remove()
	if err := d.start(ctx); err != nil {
		return "", err
	}
	if err := s.rollOut(ctx, "pump:v1"); err != nil {
		return "", err
	}
	again := []string{"train", "pump", "--from", "pump:v1", "--data", newer, "--task", "forecast", "--group", "unit", "--time", "cycle", "--epochs", "1"}
	if _, err := s.run(ctx, append(again, flags...)...); err != nil {
		return "", err
	}
	if err := s.rollOut(ctx, "pump:v2"); err != nil {
		return "", err
	}
	bytes, err := fetched(d.logged(), "pump:v2", kind)
	if err != nil {
		return "", err
	}
	rest, payload, err := s.otherBytes(ctx, "cellar", "pump:v2")
	if err != nil {
		return "", err
	}
	kb := float64(bytes+rest) / 1e3
	return fmt.Sprintf("%.1f KB, of it payload %.1f KB", kb, float64(payload)/1e3), atMost(kb, bar)
}

// rollOut ships a version to all devices and waits until they have it.
func (s *site) rollOut(ctx context.Context, version string) error {
	if _, err := s.run(ctx, "rollout", "start", version, "--to", "all"); err != nil {
		return err
	}
	name, _, _ := strings.Cut(version, ":")
	_, err := s.run(ctx, "rollout", "status", name, "--wait")
	return err
}

// pumpData writes the cycles of the simulated pumps in two files.
func pumpData(dir string) (older, newer string, err error) {
	var units []string
	for i := range updatePumps {
		units = append(units, fmt.Sprintf("pump-%02d", i))
	}
	var all strings.Builder
	if err := firmwaresim.WriteCSV(&all, updateSeed, units, 2*updateRows); err != nil {
		return "", "", err
	}
	var parts [2]strings.Builder
	row := -1
	for line := range strings.Lines(all.String()) {
		if row < 0 { // the header
			parts[0].WriteString(line)
			parts[1].WriteString(line)
		} else {
			parts[row/updateRows%2].WriteString(line)
		}
		row++
	}
	older, newer = filepath.Join(dir, "older.csv"), filepath.Join(dir, "newer.csv")
	if err := os.WriteFile(older, []byte(parts[0].String()), 0o600); err != nil {
		return "", "", err
	}
	return older, newer, os.WriteFile(newer, []byte(parts[1].String()), 0o600)
}

var activated = regexp.MustCompile(`msg="model activated".* version=(\S+) detail="(\w+), (\d+) bytes fetched"`)

// fetched returns the bytes that an agent says, in its log, to have fetched of
// version by a transfer of kind: its announcement, with the release, and chunks.
func fetched(log, version, kind string) (int, error) {
	for _, m := range activated.FindAllStringSubmatch(log, -1) {
		if m[1] != version {
			continue
		}
		if m[2] != kind {
			return 0, fmt.Errorf("the device fetched %s: %s, want %s", version, m[2], kind)
		}
		return strconv.Atoi(m[3])
	}
	return 0, fmt.Errorf("the agent's log does not say what it fetched of %s: %s", version, log)
}

// otherBytes returns what a device receives of a version besides: its want, and
// the headers of all MQTT messages (3.1.1 §3.3: 1 byte, the length in at most
// 3, topic and packet identifier with 2 each). payload is the size of the
// smallest transfer.
func (s *site) otherBytes(ctx context.Context, device, version string) (rest, payload int, err error) {
	var v struct {
		Digest    protocol.Digest
		Transfers []struct {
			Hash, Kind string
			Bytes      uint32
			Base       *protocol.Digest
		}
	}
	if err := s.runJSON(ctx, &v, "model", "show", version); err != nil {
		return 0, 0, err
	}
	if len(v.Transfers) == 0 {
		return 0, 0, fmt.Errorf("%s has no transfers", version)
	}
	name, _, _ := strings.Cut(version, ":")
	want := protocol.Want{Format: protocol.Format, Fleet: "default", Device: device, Rev: 2, Issued: protocol.MaxInteger}
	active := protocol.WantedVersion{Digest: v.Digest}
	for _, t := range v.Transfers {
		active.Transfers = append(active.Transfers, protocol.TransferRef{Hash: t.Hash, Kind: t.Kind, Size: t.Bytes, Base: t.Base})
	}
	want.Models = map[string]protocol.ModelWant{name: {Active: active}}
	b, err := want.AppendBinary(nil)
	if err != nil {
		return 0, 0, err
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return 0, 0, err
	}
	if b, err = artifact.Sign(artifact.TypeWant, b, key).AppendBinary(nil); err != nil {
		return 0, 0, err
	}
	smallest := v.Transfers[0]
	topics := []string{protocol.WantTopic("default", device), protocol.DescriptorTopic("default", smallest.Hash)}
	if smallest.Bytes > protocol.MaxInline {
		for n := range (smallest.Bytes + protocol.ChunkSize - 1) / protocol.ChunkSize {
			topics = append(topics, protocol.ChunkTopic("default", smallest.Hash, int(n)))
		}
	}
	const header = 1 + 3 + 2 + 2
	rest = len(b)
	for _, t := range topics {
		rest += header + len(t)
	}
	return rest, int(smallest.Bytes), nil
}
