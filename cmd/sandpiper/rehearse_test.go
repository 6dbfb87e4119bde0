package main

import (
	"bytes"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the timelines beside the scenarios anew")

// TestTimelines: beside each scenario is what its rehearsals print, behind the
// commands.
func TestTimelines(t *testing.T) {
	t.Chdir("../..")
	played := map[string]bool{}
	err := filepath.WalkDir("docs/examples", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".timeline" {
			playTimeline(t, path, played)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("docs/examples/scenarios/*.toml")
	if err != nil || len(files) < 12 {
		t.Fatalf("%d files of scenarios, %v", len(files), err)
	}
	for _, f := range append(files, "docs/examples/worse.toml", "docs/examples/rev3.toml") {
		if !played[f] {
			t.Errorf("no timeline is of %s", f)
		}
	}
}

// playTimeline runs the commands of a file, and notes the files that they name.
func playTimeline(t *testing.T, path string, played map[string]bool) {
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	for line := range strings.Lines(string(want)) {
		args, is := strings.CutPrefix(line, "$ sandpiper ")
		if !is {
			continue
		}
		var stderr bytes.Buffer
		code, out := command(t, &stderr, strings.Fields(args)...)
		if code != 0 {
			t.Errorf("%s: %sexit %d: %s", path, line, code, &stderr)
		}
		got.WriteString(line)
		got.Write(out)
		for _, arg := range strings.Fields(args) {
			played[arg] = true
		}
	}
	if bytes.Equal(got.Bytes(), want) {
		return
	}
	if !*update {
		t.Errorf("%s is\n%s\nand the rehearsal\n%s", path, want, &got)
	} else if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
