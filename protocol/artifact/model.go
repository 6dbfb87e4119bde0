package artifact

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/internal/cbor"
)

// Kinds of layer, types of tensor, kinds of state, tasks and activations.
const (
	LSTM  = "lstm"
	GRU   = "gru" // reset after the product, as Keras's default
	Dense = "dense"

	Int8    = "i8"
	Float32 = "f32"

	StateWindow = "window" // every prediction starts from the zero state
	StateStream = "stream" // the state is carried from sample to sample

	TaskForecast = "forecast"
	TaskRUL      = "rul"
	TaskClassify = "classify"
	TaskAnomaly  = "anomaly"

	Linear  = "linear"
	ReLU    = "relu"
	Sigmoid = "sigmoid"
	Softmax = "softmax"
)

// A Model is a decoded model: everything a device needs to turn raw sensor
// rows into predictions, and to know that it does so right. Its canonical
// form is "sp1 model", a zero byte, the length of the manifest as 4 bytes
// little-endian, the manifest, and the data of all tensors in order; the
// manifest is deterministic CBOR of everything but that data.
type Model struct {
	Graph    Graph
	Schema   Schema
	Task     string
	Scaler   Scaler
	Tensors  []Tensor
	Golden   Golden
	Pipeline *Pipeline // how a device feeds it by itself; nil: on request only
	Skip     *Skip     // what reaches the outputs past the network; nil: nothing
	// Reference is how the features were spread; nil: nobody said.
	Reference *Reference
}

// A Skip is a linear map from the scaled window straight to the outputs, which
// is added to what the network gives. Output o reads the whole column of the
// input Features[o] of the graph, or nothing if that is −1. Its tensors are skip.kernel, i8
// [window][outputs], skip.kernel_scale and skip.bias, f32 [outputs]; they come
// first, so that a head goes without them.
type Skip struct {
	Features []int32 `cbor:"features"`
}

// A Graph is the layers from input to output.
type Graph struct {
	Features int     `cbor:"features"`
	Layers   []Layer `cbor:"layers"`
}

// A Layer is a recurrent one, LSTM or GRU (Activation empty), or Dense. A
// recurrent layer hands on its last hidden state, or all of them if Sequences.
type Layer struct {
	Kind       string `cbor:"kind"`
	Units      int    `cbor:"units"`
	Sequences  bool   `cbor:"sequences,omitempty"`
	Activation string `cbor:"activation,omitempty"`
}

// gates is how many gates a unit has, 0 if the layer is not recurrent.
func (l Layer) gates() int {
	switch l.Kind {
	case LSTM:
		return 4
	case GRU:
		return 3
	}
	return 0
}

// A Schema is what goes in and comes out. Outputs are Horizon steps of one
// value per target, row-major: y[h·len(Targets)+i] is target i, h+1 steps
// ahead. A classifier has one target per class and Horizon 1.
type Schema struct {
	Features []Column `cbor:"features"`
	Targets  []Column `cbor:"targets"`
	Window   int      `cbor:"window"` // rows of a request; 1 or more
	State    string   `cbor:"state"`  // StateWindow or StateStream
	Warmup   int      `cbor:"warmup,omitempty"`
	Horizon  int      `cbor:"horizon"`
	// MinWindow is the least number of rows of a request, Window being the most; 0
	// if it has exactly Window.
	MinWindow int `cbor:"min_window,omitempty"`
	// Labels are a classifier's classes, in the order of its targets, or two for a
	// single target that is the probability of the second.
	Labels   []string  `cbor:"labels,omitempty"`
	Detector *Detector `cbor:"detector,omitempty"` // of an anomaly detector
	// Prepare says what is done with rows beside scaling; nil: nothing.
	Prepare *Preparation `cbor:"prepare,omitempty"`
}

// Outputs returns the number of values of a prediction.
func (s Schema) Outputs() int { return s.Horizon * len(s.Targets) }

// A Column is a name and a unit, in UTF-8; the unit may be empty.
type Column struct {
	Name string `cbor:"name"`
	Unit string `cbor:"unit,omitempty"`
}

// A Scaler turns raw values into the model's and back: x = (raw − Mean)·Inv
// per input of the graph, Inv 0 for a constant one, and y·OutStd + OutMean per
// output. Std is kept for golden inputs. Anchor names for each output the feature
// whose last raw value stands for its mean, −1 for none; empty means none. A stream
// model's features keep their own means.
type Scaler struct {
	Mean, Std, Inv  []float32 // per input: per feature, unless Schema.Prepare says otherwise
	OutMean, OutStd []float32 // per output
	Anchor          []int32   // per output, or empty
}

// A Tensor is an array of int8 or little-endian float32, row-major. Layer i
// has i.kernel, i.bias and, if recurrent, i.recurrent; i8 tensors of those have
// i.kernel_scale and i.recurrent_scale, one float32 per unit of each gate. A
// GRU's bias has two rows, the input's and the hidden state's. Those of a Skip
// come before the layers'.
type Tensor struct {
	Name  string
	Type  string // Int8 or Float32
	Shape []int
	Data  []byte
}

// GoldenVectors is the number of golden vectors of a model.
const GoldenVectors = 8

// Golden is what the model must answer to generated inputs.
type Golden struct {
	Seed      uint64
	Steps     int       // rows of each input
	Outputs   []float32 // GoldenVectors × outputs, raw units
	Tolerance float32   // largest |error|/max(1, |output|); 0 for int8: equal bits
}

// Floats are packed as little-endian float32 in one byte string.
type Floats []float32

// MarshalCBOR returns the byte string.
func (f Floats) MarshalCBOR() ([]byte, error) {
	b := cbor.AppendHead(make([]byte, 0, 9+4*len(f)), cbor.Bytes, uint64(4*len(f)))
	for _, v := range f {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b, nil
}

// UnmarshalCBOR reads the byte string.
func (f *Floats) UnmarshalCBOR(b []byte) error {
	r := cbor.Reader{B: b}
	p, err := r.Bytes()
	if err != nil {
		return err
	}
	if len(p)%4 != 0 {
		return fmt.Errorf("%d bytes of float32", len(p))
	}
	*f = make(Floats, len(p)/4)
	for i := range *f {
		(*f)[i] = math.Float32frombits(binary.LittleEndian.Uint32(p[4*i:]))
	}
	return nil
}

// manifest is everything of a model but its tensors' data.
type manifest struct {
	Format   int          `cbor:"format"`
	Task     string       `cbor:"task"`
	Graph    Graph        `cbor:"graph"`
	Schema   Schema       `cbor:"schema"`
	Scaler   wireScaler   `cbor:"scaler"`
	Tensors  []wireTensor `cbor:"tensors"`
	Golden   wireGolden   `cbor:"golden"`
	Pipeline *Pipeline    `cbor:"pipeline,omitempty"`
	Skip     *Skip        `cbor:"skip,omitempty"`

	Reference *Reference `cbor:"reference,omitempty"`
}

type wireScaler struct {
	Mean    Floats  `cbor:"mean"`
	Std     Floats  `cbor:"std"`
	Inv     Floats  `cbor:"inv"`
	OutMean Floats  `cbor:"out_mean"`
	OutStd  Floats  `cbor:"out_std"`
	Anchor  []int32 `cbor:"anchor,omitempty"`
}

type wireTensor struct {
	Name  string `cbor:"name"`
	Type  string `cbor:"type"`
	Shape []int  `cbor:"shape"`
}

type wireGolden struct {
	Seed      uint64  `cbor:"seed"`
	Steps     int     `cbor:"steps"`
	Outputs   Floats  `cbor:"outputs"`
	Tolerance float32 `cbor:"tolerance,omitempty"`
}

func (m *Model) manifest() *manifest {
	w := &manifest{
		Format: Format, Task: m.Task, Graph: m.Graph, Schema: m.Schema,
		Scaler:   wireScaler{m.Scaler.Mean, m.Scaler.Std, m.Scaler.Inv, m.Scaler.OutMean, m.Scaler.OutStd, m.Scaler.Anchor},
		Golden:   wireGolden{m.Golden.Seed, m.Golden.Steps, m.Golden.Outputs, m.Golden.Tolerance},
		Pipeline: m.Pipeline, Skip: m.Skip, Reference: m.Reference,
	}
	for _, t := range m.Tensors {
		w.Tensors = append(w.Tensors, wireTensor{t.Name, t.Type, t.Shape})
	}
	return w
}

// model returns the model of w without tensor data.
func (w *manifest) model() *Model {
	m := &Model{
		Task: w.Task, Graph: w.Graph, Schema: w.Schema,
		Scaler:   Scaler{w.Scaler.Mean, w.Scaler.Std, w.Scaler.Inv, w.Scaler.OutMean, w.Scaler.OutStd, w.Scaler.Anchor},
		Golden:   Golden{w.Golden.Seed, w.Golden.Steps, w.Golden.Outputs, w.Golden.Tolerance},
		Pipeline: w.Pipeline, Skip: w.Skip, Reference: w.Reference,
	}
	for _, t := range w.Tensors {
		m.Tensors = append(m.Tensors, Tensor{Name: t.Name, Type: t.Type, Shape: t.Shape})
	}
	return m
}

// check makes manifest a document; the model's values are checked by Validate.
func (w *manifest) check() error {
	if len(w.Tensors) > MaxTensors {
		return fmt.Errorf("%w: %d tensors, at most %d", ErrTooLarge, len(w.Tensors), MaxTensors)
	}
	return checkFormat(w.Format)
}

// Digest returns the SHA-256 of the canonical form. It returns what Validate
// returns.
func (m *Model) Digest() (protocol.Digest, error) {
	_, sum, err := m.canonical()
	return sum, err
}

// canonical validates m and returns its manifest and its digest.
func (m *Model) canonical() (manifest []byte, sum protocol.Digest, err error) {
	if err := m.Validate(); err != nil {
		return nil, sum, err
	}
	if manifest, err = m.encodeManifest(); err != nil {
		return nil, sum, err
	}
	return manifest, digest(manifest, m.Tensors), nil
}

func (m *Model) encodeManifest() ([]byte, error) {
	return appendDocument(nil, "manifest", m.manifest(), MaxManifest)
}

func digest(manifest []byte, tensors []Tensor) (d protocol.Digest) {
	h := sha256.New()
	h.Write([]byte("sp1 model\x00"))
	h.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(manifest))))
	h.Write(manifest)
	for i := range tensors {
		h.Write(tensors[i].Data)
	}
	h.Sum(d[:0])
	return d
}

// Validate reports whether the model is whole: every part within its limits,
// the tensors the ones that the graph needs, and all numbers finite. The
// error wraps ErrInvalid, ErrTooLarge or ErrNonFinite.
func (m *Model) Validate() error {
	if err := m.validateShape(); err != nil {
		return err
	}
	for i := range m.Tensors {
		t := &m.Tensors[i]
		want, _ := t.size() // within limits: validateShape
		if len(t.Data) != want {
			return fmt.Errorf("%w: tensor %s has %d bytes, its shape needs %d", ErrInvalid, t.Name, len(t.Data), want)
		}
		if err := t.finite(); err != nil {
			return err
		}
	}
	return nil
}

// validateShape checks everything but the tensors' data, which may be absent.
func (m *Model) validateShape() error {
	if err := firstError(m.Schema.validate(m.Task), m.Graph.validate(), m.Scaler.validate(m.Schema)); err != nil {
		return err
	}
	if m.Graph.Features != m.Schema.Inputs() {
		return fmt.Errorf("%w: the graph takes %d features, the schema makes %d",
			ErrInvalid, m.Graph.Features, m.Schema.Inputs())
	}
	last := m.Graph.Layers[len(m.Graph.Layers)-1]
	perStep := 1
	if m.Graph.sequences() && m.Schema.State == StateWindow {
		perStep = m.Schema.Window
	}
	if outputs := m.Schema.NetworkOutputs(); last.Units*perStep != outputs {
		return fmt.Errorf("%w: the graph gives %d values, the schema needs %d", ErrInvalid, last.Units*perStep, outputs)
	}
	if perStep > 1 && (m.Schema.MinWindow > 0 || m.Schema.Detector != nil) {
		return fmt.Errorf("%w: a value for every step of a window whose rows vary, or whose residuals are judged", ErrInvalid)
	}
	if err := m.validateGolden(); err != nil {
		return err
	}
	if p := m.Pipeline; p != nil {
		if err := p.Check(m.Schema); err != nil {
			return err
		}
	}
	if s := m.Skip; s != nil {
		if err := s.validate(m.Task, m.Schema, m.Graph.sequences()); err != nil {
			return err
		}
	}
	if r := m.Reference; r != nil {
		if err := r.validate(m.Schema); err != nil {
			return err
		}
	}
	return m.validateTensors()
}

func (s *Skip) validate(task string, schema Schema, sequences bool) error {
	if task != TaskForecast && task != TaskAnomaly || schema.State != StateWindow || sequences {
		return fmt.Errorf("%w: a skip path needs a forecast that answers once for a window", ErrInvalid)
	}
	if len(s.Features) != schema.NetworkOutputs() {
		return fmt.Errorf("%w: the skip path has %d features for %d outputs", ErrInvalid, len(s.Features), schema.NetworkOutputs())
	}
	for o, f := range s.Features {
		if f < -1 || int(f) >= schema.Inputs() {
			return fmt.Errorf("%w: the skip path of output %d reads feature %d of %d", ErrInvalid, o, f, schema.Inputs())
		}
	}
	return nil
}

func (m *Model) validateGolden() error {
	g := &m.Golden
	if g.Steps < 1 || g.Steps > MaxSteps || g.Steps*m.Schema.Inputs() > protocol.MaxWindowValues ||
		m.Schema.State == StateWindow && g.Steps != m.Schema.Window {
		return fmt.Errorf("%w: golden inputs of %d rows for a window of %d", ErrInvalid, g.Steps, m.Schema.Window)
	}
	if want := GoldenVectors * m.Schema.Outputs(); len(g.Outputs) != want {
		return fmt.Errorf("%w: %d golden outputs, want %d", ErrInvalid, len(g.Outputs), want)
	}
	if !(g.Tolerance >= 0 && g.Tolerance <= 1) {
		return fmt.Errorf("%w: golden tolerance %v, want 0 to 1", ErrInvalid, g.Tolerance)
	}
	return allFinite("golden output", g.Outputs)
}

func (s *Schema) validate(task string) error {
	switch task {
	case TaskForecast, TaskRUL, TaskClassify, TaskAnomaly:
	default:
		return fmt.Errorf("%w: task %.40q, want forecast, rul, classify or anomaly", ErrInvalid, task)
	}
	if s.State != StateWindow && s.State != StateStream {
		return fmt.Errorf("%w: state %.40q, want window or stream", ErrInvalid, s.State)
	}
	if s.Window < 1 || s.Window > MaxSteps || s.Warmup < 0 || s.Warmup > MaxSteps || s.Horizon < 1 || s.Horizon > MaxHorizon {
		return fmt.Errorf("%w: window %d, warmup %d, horizon %d", ErrInvalid, s.Window, s.Warmup, s.Horizon)
	}
	if err := firstError(validateColumns("feature", s.Features), validateColumns("target", s.Targets)); err != nil {
		return err
	}
	if s.Window*len(s.Features) > protocol.MaxWindowValues {
		return fmt.Errorf("%w: a window of %d rows of %d features, at most %d values",
			ErrTooLarge, s.Window, len(s.Features), protocol.MaxWindowValues)
	}
	if s.Outputs() > MaxOutputs {
		return fmt.Errorf("%w: %d outputs, at most %d", ErrTooLarge, s.Outputs(), MaxOutputs)
	}
	if err := firstError(s.validateMinWindow(task), s.validateLabels(task), s.validateDetector(task)); err != nil || s.Prepare == nil {
		return err
	}
	return s.Prepare.validate(s)
}

func validateColumns(what string, columns []Column) error {
	if len(columns) < 1 || len(columns) > protocol.MaxFeatures {
		return fmt.Errorf("%w: %d %ss, want 1 to %d", ErrInvalid, len(columns), what, protocol.MaxFeatures)
	}
	seen := make(map[string]bool, len(columns))
	for _, c := range columns {
		if c.Name == "" || len(c.Name) > protocol.MaxName || len(c.Unit) > protocol.MaxName {
			return fmt.Errorf("%w: %s %.80q in %.80q: name and unit have at most %d bytes",
				ErrInvalid, what, c.Name, c.Unit, protocol.MaxName)
		}
		if seen[c.Name] {
			return fmt.Errorf("%w: %s %q is there twice", ErrInvalid, what, c.Name)
		}
		seen[c.Name] = true
	}
	return nil
}

func (g *Graph) validate() error {
	if g.Features < 1 || g.Features > protocol.MaxFeatures || len(g.Layers) < 1 || len(g.Layers) > MaxLayers {
		return fmt.Errorf("%w: %d features and %d layers, at most %d and %d",
			ErrInvalid, g.Features, len(g.Layers), protocol.MaxFeatures, MaxLayers)
	}
	for i, l := range g.Layers {
		limit := MaxUnits
		switch {
		case l.gates() > 0 && l.Activation == "":
		case l.Kind == Dense && !l.Sequences:
			limit = MaxOutputs
			switch l.Activation {
			case Linear, ReLU, Sigmoid, Softmax:
			default:
				return fmt.Errorf("%w: layer %d has the activation %.40q", ErrInvalid, i, l.Activation)
			}
		default:
			return fmt.Errorf("%w: layer %d is %.40q with activation %.40q", ErrInvalid, i, l.Kind, l.Activation)
		}
		if l.Units < 1 || l.Units > limit {
			return fmt.Errorf("%w: layer %d has %d units, want 1 to %d", ErrInvalid, i, l.Units, limit)
		}
		if i == 0 && l.gates() == 0 {
			return fmt.Errorf("%w: the first layer is %s, want lstm or gru", ErrInvalid, l.Kind)
		}
		if i > 0 && l.gates() > 0 && !g.Layers[i-1].Sequences {
			return fmt.Errorf("%w: layer %d, %s, is behind a layer that gives no sequence", ErrInvalid, i, l.Kind)
		}
	}
	return nil
}

// sequences reports whether the graph gives a value for every row of a
// window: whether its last recurrent layer does.
func (g *Graph) sequences() bool {
	for _, l := range slices.Backward(g.Layers) {
		if l.gates() > 0 {
			return l.Sequences
		}
	}
	return false
}

func (s *Scaler) validate(schema Schema) error {
	features, inputs, outputs := len(schema.Features), schema.Inputs(), schema.NetworkOutputs()
	if len(s.Mean) != inputs || len(s.Std) != inputs || len(s.Inv) != inputs {
		return fmt.Errorf("%w: the scaler has %d means, %d deviations and %d factors for %d inputs",
			ErrInvalid, len(s.Mean), len(s.Std), len(s.Inv), inputs)
	}
	if len(s.OutMean) != outputs || len(s.OutStd) != outputs || len(s.Anchor) != 0 && len(s.Anchor) != outputs {
		return fmt.Errorf("%w: the scaler has %d means, %d deviations and %d anchors for %d outputs",
			ErrInvalid, len(s.OutMean), len(s.OutStd), len(s.Anchor), outputs)
	}
	for i, a := range s.Anchor {
		if a < -1 || int(a) >= features {
			return fmt.Errorf("%w: output %d is anchored to feature %d of %d", ErrInvalid, i, a, features)
		}
	}
	for _, v := range s.Std {
		if v < 0 {
			return fmt.Errorf("%w: a standard deviation is %v", ErrInvalid, v)
		}
	}
	return firstError(allFinite("mean", s.Mean), allFinite("deviation", s.Std), allFinite("factor", s.Inv),
		allFinite("output mean", s.OutMean), allFinite("output deviation", s.OutStd))
}

// validateTensors checks that the tensors are those of the graph, in order.
func (m *Model) validateTensors() error {
	if len(m.Tensors) > MaxTensors {
		return fmt.Errorf("%w: %d tensors, at most %d", ErrTooLarge, len(m.Tensors), MaxTensors)
	}
	rest, in, total := m.Tensors, m.Graph.Features, 0
	next := func(name string, types string, shape ...int) (string, error) {
		if len(rest) == 0 {
			return "", fmt.Errorf("%w: the tensor %s is missing", ErrInvalid, name)
		}
		t := &rest[0]
		rest = rest[1:]
		size, err := t.size()
		if err != nil {
			return "", err
		}
		if total += size; total > MaxDecoded {
			return "", fmt.Errorf("%w: tensors of more than %d bytes", ErrTooLarge, MaxDecoded)
		}
		if t.Name != name || !slices.Equal(t.Shape, shape) || types != "" && t.Type != types {
			return "", fmt.Errorf("%w: tensor %.60q %s %v where %s %v of the graph should be",
				ErrInvalid, t.Name, t.Type, t.Shape, name, shape)
		}
		return t.Type, nil
	}
	if m.Skip != nil {
		outputs := m.Schema.NetworkOutputs()
		_, err1 := next("skip.kernel", Int8, m.Schema.NetworkWindow(), outputs)
		_, err2 := next("skip.kernel_scale", Float32, outputs)
		_, err3 := next("skip.bias", Float32, outputs)
		if err := firstError(err1, err2, err3); err != nil {
			return err
		}
	}
	for i, l := range m.Graph.Layers {
		p := strconv.Itoa(i) + "."
		if l.Kind == Dense {
			_, err1 := next(p+"kernel", Float32, in, l.Units)
			_, err2 := next(p+"bias", Float32, l.Units)
			if err := firstError(err1, err2); err != nil {
				return err
			}
			in = l.Units
			continue
		}
		columns := l.gates() * l.Units
		for _, part := range [...]struct {
			name string
			rows int
		}{{p + "kernel", in}, {p + "recurrent", l.Units}} {
			typ, err := next(part.name, "", part.rows, columns)
			if err == nil && typ == Int8 {
				_, err = next(part.name+"_scale", Float32, columns)
			}
			if err != nil {
				return err
			}
		}
		bias := []int{columns}
		if l.Kind == GRU {
			bias = []int{2, columns}
		}
		if _, err := next(p+"bias", Float32, bias...); err != nil {
			return err
		}
		in = l.Units
	}
	if len(rest) > 0 {
		return fmt.Errorf("%w: tensor %.60q belongs to no layer", ErrInvalid, rest[0].Name)
	}
	return nil
}

// width returns the bytes of one element, 0 for an unknown type.
func (t *Tensor) width() int {
	switch t.Type {
	case Int8:
		return 1
	case Float32:
		return 4
	}
	return 0
}

// size returns the bytes that the shape needs, at most MaxDecoded.
func (t *Tensor) size() (int, error) {
	n := int64(t.width())
	if n == 0 || len(t.Shape) < 1 || len(t.Shape) > 2 {
		return 0, fmt.Errorf("%w: tensor %.60q has type %.20q and %d dimensions", ErrInvalid, t.Name, t.Type, len(t.Shape))
	}
	for _, d := range t.Shape {
		if d < 1 || int64(d) > MaxDecoded {
			return 0, fmt.Errorf("%w: tensor %.60q has the shape %v", ErrInvalid, t.Name, t.Shape)
		}
		if n *= int64(d); n > MaxDecoded { // both factors below 2²⁸
			return 0, fmt.Errorf("%w: tensor %.60q has more than %d bytes", ErrTooLarge, t.Name, MaxDecoded)
		}
	}
	return int(n), nil
}

// finite checks the data; -128 is outside the symmetric int8 of the format.
func (t *Tensor) finite() error {
	if t.Type == Int8 {
		for i, b := range t.Data {
			if b == 0x80 {
				return fmt.Errorf("%w: tensor %s has -128 at %d, weights are -127 to 127", ErrInvalid, t.Name, i)
			}
		}
		return nil
	}
	for i := 0; i < len(t.Data); i += 4 {
		if v := math.Float32frombits(binary.LittleEndian.Uint32(t.Data[i:])); !finite(v) {
			return fmt.Errorf("tensor %s is %v at %d: %w", t.Name, v, i/4, ErrNonFinite)
		}
	}
	return nil
}

func finite(v float32) bool { return math.Float32bits(v)&0x7f800000 != 0x7f800000 }

func allFinite(what string, values []float32) error {
	for i, v := range values {
		if !finite(v) {
			return fmt.Errorf("%s %d is %v: %w", what, i, v, ErrNonFinite)
		}
	}
	return nil
}

// GoldenInputs returns the GoldenVectors inputs, Golden.Steps rows of raw
// values each, row-major. Values come from splitmix64 (Steele, Lea, Flood
// 2014) started at Golden.Seed, vector by vector, row by row, feature by
// feature: with k the top 24 bits, u = 6k/2²⁴ − 3 rounded to float32, and
// raw = float32(u·Std) + Mean. With a Preparation one more number is drawn behind
// each row, for its regime, whose centre and deviations then take the place of
// these, and u becomes one of a category's places, the unknown one included.
func (m *Model) GoldenInputs() [][]float32 {
	features := len(m.Schema.Features)
	s := m.Golden.Seed
	var r uint64
	u := make([]float32, features)
	inputs := make([][]float32, GoldenVectors)
	for i := range inputs {
		rows := make([]float32, m.Golden.Steps*features)
		for j := range m.Golden.Steps {
			row := rows[j*features:][:features]
			for f := range row {
				s, r = splitmix64(s)
				u[f] = float32(float64(r>>40)*6/(1<<24) - 3)
				if m.Schema.Prepare == nil {
					row[f] = float32(u[f]*m.Scaler.Std[f]) + m.Scaler.Mean[f]
				}
			}
			if m.Schema.Prepare != nil {
				s, r = splitmix64(s)
				m.goldenRow(row, u, r)
			}
		}
		inputs[i] = rows
	}
	return inputs
}

// splitmix64 returns the next state and output.
func splitmix64(s uint64) (state, out uint64) {
	s += 0x9e3779b97f4a7c15
	z := s
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return s, z ^ z>>31
}
