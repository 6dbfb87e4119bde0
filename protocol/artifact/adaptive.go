package artifact

import (
	"encoding/binary"
	"fmt"
)

// The adaptive code of a block has no table. Each byte is eight binary
// decisions, from its highest bit down a tree of 255 nodes; a node predicts its
// bit, and moves with each that it sees. Before the first, the nodes say what a
// distribution of one parameter says, which weights and their residuals are near
// to: what a table of frequencies takes 5 to 105 bytes to tell.
//
//	0        bits 0–2: stiffness; bits 3–4: memory; bit 5: shape; others 0
//	1        ratio r, 2 bytes little-endian
//	3        edge e, of shape 1
//	…        arithmetic code, renormalized without carry by bytes as in Mahoney's
//	         lpaq; of its last four bytes, those that are zero at the end left out
//
// Bytes are taken as int8, in ascending order over the leaves. The weight of
// magnitude m is x_m + 16, x_0 = 2²⁴, x_{m+1} = ⌊x_m·r_m/2¹⁶⌋, r_0 = r. Of shape
// 0, two-sided geometric, r stays; of shape 1, normal, r_{m+1} = ⌊r_m·r²/2³²⌋ and
// ±127 have e/256 of all weight: the largest weight of each row is scaled there.
// All arithmetic is of integers, so that it is the same on every CPU.
type adaptive struct {
	nodes  [256]node // 1 is the root, 2i and 2i+1 are below i
	rates  [1024]int32
	memory int32 // samples after which a node forgets
}

// A node predicts one bit. After n samples, at most memory, it moves by
// rates[n]/2²⁴ of the way to the bit that came: 1/(n + c), where c is what the
// first prediction counts as.
type node struct {
	one  int32 // probability that it is 1, in 2⁻³⁰
	seen int32 // samples
}

// adaptiveParams are what a coded block begins with.
type adaptiveParams struct {
	stiffness, memory, shape byte
	ratio                    uint16
	edge                     byte
}

// Shapes.
const (
	geometric byte = iota
	normal
)

// What the first prediction counts as, in quarter samples, by stiffness, and the
// memory in samples.
var (
	stiffnesses = [8]int32{5, 8, 24, 64, 256, 1024, 4096, 16384}
	memories    = [4]int32{31, 63, 255, 1023}
)

func (p adaptiveParams) append(b []byte) []byte {
	b = append(b, p.stiffness|p.memory<<3|p.shape<<5, byte(p.ratio), byte(p.ratio>>8))
	if p.shape == normal {
		b = append(b, p.edge)
	}
	return b
}

// parseAdaptive returns the parameters at the start of a coded block and the
// rest of it.
func parseAdaptive(b []byte) (p adaptiveParams, rest []byte, err error) {
	if len(b) < 3 {
		return p, nil, ErrTruncated
	}
	head := b[0]
	p = adaptiveParams{stiffness: head & 7, memory: head >> 3 & 3, shape: head >> 5, ratio: binary.LittleEndian.Uint16(b[1:])}
	b = b[3:]
	switch {
	case p.shape > normal:
		return p, nil, fmt.Errorf("%w: head %#x of an adaptive code", ErrCorrupt, head)
	case p.shape == geometric:
		return p, b, nil
	case len(b) < 1:
		return p, nil, ErrTruncated
	}
	p.edge = b[0]
	return p, b[1:], nil
}

// weights are those of the bytes −128 to 127 at the start, in this order.
func (p adaptiveParams) weights() (w [256]int64) {
	x, r, square := int64(1<<24), int64(p.ratio), int64(p.ratio)*int64(p.ratio)
	inner := int64(0)
	for m := range 129 {
		w[128-m] = x + 16
		if m < 128 {
			w[128+m] = x + 16
		}
		if m < 127 {
			inner += 2 * (x + 16) // of 0 twice, which is as good
		}
		x = x * r >> 16
		if p.shape == normal {
			r = r * square >> 32
		}
	}
	if p.shape == normal {
		w[1] = 1 + inner*int64(p.edge)/(2*(256-int64(p.edge)))
		w[255] = w[1]
	}
	return w
}

// start sets the nodes to what p says.
func (a *adaptive) start(p adaptiveParams) {
	a.memory = memories[p.memory]
	for n := range a.memory + 1 {
		a.rates[n] = 4 << 24 / (4*n + stiffnesses[p.stiffness])
	}
	w := p.weights()
	// Bottom up: w[i] is the weight of all leaves below node i of a level.
	for level := 128; level > 0; level /= 2 {
		for i := range level {
			below := w[2*i] + w[2*i+1]
			a.nodes[level+i] = node{one: int32(w[2*i+1] << 24 / below << 6)}
			w[i] = below
		}
	}
}

// chance is the probability of a 1 for the coder, in 2⁻¹⁶, never 0 or 1.
func (n *node) chance() uint32 { return uint32(min(max(n.one>>14, 1), 1<<16-1)) }

// learn moves the prediction of node i towards a bit that came, 0 or 1.
func (a *adaptive) learn(n *node, bit int32) {
	n.one += int32(int64(bit<<30-n.one) * int64(a.rates[n.seen]) >> 24)
	if n.seen < a.memory {
		n.seen++
	}
}

// split divides the interval [low, high] at the probability of a 1.
func split(low, high, chance uint32) uint32 {
	return low + uint32(uint64(high-low)*uint64(chance)>>16)
}

// decodeAdaptive fills block from coded.
func decodeAdaptive(block, coded []byte) error {
	p, coded, err := parseAdaptive(coded)
	if err != nil {
		return err
	}
	var a adaptive
	a.start(p)
	taken := 0
	next := func() uint32 {
		taken++
		if taken > len(coded) {
			return 0
		}
		return uint32(coded[taken-1])
	}
	low, high, at := uint32(0), ^uint32(0), uint32(0)
	for range 4 {
		at = at<<8 | next()
	}
	for i := range block {
		leaf := int32(1)
		for leaf < 256 {
			n := &a.nodes[leaf]
			bit := int32(0)
			if mid := split(low, high, n.chance()); at <= mid {
				bit, high = 1, mid
			} else {
				low = mid + 1
			}
			a.learn(n, bit)
			leaf = leaf<<1 | bit
			for (low^high)>>24 == 0 {
				low, high, at = low<<8, high<<8|0xff, at<<8|next()
			}
		}
		if taken > len(coded)+4 {
			return ErrTruncated
		}
		block[i] = byte(leaf) ^ 0x80
	}
	if taken < len(coded) {
		return fmt.Errorf("%w: %d bytes behind an adaptive code", ErrCorrupt, len(coded)-taken)
	}
	return nil
}
