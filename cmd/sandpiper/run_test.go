package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	runs "github.com/sandpiper-edge/sandpiper/controlplane/run"
)

// A trigger is a writer that calls do once, when a text comes by.
type trigger struct {
	bytes.Buffer
	text string
	do   func()
}

func (w *trigger) Write(b []byte) (int, error) {
	if w.do != nil && strings.Contains(string(b), w.text) {
		w.do()
		w.do = nil
	}
	return w.Buffer.Write(b)
}

// command runs one command line and returns its exit code and stdout.
func command(t *testing.T, stderr io.Writer, args ...string) (int, []byte) {
	t.Helper()
	var stdout bytes.Buffer
	return run(t.Context(), args, strings.NewReader(""), &stdout, stderr), stdout.Bytes()
}

// A disk that fills while a run is under way ends it, with all that is needed to
// go on: the checkpoint before stays whole.
func TestDiskFullDuringACheckpoint(t *testing.T) {
	files := t.TempDir()
	if err := writeData(files); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(files, "engines.csv")
	train := func(dir string, stderr io.Writer) (int, []byte) {
		return command(t, stderr, "train", "wear", "--dir", dir, "--data", data, "--task", "rul", "--group", "unit", "--time", "cycle",
			"--features", "heat,hum", "--window", "5", "--units", "16", "--epochs", "60", "--seed", "1", "-o", "name")
	}
	digest := func(dir string) string {
		code, out := command(t, io.Discard, "model", "show", "wear", "--dir", dir, "-o", "json")
		var v api.Version
		if err := json.Unmarshal(out, &v); code != 0 || err != nil {
			t.Fatalf("model show: exit %d, %v", code, err)
		}
		return v.Digest.String()
	}
	whole, full := filepath.Join(t.TempDir(), "data"), filepath.Join(smallDisk(t, "2m"), "data")
	for _, dir := range []string{whole, full} {
		if code, _ := command(t, io.Discard, "init", "--dir", dir, "-q"); code != 0 {
			t.Fatalf("init %s: exit %d", dir, code)
		}
	}
	if code, _ := train(whole, io.Discard); code != 0 {
		t.Fatalf("train: exit %d", code)
	}

	filler := filepath.Join(full, "filler")
	stderr := &trigger{text: `"epoch":3,`, do: func() {
		f, err := os.Create(filler)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
	}}
	code, _ := train(full, stderr)
	if text := stderr.String(); code != exitFailed || !strings.Contains(text, "store is full") || !strings.Contains(text, "free some space on its disk") {
		t.Fatalf("train on a disk that fills: exit %d\n%s", code, text)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	var r runs.Run
	_, out := command(t, io.Discard, "run", "show", "wear-1", "--dir", full, "-o", "json")
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	// Interrupted if not even its end could be kept.
	if r.State != runs.Failed && r.State != runs.Interrupted || r.Epoch < 2 || r.Epoch >= 60 {
		t.Errorf("run is %s at epoch %d, want it ended after a few", r.State, r.Epoch)
	}
	stderr = &trigger{}
	if code, _ := command(t, stderr, "run", "resume", "wear-1", "--dir", full, "--data", data); code != 0 {
		t.Fatalf("resume: exit %d\n%s", code, stderr)
	}
	if first := fmt.Sprintf(`"epoch":%d,`, r.Epoch); strings.Contains(stderr.String(), `"stage":"epoch","run":"wear-1","windows":145,`+first) {
		t.Errorf("epoch %d was trained again:\n%s", r.Epoch, stderr)
	}
	if got, want := digest(full), digest(whole); got != want {
		t.Errorf("model %s, want %s", got, want)
	}
}

func TestProgressFitsOnALine(t *testing.T) {
	val := 1.234567e-12
	for _, p := range []api.Progress{
		{Stage: "epoch", Epoch: 1000, Epochs: 1000, Loss: 1.2345678e-12, ValLoss: &val, LearningRate: 1e-3, SamplesPerSecond: 123456.7, Seconds: 1e6},
		{Stage: "epoch", Epoch: 3, Epochs: 100, Loss: 123.456789, ValLoss: &val, SamplesPerSecond: 21234, ETA: 36000},
		{Stage: "resume", Epoch: 3, Epochs: 20, Seconds: 1.25},
		{Stage: "queued"},
		{Stage: "evaluate", Epochs: 20, Seconds: 1.25},
	} {
		line := progressLine(p)
		if n := len([]rune(line)); n > 79 {
			t.Errorf("%d columns: %s", n, line)
		}
		for _, want := range map[string][]string{
			"epoch":    {fmt.Sprintf("%d/%d", p.Epoch, p.Epochs), "loss ", "val 1.235e-12", "samples/s", "ETA "},
			"resume":   {"3/20", "resume", "1.2 s"},
			"queued":   {"another run trains", "sandpiper run ls"},
			"evaluate": {"evaluate", "1.2 s"},
		}[p.Stage] {
			if !strings.Contains(line, want) {
				t.Errorf("line %q lacks %q", line, want)
			}
		}
	}
	if got := eta(3725); got != "1h2m5s" {
		t.Errorf("eta = %s, want 1h2m5s", got)
	}
}
