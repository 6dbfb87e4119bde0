package bptt

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// A checkpoint is encoded as follows, numbers little-endian, floats as IEEE 754
// binary64, texts after their length in 4 bytes:
//
//	size  field
//	4     "SPK1"
//	…     configuration, as JSON; graph; Run.Data: texts
//	24    training windows, validation windows, steps of a window
//	4     n, finished epochs
//	41·n  loss, validation loss, learning rate, windows, nanoseconds of each,
//	      and whether it was the best so far: a truth value, 1 or 0
//	24    of the epoch under way: batches trained, loss, nanoseconds
//	1     whether nothing is left to train: a truth value
//	4     m, values of state
//	…     m times the name, a text, and the kind, 1 byte; then of kind 0 the
//	      number of values in 8 bytes and these as binary32, of 1 a float,
//	      of 2 an integer of 8 bytes, of 3 a truth value
//	32    SHA-256 of all before
const checkpointMagic = "SPK1"

// Kinds of state.
const (
	kindFloats = iota
	kindFloat64
	kindInt
	kindBool
)

// An encoder appends to a checkpoint.
type encoder []byte

func (e *encoder) uint32(n int)      { *e = binary.LittleEndian.AppendUint32(*e, uint32(n)) }
func (e *encoder) int64(n int64)     { *e = binary.LittleEndian.AppendUint64(*e, uint64(n)) }
func (e *encoder) int(n int)         { e.int64(int64(n)) }
func (e *encoder) float64(v float64) { e.int64(int64(math.Float64bits(v))) }
func (e *encoder) bool(v bool) {
	if v {
		*e = append(*e, 1)
	} else {
		*e = append(*e, 0)
	}
}

func (e *encoder) text(s string) {
	e.uint32(len(s))
	*e = append(*e, s...)
}

func (e *encoder) floats(v []float32) {
	*e = append(*e, kindFloats)
	e.int(len(v))
	for _, x := range v {
		*e = binary.LittleEndian.AppendUint32(*e, math.Float32bits(x))
	}
}

func (e *encoder) field(f field) {
	e.text(f.name)
	switch v := f.value.(type) {
	case []float32:
		e.floats(v)
	case *[]float32:
		e.floats(*v)
	case *float64:
		*e = append(*e, kindFloat64)
		e.float64(*v)
	case *int:
		*e = append(*e, kindInt)
		e.int(*v)
	case *bool:
		*e = append(*e, kindBool)
		e.bool(*v)
	default:
		panic(fmt.Sprintf("bptt: state %q is a %T", f.name, f.value))
	}
}

// AppendBinary appends c's encoding to b; the error is always nil.
func (c *Checkpoint) AppendBinary(b []byte) ([]byte, error) {
	e := encoder(b)
	e = append(e, checkpointMagic...)
	e.text(string(c.config))
	e.text(c.graph)
	e.text(c.data)
	e.int(c.windows)
	e.int(c.validation)
	e.int(c.steps)
	e.uint32(len(c.epochs))
	for _, v := range c.epochs {
		e.float64(v.Loss)
		e.float64(v.ValLoss)
		e.float64(v.LearningRate)
		e.int(v.Samples)
		e.int64(int64(v.Took))
		e.bool(v.Best)
	}
	e.int(c.batches)
	e.float64(c.sum)
	e.int64(int64(c.spent))
	e.bool(c.done)
	e.uint32(len(c.state))
	for _, f := range c.state {
		e.field(f)
	}
	sum := sha256.Sum256(e[len(b):])
	return append(e, sum[:]...), nil
}

// A decoder takes from the front of a checkpoint. After the first error it
// gives zeros.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrCheckpoint, what)
	}
}

// take returns the next n bytes, zeros if there are fewer and n is at most 8.
func (d *decoder) take(n int) []byte {
	if d.err != nil || n > len(d.b) {
		d.fail("it ends early")
		return make([]byte, min(n, 8))
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) int64() int64     { return int64(binary.LittleEndian.Uint64(d.take(8))) }
func (d *decoder) float64() float64 { return math.Float64frombits(uint64(d.int64())) }

// int is a number that is not negative and fits in an int.
func (d *decoder) int() int {
	n := d.int64()
	if n < 0 || n > math.MaxInt {
		d.fail(fmt.Sprintf("a number is %d", n))
		return 0
	}
	return int(n)
}

func (d *decoder) bool() bool {
	v := d.take(1)[0]
	if v > 1 {
		d.fail(fmt.Sprintf("a truth value is %d", v))
	}
	return v == 1
}

// count is how many parts of at least size bytes follow.
func (d *decoder) count(size int) int {
	n := binary.LittleEndian.Uint32(d.take(4))
	if uint64(n)*uint64(size) > uint64(len(d.b)) {
		d.fail("it ends early")
		return 0
	}
	return int(n)
}

func (d *decoder) text() string { return string(d.take(d.count(1))) }

// minField is the size of a truth value with an empty name.
const minField = 4 + 1 + 1

func (d *decoder) field() field {
	f := field{name: d.text()}
	switch kind := d.take(1)[0]; kind {
	case kindFloats:
		v := d.floats()
		f.value = &v
	case kindFloat64:
		v := d.float64()
		f.value = &v
	case kindInt:
		v := d.int()
		f.value = &v
	case kindBool:
		v := d.bool()
		f.value = &v
	default:
		d.fail(fmt.Sprintf("state of kind %d", kind))
	}
	return f
}

func (d *decoder) floats() []float32 {
	n := d.int()
	if n > len(d.b)/4 {
		d.fail("it ends early")
		return nil
	}
	v := make([]float32, n)
	for i, b := 0, d.take(4*n); i < len(v); i++ {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return v
}

// UnmarshalBinary decodes b, copying what it keeps. It allocates no more than
// a small multiple of b's length. Its errors match ErrCheckpoint.
func (c *Checkpoint) UnmarshalBinary(b []byte) error {
	if len(b) < len(checkpointMagic)+sha256.Size || string(b[:len(checkpointMagic)]) != checkpointMagic {
		return fmt.Errorf("%w: it does not begin as one", ErrCheckpoint)
	}
	b, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if got := sha256.Sum256(b); !bytes.Equal(got[:], sum) {
		return fmt.Errorf("%w: its checksum is wrong: it was cut or damaged", ErrCheckpoint)
	}
	d := decoder{b: b[len(checkpointMagic):]}
	var n Checkpoint
	n.config = []byte(d.text())
	n.graph, n.data = d.text(), d.text()
	n.windows, n.validation, n.steps = d.int(), d.int(), d.int()
	n.epochs = make([]Epoch, d.count(5*8+1))
	for i := range n.epochs {
		n.epochs[i] = Epoch{
			N: i + 1, Loss: d.float64(), ValLoss: d.float64(), LearningRate: d.float64(),
			Samples: d.int(), Took: time.Duration(d.int64()), Best: d.bool(),
		}
	}
	n.batches, n.sum, n.spent = d.int(), d.float64(), time.Duration(d.int64())
	n.done = d.bool()
	n.state = make([]field, d.count(minField))
	for i := range n.state {
		n.state[i] = d.field()
	}
	if len(d.b) > 0 {
		d.fail(fmt.Sprintf("%d bytes too many", len(d.b)))
	}
	if d.err != nil {
		return d.err
	}
	*c = n
	return nil
}
