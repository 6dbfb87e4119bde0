package firmwaresim

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// fedModel is version n, fed by the samples of the device it runs on.
func fedModel(n uint64) *artifact.Model {
	m := *testModels[n-1]
	m.Pipeline = &artifact.Pipeline{PeriodMS: 1000, ToleranceMS: 1500, GapMS: 10_000, Stride: 1}
	for _, f := range Features {
		m.Pipeline.Inputs = append(m.Pipeline.Inputs, artifact.Input{Column: f})
	}
	return &m
}

// TestShadowOnPumps: what the devices report of a shadow is what both models
// say about the pumps' samples, computed here; callers see one of them.
func TestShadowOnPumps(t *testing.T) {
	broken := DeviceConfig{ID: "p3", Faults: Faults{NaNOn: []string{"vibration:v2"}}}
	within(t, []DeviceConfig{{ID: "p1"}, {ID: "p2"}, broken}, func(w *world, s *Sim) {
		var models []*predictor.Predictor
		var wanted []protocol.WantedVersion
		for n := range uint64(2) {
			m := fedModel(n + 1)
			tr, err := artifact.Pack(m)
			if err != nil {
				t.Fatal(err)
			}
			w.rollOutTransfer(n+1, tr) // to nobody yet
			p, err := predictor.Open(m)
			if err != nil {
				t.Fatal(err)
			}
			models = append(models, p)
			wanted = append(wanted, protocol.WantedVersion{Digest: tr.Digest,
				Transfers: []protocol.TransferRef{{Hash: tr.Hash(), Kind: protocol.KindFull, Size: tr.Size}}})
		}
		pass(300 * time.Millisecond) // between two samples
		w.rev++
		for _, d := range s.Devices() {
			w.retain(protocol.WantTopic(testFleet, d.ID()), w.sign(artifact.RoleRollout, artifact.TypeWant, protocol.Want{
				Format: protocol.Format, Fleet: testFleet, Device: d.ID(), Rev: w.rev, Issued: int64(w.rev),
				Models: map[string]protocol.ModelWant{testName: {Active: wanted[0], Shadow: &wanted[1]}},
				Judge:  &protocol.Judge{Stage: 9, Model: testName, EveryS: 30, Until: time.Now().Add(time.Hour).UnixMilli()},
			}))
		}
		for _, d := range s.Devices() {
			topic := protocol.QualityTopic(testFleet, d.ID())
			for i := 0; len(w.published(topic)) == 0; i++ {
				if i > 600 {
					t.Fatalf("%s reported nothing in a minute", d.ID())
				}
				pass(100 * time.Millisecond)
			}
			var q protocol.Quality
			if err := q.UnmarshalBinary([]byte(w.published(topic)[0])); err != nil {
				t.Fatal(err)
			}
			w.expect(d, "vibration:v1", "")
			if d.ID() != broken.ID {
				w.checkSums(d, q, models)
			} else if q.Pairs > 3 || q.BadB < 20 || q.BadA != 0 || q.Skipped < 20 { // the fault begins once the device knows the version
				t.Errorf("%s: report %+v of a shadow that gives no numbers", d.ID(), q)
			}
		}
	})
}

// checkSums computes the sums of q from what the broker saw until now: the
// samples, and the active version's outputs, which say when there were rows.
func (w *world) checkSums(d *Device, q protocol.Quality, models []*predictor.Predictor) {
	w.t.Helper()
	var samples []protocol.Sample
	for _, b := range w.published(protocol.SampleTopic(testFleet, d.ID(), Stream)) {
		var m protocol.Sample
		if err := m.UnmarshalBinary([]byte(b)); err != nil {
			w.t.Fatal(err)
		}
		samples = append(samples, m)
	}
	at := func(ms int64) protocol.Sample { // the newest at that time
		i := len(samples) - 1
		for i > 0 && samples[i].T > ms {
			i--
		}
		return samples[i]
	}
	var sums, squares, most [2]float64
	var apart float64
	outputs := w.published(protocol.SimpleOutputTopic(testFleet, d.ID(), testName))
	n := int(q.Pairs)
	if n < 20 || n > 30 || len(outputs) < n+1 || q.Flags != protocol.QualityShadow || q.Stage != 9 || q.Skipped != 0 || q.BadA != 0 || q.BadB != 0 {
		w.t.Fatalf("%s: report %+v after %d outputs", d.ID(), q, len(outputs))
	}
	for i, b := range outputs[len(outputs)-n-1:] {
		var o struct {
			T       int64
			Y       []float32
			Version string
		}
		if err := json.Unmarshal([]byte(b), &o); err != nil {
			w.t.Fatal(err)
		}
		var rows []float32
		for k := int64(3); k >= 0; k-- {
			row := at(o.T - 1000*k)
			for _, f := range Features {
				rows = append(rows, row.V[f])
			}
		}
		var y [2]float64
		for lane, p := range models {
			out, err := p.PredictAppend(nil, rows)
			if err != nil {
				w.t.Fatal(err)
			}
			if y[lane] = float64(out[0]); lane == 0 && (out[0] != o.Y[0] || o.Version != "vibration:v1") {
				w.t.Fatalf("%s: callers saw %v of %s, want %v", d.ID(), o.Y, o.Version, out)
			}
		}
		apart += math.Abs(y[0] - y[1])
		if i == n {
			break // its truth is to come
		}
		truth := float64(at(o.T + 1000).V["vibration"])
		for lane := range y {
			e := math.Abs(y[lane] - truth)
			sums[lane], squares[lane], most[lane] = sums[lane]+e, squares[lane]+e*e, max(most[lane], e)
		}
	}
	near := func(got, want float64) bool { return math.Abs(got-want) <= 1e-5*want }
	if !near(q.SumA, sums[0]) || !near(q.SumB, sums[1]) || !near(q.SquareA, squares[0]) || !near(q.SquareB, squares[1]) ||
		!near(float64(q.MaxA), most[0]) || !near(float64(q.MaxB), most[1]) || !near(float64(q.Disagreement), apart) {
		w.t.Errorf("%s: report %+v, want Σ|e| %v, Σe² %v, max %v, apart %v", d.ID(), q, sums, squares, most, apart)
	}
}
