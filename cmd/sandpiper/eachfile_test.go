package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
)

func TestModelNamesOfFiles(t *testing.T) {
	for _, c := range []struct{ files, want, text string }{
		{"0.csv.gz 1.csv", "m-0 m-1", ""},
		{"valve1/0.csv valve2/0.csv", "m-valve1-0 m-valve2-0", ""},
		{"/data/skab/valve1/Run 7.csv.gz /data/skab/other/7.csv", "m-valve1-run-7 m-other-7", ""},
		{"/data/a/0.csv /data/a/1.csv", "m-0 m-1", ""},
		{"one.parquet", "m-one", ""},
		{"a.csv a.csv.gz", "", "would both be called m-a"},
		{strings.Repeat("x", 60) + ".csv b.csv", "", "rename the file"},
	} {
		var files []api.File
		for _, name := range strings.Split(strings.ReplaceAll(c.files, "Run 7", "Run_7"), " ") {
			files = append(files, api.File{Name: strings.ReplaceAll(name, "Run_7", "Run 7")})
		}
		names, err := modelNames("m", files)
		if got := strings.Join(names, " "); c.text == "" && (err != nil || got != c.want) || c.text != "" && !strings.Contains(fmt.Sprint(err), c.text) {
			t.Errorf("%s: %s, %v, want %s%s", c.files, got, err, c.want, c.text)
		}
	}
}
