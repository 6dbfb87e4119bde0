package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// A trainer is a process that trains the model which speeds are quoted for, an
// epoch at a time: kernel/bptt/internal/epoch, or the peer in
// kernel/internal/peers/torch.
type trainer struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	in     io.WriteCloser
	out    *json.Decoder
}

// A trainedEpoch is what a trainer says of one epoch.
type trainedEpoch struct {
	Seconds float64 `json:"seconds"`
	Loss    float64 `json:"loss"`
	PeakMiB float64 `json:"peak_mib"` // most that was resident so far
}

func startTrainer(cmd *exec.Cmd) (*trainer, error) {
	t := &trainer{cmd: cmd}
	cmd.Stderr = &t.stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	t.in, t.out = in, json.NewDecoder(bufio.NewReader(out))
	return t, nil
}

// read decodes the next line into v. Without one it ends the process.
func (t *trainer) read(v any) error {
	if err := t.out.Decode(v); err != nil {
		t.stop() // and with it the writing to stderr
		return fmt.Errorf("%s: %w: %s", filepath.Base(t.cmd.Path), err, bytes.TrimSpace(t.stderr.Bytes()))
	}
	return nil
}

// epoch trains one.
func (t *trainer) epoch() (e trainedEpoch, err error) {
	if _, err = io.WriteString(t.in, "\n"); err == nil {
		err = t.read(&e)
	}
	return e, err
}

// epochs trains n and returns the last.
func (t *trainer) epochs(n int) (e trainedEpoch, err error) {
	for range n {
		if e, err = t.epoch(); err != nil {
			break
		}
	}
	return e, err
}

// stop lets the process end.
func (t *trainer) stop() {
	t.in.Close()
	_ = t.cmd.Wait()
}

// ours starts our trainer on one instruction set, the best if tier is "".
func (h *house) ours(ctx context.Context, seed int, tier string, cores int) (*trainer, error) {
	bin, err := h.build(ctx, nativeArch(), "./kernel/bptt/internal/epoch")
	if err != nil {
		return nil, err
	}
	data, err := h.sequences()
	if err != nil {
		return nil, err
	}
	args := []string{data, strconv.Itoa(seed), strconv.Itoa(cores)}
	if tier != "" {
		args = append(args, tier)
	}
	t, err := startTrainer(h.command(ctx, bin, args...))
	if err != nil {
		return nil, err
	}
	var is struct{ Tier string }
	if err := t.read(&is); err != nil {
		t.stop()
		return nil, err
	}
	if tier != "" && is.Tier != tier {
		t.stop()
		return nil, needs("this CPU lacks %s", tier)
	}
	return t, nil
}

// debianPython has Debian's packages, which another python3 before it in PATH
// has not.
const debianPython = "/usr/bin/python3"

// hasTorch reports whether Debian's PyTorch is installed.
func (h *house) hasTorch(ctx context.Context) bool {
	return h.command(ctx, debianPython, "-c", "import numpy, torch").Run() == nil
}

// peer starts Debian's PyTorch with threads of its own and of its BLAS, and
// says which it is.
func (h *house) peer(ctx context.Context, seed, threads, blas int) (*trainer, string, error) {
	if !h.hasTorch(ctx) {
		return nil, "", needs("no python3-torch of Debian: task peer:torch installs it")
	}
	data, err := h.sequences()
	if err != nil {
		return nil, "", err
	}
	script := filepath.Join(h.root, "kernel", "internal", "peers", "torch", "peer.py")
	t, err := startTrainer(h.command(ctx, debianPython, script, data, strconv.Itoa(seed), strconv.Itoa(threads), strconv.Itoa(blas)))
	if err != nil {
		return nil, "", err
	}
	var is struct{ Version, BLAS string }
	if err := t.read(&is); err != nil {
		t.stop()
		return nil, "", err
	}
	if !strings.Contains(is.BLAS, "openblas") {
		t.stop()
		return nil, "", needs("PyTorch multiplies with %s, not OpenBLAS, which Debian recommends with it: task peer:torch installs it", is.BLAS)
	}
	upstream, _, _ := strings.Cut(is.Version, "+")
	return t, "Debian PyTorch " + upstream, nil
}

// sequences writes what both train on, once: 4,000 sequences of 50×8 that wander,
// each with a target that depends on its late and its early steps and has noise.
func (h *house) sequences() (string, error) {
	const windows, steps, features = 4000, 50, 8
	name := filepath.Join(h.dir, "sequences.bin")
	if _, err := os.Stat(name); err == nil {
		return name, nil
	}
	rng := rand.New(rand.NewPCG(1, 1))
	var x, y []float32
	for range windows {
		var state [features]float64
		var late, early float64
		for t := range steps {
			for k := range state {
				state[k] = 0.8*state[k] + 0.6*rng.NormFloat64()
				x = append(x, float32(state[k]))
			}
			late = 0.9*late + 0.1*state[0]*state[1]
			if t < 10 {
				early += state[2] / 10
			}
		}
		y = append(y, float32(math.Tanh(3*late)+early*state[3]/2+0.1*rng.NormFloat64()))
	}
	b, err := binary.Append(nil, binary.LittleEndian, append(x, y...))
	if err != nil {
		return "", err
	}
	return name, os.WriteFile(name, b, 0o600)
}
