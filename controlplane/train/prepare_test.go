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
	b.WriteString("time,load,temperature,outage\n")
	begin := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	for i := range n {
		at := begin.Add(time.Duration(i) * time.Hour)
		load := 50 + 20*math.Sin(2*math.Pi*float64(at.Hour())/24) + rng.NormFloat64()
		if d := at.Weekday(); d == time.Saturday || d == time.Sunday {
			load -= 30
		}
		fmt.Fprintf(&b, "%s,%.2f,%.2f,%.3f\n", at.Format("2006-01-02 15:04:05"), load, 15+5*rng.NormFloat64(), rng.ExpFloat64())
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
	req, err := protocol.DecodePredictRequest([]byte(b.String()), p.Features())
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
		{"wide", func(o *Options) { o.Calendar, o.Window, o.Stride = []string{"hour"}, 15000, 1 }, "a window of 15000 rows of 5 inputs"},
	} {
		o := plantOptions
		tt.change(&o)
		_, err := Run(context.Background(), o, strings.NewReader(data), nil)
		if !errors.Is(err, ErrOptions) && !errors.Is(err, dataset.ErrOptions) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestGoingOnKeepsThePreparation(t *testing.T) {
	o := plantOptions
	o.Calendar, o.Scale = []string{"hour"}, []string{"minmax"}
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
		"whose scaling stays":                           func(o *Options) { o.Scale = []string{"robust"} },
		"calendar: m:v1 has [hour], this run [weekday]": func(o *Options) { o.Calendar = []string{"weekday"} },
		"ms between rows: m:v1 has 3600000":             func(o *Options) { o.Data.Resample = "2h" },
	} {
		o := next
		change(&o)
		if _, err := Run(context.Background(), o, strings.NewReader(plant(200)), nil); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
