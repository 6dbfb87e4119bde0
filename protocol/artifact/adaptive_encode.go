package artifact

import "math"

// encodeAdaptive codes a block by the shape that fits its frequencies better, of
// a small block the one that makes it smaller, with the ratio and edge that fit
// them, and the stiffness and memory from which no step leads to a smaller code.
func encodeAdaptive(block []byte) []byte {
	frequencies := [256]int{}
	for _, b := range block {
		frequencies[b^0x80]++
	}
	g, gBits := fitAdaptive(geometric, &frequencies, len(block))
	n, nBits := fitAdaptive(normal, &frequencies, len(block))
	if len(block) > 4096 {
		if gBits < nBits {
			return climb(block, g)
		}
		return climb(block, n)
	}
	best, other := climb(block, g), climb(block, n)
	if len(other) < len(best) {
		best = other
	}
	return best
}

// climb codes block with p, of medium stiffness and the longest memory, and goes
// on from there.
func climb(block []byte, p adaptiveParams) []byte {
	best := p.encode(block)
	walk := func(step func(p *adaptiveParams) bool) (far bool) {
		for next := p; step(&next); far = true {
			e := next.encode(block)
			if len(e) >= len(best) {
				break
			}
			p, best = next, e
		}
		return far
	}
	if !walk(func(p *adaptiveParams) bool { p.stiffness++; return int(p.stiffness) < len(stiffnesses) }) {
		walk(func(p *adaptiveParams) bool { p.stiffness--; return p.stiffness < math.MaxUint8 })
	}
	walk(func(p *adaptiveParams) bool { p.memory--; return p.memory < math.MaxUint8 })
	return best
}

// fitAdaptive returns the parameters of those tried under which n bytes of the
// given frequencies have the smallest code, and its bits: of deviations from 1/4
// to 181, 2^¼ apart.
func fitAdaptive(shape byte, frequencies *[256]int, n int) (best adaptiveParams, least float64) {
	p := adaptiveParams{stiffness: 3, memory: 3, shape: shape}
	if shape == normal {
		p.edge = byte(min(255, (256*(frequencies[1]+frequencies[255])+n/2)/n))
	}
	least = math.Inf(1)
	for i := range 39 {
		deviation := math.Exp2(float64(i)/4 - 2)
		if p.ratio = ratio(math.Exp(-1 / deviation)); shape == normal {
			p.ratio = ratio(math.Exp(-1 / (2 * deviation * deviation)))
		}
		if bits := p.bits(frequencies); bits < least {
			best, least = p, bits
		}
	}
	return best, least
}

func ratio(r float64) uint16 { return uint16(min(math.Round(r*(1<<16)), 1<<16-1)) }

// bits is the size of a code of bytes of given frequencies, −128 first, that does
// not learn.
func (p adaptiveParams) bits(frequencies *[256]int) float64 {
	total, bits := 0.0, 0.0
	w := p.weights()
	for _, x := range w {
		total += float64(x)
	}
	for j, n := range frequencies {
		bits -= float64(n) * math.Log2(float64(w[j])/total)
	}
	return bits
}

// encode codes block with p.
func (p adaptiveParams) encode(block []byte) []byte {
	var a adaptive
	a.start(p)
	out := p.append(nil)
	low, high := uint32(0), ^uint32(0)
	for _, b := range block {
		leaf := int32(1)
		for shift := 7; shift >= 0; shift-- {
			n := &a.nodes[leaf]
			bit := int32(b^0x80) >> shift & 1
			if mid := split(low, high, n.chance()); bit != 0 {
				high = mid
			} else {
				low = mid + 1
			}
			a.learn(n, bit)
			leaf = leaf<<1 | bit
			for (low^high)>>24 == 0 {
				out = append(out, byte(high>>24))
				low, high = low<<8, high<<8|0xff
			}
		}
	}
	// Of [low, high] the number with the most zeros at its end, which are left out.
	for shift := 24; shift >= 0; shift -= 8 {
		if x := high >> shift << shift; x >= low {
			for ; x != 0; x <<= 8 {
				out = append(out, byte(x>>24))
			}
			break
		}
	}
	return out
}
