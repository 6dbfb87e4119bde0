package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	runs "github.com/sandpiper-edge/sandpiper/controlplane/run"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"sandpiper": func() { os.Exit(mainCode()) },
	})
}

// TestScripts runs the command lines in testdata/script. Each script has an
// empty home with the files of writeData in it; `code N COMMAND…` runs a
// command and wants exit code N.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			for _, name := range []string{"SANDPIPER_DIR", "SANDPIPER_SERVER", "SANDPIPER_TOKEN"} {
				env.Setenv(name, "")
			}
			broker, err := freePort()
			if err != nil {
				return err
			}
			env.Setenv("BROKER", broker)
			return writeData(env.WorkDir)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":     wantCode,
			"jsonhas":  jsonHas,
			"waitsock": waitSocket,
			"waitrun":  waitRun,
			"retry":    retry,
			"digest":   writeDigest,

			"countusage": countUsage,
		},
	})
}

// freePort returns a loopback address that nobody listens on.
func freePort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

// writeData writes small data sets: engines.csv for rul, truth.csv with what
// its last rows had left, room.csv for forecast, wave.csv without noise, and files
// that are wrong.
func writeData(dir string) error {
	var engines, truth, room, wave strings.Builder
	engines.WriteString("unit,cycle,heat,hum,fixed\n")
	truth.WriteString("unit,rul\n")
	for unit := 1; unit <= 8; unit++ {
		life := 20 + unit
		for cycle := 1; cycle <= life; cycle++ {
			wear := float64(cycle) / float64(life)
			fmt.Fprintf(&engines, "%d,%d,%.3f,%.3f,7\n", unit, cycle, 20+5*wear*wear, math.Sin(float64(cycle*unit)))
		}
		fmt.Fprintf(&truth, "%d,%d\n", unit, unit)
	}
	room.WriteString("time,temp,load\n")
	for i := range 240 {
		fmt.Fprintf(&room, "%d,%.3f,%.3f\n", i, 21+3*math.Sin(float64(i)/12*math.Pi), math.Cos(float64(i)/6))
	}
	wave.WriteString("time,temp\n")
	for i := range 1200 {
		fmt.Fprintf(&wave, "%d,%.3f\n", i, 21+3*math.Sin(float64(i)/12*math.Pi))
	}
	lines := strings.Split(engines.String(), "\n")
	lines[4] = strings.Replace(lines[4], ".", "x", 1)
	files := map[string]string{
		"engines.csv": engines.String(), "truth.csv": truth.String(), "room.csv": room.String(), "wave.csv": wave.String(),
		"malformed.csv": strings.Join(lines, "\n"),
		"short.csv":     strings.Join(strings.Split(engines.String(), "\n")[:6], "\n") + "\n",
		"empty.csv":     "",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// wantCode runs a command and compares its exit code: code N COMMAND ARG…
func wantCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N COMMAND ARG…")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := err.(interface{ ExitCode() int }); ok {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// jsonHas wants stdout to be exactly one JSON document that, indented, has
// every argument in it.
func jsonHas(ts *testscript.TestScript, neg bool, args []string) {
	d := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	var doc json.RawMessage
	if err := d.Decode(&doc); err != nil {
		ts.Fatalf("stdout is no JSON document: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		ts.Fatalf("stdout has more than one JSON document")
	}
	var b bytes.Buffer
	ts.Check(json.Indent(&b, doc, "", "  "))
	for _, want := range args {
		if strings.Contains(b.String(), want) == neg {
			ts.Fatalf("JSON document has %s: %v, want %v:\n%s", want, !neg, neg, b.String())
		}
	}
}

// waitSocket waits until the server on a data folder answers: waitsock DIR.
func waitSocket(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitsock DIR")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c := api.NewSocketClient(ts.MkAbs(args[0]))
	defer c.Close()
	for {
		s, err := c.Server(ctx)
		if err == nil && s.Connected {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("no server on %s: %v", args[0], err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// retry runs a command until it succeeds: retry COMMAND ARG…
func retry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: retry COMMAND [ARG...]")
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := ts.Exec(args[0], args[1:]...)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%s: %v", strings.Join(args, " "), err)
		}
	}
}

// waitRun waits until a run that was resumed so often is under way and has
// finished so many epochs: waitrun DIR ID RESUMED EPOCHS.
func waitRun(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: waitrun DIR ID RESUMED EPOCHS")
	}
	file := ts.MkAbs(filepath.Join(args[0], "runs", args[1], "run.json"))
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		var r runs.Run
		if b, err := os.ReadFile(file); err == nil {
			ts.Check(json.Unmarshal(b, &r))
		}
		epochs, err := strconv.Atoi(args[3])
		ts.Check(err)
		switch {
		case r.State == runs.Running && strconv.Itoa(r.Resumed) == args[2] && r.Epoch >= epochs:
			return
		case time.Now().After(deadline):
			ts.Fatalf("run %s: %s at epoch %d, resumed %d times", args[1], r.State, r.Epoch, r.Resumed)
		}
	}
}

// writeDigest writes the digest of the version on stdout to NAME.digest:
// digest NAME.
func writeDigest(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: digest NAME")
	}
	var v api.Version
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &v))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".digest"), []byte(v.Digest.String()), 0o600))
}
