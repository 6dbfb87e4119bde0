package agent

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// testPrepared reads a flow, a mode that is a text, and the hour.
func testPrepared(t *testing.T) *artifact.Model {
	p := artifact.NewPreparation()
	p.Categories = []artifact.Category{{Feature: 1, Values: []string{"idle", "run"}}}
	p.Calendar, p.PeriodMS = []string{"hour"}, 60_000
	return preparedModel(t, p)
}

func TestRequestsToAPreparedModel(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.versionOf(1, testPrepared(t))
		d := w.installed(t.TempDir(), v)
		const ms = 1_790_000_000_000
		rows, err := v.p.Plan().Extend([]float32{9, 0, 10, 1, 11, 2, 12, 2}, ms)
		if err != nil {
			t.Fatal(err)
		}
		want, err := v.p.PredictAppend(nil, rows)
		if err != nil {
			t.Fatal(err)
		}
		for _, req := range []string{
			`{"t":1790000000000,"x":[[9,"idle"],[10,"run"],[11,"walk"],[12,""]]}`,
			`{"x":[{"flow":9,"mode":"idle"},{"mode":"run","flow":10},[11,"?"],[12,"IDLE"]],"t":1790000000000}`,
		} {
			b := d.Predict(t.Context(), "pump", []byte(req))
			got, err := protocol.DecodePredictReply(b)
			if err != nil || got.Error != nil || fmt.Sprint(got.Y) != fmt.Sprint(want) {
				t.Errorf("%s: %s, want %v", req, b, want)
			}
		}
		for _, c := range [][2]string{
			{`[[9,"idle"],[10,"run"],[11,"walk"],[12,""]]`, "t: UTC ms of the last row"},
			{`{"x":[[9,"idle"],[10,"run"],[11,"walk"],[12,""]]}`, "the request does not say when it is"},
			{`{"t":9007199254740991,"x":[[9,"idle"],[10,"run"],[11,"walk"],[12,""]]}`, "time out of range"},
			{`{"t":1,"x":[[9,"idle"],[10,1],[11,"walk"],[12,""]]}`, `row 2: \"mode\" is a text`},
			{`{"t":1,"x":[["9","idle"],[10,"run"],[11,"walk"],[12,""]]}`, "not a number"},
		} {
			b := d.Predict(t.Context(), "pump", []byte(c[0]))
			if replyCode(t, b) != protocol.CodeBadRequest || !strings.Contains(string(b), c[1]) {
				t.Errorf("%s: %s, want %q", c[0], b, c[1])
			}
		}
	})
}

// preparedModel is an int8 LSTM of flow and mode, which p prepares to 6 inputs.
func preparedModel(t *testing.T, p *artifact.Preparation) *artifact.Model {
	t.Helper()
	s := kernel.Scaler{Mean: []float32{10}, Std: []float32{2}, Inv: []float32{0.5}, OutMean: []float32{10, 3}, OutStd: []float32{2, 0.5}}
	for range 5 {
		s.Mean, s.Std, s.Inv = append(s.Mean, 0), append(s.Std, 1), append(s.Inv, 1)
	}
	return modelOf(t, artifact.TaskForecast, kernel.Linear, artifact.Schema{
		Features: []artifact.Column{{Name: "flow"}, {Name: "mode"}}, Targets: []artifact.Column{{Name: "flow"}, {Name: "wear"}}, Prepare: p,
	}, s)
}
