package artifact

import (
	"errors"
	"math"
	"strings"
	"testing"
)

// classifier is pinned with two classes, of 1 to 2 rows.
func classifier() *Model {
	m := pinned()
	m.Task = TaskClassify
	m.Schema = Schema{
		Features: m.Schema.Features, Targets: []Column{{Name: "walks"}, {Name: "stays"}},
		Window: 2, State: StateWindow, Horizon: 1, MinWindow: 1, Labels: []string{"walks", "stays"},
	}
	m.Graph.Layers[1].Activation = Softmax
	m.Scaler.OutMean, m.Scaler.OutStd, m.Scaler.Anchor = []float32{0, 0}, []float32{1, 1}, nil
	return m
}

// detector is pinned as a network that looks at both of two features.
func detector() *Model {
	m := pinned()
	m.Task = TaskAnomaly
	m.Graph.Features = 2
	m.Schema = Schema{
		Features: []Column{{"flow", "l/s"}, {Name: "load"}}, Targets: []Column{{Name: ScoreName}},
		Window: 5, State: StateWindow, Horizon: 1,
		Detector: &Detector{Residual: NextStep, Features: []int{0, 1}, Inv: []float32{2, 0}, Smooth: 3, Threshold: 1.5},
	}
	m.Tensors[0] = Tensor{"0.kernel", Int8, []int{2, 4}, make([]byte, 8)}
	m.Scaler = Scaler{
		Mean: []float32{10, 1}, Std: []float32{2, 1}, Inv: []float32{0.5, 1},
		OutMean: []float32{10, 1}, OutStd: []float32{2, 1}, Anchor: []int32{0, 1},
	}
	m.Golden.Steps, m.Golden.Outputs = 5, make([]float32, GoldenVectors)
	return m
}

func TestDigestsOfTasksArePinned(t *testing.T) {
	for name, c := range map[string]struct {
		model *Model
		want  string
	}{
		"classifier": {classifier(), "fed41278909e8f213e19a5798b4c65f836c7701610a2f8b3ab247a42aa6ae0fb"},
		"detector":   {detector(), "382c880f2faf55dc16b668b76defae8daa9521e8f93c19182a933541f9ef9901"},
	} {
		if d, err := c.model.Digest(); err != nil || d.String() != c.want {
			t.Errorf("%s: digest %v, %v, want %s", name, d, err, c.want)
		}
	}
}

func TestDigestCoversTasks(t *testing.T) {
	for _, c := range []struct {
		name   string
		model  func() *Model
		change func(*Model)
	}{
		{"labels", classifier, func(m *Model) { m.Schema.Labels[1] = "sits" }},
		{"least rows", classifier, func(m *Model) { m.Schema.MinWindow = 2 }},
		{"residual", detector, func(m *Model) { m.Schema.Detector.Residual = Reconstruction }},
		{"factor", detector, func(m *Model) { m.Schema.Detector.Inv[0] = 3 }},
		{"smooth", detector, func(m *Model) { m.Schema.Detector.Smooth = 2 }},
		{"threshold", detector, func(m *Model) { m.Schema.Detector.Threshold = 2 }},
	} {
		m := c.model()
		before, err := m.Digest()
		if err != nil {
			t.Fatal(err)
		}
		c.change(m)
		if d, err := m.Digest(); err != nil || d == before {
			t.Errorf("%s: digest %v, %v, want another", c.name, d, err)
		}
	}
}

func TestTaskSurvivesItsManifest(t *testing.T) {
	for _, m := range []*Model{classifier(), detector()} {
		tr, err := Pack(m)
		if err != nil {
			t.Fatal(err)
		}
		rel := releaseOf(t, tr)
		got, err := Unpack(tr.Descriptor, tr.Payload, nil, &rel)
		if err != nil {
			t.Fatal(err)
		}
		if got.Schema.Outputs() != m.Schema.Outputs() || got.Schema.NetworkWindow() != m.Schema.NetworkWindow() ||
			got.Schema.NetworkOutputs() != 2 || strings.Join(got.Schema.Labels, " ") != strings.Join(m.Schema.Labels, " ") {
			t.Errorf("schema %+v, want %+v", got.Schema, m.Schema)
		}
	}
	if n := detector().Schema.NetworkWindow(); n != 2 {
		t.Errorf("network window %d of a window of 5 and 3 residuals of the row after, want 2", n)
	}
}

func TestValidateRefusesTasks(t *testing.T) {
	nan := float32(math.NaN())
	for name, c := range map[string]struct {
		model  func() *Model
		change func(*Model)
		want   error
	}{
		"fewer rows than 1":       {classifier, func(m *Model) { m.Schema.MinWindow = -1 }, ErrInvalid},
		"more rows than a window": {classifier, func(m *Model) { m.Schema.MinWindow = 3 }, ErrInvalid},
		"rows that vary, forecast": {classifier, func(m *Model) {
			m.Task, m.Schema.Labels = TaskForecast, nil
		}, ErrInvalid},
		"rows that vary, each with a value": {classifier, func(m *Model) {
			m.Graph.Layers[0].Sequences, m.Schema.Horizon, m.Schema.Labels = true, 2, nil
			m.Scaler.OutMean, m.Scaler.OutStd = make([]float32, 4), make([]float32, 4)
			m.Golden.Outputs = make([]float32, 4*GoldenVectors)
		}, ErrInvalid},
		"one label":               {classifier, func(m *Model) { m.Schema.Labels = m.Schema.Labels[:1] }, ErrInvalid},
		"a third label":           {classifier, func(m *Model) { m.Schema.Labels = append(m.Schema.Labels, "runs") }, ErrInvalid},
		"the same label":          {classifier, func(m *Model) { m.Schema.Labels[1] = "walks" }, ErrInvalid},
		"an empty label":          {classifier, func(m *Model) { m.Schema.Labels[1] = "" }, ErrInvalid},
		"a label of other bytes":  {classifier, func(m *Model) { m.Schema.Labels[1] = "\xff" }, ErrInvalid},
		"labels of a forecast":    {classifier, func(m *Model) { m.Task, m.Schema.MinWindow = TaskForecast, 0 }, ErrInvalid},
		"a detector's task":       {detector, func(m *Model) { m.Task = TaskForecast }, ErrInvalid},
		"a detector's state":      {detector, func(m *Model) { m.Schema.State = StateStream }, ErrInvalid},
		"two scores":              {detector, func(m *Model) { m.Schema.Horizon = 2 }, ErrInvalid},
		"residual":                {detector, func(m *Model) { m.Schema.Detector.Residual = "last-step" }, ErrInvalid},
		"no residual":             {detector, func(m *Model) { m.Schema.Detector.Smooth = 0 }, ErrInvalid},
		"no rows for the network": {detector, func(m *Model) { m.Schema.Detector.Smooth = 5 }, ErrInvalid},
		"no feature":              {detector, func(m *Model) { m.Schema.Detector.Features = nil }, ErrInvalid},
		"a feature too many":      {detector, func(m *Model) { m.Schema.Detector.Features = []int{0, 2} }, ErrInvalid},
		"a feature twice":         {detector, func(m *Model) { m.Schema.Detector.Features = []int{1, 1} }, ErrInvalid},
		"a factor missing":        {detector, func(m *Model) { m.Schema.Detector.Inv = []float32{1} }, ErrInvalid},
		"a negative factor":       {detector, func(m *Model) { m.Schema.Detector.Inv[0] = -1 }, ErrInvalid},
		"a factor without end":    {detector, func(m *Model) { m.Schema.Detector.Inv[0] = float32(math.Inf(1)) }, ErrNonFinite},
		"threshold":               {detector, func(m *Model) { m.Schema.Detector.Threshold = nan }, ErrInvalid},
		"a value a feature": {detector, func(m *Model) {
			m.Schema.Detector.Features, m.Schema.Detector.Inv = []int{0}, []float32{1}
		}, ErrInvalid},
	} {
		m := c.model()
		c.change(m)
		if err := m.Validate(); !errors.Is(err, c.want) {
			t.Errorf("%s: Validate() = %v, want %v", name, err, c.want)
		}
	}
}
