package artifact

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// firstTensor returns the first tensor that a transfer of a kind carries: all
// those behind it come too.
func firstTensor(m *Model, kind string) int {
	if kind != protocol.KindHead {
		return 0
	}
	last := strconv.Itoa(len(m.Graph.Layers)-1) + "."
	return slices.IndexFunc(m.Tensors, func(t Tensor) bool { return strings.HasPrefix(t.Name, last) })
}

// fitsBase reports whether a transfer of a kind can carry m on top of base.
func fitsBase(m, base *Model, kind string) error {
	if err := sameTensors(m, base); err != nil {
		return err
	}
	for i := range firstTensor(m, kind) {
		if !bytes.Equal(m.Tensors[i].Data, base.Tensors[i].Data) {
			return fmt.Errorf("%w: tensor %s differs, which a head does not carry", ErrBase, m.Tensors[i].Name)
		}
	}
	return nil
}

// sameTensors reports whether the tensors of m and base agree in name, type and
// shape.
func sameTensors(m, base *Model) error {
	if len(m.Tensors) != len(base.Tensors) {
		return fmt.Errorf("%w: it has %d tensors, this version has %d", ErrBase, len(base.Tensors), len(m.Tensors))
	}
	for i := range m.Tensors {
		t, b := &m.Tensors[i], &base.Tensors[i]
		if t.Name != b.Name || t.Type != b.Type || !slices.Equal(t.Shape, b.Shape) {
			return fmt.Errorf("%w: its tensor %s %s %v is here %s %s %v", ErrBase, b.Name, b.Type, b.Shape, t.Name, t.Type, t.Shape)
		}
	}
	return nil
}

// residual returns the difference of tensor i of m from base's: of int8 weights
// that from what base's weights are on m's scales, modulo 256; of float32, in
// fold's form, that of their bits.
func residual(m, base *Model, i int) []byte {
	t := &m.Tensors[i]
	out := make([]byte, len(t.Data))
	if t.Type == Int8 {
		rescaled(out, m, base, i)
		for j, q := range t.Data {
			out[j] = q - out[j]
		}
		return out
	}
	was := base.Tensors[i].Data
	for j := 0; j < len(out); j += 4 {
		binary.LittleEndian.PutUint32(out[j:], fold(ordered(load32(t.Data[j:]))-ordered(load32(was[j:]))))
	}
	return out
}

// addBase is the inverse of residual: it replaces the residual in the data of
// tensor i of m by the values. The scales of m must be in place.
func addBase(m, base *Model, i int) {
	t := &m.Tensors[i]
	if t.Type == Int8 {
		was := make([]byte, len(t.Data))
		rescaled(was, m, base, i)
		for j, q := range was {
			t.Data[j] += q
		}
		return
	}
	was := base.Tensors[i].Data
	for j := 0; j < len(t.Data); j += 4 {
		binary.LittleEndian.PutUint32(t.Data[j:], uint32(ordered(uint32(unfold(load32(t.Data[j:]))+ordered(load32(was[j:]))))))
	}
}

// rescaled sets q to the int8 weights of base's tensor i on the scales of m:
//
//	clamp(roundeven(float32(q)·float32(s_base/s_m)), ±127)
//
// with every operation in float32. The scales are the next tensor.
func rescaled(q []byte, m, base *Model, i int) {
	scales, was := m.Tensors[i+1].Data, base.Tensors[i+1].Data
	ratio := make([]float32, len(scales)/4)
	for c := range ratio {
		ratio[c] = math.Float32frombits(load32(was[4*c:])) / math.Float32frombits(load32(scales[4*c:]))
	}
	for j, b := range base.Tensors[i].Data {
		v := math.RoundToEven(float64(float32(float32(int8(b)) * ratio[j%len(ratio)])))
		switch {
		case v >= 127:
			q[j] = 127
		case v >= -127:
			q[j] = byte(int8(v))
		default: // NaN of a scale that is 0 is one, the same everywhere
			q[j] = 256 - 127
		}
	}
}

func load32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

// ordered maps the bits of float32s to integers in the order of the values, one
// apart where they are neighbours. It is its own inverse.
func ordered(bits uint32) int32 { return int32(bits ^ uint32(int32(bits)>>31)>>1) }

// fold writes d as magnitude and, in bit 0, sign: high bytes of small
// differences are zero whatever the sign. −2³¹, which has no magnitude, is 1.
func fold(d int32) uint32 {
	if d < 0 {
		return uint32(-d)<<1 | 1
	}
	return uint32(d) << 1
}

func unfold(f uint32) int32 {
	d := int32(f >> 1)
	switch {
	case f == 1:
		return math.MinInt32
	case f&1 != 0:
		return -d
	}
	return d
}

// xor returns the bytes in which a and b, of one length, differ.
func xor(a, b []byte) []byte {
	out := make([]byte, len(a))
	for i := range out {
		out[i] = a[i] ^ b[i]
	}
	return out
}
