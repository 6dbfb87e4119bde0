package predictor

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// FromQuant builds the artifact of an int8 model and records its golden
// outputs. The artifact shares nothing with its arguments. Errors are those
// of Open; an output that is not finite is artifact.ErrNonFinite.
func FromQuant(q *kernel.QuantWeights, schema artifact.Schema, task string, scaler kernel.Scaler) (*artifact.Model, error) {
	return FromQuantSkip(q, nil, schema, task, scaler)
}

// FromQuantSkip is FromQuant of a network with a skip path, or without if skip
// is nil.
func FromQuantSkip(q *kernel.QuantWeights, skip *kernel.SkipWeights, schema artifact.Schema, task string, scaler kernel.Scaler) (*artifact.Model, error) {
	if err := q.Validate(); err != nil {
		return nil, err
	}
	if _, err := Plan(schema, scaler); err != nil {
		return nil, err
	}
	if err := fits(q.Graph, schema, scaler); err != nil {
		return nil, err
	}
	m := &artifact.Model{
		Graph: toGraph(q.Graph), Schema: cloneSchema(schema), Task: task, Scaler: toScaler(scaler), Tensors: tensors(q),
		Golden: artifact.Golden{
			Seed: goldenSeed, Steps: goldenSteps(schema), Outputs: make([]float32, artifact.GoldenVectors*schema.Outputs()),
		},
	}
	if skip != nil {
		if err := skip.Validate(schema.Inputs()); err != nil {
			return nil, err
		}
		addSkip(m, skip)
	}
	p, err := Open(m)
	if err != nil {
		return nil, err
	}
	m.Golden.Outputs = m.Golden.Outputs[:0]
	for i, rows := range p.inputs {
		y, err := p.goldenOutput(rows)
		if err != nil {
			return nil, fmt.Errorf("golden vector %d: %w", i, err)
		}
		m.Golden.Outputs = append(m.Golden.Outputs, y...)
	}
	return m, m.Validate()
}

// tensors are the parameters of q in the order of its layers.
func tensors(q *kernel.QuantWeights) []artifact.Tensor {
	var ts []artifact.Tensor
	for i, l := range q.Layers {
		p, in, units := strconv.Itoa(i)+".", q.Graph.In(i), q.Graph.Layers[i].Units
		if q.Graph.Layers[i].Kind == kernel.Dense {
			ts = append(ts, floatTensor(p+"kernel", l.Dense, in, units), floatTensor(p+"bias", l.Bias, units))
			continue
		}
		layer := q.Graph.Layers[i]
		columns, bias := layer.Kind.Gates()*units, []int{len(l.Bias)}
		if layer.Kind == kernel.GRU {
			bias = []int{2, columns}
		}
		ts = append(ts,
			int8Tensor(p+"kernel", l.Kernel, in, columns), floatTensor(p+"kernel_scale", l.KernelScale, columns),
			int8Tensor(p+"recurrent", l.Recurrent, units, columns), floatTensor(p+"recurrent_scale", l.RecurrentScale, columns),
			floatTensor(p+"bias", l.Bias, bias...))
	}
	return ts
}

// addSkip puts a skip path into m, its tensors before those of the layers.
func addSkip(m *artifact.Model, s *kernel.SkipWeights) {
	n := len(s.Features)
	m.Skip = &artifact.Skip{}
	for _, f := range s.Features {
		m.Skip.Features = append(m.Skip.Features, int32(f))
	}
	m.Tensors = append([]artifact.Tensor{
		int8Tensor("skip.kernel", s.Kernel, s.Rows, n), floatTensor("skip.kernel_scale", s.Scale, n), floatTensor("skip.bias", s.Bias, n),
	}, m.Tensors...)
}

// Skip is the skip path of a validated artifact, nil if it has none.
func Skip(m *artifact.Model) *kernel.SkipWeights {
	if m.Skip == nil {
		return nil
	}
	ts := tensorsByName(m)
	s := &kernel.SkipWeights{
		Rows: m.Schema.NetworkWindow(), Kernel: int8s(ts["skip.kernel"]), Scale: floats(ts["skip.kernel_scale"]), Bias: floats(ts["skip.bias"]),
	}
	for _, f := range m.Skip.Features {
		s.Features = append(s.Features, int(f))
	}
	return s
}

func tensorsByName(m *artifact.Model) map[string]artifact.Tensor {
	byName := make(map[string]artifact.Tensor, len(m.Tensors))
	for _, t := range m.Tensors {
		byName[t.Name] = t
	}
	return byName
}

func int8Tensor(name string, v []int8, shape ...int) artifact.Tensor {
	b := make([]byte, len(v))
	for i, q := range v {
		b[i] = byte(q)
	}
	return artifact.Tensor{Name: name, Type: artifact.Int8, Shape: shape, Data: b}
}

func floatTensor(name string, v []float32, shape ...int) artifact.Tensor {
	b := make([]byte, 0, 4*len(v))
	for _, f := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	return artifact.Tensor{Name: name, Type: artifact.Float32, Shape: shape, Data: b}
}

// packed returns the kernel of a validated artifact: int8 if its
// recurrent layers are, float32 if they are. A mixture is ErrModel.
func packed(m *artifact.Model) (*kernel.Model, error) {
	g, err := fromGraph(m.Graph)
	if err != nil {
		return nil, err
	}
	byName := tensorsByName(m)
	isInt8 := byName["0.kernel"].Type == artifact.Int8 // the first layer is recurrent
	for i := range g.Recurrent() {
		for _, name := range []string{"kernel", "recurrent"} {
			if t := byName[strconv.Itoa(i)+"."+name]; (t.Type == artifact.Int8) != isInt8 {
				return nil, fmt.Errorf("tensor %s is %s in a model that is partly int8: %w", t.Name, t.Type, ErrModel)
			}
		}
	}
	if isInt8 {
		return kernel.NewInt8(quantWeights(g, byName))
	}
	return kernel.NewFloat32(weights(g, byName))
}

// quantWeights collects an int8 model's tensors; what is missing is left for
// the kernel's validation to find.
func quantWeights(g kernel.Graph, ts map[string]artifact.Tensor) *kernel.QuantWeights {
	q := &kernel.QuantWeights{Graph: g, Layers: make([]kernel.QuantLayer, len(g.Layers))}
	for i, layer := range g.Layers {
		p, l := strconv.Itoa(i)+".", &q.Layers[i]
		l.Bias = floats(ts[p+"bias"])
		if layer.Kind == kernel.Dense {
			l.Dense = floats(ts[p+"kernel"])
			continue
		}
		l.Kernel, l.KernelScale = int8s(ts[p+"kernel"]), floats(ts[p+"kernel_scale"])
		l.Recurrent, l.RecurrentScale = int8s(ts[p+"recurrent"]), floats(ts[p+"recurrent_scale"])
	}
	return q
}

func weights(g kernel.Graph, ts map[string]artifact.Tensor) *kernel.Weights {
	w := &kernel.Weights{Graph: g, Layers: make([]kernel.LayerWeights, len(g.Layers))}
	for i, layer := range g.Layers {
		p, l := strconv.Itoa(i)+".", &w.Layers[i]
		l.Kernel, l.Bias = floats(ts[p+"kernel"]), floats(ts[p+"bias"])
		if layer.Kind.Recurrent() {
			l.Recurrent = floats(ts[p+"recurrent"])
		}
	}
	return w
}

func int8s(t artifact.Tensor) []int8 {
	v := make([]int8, len(t.Data))
	for i, b := range t.Data {
		v[i] = int8(b)
	}
	return v
}

func floats(t artifact.Tensor) []float32 {
	v := make([]float32, len(t.Data)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(t.Data[4*i:]))
	}
	return v
}

func toGraph(g kernel.Graph) artifact.Graph {
	a := artifact.Graph{Features: g.Features}
	for _, l := range g.Layers {
		layer := artifact.Layer{Kind: l.Kind.String(), Units: l.Units, Sequences: l.Sequences}
		if l.Kind == kernel.Dense {
			layer.Activation = l.Activation.String()
		}
		a.Layers = append(a.Layers, layer)
	}
	return a
}

// fromGraph converts a graph and validates it by the kernel's narrower rules.
func fromGraph(a artifact.Graph) (kernel.Graph, error) {
	g := kernel.Graph{Features: a.Features}
	for i, l := range a.Layers {
		kind, err := kernel.ParseKind(l.Kind)
		if err != nil {
			return g, fmt.Errorf("layer %d: %w", i, err)
		}
		activation, err := kernel.ParseActivation(l.Activation)
		if err != nil {
			return g, fmt.Errorf("layer %d: %w", i, err)
		}
		g.Layers = append(g.Layers, kernel.Layer{Kind: kind, Units: l.Units, Sequences: l.Sequences, Activation: activation})
	}
	return g, g.Validate()
}

func toScaler(s kernel.Scaler) artifact.Scaler {
	s = cloneScaler(s)
	a := artifact.Scaler{Mean: s.Mean, Std: s.Std, Inv: s.Inv, OutMean: s.OutMean, OutStd: s.OutStd}
	for _, f := range s.Anchor {
		a.Anchor = append(a.Anchor, int32(f))
	}
	return a
}

func fromScaler(a artifact.Scaler) kernel.Scaler {
	s := kernel.Scaler{Mean: a.Mean, Std: a.Std, Inv: a.Inv, OutMean: a.OutMean, OutStd: a.OutStd}
	for _, f := range a.Anchor {
		s.Anchor = append(s.Anchor, int(f))
	}
	return s
}

func cloneScaler(s kernel.Scaler) kernel.Scaler {
	clone := func(v []float32) []float32 { return append([]float32(nil), v...) }
	return kernel.Scaler{
		Mean: clone(s.Mean), Std: clone(s.Std), Inv: clone(s.Inv), OutMean: clone(s.OutMean), OutStd: clone(s.OutStd),
		Anchor: append([]int(nil), s.Anchor...),
	}
}
