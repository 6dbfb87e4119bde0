package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"

	pq "github.com/parquet-go/parquet-go"
)

// badSources are data that are not CSV, or more than one file, each given to
// `sandpiper train`.
func badSources() []badRow {
	// train forecasts heat; files are pairs of name and bytes.
	train := func(flags []string, files ...string) func(*badWorld) answer {
		return func(w *badWorld) answer {
			dir := w.path("source")
			w.check(os.RemoveAll(dir))
			w.check(os.Mkdir(dir, 0o700))
			for i := 0; i < len(files); i += 2 {
				file := filepath.Join(dir, files[i])
				w.check(os.MkdirAll(filepath.Dir(file), 0o700))
				w.check(os.WriteFile(file, []byte(files[i+1]), 0o600))
			}
			args := []string{"train", "fresh", "--data", dir, "--task", "forecast", "--target", "heat", "--window", "3", "--horizon", "1", "--units", "2", "--epochs", "1"}
			a := w.cli(append(args, flags...)...)
			if listed := w.cli("model", "show", "fresh"); listed.code != "exit 3" {
				w.t.Errorf("a version was added: %v", listed)
			}
			return a
		}
	}
	type row struct {
		Time int64   `parquet:"time"`
		Heat float64 `parquet:"heat"`
	}
	var whole bytes.Buffer
	_ = pq.Write(&whole, []row{{1, 20}, {2, 21}, {3, 22}, {4, 23}}) // to memory
	parquet := whole.String()
	var wider, worded bytes.Buffer
	_ = pq.Write(&wider, []struct {
		Time int64   `parquet:"time"`
		Heat float64 `parquet:"heat"`
		Hum  float64 `parquet:"hum"`
	}{{1, 20, 5}, {2, 21, 5}})
	_ = pq.Write(&worded, []struct {
		Time int64  `parquet:"time"`
		Heat string `parquet:"heat"`
	}{{5, "hot"}})
	damaged := parquet[:len(parquet)/2] + "\xff\xff\xff\xff" + parquet[len(parquet)/2+4:]
	const lines = "pump heat=20 1\npump heat=21 2\n"
	const csv = "time,heat\n1,20\n2,21\n3,22\n"
	return []badRow{
		{"source/folder without data", train(nil, "README.md", "no data"), "exit 1", []string{"no data: no file of ", "ends in .csv, "}},
		{"source/empty file among others", train(nil, "a.csv", csv, "b.csv", ""), "exit 1", []string{"b.csv: no data: the file is empty"}},
		{"source/files of differing columns", train([]string{"--time", "time"}, "a.csv", "time,heat,hum\n1,20,5\n", "b.csv", csv), "exit 1",
			[]string{`b.csv: feature: no such column: "hum"`, "the first file has it"}},
		{"source/Parquet of differing columns", train([]string{"--time", "time"}, "a.parquet", parquet, "b.csv", "time,warmth\n1,2\n"), "exit 1",
			[]string{`b.csv: target: no such column: "heat"`, "the header has time, warmth"}},
		{"source/Parquet schemas that differ", train([]string{"--time", "time"}, "part-0.parquet", wider.String(), "part-1.parquet", parquet), "exit 1",
			[]string{`part-1.parquet: feature: no such column: "hum"`, "(the first file has it)"}},
		{"source/Parquet with text in place of a number", train([]string{"--time", "time"}, "part-0.parquet", parquet, "part-1.parquet", worded.String()), "exit 1",
			[]string{`part-1.parquet: row 1, column "heat": malformed CSV: "hot" is not a number`}},
		{"source/Parquet cut short", train(nil, "a.parquet", parquet[:len(parquet)-9]), "exit 1", []string{"a.parquet: malformed Parquet", "it was cut short; write the file again"}},
		{"source/Parquet damaged", train(nil, "a.parquet", damaged), "exit 1", []string{"a.parquet: ", "malformed Parquet"}},
		{"source/line protocol", train(nil, "a.lp", lines+"pump heat=high 3\n"), "exit 1",
			[]string{`a.lp: line 3, column 11: malformed line protocol: "high" is no value; write a number`}},
		{"source/line protocol without a time", train(nil, "a.lp", lines+"pump heat=22\n"), "exit 1",
			[]string{"line 3, column 13: malformed line protocol: the timestamp is missing"}},
		{"source/two measurements", train(nil, "a.lp", lines+"valve heat=22 3\n"), "exit 1",
			[]string{`line 3: a second measurement, "valve" beside "pump"`}},
		{"source/numbers, then text", train(nil, "a.csv", csv+strings.Repeat("4,20\n", 100)+"5,high\n"), "exit 1",
			[]string{`row 104 (line 105), column "heat": malformed CSV: "high" is not a number`}},
		{"source/text as a target", train(nil, "a.csv", "time,heat\n1,high\n2,low\n"), "exit 1",
			[]string{`row 1 (line 2), column "heat": malformed CSV: "high" is not a number; correct it, or remove the row`}},
		{"source/not UTF-8", train(nil, "a.csv", "time,heat,hum \xb0\n1,20,3\n"), "exit 1", []string{"header (line 1)", `is not UTF-8; save the file as UTF-8`}},
		{"source/column twice", train(nil, "a.csv", "time,heat,heat\n1,2,3\n"), "exit 1", []string{`a.csv: header (line 1), column "heat"`, "rename one"}},
		{"source/enormous field", train(nil, "a.csv", csv+"4,"+strings.Repeat("9", 2<<20)+"\n"), "exit 1", []string{"a.csv: line 5: beyond a limit: longer than 1048576 bytes"}},
		{"source/all values missing", train([]string{"--features", "heat,hum"}, "a.csv", "time,heat,hum\n1,20,\n2,21,NA\n"), "exit 1",
			[]string{`column "hum": malformed CSV: every value is missing; leave the column or the group out`}},
		{"source/times with a zone and without", train([]string{"--time", "time"}, "a.csv", "time,heat\n2024-01-01T00:00:00Z,20\n2024-01-01T01:00:00,21\n"), "exit 1",
			[]string{`row 2 (line 3), column "time"`, "is not a time like those above", "write all in one form"}},
		{"source/files with a zone and without", train([]string{"--time", "time"}, "a.csv", "time,heat\n2024-01-01T00:00:00+01:00,20\n", "b.csv", "time,heat\n2024-01-01T01:00:00,21\n"), "exit 1",
			[]string{`b.csv: row 1 (line 2), column "time"`, "is not a time like those above"}},
		{"source/one time twice", train([]string{"--time", "time", "--order", "sort"}, "a.csv", csv+"1,20\n"), "exit 1",
			[]string{`time is not ascending: two rows with the time "1"`, "option duplicates"}},
		{"source/window longer than what lies between gaps", train([]string{"--time", "time", "--max-gap", "1", "--split", "1,0,0"}, "a.csv", csv+"9,20\n10,21\n"), "exit 1",
			[]string{"too few rows", "a window of 3 rows and 1 to predict needs 4 in one group"}},
		{"source/resampling to millions of rows", train([]string{"--time", "time", "--resample", "1"}, "a.csv", csv+"9000000000,20\n"), "exit 1",
			[]string{"beyond a limit: resample 1 makes more than 4000 rows of 4", "keep gaps apart with max_gap"}},
		{"source/option that is none", train([]string{"--missing", "guess"}, "a.csv", csv), "exit 2", []string{`data options: missing "guess"; there are ffill, interpolate, zero, drop`}},
	}
}
