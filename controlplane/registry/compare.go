package registry

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// A Comparison sets a version beside one that devices may have.
type Comparison struct {
	From string `json:"from"` // NAME:vN
	To   string `json:"to"`
	// Metrics of both, of the int8 models on the rows that each was judged by.
	Metrics []MetricPair `json:"metrics"`
	// Bytes that a device with From fetches to have To, payload and descriptor, and
	// how; Full is what one without it fetches.
	Bytes int64  `json:"bytes"`
	Kind  string `json:"kind"`
	Full  int64  `json:"full_bytes"`
	// Tensors of To, in the order of the model; of another shape they have no figures.
	Tensors []TensorPair `json:"tensors"`
}

// A MetricPair is a figure of both versions; nil where one has none.
type MetricPair struct {
	Name string   `json:"name"`
	From *float64 `json:"from"`
	To   *float64 `json:"to"`
}

// A TensorPair is how a tensor differs, in the values that the kernel computes with.
type TensorPair struct {
	Name    string  `json:"name"`
	Shape   []int   `json:"shape"`
	Same    bool    `json:"same_shape"`
	Changed float64 `json:"changed"` // part of the stored values that differ
	Max     float64 `json:"max"`     // largest absolute difference
	RMS     float64 `json:"rms"`     // of the difference, as a fraction of To's
}

// Compare sets two versions beside each other. It makes the update from one to the
// other if there is none yet, as a rollout would.
func (r *Registry) Compare(ctx context.Context, from, to string) (Comparison, error) {
	a, err := r.Resolve(ctx, from)
	if err != nil {
		return Comparison{}, err
	}
	b, err := r.Resolve(ctx, to)
	if err != nil {
		return Comparison{}, err
	}
	c := Comparison{From: a.Ref(), To: b.Ref(), Metrics: metricPairs(a.Metrics, b.Metrics)}
	ma, err := r.Model(ctx, c.From)
	if err != nil {
		return c, fmt.Errorf("%s: %w", c.From, err)
	}
	mb, err := r.Model(ctx, c.To)
	if err != nil {
		return c, fmt.Errorf("%s: %w", c.To, err)
	}
	c.Tensors = tensorPairs(ma, mb)
	return c, r.fetched(ctx, &c, a, b)
}

// fetched finds the cheapest way from a to b.
func (r *Registry) fetched(ctx context.Context, c *Comparison, a, b Version) error {
	if err := r.PrepareUpdates(ctx, b.Digest, []protocol.Digest{a.Digest}); err != nil {
		return err
	}
	ways, err := r.Transfers(ctx, b.Digest)
	if err != nil {
		return err
	}
	for _, w := range ways {
		if w.Base != nil && *w.Base != a.Digest {
			continue
		}
		t, err := r.transfer(ctx, w.Hash)
		if err != nil {
			return err
		}
		d, err := t.Descriptor.AppendBinary(nil)
		if err != nil {
			return err
		}
		n := w.Bytes + int64(len(d))
		if w.Base == nil {
			c.Full = n
		}
		if c.Kind == "" || n < c.Bytes {
			c.Bytes, c.Kind = n, w.Kind
		}
	}
	if a.Digest == b.Digest {
		c.Bytes, c.Kind = 0, "none"
	}
	return nil
}

func metricPairs(a, b map[string]float64) []MetricPair {
	names := slices.Collect(maps.Keys(b))
	for k := range a {
		if _, ok := b[k]; !ok {
			names = append(names, k)
		}
	}
	slices.Sort(names)
	out := make([]MetricPair, len(names))
	for i, n := range names {
		out[i] = MetricPair{Name: n}
		if v, ok := a[n]; ok {
			out[i].From = &v
		}
		if v, ok := b[n]; ok {
			out[i].To = &v
		}
	}
	return out
}

func tensorPairs(a, b *artifact.Model) []TensorPair {
	old := map[string]artifact.Tensor{}
	for _, t := range a.Tensors {
		old[t.Name] = t
	}
	scalesA, scalesB := scales(a), scales(b)
	var out []TensorPair
	for _, t := range b.Tensors {
		p := TensorPair{Name: t.Name, Shape: t.Shape}
		o, ok := old[t.Name]
		if p.Same = ok && o.Type == t.Type && slices.Equal(o.Shape, t.Shape); p.Same {
			va, vb := values(o, scalesA[t.Name]), values(t, scalesB[t.Name])
			p.Changed = changed(o, t)
			p.Max, p.RMS = distance(va, vb)
		}
		out = append(out, p)
	}
	return out
}

// changed is the part of the stored values that differ.
func changed(a, b artifact.Tensor) float64 {
	width := 1
	if b.Type == artifact.Float32 {
		width = 4
	}
	n := 0
	for i := 0; i+width <= len(b.Data); i += width {
		if !slices.Equal(a.Data[i:i+width], b.Data[i:i+width]) {
			n++
		}
	}
	return float64(n) * float64(width) / float64(max(1, len(b.Data)))
}

// scales are the scales of the columns of int8 tensors, by the tensor's name.
func scales(m *artifact.Model) map[string][]float64 {
	out := map[string][]float64{}
	for _, t := range m.Tensors {
		if name, ok := strings.CutSuffix(t.Name, "_scale"); ok && t.Type == artifact.Float32 {
			out[name] = values(t, nil)
		}
	}
	return out
}

// values are a tensor's values: int8 ones times the scale of their column.
func values(t artifact.Tensor, scale []float64) []float64 {
	if t.Type == artifact.Float32 {
		out := make([]float64, len(t.Data)/4)
		for i := range out {
			out[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(t.Data[4*i:])))
		}
		return out
	}
	out := make([]float64, len(t.Data))
	for i, q := range t.Data {
		out[i] = float64(int8(q))
		if len(scale) > 0 {
			out[i] *= scale[i%len(scale)]
		}
	}
	return out
}

// distance is the largest difference, and its root mean square as a fraction of b's.
func distance(a, b []float64) (most, rms float64) {
	var diff, size float64
	for i := range b {
		d := math.Abs(a[i] - b[i])
		most = max(most, d)
		diff += d * d
		size += b[i] * b[i]
	}
	if diff == 0 {
		return most, 0
	}
	return most, math.Sqrt(diff / max(size, math.SmallestNonzeroFloat64))
}
