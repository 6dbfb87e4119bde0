package train

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// plant is n hours of a load that has one level on weekdays and another on weekends,
// with the temperature as a second sensor.
func plant(n int) string {
	rng := rand.New(rand.NewPCG(2, 2))
	var b strings.Builder
	b.WriteString("time,load,temperature,outage,mode\n")
	begin := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	for i := range n {
		at := begin.Add(time.Duration(i) * time.Hour)
		load := 50 + 20*math.Sin(2*math.Pi*float64(at.Hour())/24) + rng.NormFloat64()
		if d := at.Weekday(); d == time.Saturday || d == time.Sunday {
			load -= 30
		}
		mode := []string{"idle", "run", "run", "full load", ""}[rng.IntN(5)]
		if i%50 == 49 {
			mode = "test \"A\"" // not among the first rows
		}
		fmt.Fprintf(&b, "%s,%.2f,%.2f,%.3f,\"%s\"\n", at.Format("2006-01-02 15:04:05"), load, 15+5*rng.NormFloat64(), rng.ExpFloat64(), strings.ReplaceAll(mode, `"`, `""`))
	}
	return b.String()
}

var plantOptions = Options{
	Model: "plant", Task: Forecast, Time: "time", Targets: []string{"load"}, Window: 6, Horizon: 3, Units: []int{6}, Epochs: 2,
	LearningRate: 0.01, Seed: 1, Predictions: true,
}

// asked is what a device answers to the window of the table data whose last row has
// that time, asked for as a client would: in JSON, with the values as the file has
// them.
func asked(t *testing.T, p *predictor.Predictor, data, last string) []float32 {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(data)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	header := rows[0]
	end := slices.IndexFunc(rows, func(r []string) bool { return r[0] == last })
	at, err := time.Parse("2006-01-02 15:04:05", last)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for i, row := range rows[end-p.Window()+1:][:p.Window()] {
		b.WriteString(map[bool]string{true: `{"t":` + strconv.FormatInt(at.UnixMilli(), 10) + `,"x":[{`, false: ",{"}[i == 0])
		for k, name := range p.Features() {
			cell := row[slices.Index(header, name)]
			if d := p.Dictionaries(); d != nil && d[k] != nil {
				cell = strconv.Quote(cell)
			}
			b.WriteString(map[bool]string{true: "", false: ","}[k == 0] + strconv.Quote(name) + ":" + cell)
		}
		b.WriteString("}")
	}
	b.WriteString("]}")
	req, err := protocol.DecodePredictTexts([]byte(b.String()), p.Features(), p.Dictionaries())
	if err != nil {
		t.Fatal(err)
	}
	extended, err := p.Plan().Extend(req.Rows, req.T)
	if err != nil {
		t.Fatal(err)
	}
	y := make([]float32, p.Outputs())
	if err := p.Predict(y, extended); err != nil {
		t.Fatal(err)
	}
	return y
}

// checkAsked compares the predictions of a report, of a window model, with those of
// a device that is asked.
func checkAsked(t *testing.T, res *Result, data string) {
	t.Helper()
	p, err := predictor.Open(res.Model)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	for _, r := range res.Report.Predictions {
		if diff := cmp.Diff(asked(t, p, data, r.Time), r.Int8); diff != "" {
			t.Fatalf("at %s: %s", r.Time, diff)
		}
	}
}

// TestADeviceAnswersWhatWasEvaluated, for every way to prepare rows.
func TestADeviceAnswersWhatWasEvaluated(t *testing.T) {
	data := plant(200)
	for name, change := range map[string]func(*Options){
		"zscore":   func(o *Options) {},
		"minmax":   func(o *Options) { o.Scale = []string{"minmax"} },
		"robust":   func(o *Options) { o.Scale = []string{"robust", "temperature=zscore"} },
		"anchor":   func(o *Options) { o.Anchor = "last" },
		"anchors":  func(o *Options) { o.Anchor, o.Targets = "last", []string{"temperature", "load"} },
		"calendar": func(o *Options) { o.Calendar = []string{"weekday", "hour", "yearday"} },
		"category": func(o *Options) { o.Categories = []string{"mode"} },
		"number as category": func(o *Options) {
			o.Features, o.Categories = []string{"outage", "load", "mode"}, []string{"mode", "outage"}
		},
		"anchored behind a category": func(o *Options) {
			o.Features, o.Categories, o.Anchor = []string{"mode", "outage", "load"}, []string{"mode"}, "last"
		},
		"skip behind a category": func(o *Options) {
			o.Features, o.Categories, o.Skip = []string{"mode", "outage", "load"}, []string{"mode"}, true
		},
		"regimes": func(o *Options) { o.Regimes, o.RegimeColumns = 3, []string{"temperature", "outage"} },
		"regimes, category, calendar": func(o *Options) {
			o.Features, o.Categories, o.Calendar = []string{"mode", "temperature", "load", "outage"}, []string{"mode"}, []string{"hour"}
			o.Regimes, o.RegimeColumns, o.Scale = 4, []string{"outage", "temperature"}, []string{"minmax"}
		},
		"calendar and anchor": func(o *Options) {
			o.Calendar, o.Anchor, o.Scale = []string{"weekday", "hour"}, "last", []string{"outage=robust"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := plantOptions
			change(&o)
			res := run1(t, o, data)
			checkAsked(t, res, data)
			// An evaluation of the same file is the same.
			e, err := Evaluate(context.Background(), res.Model, res.Weights, dataset.One(strings.NewReader(data)), nil, EvalOptions{Setup: res.Report.Setup, Predictions: true})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(res.Report.Predictions, e.Predictions); diff != "" {
				t.Errorf("evaluated again: %s", diff)
			}
			if diff := cmp.Diff(res.Report.Baselines, e.Baselines); diff != "" {
				t.Errorf("baselines: %s", diff)
			}
		})
	}
}

func TestCalendarTellsWeekendsApart(t *testing.T) {
	o := plantOptions
	o.Window, o.Horizon, o.Epochs, o.Units, o.Predictions = 4, 1, 8, []int{10}, false
	data := plant(24 * 7 * 8)
	without := run1(t, o, data).Report.Metrics.Int8["mse"]
	o.Calendar = []string{"hour", "weekday"}
	res := run1(t, o, data)
	if with := res.Report.Metrics.Int8["mse"]; !(with < 0.8*without) {
		t.Errorf("mse %v with the calendar, %v without", with, without)
	}
	p := res.Model.Schema.Prepare
	if !slices.Equal(p.Calendar, o.Calendar) || p.PeriodMS != 3600_000 || len(res.Model.Schema.Features) != 3 || res.Model.Graph.Features != 7 {
		t.Errorf("preparation %+v, features %v, a graph of %d", p, res.Model.Schema.Features, res.Model.Graph.Features)
	}
	if !slices.Equal(res.Report.Features, []string{"load", "temperature", "outage"}) {
		t.Errorf("report of the features %q", res.Report.Features)
	}
}

func TestScalesAreTheModels(t *testing.T) {
	o := plantOptions
	o.Scale = []string{"temperature=minmax", "robust"}
	s := run1(t, o, plant(200)).Model.Scaler
	table, err := dataset.Read(strings.NewReader(plant(200)), dataset.Columns{Time: "time", Targets: []string{"load"}, TargetsAsFeatures: true})
	if err != nil {
		t.Fatal(err)
	}
	want, _, _ := table.Scaler(dataset.Part{{Group: 0, Start: 0, End: 140}}, []string{"robust", "minmax", "robust"})
	if !slices.Equal(s.Mean, want.Mean) || !slices.Equal(s.Inv, want.Inv) || !slices.Equal(s.Std, want.Std) {
		t.Errorf("scaler %+v, want %+v", s, want)
	}
}

// TestAnchoredStream: the outputs are changes, the features are not.
func TestAnchoredStream(t *testing.T) {
	o := plantOptions
	o.State, o.Anchor, o.Calendar = Stream, "last", []string{"hour"}
	data := plant(200)
	res := run1(t, o, data)
	if !slices.Equal(res.Model.Scaler.Anchor, []int32{0, 0, 0}) {
		t.Errorf("anchors %v", res.Model.Scaler.Anchor)
	}
	table, err := dataset.Read(strings.NewReader(data), dataset.Columns{Time: "time", Features: []string{"load", "temperature", "outage"}})
	if err != nil {
		t.Fatal(err)
	}
	if table, err = table.WithCalendar(cyclesOf(res.Model)); err != nil {
		t.Fatal(err)
	}
	checkStreamed(t, res.Model, &Report{Predictions: without32(res.Report.Predictions)}, table)
	if m, l := res.Report.Metrics.Int8["mse"], res.Report.Baselines["repeat_last"]["mse"]; !(m < l) {
		t.Errorf("mse %v is not below repeat_last's %v", m, l)
	}
}

// without32 are predictions whose float32 values are no matter.
func without32(list []Prediction) []Prediction {
	list = slices.Clone(list)
	for i := range list {
		list[i].Float32 = list[i].Int8
	}
	return list
}

func TestPreparationIsRefused(t *testing.T) {
	data := plant(200)
	for _, tt := range []struct {
		name   string
		change func(*Options)
		want   string
	}{
		{"scale", func(o *Options) { o.Scale = []string{"load=standard"} }, `no scale "standard"; there are zscore, minmax and robust`},
		{"near scale", func(o *Options) { o.Scale = []string{"z-score"} }, `did you mean "zscore"?`},
		{"scale of no column", func(o *Options) { o.Scale = []string{"laod=robust"} }, `a scale for "laod"`},
		{"calendar", func(o *Options) { o.Calendar = []string{"month"} }, `no calendar "month"`},
		{"calendar twice", func(o *Options) { o.Calendar = []string{"hour", "hour"} }, "calendar hour twice"},
		{"no time", func(o *Options) { o.Time, o.Features, o.Calendar = "", []string{"load"}, []string{"hour"} }, "needs a time column"},
		{"regimes by nothing", func(o *Options) { o.Regimes = 3 }, "3 regimes by no column"},
		{"one regime", func(o *Options) { o.Regimes, o.RegimeColumns = 1, []string{"load"} }, "1 regimes, want 2 to 64"},
		{"no regimes", func(o *Options) { o.RegimeColumns = []string{"load"} }, "0 regimes"},
		{"regimes twice", func(o *Options) { o.Regimes, o.RegimeColumns = 2, []string{"load", "load"} }, `"load" twice`},
		{"regimes and anchor", func(o *Options) { o.Regimes, o.RegimeColumns, o.Anchor = 2, []string{"load"}, "last" }, "an anchor and regimes"},
		{"regimes by no feature", func(o *Options) { o.Regimes, o.RegimeColumns = 2, []string{"mode"} }, `"mode" is no feature`},
		{"regimes by a text", func(o *Options) {
			o.Regimes, o.RegimeColumns, o.Categories = 2, []string{"mode"}, []string{"mode"}
		}, `"mode" is a category`},
		{"too many regimes", func(o *Options) { o.Regimes, o.RegimeColumns = 60, []string{"outage"} }, "ask for fewer"},
		{"scale of a text", func(o *Options) { o.Scale, o.Categories = []string{"mode=robust"}, []string{"mode"} }, `a scale for "mode", which is a category`},
		{"anchored text", func(o *Options) { o.Targets, o.Categories, o.Anchor = []string{"load"}, []string{"load"}, "last" }, `"load" is a target`},
		{"category and target", func(o *Options) { o.Features, o.Categories = []string{"temperature"}, []string{"mode"} }, "not among the features"},
		{"category of no column", func(o *Options) { o.Categories = []string{"mood"} }, `"mood"`},
		{"converted text", func(o *Options) { o.Categories, o.Data.Convert = []string{"mode"}, []string{"mode=2*x"} }, "a conversion"},
		{"wide", func(o *Options) { o.Calendar, o.Window, o.Stride = []string{"hour"}, 15000, 1 }, "a window of 15000 rows of 5 inputs"},
	} {
		o := plantOptions
		tt.change(&o)
		_, err := Run(context.Background(), o, strings.NewReader(data), nil)
		if !errors.Is(err, ErrOptions) && !errors.Is(err, dataset.ErrOptions) && !errors.Is(err, dataset.ErrColumn) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestGoingOnKeepsThePreparation(t *testing.T) {
	o := plantOptions
	o.Calendar, o.Scale, o.Categories = []string{"hour"}, []string{"minmax"}, []string{"mode"}
	o.Regimes, o.RegimeColumns = 2, []string{"outage"}
	first := run1(t, o, plant(200))
	next := Options{Time: "time", Epochs: 1, Predictions: true, From: base(first)}
	second := run1(t, next, plant(200))
	if diff := cmp.Diff(first.Model.Schema, second.Model.Schema); diff != "" {
		t.Errorf("schema: %s", diff)
	}
	if diff := cmp.Diff(first.Model.Scaler, second.Model.Scaler); diff != "" {
		t.Errorf("scaler: %s", diff)
	}
	checkAsked(t, second, plant(200))
	for want, change := range map[string]func(*Options){
		"whose scaling stays":                                func(o *Options) { o.Scale = []string{"robust"} },
		"calendar: m:v1 has [hour], this run [weekday]":      func(o *Options) { o.Calendar = []string{"weekday"} },
		"categories: m:v1 has [mode], this run [outage]":     func(o *Options) { o.Categories = []string{"outage"} },
		"regimes: m:v1 has 2, this run 3":                    func(o *Options) { o.Regimes, o.RegimeColumns = 3, []string{"outage"} },
		"regime columns: m:v1 has [outage], this run [load]": func(o *Options) { o.Regimes, o.RegimeColumns = 2, []string{"load"} },
		"ms between rows: m:v1 has 3600000":                  func(o *Options) { o.Data.Resample = "2h" },
	} {
		o := next
		change(&o)
		if _, err := Run(context.Background(), o, strings.NewReader(plant(200)), nil); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// conditions are rows of three operating conditions, in each of which the sensor has
// a level, a spread and noise of its own; flat has one value in each.
func conditions(n int) string {
	rng := rand.New(rand.NewPCG(4, 4))
	var b strings.Builder
	b.WriteString("cycle,unit,altitude,speed,sensor,flat\n")
	for i := range n {
		k := rng.IntN(3)
		fmt.Fprintf(&b, "%d,u%d,%.3f,%.4f,%.3f,%d\n", i%40+1, i/40, float64(k)*20+rng.Float64()*0.01, []float64{0.2, 0.8, 0.6}[k]+rng.Float64()*1e-3,
			float64(100*k)+float64(k+1)*(rng.NormFloat64()+float64(i%40)/10), 500+7*k)
	}
	return b.String()
}

func TestRegimesHaveTheirOwnScaling(t *testing.T) {
	o := Options{
		Task: RUL, Time: "cycle", Group: "unit", Window: 5, Units: []int{4}, Epochs: 1, Seed: 2,
		Preparation: Preparation{Regimes: 3, RegimeColumns: []string{"speed", "altitude"}},
	}
	data := conditions(800)
	res := run1(t, o, data)
	g := res.Model.Schema.Prepare.Regimes
	if g.Len() != 3 || !slices.Equal(g.Features, []int{0, 1}) {
		t.Fatalf("%d regimes by %v", g.Len(), g.Features)
	}
	for k, want := range [][2]float64{{0, 0.2}, {20, 0.8}, {40, 0.6}} {
		if math.Abs(float64(g.Centers[2*k])-want[0]) > 0.1 || math.Abs(float64(g.Centers[2*k+1])-want[1]) > 0.01 {
			t.Errorf("centre %d is %v, want %v", k, g.Centers[2*k:][:2], want)
		}
		mean, inv := g.Mean[4*k:][:4], g.Inv[4*k:][:4]
		spread := float64(k+1) * 1.53 // of the noise, and of a ramp of 4
		if math.Abs(float64(mean[2])-(100*float64(k)+2*float64(k+1))) > 1 || math.Abs(1/float64(inv[2])/spread-1) > 0.2 {
			t.Errorf("regime %d: mean %v and deviation %v of the sensor, want about %v and %v", k, mean[2], 1/inv[2], 100*k+2*(k+1), spread)
		}
		if inv[3] != 0 || mean[3] != float32(500+7*k) {
			t.Errorf("regime %d: mean %v and factor %v of a constant", k, mean[3], inv[3])
		}
		// The columns that tell regimes apart stay as they are for all rows.
		if inv[0] != res.Model.Scaler.Inv[0] || mean[1] != res.Model.Scaler.Mean[1] {
			t.Errorf("regime %d scales %v, %v", k, mean[:2], inv[:2])
		}
	}
	if w := fmt.Sprint(res.Report.Warnings); !strings.Contains(w, `"flat" is constant in every regime`) || strings.Contains(w, `"altitude" is`) {
		t.Errorf("warnings %s", w)
	}
	var p *predictor.Predictor
	p, err := predictor.Open(res.Model)
	if err != nil {
		t.Fatal(err)
	}
	if k := p.Plan().Regime([]float32{41, 0.61, 0, 0}); k != 2 {
		t.Errorf("a row at 41 is in regime %d", k)
	}
	again := run1(t, o, data)
	if diff := cmp.Diff(res.Model.Schema, again.Model.Schema); diff != "" {
		t.Errorf("the same seed gives other regimes: %s", diff)
	}
}

func TestARegimeOfFewRowsIsRefused(t *testing.T) {
	var b strings.Builder
	b.WriteString("t,a,setting\n")
	for i := range 200 {
		setting := 0
		if i == 100 || i == 101 {
			setting = 1
		}
		fmt.Fprintf(&b, "%d,%d,%d\n", i, i%7, setting)
	}
	o := Options{
		Task: Forecast, Time: "t", Targets: []string{"a"}, Window: 4, Horizon: 1, Units: []int{3}, Epochs: 1,
		Preparation: Preparation{Regimes: 2, RegimeColumns: []string{"setting"}},
	}
	_, err := Run(context.Background(), o, strings.NewReader(b.String()), nil)
	if !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), "one of them has 2 training rows") {
		t.Errorf("a regime of 2 rows: %v", err)
	}
	o.Regimes = 3
	if _, err := Run(context.Background(), o, strings.NewReader(b.String()), nil); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), "2 different values") {
		t.Errorf("3 regimes of 2 values: %v", err)
	}
	constant := strings.ReplaceAll(b.String(), ",1\n", ",0\n")
	if _, err := Run(context.Background(), o, strings.NewReader(constant), nil); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), "is constant") {
		t.Errorf("a constant regime column: %v", err)
	}
}

func TestKMeansFindsWhatIsApart(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	want := [][]float64{{-4, 0}, {0, 5}, {1, 9}, {3, -3}}
	var points [][]float64
	for i := range 400 {
		c := want[i%4]
		points = append(points, []float64{c[0] + rng.NormFloat64()/10, c[1] + rng.NormFloat64()/10})
	}
	for seed := range uint64(5) {
		got := kmeans(points, 4, seed)
		for k := range want {
			if len(got) != 4 || math.Hypot(got[k][0]-want[k][0], got[k][1]-want[k][1]) > 0.1 {
				t.Fatalf("seed %d: centres %v, want %v", seed, got, want)
			}
		}
	}
	if got := kmeans(nil, 2, 1); got != nil {
		t.Errorf("of no points: %v", got)
	}
}

// TestUnknownTexts: a text that training rows lack changes nothing if none of them is
// unknown, and is an input of its own if some are.
func TestUnknownTexts(t *testing.T) {
	var b strings.Builder
	b.WriteString("t,a,mode\n")
	for i := range 120 {
		mode := []string{"off", "on"}[i/3%2]
		if i > 100 {
			mode = "broken"
		}
		fmt.Fprintf(&b, "%d,%d,%s\n", i, i%6, mode)
	}
	o := Options{
		Task: Forecast, Time: "t", Targets: []string{"a"}, Window: 4, Horizon: 1, Units: []int{3}, Epochs: 2, Split: "0.7,0.1,0.2",
		Preparation: Preparation{Categories: []string{"mode"}},
	}
	res := run1(t, o, b.String())
	if got := res.Model.Schema.Dictionaries()[1]; !slices.Equal(got, []string{"off", "on"}) {
		t.Errorf("dictionary %q", got)
	}
	if w := fmt.Sprint(res.Report.Warnings); !strings.Contains(w, `19 rows have a text that the model does not know, such as "broken"`) {
		t.Errorf("warnings %s", w)
	}
	rows := len(res.Weights.Layers[0].Kernel) / 4 // a, off, on, unknown
	for i, zero := range []bool{false, false, false, true} {
		if all := !slices.ContainsFunc(res.Weights.Layers[0].Kernel[i*rows:][:rows], func(v float32) bool { return v != 0 }); all != zero {
			t.Errorf("input %d has zero weights: %v, want %v", i, all, zero)
		}
	}
	some := strings.Replace(b.String(), "9,3,on", "9,3,", 1)
	res = run1(t, o, some)
	if w := res.Weights.Layers[0].Kernel[3*rows:]; !slices.ContainsFunc(w, func(v float32) bool { return v != 0 }) {
		t.Error("a missing text in a training row leaves the input for unknown ones without weights")
	}
	o.Split = "10,10,90"
	none := strings.NewReplacer(",off", ",", ",on", ",").Replace(b.String())
	if _, err := Run(context.Background(), o, strings.NewReader(none), nil); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), "no text in the training rows") {
		t.Errorf("a category that is missing throughout: %v", err)
	}
}

func TestRareTextsShareAnInput(t *testing.T) {
	var b strings.Builder
	b.WriteString("t,a,code\n")
	for i := range 400 {
		code := i % 64
		if i%40 == 7 {
			code = 100 + i
		}
		fmt.Fprintf(&b, "%d,%d,c%03d\n", i, i%6, code)
	}
	o := Options{
		Task: Forecast, Time: "t", Targets: []string{"a"}, Window: 4, Horizon: 1, Units: []int{3}, Epochs: 1,
		Preparation: Preparation{Categories: []string{"code"}},
	}
	res := run1(t, o, b.String())
	if got := res.Model.Schema.Dictionaries()[1]; len(got) != 64 || !slices.IsSorted(got) || slices.Contains(got, "c107") {
		t.Errorf("dictionary %q", got)
	}
	if w := fmt.Sprint(res.Report.Warnings); !strings.Contains(w, `"code" has more than 64 texts: 7 training rows`) {
		t.Errorf("warnings %s", w)
	}
}

// TestSkipPathReadsTheTargetsInput, wherever texts before it put that.
func TestSkipPathReadsTheTargetsInput(t *testing.T) {
	o := plantOptions
	o.Features, o.Categories, o.Skip, o.Horizon = []string{"mode", "load"}, []string{"mode"}, true, 2
	res := run1(t, o, plant(200))
	n := int32(len(res.Model.Schema.Dictionaries()[0]) + 1)
	if !slices.Equal(res.Model.Skip.Features, []int32{n, n}) {
		t.Errorf("the path reads inputs %v, want %d", res.Model.Skip.Features, n)
	}
	if m, l := res.Report.Metrics.Int8["mse"], res.Report.Baselines["mean"]["mse"]; !(m < 0.8*l) {
		t.Errorf("mse %v, the mean's %v", m, l)
	}
}

// TestRoundingIsNoSpread: what differs in a regime by the rounding of float32 alone
// would scale to noise of the size of signals.
func TestRoundingIsNoSpread(t *testing.T) {
	var b strings.Builder
	b.WriteString("t,a,setting,count\n")
	for i := range 100 {
		fmt.Fprintf(&b, "%d,%d,%d,%.4f\n", i, i%7, i%2, float64(i%2)*1e6+float64(i%3)/16)
	}
	res := run1(t, Options{
		Task: Forecast, Time: "t", Targets: []string{"a"}, Window: 4, Horizon: 1, Units: []int{3}, Epochs: 1,
		Preparation: Preparation{Regimes: 2, RegimeColumns: []string{"setting"}},
	}, b.String())
	if inv := res.Model.Schema.Prepare.Regimes.Inv; inv[2] != 0 || inv[5] != 0 || inv[0] == 0 {
		t.Errorf("factors %v", inv)
	}
	if w := fmt.Sprint(res.Report.Warnings); !strings.Contains(w, `"count" is constant in every regime`) {
		t.Errorf("warnings %s", w)
	}
}
