package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/rehearse"
	"github.com/sandpiper-edge/sandpiper/kernel/bench"
)

// checks are the checks by the name of their claim.
var checks = map[string]check{
	"start.demo-first-line":       demoFirstLine,
	"start.demo-story":            demoStory,
	"start.readme":                readme,
	"kernel.step-generic":         stepGeneric,
	"kernel.step-spago":           stepSpago,
	"kernel.step-int8":            ratio(bench.Step, "int8", 1.25),
	"kernel.step-float32":         ratio(bench.Step, "float32", 1.1),
	"kernel.window-int8":          ratio(bench.Window, "int8", 1.25),
	"kernel.batch-int8":           batchInt8,
	"kernel.step-avx2":            stepAVX2,
	"kernel.allocations":          allocations,
	"kernel.first-prediction":     firstPrediction,
	"kernel.same-bits":            sameBits,
	"agent.binary":                agentBinary,
	"agent.pss":                   agentPSS,
	"agent.start":                 agentStart,
	"agent.trial":                 tests("./agent", "TestBadVersionIsRefusedAndThePreviousOneAnswers", "TestCrashLoopReturnsToThePreviousVersion", "TestNonFiniteOutputEndsTheTrial", "TestSlowVersionEndsItsTrial"),
	"agent.owner":                 tests("./agent", "TestOwnerHoldsAModel", "TestWhatSpeaksAgainstTheOwner", "TestRestartAtEveryStep", "TestPinHoldsAgainstTheControlPlane", "TestRollbackOnTheDeviceNeedsNoLink"),
	"agent.bad-peers":             tests("./agent/broker", "TestBadPeersLoseTheirConnection", "TestPeerThatNeverReads", "TestStormOfSilentConnections", "TestWhatWaitsForAllIsBounded"),
	"broker.bad-peers":            tests("./controlplane/broker", "TestGiantHeaderAllocatesNothing", "TestPeerThatNeverReadsLosesItsConnection", "TestStormOfConnects", "TestSilentConnectionsGiveWay", "TestSessionRefusesAGiantPacket"),
	"agent.install-size":          installSize,
	"agent.update-size":           updateSize,
	"agent.head-size":             headSize,
	"agent.codecs":                tests("./protocol/artifact", "TestCodecsReachTheEntropy"),
	"agent.prediction-cbor":       predictionOverEcho(false, 1.4),
	"agent.prediction-json":       predictionOverEcho(true, 1.6),
	"agent.swap-load":             swapLoad,
	"agent.offline":               dayOffline,
	"broker.idle-device":          idleDevice,
	"agent.write-amplification":   simulated("TestBytesWrittenForAnInstall"),
	"agent.bookkeeping":           simulated("TestBytesWrittenForBookkeeping", "SANDPIPER_DAY=1"),
	"agent.cuts":                  simulated("TestRandomCuts", "SANDPIPER_CUTS=1000"),
	"rollout.bad-stopped":         rehearsed(1.2, 0.01, func(r rehearse.Rates) (int, float64) { return r.Through, r.ThroughUpper }),
	"rollout.good-passes":         rehearsed(1, 0.02, func(r rehearse.Rates) (int, float64) { return r.Stopped, r.StoppedUpper }),
	"rollout.real-bad":            badThrough.check,
	"rollout.real-good":           goodStopped.check,
	"rollout.silent":              silentRehearsed,
	"rollout.kills":               rolloutKilled(rolloutKills, false),
	"rollout.broker-restarts":     rolloutKilled(brokerRestarts, true),
	"rollout.audit":               tests("./controlplane/store", "TestOneChangedByteOfTheRecordIsFound"),
	"rollout.queries":             yearQueries,
	"rollout.restart":             yearRestart,
	"rollout.withdrawal":          yearWithdrawal,
	"rollout.push":                fleetPush,
	"rollout.load":                fleetLoad,
	"rollout.worse":               fleetWorse,
	"rollout.silent-fleet":        fleetSilent,
	"broker.thousand":             thousandDevices,
	"accuracy.skab":               skab,
	"accuracy.japanese-vowels":    accuracyVowels.check,
	"accuracy.movement-aal":       accuracyMovement.check,
	"data.fd001":                  fd001,
	"data.int8-difference":        int8Difference,
	"data.etth1":                  etth1,
	"data.preparation":            preparation,
	"data.describe-million":       describeMillion,
	"data.train-million":          trainMillion,
	"accuracy.fd001":              accuracyFD001.check,
	"accuracy.etth1":              accuracyETTh1.check,
	"accuracy.etth1-ot":           accuracyOil.check,
	"accuracy.beijing":            accuracyBeijing.check,
	"device.amd64":                answersOn("amd64", ""),
	"device.arm64":                answersOn("arm64", "qemu-aarch64"),
	"device.armv7":                answersOn("arm", "qemu-arm"),
	"device.riscv64":              answersOn("riscv64", "qemu-riscv64"),
	"device.tiers":                answersOnEveryTier,
	"training.epoch-avx512":       epochOn("avx512", 1.0/4),
	"training.epoch-avx2":         epochOn("avx2", 1/2.5),
	"training.fma":                ofReferenceEpoch("%-of-FMA-loop", "%.0f %% of the FMA loop", 55),
	"training.second-core":        ofReferenceEpoch("speedup", "%.2f times one core", 1.6),
	"training.memory":             trainingMemory,
	"training.loss":               lossAfterTen,
	"training.gradients":          tests("./kernel/bptt", "TestGoldenGradients"),
	"training.golden":             golden,
	"training.same-bits":          tests("./kernel/bptt", sameBitsTests...),
	"training.fd001":              turbofanSeeds,
	"safety.bad-input":            badInput,
	"safety.agent-killed":         agentKilled,
	"safety.control-plane-killed": controlPlaneKilled,
}

// A house is what the checks of one run share: the clone, built binaries and
// models that take long to train. Everything it makes is below dir.
type house struct {
	root string    // of the clone
	dir  string    // temporary
	log  io.Writer // progress, for people

	built     map[string]string  // GOARCH/package → binary
	turbofan  map[int]*trained   // by seed, see device.go
	raced     *race              // see race.go
	aged      *site              // see year.go
	fleet     *lightFleet        // see fleet.go
	benchmark map[string]float64 // see training.go
	replays   []residuals        // see residuals.go
}

func newHouse(root string, log io.Writer) (*house, error) {
	dir, err := os.MkdirTemp("", "sandpiper-proof-")
	if err != nil {
		return nil, err
	}
	return &house{root: root, dir: dir, log: log, built: map[string]string{}, turbofan: map[int]*trained{}}, nil
}

func (h *house) close() {
	if h.fleet != nil {
		h.fleet.close()
	}
	os.RemoveAll(h.dir)
}

func (h *house) logf(format string, args ...any) {
	fmt.Fprintf(h.log, format+"\n", args...)
}

// command prepares a command in the clone without cgo. Its errors carry the
// end of what it wrote to stderr (see output).
func (h *house) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = h.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// output runs cmd and returns its stdout.
func output(cmd *exec.Cmd) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		tail := stderr.Bytes()
		if len(tail) > 600 {
			tail = tail[len(tail)-600:]
		}
		return stdout.Bytes(), fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args[:min(len(cmd.Args), 4)], " "), err, bytes.TrimSpace(tail))
	}
	return stdout.Bytes(), nil
}

// build returns the stripped binary of a package for one architecture of Linux.
func (h *house) build(ctx context.Context, goarch, pkg string) (string, error) {
	key := goarch + "/" + pkg
	if path := h.built[key]; path != "" {
		return path, nil
	}
	path := filepath.Join(h.dir, "bin", goarch, filepath.Base(pkg))
	args := []string{"build", "-trimpath", "-ldflags=-s -w"} // as task cross
	if pkg == "./cmd/sandpiper-agent" {
		args = append(args, "-tags", "nethttpomithttp2")
	}
	cmd := h.command(ctx, "go", append(args, "-o", path, pkg)...)
	cmd.Env = append(cmd.Env, "GOOS=linux", "GOARCH="+goarch, "GOARM=7")
	if _, err := output(cmd); err != nil {
		return "", err
	}
	h.built[key] = path
	return path, nil
}

// A site is a control plane of its own in a temporary folder, served on free
// loopback ports.
type site struct {
	h    *house
	dir  string // --dir of the control plane
	bin  string // the sandpiper binary
	stop func() // kills the server and waits; nil while there is none
	pid  int    // of the server
}

// newSite initializes a control plane; serve starts it.
func (h *house) newSite(ctx context.Context) (*site, error) {
	bin, err := h.build(ctx, nativeArch(), "./cmd/sandpiper")
	if err != nil {
		return nil, err
	}
	base, err := os.MkdirTemp(h.dir, "site-")
	if err != nil {
		return nil, err
	}
	s := &site{h: h, dir: filepath.Join(base, "data"), bin: bin}
	if _, err := s.run(ctx, "init"); err != nil {
		return nil, err
	}
	conf := filepath.Join(s.dir, "sandpiper.toml")
	b, err := os.ReadFile(conf)
	if err != nil {
		return nil, err
	}
	for _, listen := range []string{"127.0.0.1:1883", "127.0.0.1:8080"} {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		b = bytes.ReplaceAll(b, []byte(listen), []byte(port))
	}
	return s, os.WriteFile(conf, b, 0o600)
}

// run runs one command of the control plane's command line.
func (s *site) run(ctx context.Context, args ...string) ([]byte, error) {
	args = append(args, "--dir", s.dir)
	return output(s.h.command(ctx, s.bin, args...))
}

// runJSON runs a command with -o json and decodes its one document.
func (s *site) runJSON(ctx context.Context, v any, args ...string) error {
	out, err := s.run(ctx, append(args, "-o", "json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, v); err != nil {
		return fmt.Errorf("sandpiper %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// serve starts the server and returns when its socket answers.
func (s *site) serve(ctx context.Context, flags ...string) error {
	cmd := s.h.command(ctx, s.bin, append([]string{"serve", "--dir", s.dir}, flags...)...)
	stop, logged, err := start(cmd)
	if err != nil {
		return err
	}
	s.stop, s.pid = stop, cmd.Process.Pid
	socket := filepath.Join(s.dir, "api.sock")
	err = until(ctx, 20*time.Second, func() bool {
		c, err := net.Dial("unix", socket)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	if err != nil {
		s.close()
		return fmt.Errorf("sandpiper serve: its socket did not answer: %s", logged())
	}
	return nil
}

func (s *site) close() {
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
}

// start starts a long-running command. stop kills it and waits for it;
// logged returns the end of what it wrote.
func start(cmd *exec.Cmd) (stop func(), logged func() string, err error) {
	var mu sync.Mutex
	var tail []byte
	w := writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		tail = append(tail, p...)
		tail = tail[max(0, len(tail)-2000):]
		return len(p), nil
	})
	cmd.Stdout, cmd.Stderr = w, w
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	stop = func() { _ = cmd.Process.Kill(); <-done }
	logged = func() string { mu.Lock(); defer mu.Unlock(); return string(bytes.TrimSpace(tail)) }
	return stop, logged, nil
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// until polls ok every 20 ms, up to limit.
func until(ctx context.Context, limit time.Duration, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok() {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %s", limit)
		case <-tick.C:
		}
	}
}

// freePort returns a loopback address nobody listens on at the moment.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// dataFile returns a file below SANDPIPER_DATA.
func dataFile(name string) (string, error) {
	dir := os.Getenv("SANDPIPER_DATA")
	if dir == "" {
		return "", needs("set SANDPIPER_DATA to the folder that holds %s", name)
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		return "", needs("%v", err)
	}
	return path, nil
}

// tool returns the path of a program of the machine.
func tool(name, pkg string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", needs("%s is not installed (Debian: apt-get install %s)", name, pkg)
	}
	return path, nil
}

// median sorts v and returns its middle value.
func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// atLeast fails with the bar if v is below it.
func atLeast(v, bar float64) error {
	if v < bar {
		return fmt.Errorf("below the bar of %g", bar)
	}
	return nil
}

// atMost fails with the bar if v is over it.
func atMost(v, bar float64) error {
	if v > bar {
		return fmt.Errorf("over the bar of %g", bar)
	}
	return nil
}
