package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
)

// recordLines has a data set pumps record n samples more.
func recordLines(t *testing.T, a *API, from, n int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := a.cp.Sets.Run(ctx, func(_ context.Context, _ string, w io.Writer) error {
		for i := from; i < from+n; i++ {
			if _, err := fmt.Fprintf(w, "pump,device=p1 flow=%g %d\n", math.Sin(float64(i)/5), 1_000_000_000*int64(i+1)); err != nil {
				return err
			}
		}
		cancel()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestARunOnADataSetGoesOnWithTheSameRows(t *testing.T) {
	a := newTestAPI(t, nil)
	c := NewLocalClient(a.Handler())
	if _, err := a.cp.Sets.Start("pumps", "sp1/default/d/+/s/pump", time.Time{}, 0); err != nil {
		t.Fatal(err)
	}
	set := []File{{Name: "data:pumps", Set: "pumps"}}
	o := TrainOptions{
		Model: "flow", Task: "forecast", Group: "device", Targets: []string{"flow"}, Features: []string{"flow"},
		Window: 6, Horizon: 2, Units: []int{2}, Epochs: 3, Seed: 1, Force: true, Data: dataset.Options{},
	}
	recordLines(t, a, 0, 120)
	want, err := c.Train(t.Context(), o, set, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o.Seed, o.Epochs = 2, 200_000 // so that it is stopped in one
	if _, err := c.Train(ctx, o, set, func(p Progress) {
		if p.Stage == "epoch" {
			cancel()
		}
	}); !errors.Is(err, context.Canceled) {
		t.Fatalf("Train = %v", err)
	}
	recordLines(t, a, 120, 50)
	runs, err := c.Runs(t.Context())
	if err != nil || len(runs) != 2 {
		t.Fatalf("%d runs, %v", len(runs), err)
	}
	id := runs[1].ID
	if one, err := c.Run(t.Context(), id); err != nil || !strings.Contains(string(one.Options), `"set":"pumps"`) {
		t.Errorf("options %s, %v", one.Options, err)
	}
	again, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stages []string
	if _, err := c.ResumeRun(again, id, false, set, func(p Progress) {
		if stages = append(stages, p.Stage); p.Stage == "epoch" {
			cancel()
		}
	}); !errors.Is(err, context.Canceled) || !slices.Contains(stages, "resume") {
		t.Errorf("ResumeRun = %v, stages %q, want that it went on", err, stages)
	}
	if strings.Contains(string(want), `"rows":170`) || !strings.Contains(string(want), `"rows":120`) {
		t.Errorf("report %.300s", want)
	}
	if d, err := c.DescribeData(t.Context(), DataOptions{}, set); err != nil || d.Rows != 170 {
		t.Errorf("%d rows now, %v; want 170", d.Rows, err)
	}
	if err := c.RemoveDataSet(t.Context(), "pumps"); err != nil {
		t.Fatal(err)
	}
	var p *Problem
	if _, err := c.Train(t.Context(), o, set, nil); !errors.As(err, &p) || p.Status != 404 {
		t.Errorf("after its end: %v", err)
	}
	if sets, err := c.DataSets(t.Context()); err != nil || len(sets) != 0 {
		t.Errorf("sets %v, %v", sets, err)
	}
}

// TestChangesOfFoldersAreRecorded: of runs, searches and data sets, which are no rows
// of the store.
func TestChangesOfFoldersAreRecorded(t *testing.T) {
	a := newTestAPI(t, nil)
	c := NewLocalClient(a.Handler())
	a.serving = true
	ctx, set := t.Context(), "pumps"
	const topic = "sp1/default/d/+/s/pump"
	for i := range 2 { // the second stop changes nothing
		if _, err := c.RecordDataSet(ctx, set, StartRecording{Topic: topic, For: "1h"}); err != nil {
			t.Fatal(err)
		}
		recordLines(t, a, 60*i, 60)
		for range 2 {
			if _, err := c.StopDataSet(ctx, set); err != nil {
				t.Fatal(err)
			}
		}
	}
	o := TrainOptions{
		Model: "flow", Task: "forecast", Group: "device", Targets: []string{"flow"}, Features: []string{"flow"},
		Window: 6, Horizon: 2, Units: []int{2}, Epochs: 1, Seed: 1, Force: true,
	}
	if _, err := c.Train(ctx, o, []File{{Name: "data:pumps", Set: set}}, nil); err != nil {
		t.Fatal(err)
	}
	runs, err := c.Runs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{c.RemoveRun(ctx, runs[0].ID), c.RemoveDataSet(ctx, set)} {
		if err != nil {
			t.Error(err)
		}
	}
	for _, err := range []error{c.RemoveRun(ctx, runs[0].ID), c.RemoveDataSet(ctx, set), c.RemoveTuning(ctx, "flow-tune-1")} {
		if err == nil {
			t.Error("what is not there was removed")
		}
	}
	entries, err := c.Audit(ctx, "", "", 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range slices.Backward(entries) {
		if e.Who == audit.ControlPlane {
			t.Errorf("%s by nobody", e.Action)
		}
		if e.Action != audit.ModelAdd && e.Action != audit.ModelSign {
			got = append(got, strings.TrimSpace(e.Action+" "+e.Model+" "+e.Detail))
		}
	}
	begin := "data.record  pumps from " + topic + " for 1h0m0s"
	if want := []string{begin, "data.stop  pumps", begin, "data.stop  pumps", "run.remove flow flow-1", "data.remove  pumps"}; !slices.Equal(got, want) {
		t.Errorf("recorded are %q, want %q", got, want)
	}
}
