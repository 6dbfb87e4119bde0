package kernel

import "unsafe"

// ReadWeights reads the model's packed LSTM weights, each layer's times over, in
// address order, with the widest loads of this CPU, and does nothing with
// them: the line that steps are measured against. It may leave out the last
// 511 bytes of a layer.
func (m *Model) ReadWeights(times int) {
	if times < 1 {
		return
	}
	for _, l := range m.vectors {
		readLine(l.mem, times)
	}
	for _, l := range m.int8s {
		readLine(bytesOf(l.w), times)
		readLine(bytesOf(l.wq), times)
		readLine(bytesOf(l.u), times)
	}
	for _, l := range m.floats {
		readLine(bytesOf(l.w), times)
		readLine(bytesOf(l.u), times)
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

// PackedBytes is the size of the model's packed LSTM weights.
func (m *Model) PackedBytes() int {
	n := 0
	for _, l := range m.vectors {
		n += len(l.mem)
	}
	for _, l := range m.int8s {
		n += len(bytesOf(l.w)) + len(bytesOf(l.wq)) + len(bytesOf(l.u))
	}
	for _, l := range m.floats {
		n += len(bytesOf(l.w)) + len(bytesOf(l.u))
	}
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
