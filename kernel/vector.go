package kernel

import (
	"encoding/binary"
	"math"
	"unsafe"
)

// A vectorLayer is a recurrent layer of either type, packed for a vector tier.
//
// Units are padded to 16 and go in blocks of tier.blockUnits, the last of which
// may be a half. A block is a sequence of rows in the order they are read, each
// 4 bytes for every gate and unit, [gate][unit]:
//
//	bias             float32
//	input kernel     float32, a row for each feature           (first layer)
//	                 int8, a row for four inputs: [gate][unit][4 k]
//	                 with the rows of sums and scales below    (later layers)
//	sums             int32, −128·Σw, if the tier keeps its hidden state plus 128
//	recurrent kernel int8, a row for four k: [gate][unit][4 k]
//	scales           float32, the recurrent kernel's over 127
//	recurrent bias   float32, of a GRU
//
// A float32 model has float32 rows for both kernels and neither sums nor
// scales; the recurrent bias comes before its kernel. Padding is zeros: a padded
// unit stays at 0.
type vectorLayer struct {
	kind        Kind
	gates       int
	tier        tier
	int8        bool
	first       bool
	units, in   int
	padded      int    // units, to 16
	inPadded    int    // inputs of a later int8 layer, to 16
	rows        int    // in a block
	recurrentAt int    // first row after the input's
	mem         []byte // all blocks, aligned to 64 bytes
}

// alignedBytes are n zero bytes at a multiple of 64.
func alignedBytes(n int) []byte {
	b := make([]byte, n+63)
	off := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & 63)
	return b[off:][:n:n]
}

func pad16(n int) int { return (n + 15) &^ 15 }

func newVectorLayer(t tier, in int, l Layer, first bool) *vectorLayer {
	return &vectorLayer{
		kind: l.Kind, gates: l.Kind.Gates(), tier: t, first: first,
		units: l.Units, in: in, padded: pad16(l.Units), inPadded: pad16(in),
	}
}

func packVectorInt8(t tier, l *QuantLayer, in int, layer Layer, first bool) *vectorLayer {
	p, columns := newVectorLayer(t, in, layer, first), layer.columns()
	p.int8 = true
	corrected := 0
	if t.offset() {
		corrected = 1
	}
	if first {
		p.recurrentAt = 1 + in
	} else {
		p.recurrentAt = 1 + corrected + p.inPadded/4 + 1
	}
	p.rows = p.recurrentAt + corrected + p.padded/4 + 1
	if p.kind == GRU {
		p.rows++
	}
	p.mem = alignedBytes(p.rows * p.gates * 4 * p.padded)
	p.putFloats(0, l.Bias[:columns], 1)
	if p.kind == GRU {
		p.putFloats(p.rows-1, l.Bias[columns:], 1)
	}
	if first {
		row := make([]float32, columns)
		for f := range in {
			for j := range row {
				row[j] = float32(l.Kernel[f*len(row)+j]) * l.KernelScale[j]
			}
			p.putFloats(1+f, row, 1)
		}
	} else {
		p.putInt8(1, l.Kernel, in, p.inPadded, l.KernelScale)
	}
	p.putInt8(p.recurrentAt, l.Recurrent, p.units, p.padded, l.RecurrentScale)
	return p
}

func packVectorFloat32(t tier, l *LayerWeights, in int, layer Layer, first bool) *vectorLayer {
	p, columns := newVectorLayer(t, in, layer, first), layer.columns()
	p.recurrentAt = 1 + in
	weights := p.recurrentAt
	if p.kind == GRU {
		weights++
	}
	p.rows = weights + p.padded
	p.mem = alignedBytes(p.rows * p.gates * 4 * p.padded)
	p.putFloats(0, l.Bias[:columns], 1)
	if p.kind == GRU {
		p.putFloats(p.recurrentAt, l.Bias[columns:], 1)
	}
	for k := range in {
		p.putFloats(1+k, l.Kernel[k*columns:][:columns], 1)
	}
	for k := range p.units {
		p.putFloats(weights+k, l.Recurrent[k*columns:][:columns], 1)
	}
	return p
}

// blockAt is the number of units in the block that starts at a unit.
func (l *vectorLayer) blockAt(unit int) int { return min(l.tier.blockUnits(), l.padded-unit) }

// offset is where the word of a row, gate and unit is.
func (l *vectorLayer) offset(row, gate, unit int) int {
	start := unit &^ (l.tier.blockUnits() - 1)
	n := l.blockAt(start)
	return 4 * (l.gates*(l.rows*start+n*row) + gate*n + unit - start)
}

// putFloats stores a value for each gate and unit, divided by d, in a row.
func (l *vectorLayer) putFloats(row int, v []float32, d float32) {
	for g := range l.gates {
		for u := range l.units {
			binary.LittleEndian.PutUint32(l.mem[l.offset(row, g, u):], math.Float32bits(v[g*l.units+u]/d))
		}
	}
}

// putInt8 stores an int8 kernel of in rows, padded, with its scales and, if
// the tier wants them, its sums.
func (l *vectorLayer) putInt8(row int, q []int8, in, padded int, scale []float32) {
	n := l.gates * l.units
	weights := row
	if l.tier.offset() {
		weights++
	}
	for g := range l.gates {
		for u := range l.units {
			var sum int32
			at := l.offset(weights, g, u)
			next := l.offset(weights+1, g, u) - at
			for k := range in {
				v := q[k*n+g*l.units+u]
				l.mem[at+k%4] = byte(v)
				if k%4 == 3 {
					at += next
				}
				sum += int32(v)
			}
			if l.tier.offset() {
				binary.LittleEndian.PutUint32(l.mem[l.offset(row, g, u):], uint32(-128*sum))
			}
		}
	}
	l.putFloats(weights+padded/4, scale, hiddenScale)
}

// stepArgs is what the assembly is called with, at the offsets it knows
// (kernel/internal/gen; TestArgsAreWhereAssemblyReadsThem). It stays on the
// stack: in a State it would make the caller's rows escape to the heap.
type stepArgs struct {
	w      unsafe.Pointer // row after the initial sums, of the first block visited
	wStep  int            // bytes to the next one
	blocks int            // blocks to visit
	z      unsafe.Pointer // initial sums of the first block
	zStep  int            // bytes to the next
	x      unsafe.Pointer // float32 inputs
	nx     int            // how many
	xq     unsafe.Pointer // hidden state of the layer below
	nxq    int            // its length / 16
	q      unsafe.Pointer // own hidden state
	nq     int            // its length / 16
	next   unsafe.Pointer // where the next one goes
	c, h   unsafe.Pointer // cell and float32 hidden state of the first block
	uStep  int            // units to the next block
	rows   int            // input rows, or sequences
	xStep  int            // bytes from one to the next, or to the next sequence's
	zRow   int            // bytes between the rows' sums
	hStep  int            // units from a sequence's state to the next one's
}

// run calls the assembly for all whole blocks and then for the half one, or
// back from the end: alternate steps meet the weights that the step before
// left in the innermost cache.
//
// Sums start at the bias and take the input, or, if z is not nil, at z, which
// has them for all units.
func (l *vectorLayer) run(a *stepArgs, s *layerState, z []float32) {
	back := s.back
	n := l.tier.blockUnits()
	whole, half := l.padded/n, l.padded%n
	if half > 0 && back {
		l.blocks(a, s, z, whole*n, 1, half)
	}
	if whole > 0 && !back {
		l.blocks(a, s, z, 0, whole, n)
	}
	if whole > 0 && back {
		l.blocks(a, s, z, (whole-1)*n, whole, -n)
	}
	if half > 0 && !back {
		l.blocks(a, s, z, whole*n, 1, half)
	}
}

// blocks visits count blocks from the one that starts at unit, uStep units from one
// to the next.
func (l *vectorLayer) blocks(a *stepArgs, s *layerState, z []float32, unit, count, uStep int) {
	n := max(uStep, -uStep)
	block := l.mem[4*l.gates*l.rows*unit:]
	a.blocks, a.uStep, a.wStep = count, uStep, 4*l.gates*l.rows*uStep
	if z == nil {
		a.z, a.zStep = unsafe.Pointer(&block[0]), a.wStep
		a.w = unsafe.Pointer(&block[4*l.gates*n])
	} else {
		a.z, a.zStep = unsafe.Pointer(&z[l.gates*unit]), 4*l.gates*uStep
		a.w = unsafe.Pointer(&block[4*l.gates*n*l.recurrentAt])
	}
	l.setStates(a, s, unit)
	switch {
	case l.kind == GRU && l.int8:
		a.gruStepInt8(l.tier, n)
	case l.kind == GRU:
		a.gruStepFloat32(l.tier, n)
	case l.int8:
		a.stepInt8(l.tier, n)
	default:
		a.stepFloat32(l.tier, n)
	}
}

// setStates points to the states of the block that starts at unit.
func (l *vectorLayer) setStates(a *stepArgs, s *layerState, unit int) {
	a.h = unsafe.Pointer(&s.h[unit/16])
	if l.kind == LSTM {
		a.c = unsafe.Pointer(&s.c[unit/2])
	}
	if l.int8 {
		a.next = unsafe.Pointer(&s.bNext[unit])
	} else {
		a.next = unsafe.Pointer(&s.pNext[unit/2])
	}
}

// step advances s by one input: x for the first layer, below, the state of the
// layer below, for later ones; or, if z is not nil, by the input's sums in z.
func (l *vectorLayer) step(s *layerState, x []float32, below *layerState, z []float32) {
	a := stepArgs{nq: l.padded / 16} // not its address: what is stored through a pointer escapes
	switch {
	case z != nil:
	case l.first:
		a.x, a.nx = unsafe.Pointer(&x[0]), l.in
	case l.int8:
		a.xq, a.nxq = unsafe.Pointer(&below.b[0]), l.inPadded/16
	default:
		a.x, a.nx = unsafe.Pointer(&below.p[0]), l.in
	}
	if l.int8 {
		a.q = unsafe.Pointer(&s.b[0])
	} else {
		a.q = unsafe.Pointer(&s.p[0])
	}
	l.run(&a, s, z)
	s.back = !s.back
	s.b, s.bNext = s.bNext, s.b
	s.p, s.pNext = s.pNext, s.p
}

// inputSums computes into z, rows of l.gates·padded, the sums that the first
// layer's steps over the rows of x start from.
func (l *vectorLayer) inputSums(z, x []float32) {
	rows := len(x) / l.in
	a := &stepArgs{x: unsafe.Pointer(&x[0]), nx: l.in, rows: rows, xStep: 4 * l.in, zRow: 4 * l.gates * l.padded}
	n := l.tier.blockUnits()
	whole, half := l.padded/n, l.padded%n
	call := func(unit, count, units int) {
		a.w, a.wStep = unsafe.Pointer(&l.mem[4*l.gates*l.rows*unit]), 4*l.gates*l.rows*units
		a.z, a.zStep, a.blocks = unsafe.Pointer(&z[l.gates*unit]), 4*l.gates*units, count
		switch {
		case l.kind == GRU && l.int8:
			a.gruRowsInt8(l.tier, units)
		case l.kind == GRU:
			a.gruRowsFloat32(l.tier, units)
		case l.int8:
			a.rowsInt8(l.tier, units)
		default:
			a.rowsFloat32(l.tier, units)
		}
	}
	if whole > 0 {
		call(0, whole, n)
	}
	if half > 0 {
		call(whole*n, 1, half)
	}
}

// stepBatch is step for tile sequences, whose states lie one after the other in
// s: x is the first one's input row and xStep the distance to the next one's.
func (l *vectorLayer) stepBatch(s *layerState, x []float32, xStep int, below *layerState) {
	a := stepArgs{nq: l.padded / 16, hStep: l.padded, rows: l.tier.batchTile()}
	switch {
	case l.first:
		a.x, a.nx, a.xStep = unsafe.Pointer(&x[0]), l.in, 4*xStep
	case l.int8:
		a.xq, a.nxq, a.xStep = unsafe.Pointer(&below.b[0]), l.inPadded/16, l.inPadded
	default:
		a.x, a.nx, a.xStep = unsafe.Pointer(&below.p[0]), l.in, 4*l.inPadded
	}
	if l.int8 {
		a.q = unsafe.Pointer(&s.b[0])
	} else {
		a.q = unsafe.Pointer(&s.p[0])
	}
	n := l.tier.blockUnits()
	whole, half := l.padded/n, l.padded%n
	if whole > 0 {
		l.batchBlocks(&a, s, 0, whole, n)
	}
	if half > 0 {
		l.batchBlocks(&a, s, whole*n, 1, half)
	}
	s.b, s.bNext = s.bNext, s.b
	s.p, s.pNext = s.pNext, s.p
}

func (l *vectorLayer) batchBlocks(a *stepArgs, s *layerState, unit, count, units int) {
	a.w, a.wStep, a.blocks = unsafe.Pointer(&l.mem[4*l.gates*l.rows*unit]), 4*l.gates*l.rows*units, count
	l.setStates(a, s, unit)
	switch {
	case l.kind == GRU && l.int8:
		a.gruBatchInt8(l.tier, units)
	case l.kind == GRU:
		a.gruBatchFloat32(l.tier, units)
	case l.int8:
		a.batchInt8(l.tier, units)
	default:
		a.batchFloat32(l.tier, units)
	}
}
