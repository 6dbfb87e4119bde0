package kernel

import "unsafe"

// ReadWeights reads the model's packed recurrent layers, each times over, in
// address order, with the widest loads of this CPU, and does nothing with
// them: the line that steps are measured against. It may leave out the last
// 511 bytes of a layer.
func (m *Model) ReadWeights(times int) {
	if times < 1 {
		return
	}
	m.eachPacked(func(b []byte) { readLine(b, times) })
}

// eachPacked calls f with the memory of every recurrent layer's weights, as they
// are read in a step.
func (m *Model) eachPacked(f func([]byte)) {
	for _, l := range m.vectors {
		f(l.mem)
	}
	for _, l := range m.int8s {
		if g := l.gru; g != nil {
			f(bytesOf(g.w))
			f(bytesOf(g.wq))
			f(bytesOf(g.u))
			continue
		}
		f(bytesOf(l.lstm.w))
		f(bytesOf(l.lstm.wq))
		f(bytesOf(l.lstm.u))
	}
	for _, l := range m.floats {
		if g := l.gru; g != nil {
			f(bytesOf(g.w))
			f(bytesOf(g.u))
			continue
		}
		f(bytesOf(l.lstm.w))
		f(bytesOf(l.lstm.u))
	}
}

// PeakInt8 multiplies int8 values on registers alone, as fast as this CPU can:
// n·64 independent 512-bit VPDPBUSD. It returns how many operations that were,
// a multiplication and an addition counting as two, and 0, having done nothing,
// on a CPU or in a build without the tier avx512vnni.
func PeakInt8(n int) int {
	if n < 1 || !peakInt8(n) {
		return 0
	}
	return n * 64 * 64 * 2
}

// PackedBytes is the size of the model's packed recurrent layers.
func (m *Model) PackedBytes() int {
	n := 0
	m.eachPacked(func(b []byte) { n += len(b) })
	return n
}

// bytesOf is the memory of v.
func bytesOf[T any](v []T) []byte {
	if len(v) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), len(v)*int(unsafe.Sizeof(v[0])))
}

// lineBytes is how much one turn of the read loops takes.
const lineBytes = 512

// readLineGeneric is readLine in plain Go: eight words a turn.
func readLineGeneric(b []byte, times int) uint64 {
	var s0, s1, s2, s3 uint64
	for range times {
		for b := b; len(b) >= 64; b = b[64:] {
			w := (*[8]uint64)(unsafe.Pointer(&b[0]))
			s0 |= w[0] | w[4]
			s1 |= w[1] | w[5]
			s2 |= w[2] | w[6]
			s3 |= w[3] | w[7]
		}
	}
	return s0 | s1 | s2 | s3
}
