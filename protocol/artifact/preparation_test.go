package artifact

import (
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sandpiper-edge/sandpiper/protocol/internal/cbor"
)

// prepared is a model of a text, two numbers and the weekday, in two regimes: 7
// inputs of 3 features.
func prepared() *Model {
	m := model(7, 4)
	m.Schema.Features = []Column{{Name: "mode"}, {Name: "flow"}, {Name: "load"}}
	p := NewPreparation()
	p.Categories = []Category{{Feature: 0, Values: []string{"off", "on"}}}
	p.Calendar, p.PeriodMS = []string{"weekday"}, 60_000
	p.Regimes = &Regimes{Features: []int{1}, Centers: []float32{-100, 300}, Mean: make([]float32, 14), Inv: make([]float32, 14)}
	for i := range 14 {
		p.Regimes.Mean[i], p.Regimes.Inv[i] = float32(i), 0.25
	}
	p.Regimes.Inv[7+4] = 0
	m.Schema.Prepare = p
	return m
}

func TestPreparationTravels(t *testing.T) {
	m := prepared()
	tr := pack(t, m)
	release := releaseOf(t, tr)
	got, err := Unpack(tr.Descriptor, tr.Payload, nil, &release)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Schema, m.Schema) {
		t.Errorf("schema %+v, want %+v", got.Schema, m.Schema)
	}
	if m.Schema.Inputs() != 7 || !m.Schema.Timed() {
		t.Errorf("%d inputs", m.Schema.Inputs())
	}
	if d := m.Schema.Dictionaries(); len(d) != 3 || !slices.Equal(d[0], []string{"off", "on"}) || d[1] != nil {
		t.Errorf("dictionaries %q", d)
	}
}

func TestDigestCoversThePreparation(t *testing.T) {
	base := digestOf(t, prepared())
	for name, change := range map[string]func(*Preparation){
		"text": func(p *Preparation) { p.Categories[0].Values[0] = "idle" },
		"texts": func(p *Preparation) {
			p.Categories[0].Values = p.Categories[0].Values[:1]
			p.Calendar = []string{"hour", "weekday"}
		},
		"cycle":    func(p *Preparation) { p.Calendar[0] = "hour" },
		"period":   func(p *Preparation) { p.PeriodMS++ },
		"by":       func(p *Preparation) { p.Regimes.Features[0] = 2 },
		"centre":   func(p *Preparation) { p.Regimes.Centers[1]++ },
		"mean":     func(p *Preparation) { p.Regimes.Mean[13]++ },
		"factor":   func(p *Preparation) { p.Regimes.Inv[13] = 0 },
		"category": func(p *Preparation) { p.Categories[0].Feature = 2 },
	} {
		m := prepared()
		change(m.Schema.Prepare)
		if name == "texts" { // one input less, two more
			m.Schema.Prepare.Regimes = nil
			widen(m, 8)
		}
		if digestOf(t, m) == base {
			t.Errorf("%s: the digest does not cover it", name)
		}
	}
}

// widen gives m's graph so many inputs.
func widen(m *Model, inputs int) {
	w := model(inputs, 4)
	m.Graph, m.Scaler, m.Tensors = w.Graph, w.Scaler, w.Tensors
}

func digestOf(t *testing.T, m *Model) string {
	t.Helper()
	d, err := m.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

func TestPreparationIsRefused(t *testing.T) {
	nan := float32(math.NaN())
	for name, c := range map[string]struct {
		change func(*Model, *Preparation)
		want   error
	}{
		"of another version": {func(_ *Model, p *Preparation) { p.Version = 2 }, ErrInvalid},
		"of no version":      {func(_ *Model, p *Preparation) { p.Version = 0 }, ErrInvalid},
		"of nothing":         {func(m *Model, p *Preparation) { m.Schema.Prepare = NewPreparation() }, ErrInvalid},
		"inputs":             {func(m *Model, p *Preparation) { p.Calendar = []string{"hour", "weekday"} }, ErrInvalid},
		"category order": {func(_ *Model, p *Preparation) {
			p.Categories = append(p.Categories, Category{Feature: 0, Values: []string{"x"}})
		}, ErrInvalid},
		"no such feature":  {func(_ *Model, p *Preparation) { p.Categories[0].Feature = 3 }, ErrInvalid},
		"negative feature": {func(_ *Model, p *Preparation) { p.Categories[0].Feature = -1 }, ErrInvalid},
		"empty dictionary": {func(_ *Model, p *Preparation) { p.Categories[0].Values = nil }, ErrInvalid},
		"long dictionary":  {func(_ *Model, p *Preparation) { p.Categories[0].Values = make([]string, MaxCategoryValues+1) }, ErrInvalid},
		"unordered texts":  {func(_ *Model, p *Preparation) { p.Categories[0].Values = []string{"on", "off"} }, ErrInvalid},
		"text twice":       {func(_ *Model, p *Preparation) { p.Categories[0].Values = []string{"on", "on"} }, ErrInvalid},
		"empty text":       {func(_ *Model, p *Preparation) { p.Categories[0].Values = []string{"", "on"} }, ErrInvalid},
		"long text":        {func(_ *Model, p *Preparation) { p.Categories[0].Values[1] = strings.Repeat("x", 65) }, ErrInvalid},
		"text in Latin 1":  {func(_ *Model, p *Preparation) { p.Categories[0].Values[1] = "\xff" }, ErrInvalid},
		"cycle":            {func(_ *Model, p *Preparation) { p.Calendar[0] = "month" }, ErrInvalid},
		"cycle order":      {func(_ *Model, p *Preparation) { p.Calendar = []string{"weekday", "hour"} }, ErrInvalid},
		"cycle twice":      {func(_ *Model, p *Preparation) { p.Calendar = []string{"weekday", "weekday"} }, ErrInvalid},
		"no period":        {func(_ *Model, p *Preparation) { p.PeriodMS = 0 }, ErrInvalid},
		"negative period":  {func(_ *Model, p *Preparation) { p.PeriodMS = -1 }, ErrInvalid},
		"long period":      {func(_ *Model, p *Preparation) { p.PeriodMS = MaxPeriodMS + 1 }, ErrInvalid},
		"no centre":        {func(_ *Model, p *Preparation) { p.Regimes.Centers = nil }, ErrInvalid},
		"half a centre": {func(_ *Model, p *Preparation) {
			p.Regimes.Features = []int{1, 2}
			p.Regimes.Centers = make([]float32, 3)
		}, ErrInvalid},
		"by nothing":       {func(_ *Model, p *Preparation) { p.Regimes.Features = nil }, ErrInvalid},
		"by a text":        {func(_ *Model, p *Preparation) { p.Regimes.Features[0] = 0 }, ErrInvalid},
		"by no feature":    {func(_ *Model, p *Preparation) { p.Regimes.Features[0] = 3 }, ErrInvalid},
		"many regimes":     {func(_ *Model, p *Preparation) { p.Regimes.Centers = make([]float32, MaxRegimes+1) }, ErrInvalid},
		"short means":      {func(_ *Model, p *Preparation) { p.Regimes.Mean = p.Regimes.Mean[1:] }, ErrInvalid},
		"long factors":     {func(_ *Model, p *Preparation) { p.Regimes.Inv = append(p.Regimes.Inv, 1) }, ErrInvalid},
		"negative factor":  {func(_ *Model, p *Preparation) { p.Regimes.Inv[0] = -1 }, ErrInvalid},
		"NaN centre":       {func(_ *Model, p *Preparation) { p.Regimes.Centers[0] = nan }, ErrNonFinite},
		"NaN mean":         {func(_ *Model, p *Preparation) { p.Regimes.Mean[0] = nan }, ErrNonFinite},
		"NaN factor":       {func(_ *Model, p *Preparation) { p.Regimes.Inv[0] = nan }, ErrNonFinite},
		"window of inputs": {func(m *Model, p *Preparation) { m.Schema.Window, m.Golden.Steps = 1<<16/7+1, 1<<16/7+1 }, ErrTooLarge},
	} {
		m := prepared()
		c.change(m, m.Schema.Prepare)
		if err := m.Validate(); !errors.Is(err, c.want) {
			t.Errorf("%s: Validate() = %v, want %v", name, err, c.want)
		}
	}
}

// TestGoldenInputsVisitEverything: each regime, each text, the unknown one, and
// times of 100 years.
func TestGoldenInputsVisitEverything(t *testing.T) {
	m := prepared()
	modes, regimes := map[float32]int{}, map[float32]int{}
	for _, rows := range m.GoldenInputs() {
		for ; len(rows) > 0; rows = rows[3:] {
			modes[rows[0]]++
			regimes[rows[1]]++ // the centres
			k := 0
			if rows[1] == 300 {
				k = 1
			}
			mean, spread := m.Schema.Prepare.Regimes.Mean[7*k+4], float32(12)
			if k == 1 {
				spread = 0
			}
			if rows[2] < mean-spread || rows[2] > mean+spread {
				t.Errorf("load %v in regime %d", rows[2], k)
			}
		}
	}
	if len(modes) != 3 || modes[0] == 0 || modes[1] == 0 || modes[2] == 0 || len(regimes) != 2 || regimes[-100] == 0 || regimes[300] == 0 {
		t.Errorf("modes %v, flows %v", modes, regimes)
	}
	times := m.GoldenTimes()
	slices.Sort(times)
	if len(slices.Compact(times)) != GoldenVectors || times[0] < 0 || times[7] >= 1<<32*1000 {
		t.Errorf("times %v", times)
	}
	if model(3, 4).GoldenTimes() != nil {
		t.Error("a model that reads no time has golden times")
	}
}

// FuzzPreparation: what decodes and is valid encodes to the same bytes.
func FuzzPreparation(f *testing.F) {
	b, err := cbor.Append(nil, prepared().Schema.Prepare)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, p := prepared(), &Preparation{}
		if cbor.Decode(b, p) != nil {
			return
		}
		m.Schema.Prepare = p
		if n := m.Schema.Inputs(); n > 0 && n < 64 {
			widen(m, n)
		}
		if m.Validate() != nil {
			return
		}
		m.GoldenInputs()
		again, err := cbor.Append(nil, p)
		if err != nil || string(again) != string(b) {
			t.Errorf("%x, then %x, %v", b, again, err)
		}
	})
}
