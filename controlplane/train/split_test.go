package train

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
)

// heldOutFiles are data, and files that are held out if they are not empty.
func heldOutFiles(data, validation, test string) dataset.Files {
	return func(yield func(dataset.File, error) bool) {
		for _, f := range []dataset.File{
			{Name: "data.csv", Reader: strings.NewReader(data)},
			{Name: "validation.csv", Reader: strings.NewReader(validation), Part: dataset.PartValidation},
			{Name: "test.csv", Reader: strings.NewReader(test), Part: dataset.PartTest},
		} {
			if f.Reader.(*strings.Reader).Len() > 0 && !yield(f, nil) {
				return
			}
		}
	}
}

// renamed gives the engines of a file other names.
func renamed(engines string) string { return strings.ReplaceAll(engines, "\nu", "\nv") }

func TestHeldOutRowsChangeNoScaling(t *testing.T) {
	run := func(o Options, files dataset.Files) *Result {
		t.Helper()
		res, err := Job{Options: o}.Run(context.Background(), files)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	o := rulOptions
	o.Validation, o.Epochs, o.Window, o.Pad = 0, 1, 5, true
	alone := o
	alone.Validation = NoValidation
	want := run(alone, heldOutFiles(engines(6, 1), "", ""))
	got := run(o, heldOutFiles(engines(6, 1), strings.ReplaceAll(renamed(engines(3, 2)), "21.61", "35"), strings.ReplaceAll(engines(3, 4), "\nu", "\nw")))
	if diff := cmp.Diff(want.Model.Scaler, got.Model.Scaler); diff != "" {
		t.Errorf("files held out: %s", diff)
	}
	if r := got.Report; r.Evaluated != dataset.PartTest || r.Setup.Split.Fractions != [3]float64{1, 0, 0} || r.Training.Validation == 0 {
		t.Errorf("evaluated %q, split %+v, %d validation windows", r.Evaluated, r.Setup.Split, r.Training.Validation)
	}
	data := hours(640)
	lines := strings.SplitAfter(data, "\n")
	other := strings.Join(lines[:450], "") + strings.ReplaceAll(strings.Join(lines[450:], ""), "00:00,", "00:00,9")
	a, b := run(forecastOptions, heldOutFiles(data, "", "")), run(forecastOptions, heldOutFiles(other, "", ""))
	if diff := cmp.Diff(a.Model.Scaler, b.Model.Scaler); diff != "" {
		t.Errorf("split by time: %s", diff)
	}
}

func TestEvaluateKnowsItsFilesAgain(t *testing.T) {
	train, validation, test := engines(6, 1), renamed(engines(3, 2)), strings.ReplaceAll(engines(3, 4), "\nu", "\nw")
	o := rulOptions
	o.Validation, o.Epochs = 0, 1
	res, err := Job{Options: o}.Run(context.Background(), heldOutFiles(train, validation, test))
	if err != nil {
		t.Fatal(err)
	}
	for want, data := range map[string]string{"training": train, "validation": validation, "test": test, "all": engines(4, 9)} {
		r, err := Evaluate(context.Background(), res.Model, nil, dataset.One(strings.NewReader(data)), nil, EvalOptions{Setup: res.Report.Setup})
		if err != nil || r.Evaluated != want {
			t.Errorf("of the %s file: %v, %v", want, r, err)
		}
	}
	if _, err := (Job{Options: o, Data: res.Report.Setup.Data}).Run(context.Background(), heldOutFiles(train, test, validation)); err == nil {
		t.Error("a run went on with the held-out files exchanged")
	}
}

func TestSplitsOfATask(t *testing.T) {
	gap := 7
	for _, test := range []struct {
		o                Options
		validation, test bool
		want             dataset.Split
	}{
		{Options{Task: Forecast, Horizon: 6}, false, false, dataset.Split{By: dataset.ByTime, Fractions: [3]float64{0.7, 0.1, 0.2}, Gap: 6}},
		{Options{Task: Forecast, Horizon: 6}, false, true, dataset.Split{By: dataset.ByTime, Fractions: [3]float64{0.9, 0.1, 0}, Gap: 6}},
		{Options{Task: Forecast, Horizon: 6, Split: "60,20,20"}, false, false, dataset.Split{By: dataset.ByTime, Rows: [3]int{60, 20, 20}}},
		{Options{Task: Forecast, Horizon: 6, Split: "60,20,20", Gap: &gap}, false, false, dataset.Split{By: dataset.ByTime, Rows: [3]int{60, 20, 20}, Gap: 7}},
		{Options{Task: RUL, Window: 5}, false, false, dataset.Split{By: dataset.ByGroup, Fractions: [3]float64{0.85, 0.15, 0}}},
		{Options{Task: RUL, Window: 5}, true, false, dataset.Split{By: dataset.ByGroup, Fractions: [3]float64{1, 0, 0}}},
		{Options{Task: RUL, Window: 5, Validation: NoValidation}, false, false, dataset.Split{By: dataset.ByGroup, Fractions: [3]float64{1, 0, 0}}},
		{Options{Task: RUL, Window: 5, Split: "60,20,20"}, false, false, dataset.Split{By: dataset.ByTime, Rows: [3]int{60, 20, 20}, Gap: 4}},
		{Options{Task: RUL, Window: 5, Split: "0.5,0,0.5", SplitBy: dataset.ByGroup}, false, false, dataset.Split{By: dataset.ByGroup, Fractions: [3]float64{0.5, 0, 0.5}}},
	} {
		if got, err := test.o.split(test.validation, test.test); err != nil || got != test.want {
			t.Errorf("split of %+v = %+v, %v, want %+v", test.o, got, err, test.want)
		}
	}
}
