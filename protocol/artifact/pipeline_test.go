package artifact

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

func testPipeline() (Pipeline, Schema) {
	return Pipeline{
			Inputs: []Input{
				{Column: "flow", Topic: "sensors/{device}/+/flow", Pointer: "/rms"},
				{Column: "pressure"},
				{Column: "wear", Topic: "wear", Pointer: "/a~1b"},
			},
			PeriodMS: 1000, ToleranceMS: 1000, HoldMS: 1, GapMS: 1000, Stride: 1,
			Output: "out/{device}/{stream}", MinIntervalMS: 1, Alarm: &Alarm{Output: 1, Raise: 2, Clear: 1},
		}, Schema{
			Features: []Column{{Name: "flow"}, {Name: "pressure"}}, Targets: []Column{{Name: "wear"}},
			Window: 3, State: StateWindow, Horizon: 2,
		}
}

func TestPipelineCheckRefuses(t *testing.T) {
	p, s := testPipeline()
	if err := p.Check(s); err != nil {
		t.Fatalf("Check = %v for a good pipeline", err)
	}
	for name, c := range map[string]struct {
		change func(*Pipeline)
		field  string
	}{
		"no period":          {func(p *Pipeline) { p.PeriodMS = 0 }, "period_ms"},
		"long period":        {func(p *Pipeline) { p.PeriodMS = MaxTimeMS + 1 }, "period_ms"},
		"no tolerance":       {func(p *Pipeline) { p.ToleranceMS = 0 }, "tolerance_ms"},
		"gap below a period": {func(p *Pipeline) { p.GapMS = 999 }, "gap_ms"},
		"long hold":          {func(p *Pipeline) { p.HoldMS = MaxTimeMS + 1 }, "hold_ms"},
		"no stride":          {func(p *Pipeline) { p.Stride = 0 }, "stride"},
		"no inputs":          {func(p *Pipeline) { p.Inputs = nil }, "inputs"},
		"feature missing":    {func(p *Pipeline) { p.Inputs = p.Inputs[1:] }, "inputs"},
		"unknown column":     {func(p *Pipeline) { p.Inputs[0].Column = "heat" }, "inputs[0].column"},
		"fed twice":          {func(p *Pipeline) { p.Inputs[1].Column = "flow" }, "inputs[1].column"},
		"pointer of samples": {func(p *Pipeline) { p.Inputs[1].Pointer = "/v" }, "inputs[1].pointer"},
		"bad pointer":        {func(p *Pipeline) { p.Inputs[0].Pointer = "rms" }, "inputs[0].pointer"},
		"many inputs":        {func(p *Pipeline) { p.Inputs = make([]Input, MaxInputs+1) }, "inputs"},
		"two wildcards":      {func(p *Pipeline) { p.Inputs[0].Topic = "+/+" }, "inputs[0].topic"},
		"hash":               {func(p *Pipeline) { p.Inputs[0].Topic = "a/#" }, "inputs[0].topic"},
		"plus in a level":    {func(p *Pipeline) { p.Inputs[0].Topic = "a/b+" }, "inputs[0].topic"},
		"protocol topic":     {func(p *Pipeline) { p.Inputs[0].Topic = "sp1/f/d/x/want" }, "inputs[0].topic"},
		"broker topic":       {func(p *Pipeline) { p.Inputs[0].Topic = "$SYS/load" }, "inputs[0].topic"},
		"unknown word":       {func(p *Pipeline) { p.Inputs[0].Topic = "a/{stream}" }, "inputs[0].topic"},
		"control character":  {func(p *Pipeline) { p.Inputs[0].Topic = "a\x00" }, "inputs[0].topic"},
		"long topic":         {func(p *Pipeline) { p.Inputs[0].Topic = strings.Repeat("a", protocol.MaxTopic+1) }, "inputs[0].topic"},
		"deep topic":         {func(p *Pipeline) { p.Inputs[0].Topic = strings.Repeat("a/", protocol.MaxSlashes+1) }, "inputs[0].topic"},
		"wildcard output":    {func(p *Pipeline) { p.Output = "a/+" }, "output"},
		"protocol output":    {func(p *Pipeline) { p.Output = "sp1/f/state" }, "output"},
		"feedback":           {func(p *Pipeline) { p.Output = "sensors/{device}/{stream}/flow" }, "output"},
		"no such output":     {func(p *Pipeline) { p.Alarm.Output = 2 }, "alarm.output"},
		"no distance":        {func(p *Pipeline) { p.Alarm.Clear = 2 }, "alarm.clear"},
	} {
		p, _ := testPipeline()
		c.change(&p)
		var e *PipelineError
		if err := p.Check(s); !errors.As(err, &e) || e.Field != c.field || !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: Check = %v, want a mistake in %s", name, err, c.field)
		}
	}
}

// TestPipelineIsPartOfTheDigest: another pipeline is another version, and it
// comes out of a transfer as it went in.
func TestPipelineIsPartOfTheDigest(t *testing.T) {
	m := model(2, 7)
	plain, err := m.Digest()
	if err != nil {
		t.Fatal(err)
	}
	p, _ := testPipeline()
	p.Inputs, p.Alarm = nil, nil
	for _, c := range m.Schema.Features {
		p.Inputs = append(p.Inputs, Input{Column: c.Name})
	}
	m.Pipeline = &p
	tr, err := Pack(m)
	if err != nil {
		t.Fatal(err)
	}
	if tr.Digest == plain {
		t.Error("the digest does not cover the pipeline")
	}
	rel := releaseOf(t, tr)
	got, err := Unpack(tr.Descriptor, tr.Payload, nil, &rel)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Pipeline, m.Pipeline) {
		t.Errorf("pipeline %+v, want %+v", got.Pipeline, m.Pipeline)
	}
}
