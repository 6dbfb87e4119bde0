package train

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
)

// holes takes the target out of every tenth hour from hour 5 on, and gives hour 50
// a value that no sensor measures.
func holes(n int) string {
	lines := strings.Split(strings.TrimSuffix(hours(n), "\n"), "\n")
	for i := 6; i < len(lines); i += 10 {
		lines[i] = lines[i][:strings.LastIndexByte(lines[i], ',')+1]
	}
	lines[51] = lines[51][:strings.LastIndexByte(lines[51], ',')+1] + "9999"
	return strings.Join(lines, "\n") + "\n"
}

func TestReportCountsWhatWasCleaned(t *testing.T) {
	o := forecastOptions
	if _, err := Run(context.Background(), o, strings.NewReader(holes(620)), nil); !errors.Is(err, dataset.ErrTarget) {
		t.Fatalf("Run with missing targets = %v, want ErrTarget", err)
	}
	o.Horizon, o.Outliers = 2, 8
	o.Data = dataset.Options{Missing: dataset.FillForward, ColumnUnits: []string{"ot=°C"}, Convert: []string{"ot=0.5*x"}}
	var warned []string
	res, err := Run(context.Background(), o, strings.NewReader(holes(620)), func(p Progress) { warned = append(warned, p.Warnings...) })
	if err != nil {
		t.Fatal(err)
	}
	want := dataset.Cleaning{
		Rows: 620, Used: 620, Period: "1h0m0s", NoTarget: 62, Converted: o.Data.Convert,
		Filled: []dataset.Filled{{Column: "ot", Forward: 62}}, Outliers: []dataset.Count{{Column: "ot", Count: 1}},
	}
	// Of the test windows 2 in 10 have a target at a missing hour, and 1 begins there.
	if got := res.Report; got.Items != 120-2+1-2*12 {
		t.Errorf("%d windows evaluated, want those whose target was measured", got.Items)
	}
	got := *res.Report.Cleaning
	got.Notes = nil
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(dataset.Cleaning{})); diff != "" {
		t.Errorf("cleaning: %s", diff)
	}
	if unit := res.Model.Schema.Features[0].Unit; unit != "°C" || res.Model.Schema.Targets[0].Unit != "°C" {
		t.Errorf("the schema's unit is %q, want °C", unit)
	}
	for _, says := range []string{"converted ot=0.5*x: a device must send", "62 rows have no target", "1 outliers among the training rows", "training windows were left out"} {
		for where, list := range map[string][]string{"report": res.Report.Warnings, "progress": warned} {
			if !strings.Contains(strings.Join(list, "\n"), says) {
				t.Errorf("the warnings of the %s lack %q:\n%s", where, says, strings.Join(list, "\n"))
			}
		}
	}
	// The spike is in the training rows alone: it took part in nothing.
	if target, feature := res.Report.Setup.Mean[0], res.Model.Scaler.Mean[0]; target > 5 || feature > 5 {
		t.Errorf("the means of the training rows are %v and %v", target, feature)
	}
	// Of 375 windows of training two have a target at each of 38 missing hours, and two
	// the spike.
	if n := res.Report.Training.Windows; n != 375-2*38-2 {
		t.Errorf("%d training windows, want those whose target was measured", n)
	}
	// An evaluation reads and cleans as the training did, field by field.
	r, err := Evaluate(context.Background(), res.Model, nil, dataset.One(strings.NewReader(holes(620))), nil, EvalOptions{Setup: res.Report.Setup})
	if err != nil {
		t.Fatal(err)
	}
	if r.Items != res.Report.Items || r.Metrics.Int8["mse"] != res.Report.Metrics.Int8["mse"] || r.Cleaning.NoTarget != 62 {
		t.Errorf("evaluated again: %d items, mse %v, %+v", r.Items, r.Metrics.Int8["mse"], r.Cleaning)
	}
	r, err = Evaluate(context.Background(), res.Model, nil, dataset.One(strings.NewReader(holes(620))), nil, EvalOptions{
		Setup: res.Report.Setup, Data: dataset.Options{Missing: dataset.FillZero},
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Cleaning.NoTarget != 0 || r.Cleaning.Filled[0].Zero != 62 || r.Items != 119 || r.Cleaning.Converted == nil {
		t.Errorf("evaluated with zeros: %d items, %+v", r.Items, r.Cleaning)
	}
}

func TestDropConstantLeavesFeaturesOut(t *testing.T) {
	o := rulOptions
	o.DropConstant, o.Outliers = true, 50
	res := run1(t, o, engines(8, 1))
	if diff := cmp.Diff([]string{"a", "b"}, res.Report.Features); diff != "" {
		t.Errorf("features: %s", diff)
	}
	if diff := cmp.Diff([]string{"c"}, res.Report.Cleaning.Constant); diff != "" {
		t.Errorf("constant: %s", diff)
	}
	o.Outliers = 0
	if diff := cmp.Diff(res.Weights, run1(t, o, engines(8, 1)).Weights); diff != "" {
		t.Error("looking for outliers where there are none changed the weights")
	}
	o.Features = []string{"c"}
	if _, err := Run(context.Background(), o, strings.NewReader(engines(8, 1)), nil); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), "every feature is constant") {
		t.Errorf("only constant features: %v", err)
	}
	o.Data.ColumnUnits = []string{"d=V"}
	if _, err := Run(context.Background(), o, strings.NewReader(engines(8, 1)), nil); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), `a unit for "d"`) {
		t.Errorf("a unit of no column: %v", err)
	}
	o.Outliers = 0.5
	if _, err := Run(context.Background(), o, strings.NewReader(engines(8, 1)), nil); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), "outliers 0.5") {
		t.Errorf("half a deviation: %v", err)
	}
}
