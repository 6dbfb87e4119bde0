// Package pipeline feeds models from the values that arrive on a device: it
// aligns them into rows, keeps what each stream's next prediction needs, and
// decides which predictions are told, and compares what two versions said with
// the truth. It has no connection, no goroutine and no clock but to time a
// prediction: its caller says what came and when, and does what follows.
//
// Times are since any fixed moment, by a clock that does not jump.
package pipeline

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// MaxStreams is how many streams a pipeline keeps. One more takes the place of
// the one whose last value is oldest, if that is beyond its gap, and is refused
// otherwise.
const MaxStreams = 1024

// OnlyStream is the stream of a pipeline none of whose topics names one.
const OnlyStream = "main"

// lanes are the model that answers and the one that runs beside it.
const lanes = 2

// A Feed is one model's pipeline. One goroutine uses it at a time.
type Feed struct {
	spec   *artifact.Pipeline
	inputs []input
	keep   int // rows that a stream keeps
	models [lanes]*predictor.Predictor

	features int // values of a row as it comes
	width    int // values of a row with those made of its time
	targets  int
	shared   []cell // by input: of those that name no stream
	streams  map[string]*stream
	order    []*stream // the same, by name

	// Seen is called with every row that Tick makes, as it comes, if it is not nil;
	// the row is valid until it returns.
	Seen func(row []float32)
}

// An input is a prepared artifact.Input.
type input struct {
	artifact.Input
	levels  []string // of the topic; nil: samples of the device
	plus    int      // the level that names the stream; -1: none does
	feature int      // its place in a row; -1: it is only a target
	target  int      // its place among the targets; -1: it is only a feature
	words   []string // dictionary of a feature that is a text; nil: it is a number
}

// A cell is the last value of one input.
type cell struct {
	value float32
	at    time.Duration
	set   bool
}

// A stream is one machine's values, rows and state.
type stream struct {
	name  string
	cells []cell    // by input
	rows  []float32 // the newest, up to Feed.keep, oldest first, of Feed.width values
	made  uint64    // rows since it began, or began anew
	last  time.Duration
	heard time.Duration
	clock clock
	carry [lanes]*predictor.Stream // of stream models
	gate  gate
}

// New returns the feed of model's pipeline on a device.
func New(model *predictor.Predictor, device string) *Feed {
	schema := model.Schema()
	f := &Feed{
		spec: model.Pipeline(), models: [lanes]*predictor.Predictor{model},
		features: len(schema.Features), width: model.Plan().Width(), targets: len(schema.Targets),
		keep:    schema.Window,
		streams: make(map[string]*stream),
	}
	if model.Stateful() {
		f.keep = max(schema.Window, schema.Warmup)
	}
	dictionaries := model.Dictionaries()
	f.inputs = make([]input, len(f.spec.Inputs))
	f.shared = make([]cell, len(f.inputs))
	for i, in := range f.spec.Inputs {
		named := func(c artifact.Column) bool { return c.Name == in.Column }
		f.inputs[i] = input{
			Input: in, plus: -1,
			feature: slices.IndexFunc(schema.Features, named), target: slices.IndexFunc(schema.Targets, named),
		}
		if k := f.inputs[i].feature; k >= 0 && dictionaries != nil {
			f.inputs[i].words = dictionaries[k]
		}
		if in.Topic != "" {
			f.inputs[i].levels = strings.Split(strings.ReplaceAll(in.Topic, "{device}", device), "/")
			f.inputs[i].plus = slices.Index(f.inputs[i].levels, "+")
		}
	}
	return f
}

// Topics returns the filters to subscribe to, each once, and whether the
// device's own samples are among the inputs.
func (f *Feed) Topics() (filters []string, samples bool) {
	for _, in := range f.inputs {
		if in.levels == nil {
			samples = true
		} else if filter := strings.Join(in.levels, "/"); !slices.Contains(filters, filter) {
			filters = append(filters, filter)
		}
	}
	return filters, samples
}

// match reports whether the input reads topic, and for which stream; "" is all.
func (in *input) match(levels []string) (stream string, ok bool) {
	if in.levels == nil || len(in.levels) != len(levels) {
		return "", false
	}
	for i, level := range in.levels {
		if level != levels[i] && i != in.plus {
			return "", false
		}
	}
	if in.plus >= 0 {
		return levels[in.plus], true
	}
	return "", true
}

// single reports whether no topic names a stream.
func (f *Feed) single() bool {
	return !slices.ContainsFunc(f.inputs, func(in input) bool { return in.levels == nil || in.plus >= 0 })
}

// Receive takes the values that payload has for inputs on topic, which is not
// one of sp1. Taken is whether any input reads the topic. The error says what
// is wrong with the payload, or with the stream's name.
func (f *Feed) Receive(topic string, payload []byte, now time.Duration) (taken bool, err error) {
	levels := strings.Split(topic, "/")
	var at []int
	var pointers []string
	name := ""
	for i := range f.inputs {
		s, ok := f.inputs[i].match(levels)
		if !ok {
			continue
		}
		// Two filters may match one topic and name different streams.
		if len(at) > 0 && s != name {
			if err := f.take(topic, name, at, pointers, payload, now); err != nil {
				return true, err
			}
			at, pointers = at[:0], pointers[:0]
		}
		name = s
		at, pointers = append(at, i), append(pointers, f.inputs[i].Pointer)
	}
	if len(at) == 0 {
		return false, nil
	}
	return true, f.take(topic, name, at, pointers, payload, now)
}

func (f *Feed) take(topic, name string, at []int, pointers []string, payload []byte, now time.Duration) error {
	if name == "" && f.single() {
		name = OnlyStream
	}
	var cells []cell
	if name == "" {
		cells = f.shared
	} else {
		if err := protocol.CheckID(name); err != nil {
			return fmt.Errorf("stream of topic %.80q: %w", topic, err)
		}
	}
	texts := make([]bool, len(at))
	for i, k := range at {
		texts[i] = f.inputs[k].words != nil
	}
	return protocol.LookUpTexts(payload, pointers, texts, func(i int, v float32, s string) {
		if texts[i] {
			v = protocol.Place(f.inputs[at[i]].words, s)
		}
		if cells == nil {
			if s := f.stream(name, now); s != nil {
				cells = s.cells
			}
		}
		if cells != nil {
			cells[at[i]] = cell{v, now, true}
		}
	})
}

// Sample takes a sample of the device's own topics. The error names a number in the
// place of a text, or the other way round.
func (f *Feed) Sample(name string, m protocol.Sample, now time.Duration) (err error) {
	for i, in := range f.inputs {
		if in.levels != nil {
			continue
		}
		v, ok := m.V[in.Column]
		word, isText := m.Texts[in.Column]
		if isText != (in.words != nil) && (ok || isText) {
			err = fmt.Errorf("%.80q is a text where a number should be, or a number where a text should be", in.Column)
			continue
		}
		if isText {
			v = protocol.Place(in.words, word)
		} else if !ok {
			continue
		}
		s := f.stream(name, now)
		if s == nil {
			return err
		}
		s.cells[i] = cell{v, now, true}
		s.clock.set(m.T, now)
	}
	return err
}

// stream returns the stream of that name, which it may begin; nil if there are
// too many.
func (f *Feed) stream(name string, now time.Duration) *stream {
	if s := f.streams[name]; s != nil {
		s.heard = now
		return s
	}
	if len(f.streams) >= MaxStreams {
		oldest := slices.MinFunc(f.order, func(x, y *stream) int { return int(max(-1, min(1, x.heard-y.heard))) })
		if now-oldest.heard <= f.gap() {
			return nil
		}
		f.remove(oldest)
	}
	s := &stream{name: name, cells: make([]cell, len(f.inputs)), heard: now}
	f.add(s)
	return s
}

func (f *Feed) add(s *stream) {
	f.streams[s.name] = s
	at, _ := slices.BinarySearchFunc(f.order, s.name, func(s *stream, name string) int { return strings.Compare(s.name, name) })
	f.order = slices.Insert(f.order, at, s)
}

func (f *Feed) remove(s *stream) {
	delete(f.streams, s.name)
	f.order = slices.DeleteFunc(f.order, func(o *stream) bool { return o == s })
}

// Streams is the number of streams.
func (f *Feed) Streams() int { return len(f.streams) }

// Period is the time from one Tick to the next.
func (f *Feed) Period() time.Duration { return ms(f.spec.PeriodMS) }

func (f *Feed) gap() time.Duration { return ms(f.spec.GapMS) }

func ms(n uint32) time.Duration { return time.Duration(n) * time.Millisecond }

// assemble makes the row of cells at now, or reports that a feature has no
// value. Truth gets the targets' values, only those that came since the row
// before: a value that stands in for another proves nothing.
func (f *Feed) assemble(s *stream, now time.Duration, row []float32, truth []Value) bool {
	whole := true
	for i := range truth {
		truth[i] = Value{}
	}
	for i, in := range f.inputs {
		c := s.cells[i]
		if in.levels != nil && in.plus < 0 && !f.single() {
			c = f.shared[i]
		}
		age := now - c.at
		if in.feature >= 0 {
			row[in.feature] = c.value
			whole = whole && c.set && age <= ms(f.spec.ToleranceMS)+ms(f.spec.HoldMS)
		}
		if in.target >= 0 && c.set && age <= f.Period() {
			truth[in.target] = Value{c.value, true}
		}
	}
	return whole
}

// A Value is one that may be missing.
type Value struct {
	V  float32
	OK bool
}

// A Result is what one stream had at a Tick.
type Result struct {
	Stream string
	Row    bool    // whether there was a row
	Truth  []Value // of the targets, in their order; valid until the next Tick
	// Y are the outputs of the model that answers, and of the one beside it,
	// in new memory; nil where there was nothing to predict.
	Y    [lanes][]float32
	Err  [lanes]error         // why there are none, although it was time
	Took [lanes]time.Duration // to compute Y
	// Tell says that Y[0] shall be published, with the alarm's state.
	Tell  bool
	Alarm bool
}

// Tick makes the rows of all streams at now, wall being the time of day, and
// predicts for those whose turn it is. The order is that of the streams' names.
func (f *Feed) Tick(now time.Duration, wall time.Time) []Result {
	var out []Result
	row := make([]float32, f.features)
	extended := make([]float32, 0, f.width)
	for _, s := range f.order {
		r := Result{Stream: s.name, Truth: make([]Value, f.targets)}
		if f.assemble(s, now, row, r.Truth) {
			r.Row = true
			if f.Seen != nil {
				f.Seen(row)
			}
			var err error
			if extended, err = f.models[0].Plan().AppendRow(extended[:0], row, s.clock.at(now, wall)); err != nil {
				r.Err = [lanes]error{err, err}
			} else {
				f.advance(s, extended, now, &r)
			}
		}
		out = append(out, r)
	}
	return out
}

// advance adds a row to s and predicts when it is time.
func (f *Feed) advance(s *stream, row []float32, now time.Duration, r *Result) {
	if s.made > 0 && now-s.last > f.gap() {
		s.reset()
	}
	s.last = now
	s.rows = append(s.rows, row...)
	if extra := len(s.rows) - f.keep*f.width; extra > 0 {
		s.rows = slices.Delete(s.rows, 0, extra)
	}
	s.made++
	due := s.made >= uint64(f.keep) && (s.made-uint64(f.keep))%uint64(f.spec.Stride) == 0
	for i, m := range f.models {
		if m != nil {
			began := time.Now()
			r.Y[i], r.Err[i] = f.predict(s, i, row, due)
			r.Took[i] = time.Since(began)
		}
	}
	if r.Y[0] != nil {
		r.Tell, r.Alarm = s.gate.step(f.spec, r.Y[0], now)
	}
}

// predict runs one model on the newest row of s; nil where it is not due.
func (f *Feed) predict(s *stream, lane int, row []float32, due bool) ([]float32, error) {
	m := f.models[lane]
	if !m.Stateful() {
		if !due {
			return nil, nil
		}
		return m.PredictAppend(nil, s.rows[len(s.rows)-m.Window()*f.width:])
	}
	y := make([]float32, m.Outputs())
	if s.carry[lane] == nil {
		var err error
		if s.carry[lane], err = m.NewStream(); err != nil {
			return nil, err
		}
		// What was kept warms it up, all but the row that is new.
		if err := s.carry[lane].Replay(s.rows[:len(s.rows)-f.width]); err != nil {
			s.carry[lane] = nil
			return nil, err
		}
	}
	if err := s.carry[lane].Step(y, row); err != nil {
		return nil, err
	}
	if !due {
		return nil, nil
	}
	return y, nil
}

// reset begins a stream's window and state anew; its alarm stays.
func (s *stream) reset() {
	s.rows, s.made, s.carry = s.rows[:0], 0, [lanes]*predictor.Stream{}
}

// Swap puts model in the place of the one that answers and reports whether it
// is fed as that was; if not, nothing is changed and a new Feed is due. Streams
// go on: a stream model replays the rows that were kept.
func (f *Feed) Swap(model *predictor.Predictor) bool {
	if !Fits(f.models[0], model) || !sameSpec(f.spec, model.Pipeline()) {
		return false
	}
	beside := f.models[1]
	f.models[0], f.models[1] = model, nil
	for _, s := range f.order {
		s.carry[0], s.carry[1] = nil, nil
	}
	if beside != nil {
		f.Beside(beside)
	}
	return true
}

// Beside runs model, if it reads the same rows, beside the one that answers;
// nil ends that. It reports whether it does.
func (f *Feed) Beside(model *predictor.Predictor) bool {
	if model != nil && !Fits(f.models[0], model) {
		model = nil
	}
	if f.models[1] != model {
		for _, s := range f.order {
			s.carry[1] = nil
		}
	}
	f.models[1] = model
	return model != nil
}

// Fits reports whether two models read the same rows and give as many outputs,
// so that they can be compared.
func Fits(x, y *predictor.Predictor) bool {
	a, b := x.Schema(), y.Schema()
	return slices.Equal(a.Features, b.Features) && sameValues(a.Prepare, b.Prepare) &&
		slices.Equal(a.Targets, b.Targets) && a.Horizon == b.Horizon && a.State == b.State &&
		a.Window == b.Window && a.MinWindow == b.MinWindow && a.Warmup == b.Warmup
}

// sameValues reports whether rows have the same values under a and b: the same
// texts the same numbers, and of their times the same cycles.
func sameValues(a, b *artifact.Preparation) bool {
	a, b = cmp.Or(a, &artifact.Preparation{}), cmp.Or(b, &artifact.Preparation{})
	return slices.Equal(a.Calendar, b.Calendar) && slices.EqualFunc(a.Categories, b.Categories, func(x, y artifact.Category) bool {
		return x.Feature == y.Feature && slices.Equal(x.Values, y.Values)
	})
}

func sameSpec(a, b *artifact.Pipeline) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	alarms := x.Alarm == y.Alarm || x.Alarm != nil && y.Alarm != nil && *x.Alarm == *y.Alarm
	return alarms && slices.Equal(x.Inputs, y.Inputs) && x.PeriodMS == y.PeriodMS && x.ToleranceMS == y.ToleranceMS &&
		x.HoldMS == y.HoldMS && x.GapMS == y.GapMS && x.Stride == y.Stride && x.Output == y.Output && x.MinIntervalMS == y.MinIntervalMS
}

// OutputTopic is where predictions of stream go; "" means the default.
func (f *Feed) OutputTopic(device, stream string) string {
	return strings.NewReplacer("{device}", device, "{stream}", stream).Replace(f.spec.Output)
}

// Arrives reports whether every target is among the inputs, and its truth what
// comes after a forecast.
func (f *Feed) Arrives() bool {
	n := 0
	for _, in := range f.inputs {
		if in.target >= 0 {
			n++
		}
	}
	return n == f.targets && f.models[0].Task() == artifact.TaskForecast
}

// HasAlarm reports whether predictions carry an alarm.
func (f *Feed) HasAlarm() bool { return f.spec.Alarm != nil }
