package pipeline

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// MaxSaved is the most that a Feed saves, in bytes. Streams beyond it are left
// out, those at the end of the alphabet, and warm up again after a restart.
const MaxSaved = 1 << 20

// errSaved: not what AppendBinary wrote, or of another model.
var errSaved = errors.New("saved streams are of no use here")

const savedFormat = 1

// AppendBinary appends what a restart needs: of each stream its rows and, of
// a stream model, its state. wall is the time of day at now. Integers are
// little-endian:
//
//	1   format, 1
//	32  digest of the model
//	then for each stream:
//	1   length of its name, then the name
//	1   bit 0: the alarm is raised; 1: something was told; 2: with the alarm raised
//	8   time of day of the last row, UTC ms
//	8   rows since it began
//	4   number of values kept, then the values, float32
//	4   length of the state, then the state
func (f *Feed) AppendBinary(b []byte, digest protocol.Digest, now time.Duration, wall time.Time) ([]byte, error) {
	start := len(b)
	b = append(append(b, savedFormat), digest[:]...)
	for _, s := range f.order {
		if s.made == 0 {
			continue
		}
		before := len(b)
		b = append(append(b, byte(len(s.name))), s.name...)
		b = append(b, bit(s.gate.alarm)|bit(s.gate.told)<<1|bit(s.gate.said)<<2)
		b = binary.LittleEndian.AppendUint64(b, uint64(wall.Add(s.last-now).UnixMilli()))
		b = binary.LittleEndian.AppendUint64(b, s.made)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(s.rows)))
		for _, v := range s.rows {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
		var state []byte
		if c := s.carry[0]; c != nil {
			var err error
			if state, err = c.AppendBinary(nil); err != nil {
				return b[:start], fmt.Errorf("save stream %s: %w", s.name, err)
			}
		}
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(state))), state...)
		if len(b)-start > MaxSaved {
			return b[:before], nil
		}
	}
	return b, nil
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// Restore takes what AppendBinary wrote into a new Feed. A stream goes on only
// if its gap is not over, by the clock of the day; a clock that went back says
// nothing, and the stream begins anew. After an error the streams before the
// mistake are there.
func (f *Feed) Restore(b []byte, digest protocol.Digest, now time.Duration, wall time.Time) error {
	if len(b) > MaxSaved || len(b) < 1+len(digest) || b[0] != savedFormat || protocol.Digest(b[1:33]) != digest {
		return errSaved
	}
	r := savedReader{b: b[1+len(digest):]}
	for len(r.b) > 0 && !r.failed {
		name := string(r.take(int(r.byte())))
		flags := r.byte()
		last, made := int64(r.uint64()), r.uint64()
		n := r.uint32()
		values := r.take(4 * int(min(n, uint32(f.keep*f.width)+1)))
		state := r.take(int(min(r.uint32(), MaxSaved)))
		age := wall.UnixMilli() - last
		switch {
		case r.failed || protocol.CheckID(name) != nil || f.streams[name] != nil || len(f.streams) >= MaxStreams:
			return errSaved
		case int(n) > f.keep*f.width || int(n)%f.width != 0 || made < uint64(int(n)/f.width) ||
			int(n) < f.keep*f.width && made != uint64(int(n)/f.width):
			return errSaved
		case age < 0 || age > f.gap().Milliseconds():
			continue
		}
		s := &stream{name: name, cells: make([]cell, len(f.inputs)), made: made}
		s.last = now - time.Duration(age)*time.Millisecond
		s.heard = s.last
		s.gate = gate{alarm: flags&1 != 0, told: flags&2 != 0, said: flags&4 != 0, at: s.last}
		for i := range int(n) {
			v := math.Float32frombits(binary.LittleEndian.Uint32(values[4*i:]))
			if v-v != 0 {
				return errSaved
			}
			s.rows = append(s.rows, v)
		}
		if len(state) > 0 {
			c, err := f.models[0].NewStream()
			if err != nil {
				return errSaved
			}
			if err := c.UnmarshalBinary(state); err != nil {
				return fmt.Errorf("%w: %v", errSaved, err)
			}
			s.carry[0] = c
		}
		f.add(s)
	}
	return nil
}

// A savedReader takes bytes off the front; failed once there are too few.
type savedReader struct {
	b      []byte
	failed bool
}

func (r *savedReader) take(n int) []byte {
	if n > len(r.b) {
		r.failed = true
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *savedReader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *savedReader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *savedReader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}
