package agent

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// taskModel is an int8 LSTM of flow and pressure with two outputs, for a task that
// schema, given the columns, describes.
func taskModel(t *testing.T, task string, activation kernel.Activation, schema artifact.Schema, scaler kernel.Scaler) *artifact.Model {
	schema.Features = []artifact.Column{{Name: "flow", Unit: "l/s"}, {Name: "pressure", Unit: "bar"}}
	scaler.Mean, scaler.Std, scaler.Inv = []float32{10, 3}, []float32{2, 0.5}, []float32{0.5, 2}
	return modelOf(t, task, activation, schema, scaler)
}

// modelOf is an int8 LSTM with two outputs of the test's window.
func modelOf(t *testing.T, task string, activation kernel.Activation, schema artifact.Schema, scaler kernel.Scaler) *artifact.Model {
	t.Helper()
	weights, err := kernel.NewWeights(kernel.Graph{Features: schema.Inputs(), Layers: []kernel.Layer{
		{Kind: kernel.LSTM, Units: 16}, {Kind: kernel.Dense, Units: 2, Activation: activation},
	}})
	if err != nil {
		t.Fatal(err)
	}
	move(weights, 3, 0.5, 0)
	q, err := kernel.Quantize(weights)
	if err != nil {
		t.Fatal(err)
	}
	schema.Window, schema.State, schema.Horizon = testWindow, artifact.StateWindow, 1
	m, err := predictor.FromQuant(q, schema, task, scaler)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func testClassifier(t *testing.T) *artifact.Model {
	return taskModel(t, artifact.TaskClassify, kernel.Softmax, artifact.Schema{
		Targets: []artifact.Column{{Name: "idle"}, {Name: "busy"}}, Labels: []string{"idle", "busy"}, MinWindow: 2,
	}, kernel.Scaler{OutMean: []float32{0, 0}, OutStd: []float32{1, 1}})
}

// testDetector calls a row an anomaly that is 3 deviations from what the three
// before it let expect.
func testDetector(t *testing.T) *artifact.Model {
	return taskModel(t, artifact.TaskAnomaly, kernel.Linear, artifact.Schema{
		Targets: []artifact.Column{{Name: artifact.ScoreName}},
		Detector: &artifact.Detector{
			Residual: artifact.NextStep, Features: []int{0, 1}, Inv: []float32{0.5, 2}, Smooth: 1, Threshold: 3,
		},
	}, kernel.Scaler{OutMean: []float32{10, 3}, OutStd: []float32{2, 0.5}, Anchor: []int{0, 1}})
}

func TestClassifierTellsTheLabelOfFewerRowsToo(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.versionOf(1, testClassifier(t))
		d := w.installed(t.TempDir(), v)
		for n := 2; n <= testWindow; n++ {
			want, err := v.p.PredictAppend(nil, testRows[:n*testFeatures])
			if err != nil {
				t.Fatal(err)
			}
			req := protocol.PredictRequest{Rows: testRows[:n*testFeatures], Steps: n, Features: testFeatures}
			b, err := req.AppendCBOR(nil)
			if err != nil {
				t.Fatal(err)
			}
			got, err := protocol.DecodePredictReply(d.Predict(t.Context(), "pump", b))
			if err != nil || got.Error != nil || fmt.Sprint(got.Y) != fmt.Sprint(want) || got.Label == "" || got.Label != v.p.Label(want) {
				t.Errorf("%d rows: %+v, %v, want %v, %s", n, got, err, want, v.p.Label(want))
			}
		}
		b := d.Predict(t.Context(), "pump", []byte(`[[10,3]]`))
		if replyCode(t, b) != protocol.CodeBadShape || !strings.Contains(string(b), "2 to 4 rows of 2") {
			t.Errorf("one row: %s", b)
		}
	})
}

func TestRequestsOfDifferentLengthWaitTogether(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.versionOf(1, testClassifier(t))
		d := w.installed(t.TempDir(), v)
		var asks []*ask
		for _, n := range []int{2, 2, 4, 2, 3} {
			b, err := json.Marshal(map[string]any{"x": rowsOf(n)})
			if err != nil {
				t.Fatal(err)
			}
			asks = append(asks, &ask{request: request{payload: b}})
		}
		d.predict("pump", asks)
		for i, n := range []int{2, 2, 4, 2, 3} {
			want, err := v.p.PredictAppend(nil, testRows[:n*testFeatures])
			if err != nil || asks[i].reply.Error != nil || fmt.Sprint(asks[i].reply.Y) != fmt.Sprint(want) {
				t.Errorf("request %d of %d rows: %+v, want %v", i, n, asks[i].reply, want)
			}
		}
	})
}

func rowsOf(n int) (rows [][]float32) {
	for i := range n {
		rows = append(rows, testRows[i*testFeatures:][:testFeatures])
	}
	return rows
}

func TestDetectorTellsAnomalies(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.versionOf(1, testDetector(t))
		d := w.installed(t.TempDir(), v)
		for request, want := range map[string]bool{
			`[[10,3],[10,3],[10,3],[10.2,3]]`: false,
			`[[10,3],[10,3],[10,3],[40,3]]`:   true,
		} {
			got, err := protocol.DecodePredictReply(d.Predict(t.Context(), "pump", []byte(request)))
			if err != nil || got.Error != nil || len(got.Y) != 1 || got.Anomaly == nil || *got.Anomaly != want || want != (got.Y[0] > 3) {
				t.Errorf("%s: %+v, %v, want an anomaly: %v", request, got, err, want)
			}
		}
	})
}

func TestDetectorsPipelineRaisesTheModelsAlarm(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		m := testDetector(t)
		m.Pipeline = &artifact.Pipeline{
			Inputs: []artifact.Input{
				{Column: "flow", Topic: "plant/{device}/+/flow", Pointer: "/rms"}, {Column: "pressure"},
			},
			PeriodMS: 1000, ToleranceMS: 2000, GapMS: 30_000, Stride: 1, Output: "plant/{device}/{stream}/score",
		}
		w.installed(t.TempDir(), w.versionOf(1, m))
		for _, flow := range []float32{10, 10, 10, 10, 40} {
			w.second(flow, 3)
		}
		out := w.outputs("plant/d1/m1/score")
		if len(out) != 2 || out[0].Alarm == nil || *out[0].Alarm || out[1].Alarm == nil || !*out[1].Alarm {
			t.Errorf("outputs %+v, want no alarm and then one", out)
		}
	})
}
