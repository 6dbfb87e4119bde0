package api

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"os/user"
	"strings"
	"testing"

	"github.com/sandpiper-edge/sandpiper/controlplane/train"
)

// preciseRun learns a wave to a thousandth of its height, which is less than
// what the rounding of int8 adds: with a bound of 0 the gate refuses it.
func preciseRun() (TrainOptions, File) {
	var b strings.Builder
	b.WriteString("t,wave\n")
	for i := range 1200 {
		fmt.Fprintf(&b, "%d,%.3f\n", i, 21+3*math.Sin(float64(i)/12*math.Pi))
	}
	return TrainOptions{
		Model: "wave", Task: train.Forecast, Time: "t", Targets: []string{"wave"}, Window: 12, Horizon: 1,
		Units: []int{8}, Epochs: 20, Batch: 16, LearningRate: 0.01, Seed: 4, Int8Bound: new(float64),
	}, fileOf("wave.csv", b.String())
}

func TestGateRefusesAVersionByName(t *testing.T) {
	all := clients(t, newTestAPI(t, nil))
	o, data := preciseRun()
	for _, name := range []string{"wave:v1", "wave:v2"} { // v1 is added in between
		for way, c := range all {
			_, err := c.Train(t.Context(), o, []File{data}, nil)
			var p *Problem
			if !errors.As(err, &p) || p.Status != http.StatusUnprocessableEntity || p.Code() != CodeRefused {
				t.Fatalf("Train over %s = %v, want a problem %s", way, err, CodeRefused)
			}
			for _, says := range []string{name + " is not added", "int8 costs too much", "mse_scaled", "lstm/", "--int8-bound", "--force"} {
				if !strings.Contains(p.Detail, says) {
					t.Errorf("over %s: %q does not say %q", way, p.Detail, says)
				}
			}
			if v, err := c.Version(t.Context(), name); err == nil {
				t.Errorf("over %s: %s was added", way, v.Ref)
			}
		}
		if name == "wave:v1" {
			allowed := o
			allowed.Int8Bound, allowed.Seed = nil, 3
			if _, err := all["local"].Train(t.Context(), allowed, []File{data}, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestForceRecordsWho(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	o, data := preciseRun()
	o.Force = true
	for way, want := range map[string]string{"tcp": "admin token", "socket": me.Username, "local": me.Username} {
		c := clients(t, newTestAPI(t, nil))[way]
		raw, err := c.Train(t.Context(), o, []File{data}, nil)
		if err != nil {
			t.Fatalf("Train over %s: %v", way, err)
		}
		r, err := train.ParseReport(raw)
		if err != nil {
			t.Fatal(err)
		}
		if w := strings.Join(r.Warnings, "\n"); !strings.Contains(w, want+" added it all the same") || r.Quantization.Gate.Passed {
			t.Errorf("over %s: warnings %q, gate %+v", way, w, r.Quantization.Gate)
		}
		v, err := c.Version(t.Context(), "wave:v1")
		if err != nil || v.Lineage.Forced != want {
			t.Errorf("over %s: forced by %q (%v), want %q", way, v.Lineage.Forced, err, want)
		}
	}
}

// A force that nothing stood in the way of is no news.
func TestForceOfAGoodVersionIsNotRecorded(t *testing.T) {
	c := NewLocalClient(newTestAPI(t, nil).Handler())
	o := smallRun
	o.Force = true
	if _, err := c.Train(t.Context(), o, csvFile(), nil); err != nil {
		t.Fatal(err)
	}
	if v, err := c.Version(t.Context(), "wear:v1"); err != nil || v.Lineage.Forced != "" {
		t.Errorf("forced by %q (%v), want nobody", v.Lineage.Forced, err)
	}
}
