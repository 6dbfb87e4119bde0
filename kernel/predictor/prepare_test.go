package predictor

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// preparedFixture is a fixture whose three features are a text, and two numbers in
// two regimes, with the hour and the weekday: 9 inputs.
func preparedFixture(t testing.TB, state string) *fixture {
	g := lastState()
	g.Features = 9
	f := newFixture(t, g, 5, state)
	f.schema.Features = []artifact.Column{{Name: "mode"}, {Name: "flow"}, {Name: "speed"}}
	p := artifact.NewPreparation()
	p.Categories = []artifact.Category{{Feature: 0, Values: []string{"fast", "slow"}}}
	p.Calendar, p.PeriodMS = []string{"hour", "weekday"}, 900_000
	p.Regimes = &artifact.Regimes{Features: []int{2}, Centers: []float32{1000, 3000}}
	s := &f.scaler
	s.Mean, s.Std, s.Inv = nil, nil, nil
	for range 2 {
		p.Regimes.Mean = append(p.Regimes.Mean, 0, 0, 0, 100, 2000, 0, 0, 0, 0)
		p.Regimes.Inv = append(p.Regimes.Inv, 1, 1, 1, 0.05, 0.001, 1, 1, 1, 1)
	}
	s.Mean, s.Inv = append(s.Mean, p.Regimes.Mean[:9]...), append(s.Inv, p.Regimes.Inv[:9]...)
	for _, inv := range s.Inv {
		s.Std = append(s.Std, 1/inv)
	}
	p.Regimes.Mean[3], p.Regimes.Inv[9+3] = 40, 0.2
	f.schema.Prepare = p
	return f
}

// preparedRows are n of mode, flow and speed.
func preparedRows(r *rand.Rand, n int) (rows []float32) {
	for range n {
		rows = append(rows, float32(r.IntN(3)), 60+80*r.Float32(), 500+3000*r.Float32())
	}
	return rows
}

// TestPredictPreparesRows holds Predict, PredictBatch and a stream to the plan and the
// kernel by hand.
func TestPredictPreparesRows(t *testing.T) {
	for _, state := range []string{artifact.StateWindow, artifact.StateStream} {
		f := preparedFixture(t, state)
		f.schema.Warmup = map[string]int{artifact.StateStream: 5}[state]
		p := open(t, f.artifact(t))
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
		rows, err := p.Plan().Extend(preparedRows(rand.New(rand.NewPCG(1, 1)), 10), 1_790_000_000_000)
		if err != nil {
			t.Fatal(err)
		}
		m, err := kernel.NewInt8(f.quant)
		if err != nil {
			t.Fatal(err)
		}
		width, out := p.Plan().Width(), p.Outputs()
		want := make([]float32, 2*out)
		for i := range 2 {
			raw, x := rows[i*5*width:][:5*width], make([]float32, 5*9)
			if err := p.Plan().In(x, raw); err != nil {
				t.Fatal(err)
			}
			y := want[i*out:][:out]
			if err := m.Predict(m.NewState(), y, x); err != nil {
				t.Fatal(err)
			}
			if err := p.Plan().Out(y, y, raw[4*width:]); err != nil {
				t.Fatal(err)
			}
		}
		got := make([]float32, 2*out)
		if err := p.PredictBatch(got, rows, 2); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, %v, want %v", state, got, err, want)
		}
		if !p.Stateful() {
			continue
		}
		s, err := p.NewStream()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Replay(rows[:4*width]); err != nil {
			t.Fatal(err)
		}
		if err := s.Step(got[:out], rows[4*width:][:width]); err != nil || fmt.Sprint(got[:out]) != fmt.Sprint(want[:out]) {
			t.Errorf("streamed: %v, %v, want %v", got[:out], err, want[:out])
		}
		if err := s.Step(got[:out], rows[:3]); !errors.Is(err, kernel.ErrShape) {
			t.Errorf("a row without its time: %v, want ErrShape", err)
		}
	}
}

// TestPreparedErrorsNameTheColumn, not the input.
func TestPreparedErrorsNameTheColumn(t *testing.T) {
	p := open(t, preparedFixture(t, artifact.StateWindow).artifact(t))
	rows, err := p.Plan().Extend(preparedRows(rand.New(rand.NewPCG(1, 1)), 5), 0)
	if err != nil {
		t.Fatal(err)
	}
	rows[7+2] = float32(math.NaN())
	err = p.Predict(make([]float32, p.Outputs()), rows)
	if !errors.Is(err, kernel.ErrNonFinite) || !strings.Contains(err.Error(), `"speed"`) || !strings.Contains(err.Error(), "row 2") {
		t.Errorf("a NaN: %v", err)
	}
}

func TestPreparedPredictionAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector empties pools")
	}
	p := open(t, preparedFixture(t, artifact.StateWindow).artifact(t))
	rows, err := p.Plan().Extend(preparedRows(rand.New(rand.NewPCG(1, 1)), 5), 0)
	if err != nil {
		t.Fatal(err)
	}
	y := make([]float32, p.Outputs())
	if n := testing.AllocsPerRun(20, func() { err = p.Predict(y, rows) }); n > 0 || err != nil {
		t.Errorf("%v allocations a prediction, %v", n, err)
	}
}

// TestGoldenVectorsSeeThePreparation: a device that prepares otherwise does not
// reproduce them.
func TestGoldenVectorsSeeThePreparation(t *testing.T) {
	for name, change := range map[string]func(*artifact.Preparation){
		"cycle":  func(p *artifact.Preparation) { p.Calendar[1] = "yearday" },
		"period": func(p *artifact.Preparation) { p.PeriodMS *= 2 },
		"mean":   func(p *artifact.Preparation) { p.Regimes.Mean[9+4] = 0 },
		"factor": func(p *artifact.Preparation) { p.Regimes.Inv[4] = 0.5 },
	} {
		m := preparedFixture(t, artifact.StateWindow).artifact(t)
		change(m.Schema.Prepare)
		if err := open(t, m).Check(); !errors.Is(err, ErrGolden) {
			t.Errorf("%s: Check() = %v, want ErrGolden", name, err)
		}
	}
}

func TestPlanRefusesWhatArtifactsAllow(t *testing.T) {
	f := preparedFixture(t, artifact.StateWindow)
	f.scaler.Anchor = []int{1, -1, -1, -1}
	if _, err := Plan(f.schema, f.scaler); !errors.Is(err, ErrModel) || !strings.Contains(err.Error(), "an anchor and regimes") {
		t.Errorf("an anchor and regimes: %v, want ErrModel", err)
	}
	f.schema.Prepare.Regimes = nil
	if _, err := Plan(f.schema, f.scaler); err != nil {
		t.Errorf("an anchor behind a text: %v", err)
	}
	f.scaler.Anchor[0] = 0
	if _, err := Plan(f.schema, f.scaler); !errors.Is(err, ErrModel) {
		t.Errorf("an anchored text: %v, want ErrModel", err)
	}
}

// FuzzPreparation overwrites parts of a preparation: Open refuses it or the model
// predicts, or refuses the rows.
func FuzzPreparation(f *testing.F) {
	f.Add(uint8(0), 1, uint32(0), int64(0))
	f.Add(uint8(3), 2, uint32(0x7f7fffff), int64(1)<<60)
	fix := preparedFixture(f, artifact.StateWindow)
	f.Fuzz(func(t *testing.T, what uint8, n int, value uint32, ms int64) {
		m, v := fix.artifact(t), math.Float32frombits(value)
		p := m.Schema.Prepare
		switch what % 8 {
		case 0:
			p.Categories[0].Feature = n
		case 1:
			p.Regimes.Features[0] = n
		case 2:
			p.PeriodMS = ms
		case 3:
			p.Regimes.Centers[uint(n)%2] = v
		case 4:
			p.Regimes.Mean[uint(n)%18] = v
		case 5:
			p.Regimes.Inv[uint(n)%18] = v
		case 6:
			m.Scaler.Inv[uint(n)%9] = v
		case 7:
			m.Scaler.Anchor = []int32{int32(n), -1, -1, 0}
		}
		q, err := Open(m)
		if err != nil {
			return
		}
		_ = q.Check()
		rows, err := q.Plan().Extend([]float32{0, v, 1, 2, 5, v, v, 0, 0, 1, 1, 1, 1, 1, -v}, ms)
		if err != nil {
			return
		}
		y := make([]float32, q.Outputs())
		var bad *kernel.ValueError
		if err := q.Predict(y, rows); err != nil && !errors.As(err, &bad) {
			t.Error(err)
		}
	})
}

// TestGoldenInputsHaveTheirTimes checks the calendar with every golden vector.
func TestGoldenInputsHaveTheirTimes(t *testing.T) {
	m := preparedFixture(t, artifact.StateWindow).artifact(t)
	p := open(t, m)
	for i, at := range m.GoldenTimes() {
		rows := p.inputs[i]
		last := rows[len(rows)-p.Plan().Width():]
		want, err := p.Plan().AppendRow(nil, last[:3], at)
		if err != nil || fmt.Sprint(last) != fmt.Sprint(want) {
			t.Errorf("vector %d ends with %v, %v, want %v", i, last, err, want)
		}
	}
}
