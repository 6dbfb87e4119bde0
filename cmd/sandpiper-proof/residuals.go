package main

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/controlplane/rehearse"
	"github.com/sandpiper-edge/sandpiper/firmware-sim/scenario"
)

// A residualSet is a public data set and how versions of a model of it are trained:
// two that differ in the seed, and one that is really worse.
type residualSet struct {
	name  string
	data  string // below SANDPIPER_DATA
	args  string // of every version
	good  string // of versions as good as each other
	worse string
	// fleet makes the training file and that of the rows that versions are compared
	// on; nil: the test part of one file.
	fleet func(path, dir string) (train, test string, err error)
}

var residualSets = []residualSet{
	{
		name: "ETTh1, 7 columns, 6 h ahead", data: "etth1/ETTh1.csv.gz",
		args: "--task forecast --time date --split 8640,2880,2880 --features HUFL,HULL,MUFL,MULL,LUFL,LULL,OT " +
			"--target HUFL,HULL,MUFL,MULL,LUFL,LULL,OT --window 48 --horizon 6 --anchor last --lr 0.001",
		good: "--units 32 --epochs 8", worse: "--units 8 --epochs 4",
	},
	{
		name: "Beijing PM2.5, 1 h ahead", data: "beijing-pm25/pollution.csv.gz",
		args: "--task forecast --time year,month,day,hour --target pm2.5 --features pm2.5,DEWP,TEMP,PRES,Iws,Is,Ir " +
			"--missing ffill --window 24 --horizon 1 --split 7008,1752,35064",
		good: "--units 32 --epochs 8 --anchor last", worse: "--units 16 --epochs 3",
	},
	{
		name: "C-MAPSS FD001, 60 engines", data: "cmapss-fd001/train.csv.gz",
		args: "--task rul --group unit --time cycle --rul-cap 125 --window 30",
		good: "--features " + sensors + " --units 32 --epochs 15", worse: "--features s2,s3 --units 16 --epochs 8 --lr 0.002",
		fleet: divideEngines,
	},
}

// trainedEngines are the first so many of FD001's training file; versions are
// compared on the others, from their first window to their failure.
const trainedEngines = 40

// divideEngines writes the rows of both kinds of engines to files of their own.
func divideEngines(path, dir string) (train, test string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", path, err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", path, err)
	}
	var parts [2]strings.Builder
	for i, line := range slices.Collect(strings.Lines(string(text))) {
		var unit int
		if _, err := fmt.Sscanf(line, "%d,", &unit); err != nil && i > 0 {
			return "", "", fmt.Errorf("%s: line %d: %w", path, i+1, err)
		}
		if i == 0 || unit <= trainedEngines {
			parts[0].WriteString(line)
		}
		if i == 0 || unit > trainedEngines {
			parts[1].WriteString(line)
		}
	}
	train, test = filepath.Join(dir, "train.csv"), filepath.Join(dir, "test.csv")
	return train, test, errors.Join(os.WriteFile(train, []byte(parts[0].String()), 0o600), os.WriteFile(test, []byte(parts[1].String()), 0o600))
}

// evaluated is the part of an evaluation's report that errors are computed from.
type evaluated struct {
	Task        string   `json:"task"`
	Targets     []string `json:"targets"`
	Predictions []struct {
		Group, Time          string
		Truth, Float32, Int8 values
	} `json:"predictions"`
}

// values are one number, several, or null for none.
type values []float64

func (v *values) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	var one float64
	if json.Unmarshal(b, &one) == nil {
		*v = values{one}
		return nil
	}
	return json.Unmarshal(b, (*[]float64)(v))
}

// int8Errors and float32Errors say which of a version's outputs are meant.
const (
	int8Errors = iota
	float32Errors
)

// errorsOf returns a series of errors of each group and target, in the order of time:
// of each row the mean over the steps ahead of the absolute error. keys say which row
// an error is of.
func (e evaluated) errorsOf(which int) (series map[string][]float64, keys []string, err error) {
	series = map[string][]float64{}
	targets := e.Targets
	if e.Task == "rul" {
		targets = []string{""}
	}
	for i, p := range e.Predictions {
		y := p.Int8
		if which == float32Errors {
			y = p.Float32
		}
		if len(targets) == 0 || len(y) == 0 || len(y) != len(p.Truth) || len(y)%len(targets) != 0 {
			return nil, nil, fmt.Errorf("prediction %d: %d outputs, %d truths, %d targets", i, len(y), len(p.Truth), len(targets))
		}
		for k, target := range targets {
			sum := 0.0
			for j := k; j < len(y); j += len(targets) {
				sum += math.Abs(y[j] - p.Truth[j])
			}
			name := p.Group + target
			series[name] = append(series[name], sum*float64(len(targets))/float64(len(y)))
		}
		keys = append(keys, p.Group+" "+p.Time)
	}
	return series, keys, nil
}

// paired puts the errors of two versions on the same rows together.
func paired(a, b evaluated, ofA, ofB int) ([][]scenario.Pair, error) {
	ea, rowsA, err := a.errorsOf(ofA)
	if err != nil {
		return nil, err
	}
	eb, rowsB, err := b.errorsOf(ofB)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(rowsA, rowsB) || len(rowsA) == 0 {
		return nil, fmt.Errorf("%d and %d predictions are not of the same rows", len(rowsA), len(rowsB))
	}
	var out [][]scenario.Pair
	for _, name := range slices.Sorted(maps.Keys(ea)) {
		pairs := make([]scenario.Pair, len(ea[name]))
		for i := range pairs {
			pairs[i] = scenario.Pair{A: ea[name][i], B: eb[name][i]}
		}
		out = append(out, pairs)
	}
	return out, nil
}

// residuals are the pairs of errors of a set's versions.
type residuals struct {
	residualSet
	seeds, worse, quantized [][]scenario.Pair // B: another seed, really worse, int8 of A's float32
}

// residuals trains the versions of every set, once a run.
func (h *house) residuals(ctx context.Context) ([]residuals, error) {
	if h.replays != nil {
		return h.replays, nil
	}
	var out []residuals
	for _, set := range residualSets {
		file, err := dataFile(set.data)
		if err != nil {
			return nil, err
		}
		r, err := h.residualsOf(ctx, set, file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", set.name, err)
		}
		out = append(out, r)
	}
	h.replays = out
	return out, nil
}

func (h *house) residualsOf(ctx context.Context, set residualSet, file string) (residuals, error) {
	out := residuals{residualSet: set}
	s, err := h.newSite(ctx)
	if err != nil {
		return out, err
	}
	train, test := file, file
	if set.fleet != nil {
		if train, test, err = set.fleet(file, filepath.Dir(s.dir)); err != nil {
			return out, err
		}
	}
	versions := map[string]evaluated{}
	for _, v := range []struct{ name, args string }{{"a", set.good + " --seed 1"}, {"b", set.good + " --seed 2"}, {"worse", set.worse + " --seed 1"}} {
		h.logf("%s: training %s", set.name, v.name)
		args := append([]string{"train", v.name, "--data", train}, strings.Fields(set.args+" "+v.args)...)
		if _, err := s.run(ctx, append(args, "-o", "json")...); err != nil {
			return out, err
		}
		var e evaluated
		if err := s.runJSON(ctx, &e, "eval", v.name, "--data", test, "--predictions"); err != nil {
			return out, err
		}
		versions[v.name] = e
	}
	a := versions["a"]
	seeds, err1 := paired(a, versions["b"], int8Errors, int8Errors)
	worse, err2 := paired(a, versions["worse"], int8Errors, int8Errors)
	quantized, err3 := paired(a, a, float32Errors, int8Errors)
	out.seeds, out.worse, out.quantized = seeds, worse, quantized
	return out, errors.Join(err1, err2, err3)
}

// swapped are the pairs with the versions in each other's place.
func swapped(series [][]scenario.Pair) [][]scenario.Pair {
	out := make([][]scenario.Pair, len(series))
	for i, s := range series {
		for _, p := range s {
			out[i] = append(out[i], scenario.Pair{A: p.B, B: p.A})
		}
	}
	return out
}

// A residualCell is a candidate that is rehearsed.
type residualCell struct {
	name    string
	pairs   [][]scenario.Pair
	typical float64 // ratio that the errors of B are scaled to; 0: as they are
}

func goodCells(r residuals) []residualCell {
	return []residualCell{
		{"another seed", r.seeds, 1}, {"the reverse", swapped(r.seeds), 1}, {"int8 after float32", r.quantized, 0},
	}
}

func badCells(r residuals) []residualCell {
	return []residualCell{
		{"another seed, 1.2 times", r.seeds, 1.2}, {"really worse, 1.2 times", r.worse, 1.2},
	}
}

// A residualRate is a rate that a claim is about.
type residualRate struct {
	cells func(residuals) []residualCell
	bar   float64 // of its upper bound
	of    func(rehearse.Rates) int
}

var (
	badThrough  = residualRate{cells: badCells, bar: 0.01, of: func(r rehearse.Rates) int { return r.Through }}
	goodStopped = residualRate{cells: goodCells, bar: 0.02, of: func(r rehearse.Rates) int { return r.Stopped }}
)

// check rehearses both plans on recorded errors of each set.
func (q residualRate) check(ctx context.Context, h *house) (string, error) {
	sets, err := h.residuals(ctx)
	if err != nil {
		return "", err
	}
	var figures []string
	var missed error
	for _, set := range sets {
		h.logf("%s: %s", set.name, traitsOf(set.seeds))
		for _, c := range q.cells(set) {
			rates, err := h.replay(ctx, set.name, c)
			if err != nil {
				return "", err
			}
			figure, ok := q.judge(rates)
			figures = append(figures, fmt.Sprintf("%s, %s: %s", set.name, c.name, figure))
			if !ok {
				missed = errors.Join(missed, fmt.Errorf("%s, %s: %s, more than %.2f %%", set.name, c.name, figure, 100*q.bar))
			}
		}
	}
	return strings.Join(figures, "; "), missed
}

// judge words the worse of the plans' rates, and reports whether its bound is below
// the bar.
func (q residualRate) judge(rates []rehearse.Rates) (figure string, ok bool) {
	upper := 0.0
	var counts []string
	for _, r := range rates {
		upper = max(upper, rehearse.Upper95(q.of(r), r.Rehearsals))
		counts = append(counts, fmt.Sprint(q.of(r)))
	}
	return fmt.Sprintf("%s of %d, below %.2f %%", strings.Join(counts, " and "), rates[0].Rehearsals, 100*upper), upper <= q.bar
}

// replay rehearses a candidate by both plans.
func (h *house) replay(ctx context.Context, set string, c residualCell) ([]rehearse.Rates, error) {
	t := traitsOf(c.pairs)
	s := rehearsedFleet(1)
	s.Recorded = c.pairs
	if c.typical > 0 {
		s.Ratio = c.typical / t.typical
	}
	plans := rehearsedPlans()
	rates := make([]rehearse.Rates, len(plans))
	g, ctx := errgroup.WithContext(ctx)
	for i, p := range plans {
		g.Go(func() error {
			r, err := rehearse.Repeat(ctx, p, s, rehearsals, nil)
			rates[i] = r
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, r := range rates {
		h.logf("%s, %s (mean error %.3f, typical device %.3f), %s: through %d, stopped %d %v, decided after %s",
			set, c.name, s.Ratio*t.ratio, s.Ratio*t.typical, plans[i].Name, r.Through, r.Stopped, r.Reasons, r.Decided)
	}
	return rates, nil
}
