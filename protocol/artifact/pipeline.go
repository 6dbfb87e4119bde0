package artifact

import (
	"fmt"
	"strings"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// Limits of a Pipeline.
const (
	// MaxInputs is the largest number of inputs: every feature and target.
	MaxInputs = 2 * protocol.MaxFeatures
	// MaxPipeline is the largest sum of an encoded pipeline's texts, in bytes.
	MaxPipeline = 64 << 10
	// MinPeriodMS and MaxTimeMS bound the times of a pipeline: 10 ms and a week.
	MinPeriodMS = 10
	MaxTimeMS   = 7 * 24 * 3600 * 1000
)

// A Pipeline says how a device feeds the model by itself and what it publishes.
// It is part of the manifest, so a version is fed in one way only: another way
// is another version, which is rolled out, judged and taken back like every
// other, and a model without one has the digest that it always had.
//
// Every PeriodMS there is a row for each stream: for each feature the last value
// that came, not older than ToleranceMS. Where one is missing the last value
// stands in for HoldMS more; after that there is no row. The model's window is
// over the rows that there are, and begins anew behind a gap longer than GapMS.
// Every Stride rows the model predicts.
type Pipeline struct {
	Inputs      []Input `cbor:"inputs" json:"inputs" nullable:"false" maxItems:"2048"`
	PeriodMS    uint32  `cbor:"period_ms" json:"period_ms"`
	ToleranceMS uint32  `cbor:"tolerance_ms" json:"tolerance_ms"`
	HoldMS      uint32  `cbor:"hold_ms,omitempty" json:"hold_ms,omitempty"`
	GapMS       uint32  `cbor:"gap_ms" json:"gap_ms"`
	Stride      uint32  `cbor:"stride" json:"stride"`
	// Output is the topic of predictions, with {device} and {stream} replaced;
	// empty means sp1/F/d/D/o/MODEL.
	Output string `cbor:"output,omitempty" json:"output,omitempty"`
	// MinIntervalMS is the least time between two messages of a stream.
	MinIntervalMS uint32 `cbor:"min_interval_ms,omitempty" json:"min_interval_ms,omitempty"`
	// Alarm limits messages to changes of the alarm; without one every
	// prediction is published.
	Alarm *Alarm `cbor:"alarm,omitempty" json:"alarm,omitempty"`
}

// An Input is where the values of one column come from.
type Input struct {
	// Column is the name of a feature, or of a target, which is the truth that
	// forecasts are compared with.
	Column string `cbor:"column" json:"column"`
	// Topic is the topic of another client, in which {device} is replaced and
	// one level may be +: that names the stream; without it the value belongs to
	// all streams. Empty means the device's own topics sp1/F/d/D/s/STREAM.
	Topic string `cbor:"topic,omitempty" json:"topic,omitempty"`
	// Pointer is where in the JSON payload the number is (RFC 6901); the empty
	// one is the whole payload. Samples of sp1 have the value under Column.
	Pointer string `cbor:"pointer,omitempty" json:"pointer,omitempty"`
}

// An Alarm is raised when an output is at or above Raise, and cleared when it is
// at or below Clear; if Clear is above Raise, the other way round.
type Alarm struct {
	Output uint32  `cbor:"output,omitempty" json:"output,omitempty"` // its index, from 0
	Raise  float32 `cbor:"raise" json:"raise"`
	Clear  float32 `cbor:"clear" json:"clear"`
}

// A PipelineError is a mistake in one field of a Pipeline. It wraps ErrInvalid.
type PipelineError struct {
	Field   string // as JSON spells it; inputs[2].topic
	Message string // what is wrong, and what to write instead
}

func (e *PipelineError) Error() string { return "pipeline: " + e.Field + ": " + e.Message }
func (e *PipelineError) Unwrap() error { return ErrInvalid }

func pipelineErrorf(field, format string, args ...any) error {
	return &PipelineError{Field: field, Message: fmt.Sprintf(format, args...)}
}

// Check reports whether p can feed a model with schema s. The error is a
// *PipelineError.
func (p *Pipeline) Check(s Schema) error {
	if err := firstError(
		checkTimeMS("period_ms", p.PeriodMS, MinPeriodMS), checkTimeMS("tolerance_ms", p.ToleranceMS, 1),
		checkTimeMS("hold_ms", p.HoldMS, 0), checkTimeMS("gap_ms", p.GapMS, p.PeriodMS),
		checkTimeMS("min_interval_ms", p.MinIntervalMS, 0),
	); err != nil {
		return err
	}
	if p.Stride < 1 || p.Stride > MaxSteps {
		return pipelineErrorf("stride", "%d rows, want 1 to %d", p.Stride, MaxSteps)
	}
	if a := p.Alarm; a != nil {
		switch {
		case int64(a.Output) >= int64(s.Outputs()):
			return pipelineErrorf("alarm.output", "%d, and the model has the outputs 0 to %d", a.Output, s.Outputs()-1)
		case !finite(a.Raise) || !finite(a.Clear):
			return pipelineErrorf("alarm.raise", "%v and %v are not both finite", a.Raise, a.Clear)
		case a.Raise == a.Clear:
			return pipelineErrorf("alarm.clear", "%v is also where it is raised; leave a distance, or noise makes it flap", a.Clear)
		}
	}
	if err := p.checkInputs(s); err != nil {
		return err
	}
	return p.checkOutput()
}

func checkTimeMS(field string, ms, least uint32) error {
	if ms < least || ms > MaxTimeMS {
		return pipelineErrorf(field, "%d ms, want %d to %d (a week)", ms, least, uint32(MaxTimeMS))
	}
	return nil
}

func (p *Pipeline) checkInputs(s Schema) error {
	if len(p.Inputs) > MaxInputs {
		return pipelineErrorf("inputs", "%d, at most %d", len(p.Inputs), MaxInputs)
	}
	known := make(map[string]bool, len(s.Features)+len(s.Targets))
	for _, c := range append(append([]Column(nil), s.Features...), s.Targets...) {
		known[c.Name] = true
	}
	fed, size := make(map[string]bool, len(p.Inputs)), 0
	for i, in := range p.Inputs {
		field := fmt.Sprintf("inputs[%d]", i)
		switch {
		case !known[in.Column]:
			return pipelineErrorf(field+".column", "the model has no column %.80q; its features are %s", in.Column, names(s.Features))
		case fed[in.Column]:
			return pipelineErrorf(field+".column", "%.80q is fed twice", in.Column)
		case in.Topic == "" && in.Pointer != "":
			return pipelineErrorf(field+".pointer", "samples of the device have the value under the column's name; leave it out, or name the topic")
		}
		if err := checkInputTopic(field+".topic", in.Topic); err != nil {
			return err
		}
		if err := protocol.CheckPointer(in.Pointer); err != nil {
			return pipelineErrorf(field+".pointer", "%v", err)
		}
		fed[in.Column] = true
		size += len(in.Column) + len(in.Topic) + len(in.Pointer)
	}
	for _, c := range s.Features {
		if !fed[c.Name] {
			return pipelineErrorf("inputs", "the feature %.80q has none; add one", c.Name)
		}
	}
	if size > MaxPipeline {
		return pipelineErrorf("inputs", "%d bytes of text, at most %d", size, MaxPipeline)
	}
	return nil
}

// names lists the first columns for an error.
func names(columns []Column) string {
	var b strings.Builder
	for i, c := range columns {
		if i == 8 {
			return b.String() + ", …"
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(c.Name)
	}
	return b.String()
}

func checkInputTopic(field, topic string) error {
	if topic == "" {
		return nil
	}
	if err := checkTopicText(field, strings.ReplaceAll(topic, "{device}", "d")); err != nil {
		return err
	}
	plus := 0
	for level := range strings.SplitSeq(topic, "/") {
		switch {
		case level == "+":
			plus++
		case strings.ContainsAny(level, "+#"):
			return pipelineErrorf(field, "%.80q: + stands alone in its level, and # is not used", topic)
		}
	}
	if plus > 1 {
		return pipelineErrorf(field, "%.80q has %d levels +, and one names the stream", topic, plus)
	}
	return nil
}

// checkTopicText checks what holds for the topics read and written alike.
func checkTopicText(field, topic string) error {
	switch {
	case len(topic) > protocol.MaxTopic || strings.Count(topic, "/") > protocol.MaxSlashes:
		return pipelineErrorf(field, "%d bytes and %d slashes, at most %d and %d",
			len(topic), strings.Count(topic, "/"), protocol.MaxTopic, protocol.MaxSlashes)
	case strings.HasPrefix(topic, "sp1/"), strings.HasPrefix(topic, "$"):
		return pipelineErrorf(field, "%.80q is the protocol's or the broker's own; leave it out for the device's samples and outputs", topic)
	case strings.ContainsAny(topic, "{}"):
		return pipelineErrorf(field, "%.80q: {device} is replaced, and in an output {stream}; nothing else is", topic)
	}
	for _, c := range topic {
		if c < ' ' || c == 0x7f || c == 0xfffd {
			return pipelineErrorf(field, "%.80q has a control character, or is not UTF-8", topic)
		}
	}
	return nil
}

func (p *Pipeline) checkOutput() error {
	if p.Output == "" {
		return nil
	}
	name := strings.NewReplacer("{device}", "d", "{stream}", "s").Replace(p.Output)
	if err := checkTopicText("output", name); err != nil {
		return err
	}
	if strings.ContainsAny(name, "+#") {
		return pipelineErrorf("output", "%.80q has a wildcard; write {stream} where the stream's name belongs", p.Output)
	}
	for i, in := range p.Inputs {
		if sameLevels(strings.ReplaceAll(in.Topic, "{device}", "d"), name) {
			return pipelineErrorf("output", "%.80q is read again by inputs[%d]", p.Output, i)
		}
	}
	return nil
}

// sameLevels reports whether filter, whose wildcards are levels +, matches topic.
func sameLevels(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	if len(f) != len(t) {
		return false
	}
	for i := range f {
		if f[i] != "+" && f[i] != t[i] {
			return false
		}
	}
	return true
}
