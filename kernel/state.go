package kernel

import (
	"encoding/binary"
	"fmt"
	"math"
)

// A State is what a model remembers between steps, with the scratch space of
// one caller. It belongs to the Model that made it and to one goroutine at a
// time.
type State struct {
	model  *Model
	layers []layerState
	x      [][2]float32 // input row of a float32 model, in pairs
	denses []lanes      // outputs of every dense layer but the last
	y      []float32    // outputs of a dense layer before they go to lanes
	sums   []float32    // input sums of windowRows steps, made by the first window
	tile   []layerState // states of batchTile sequences, made by the first batch
}

// A layerState is the state of one recurrent layer. Of q, p and b, one is used:
// the hidden state as the layer's products read it.
type layerState struct {
	kind     Kind
	units    int
	c        [][2]float32 // cell state of an LSTM, padded to an even number of units
	h        lanes        // hidden state of the last step, float32; a GRU goes on from it
	q, qNext [][2]float64 // int8 model: integers in [-127, 127]
	p, pNext [][2]float32 // float32 model
	b, bNext []byte       // int8 model on a vector tier: int8, plus 128 if the tier says so
	back     bool         // the next step visits blocks from last to first
}

// carried is unit u of what the layer carries in float32: the cell state of an
// LSTM, the hidden state of a GRU.
func (l *layerState) carried(u int) float32 {
	if l.kind == GRU {
		return l.h.at(u)
	}
	return l.c[u/2][u%2]
}

// setCarried sets it in a model of tier t, a GRU's hidden state with the copy
// that products read.
func (l *layerState) setCarried(t tier, u int, v float32) {
	switch {
	case l.kind != GRU:
		l.c[u/2][u%2] = v
		return
	case l.p != nil:
		l.p[u/2][u%2] = v
	default:
		l.setHidden(t, u, int8(quantizeHidden(v)))
	}
	l.h.put(u, v)
}

// hidden is unit u of an int8 model's hidden state.
func (l *layerState) hidden(t tier, u int) int8 {
	switch {
	case t == generic:
		return int8(l.q[u/2][u%2])
	case t.offset():
		return int8(l.b[u] ^ 0x80)
	}
	return int8(l.b[u])
}

func (l *layerState) setHidden(t tier, u int, v int8) {
	switch {
	case t == generic:
		l.q[u/2][u%2] = float64(v)
	case t.offset():
		l.b[u] = byte(v) ^ 0x80
	default:
		l.b[u] = byte(v)
	}
}

// NewState returns a zero state of m, with all the space Step needs.
func (m *Model) NewState() *State {
	s := &State{model: m, layers: m.newLayerStates(1), denses: make([]lanes, len(m.denses))}
	if !m.int8 {
		s.x = make([][2]float32, (m.graph.Features+1)/2)
	}
	width := 0
	for i, d := range m.denses {
		s.denses[i] = newLanes(d.units)
		width = max(width, d.units)
	}
	s.y = make([]float32, width)
	s.Reset()
	return s
}

// newLayerStates returns the recurrent layers' states of n sequences, which lie
// one after the other in each.
func (m *Model) newLayerStates(n int) []layerState {
	states := make([]layerState, m.recur)
	for i := range states {
		kind, units := m.graph.Layers[i].Kind, m.graph.Layers[i].Units
		pairs := n * (units + 1) / 2
		if m.tier != generic {
			pairs = n * pad16(units) / 2
		}
		l := &states[i]
		*l = layerState{kind: kind, units: units, h: newLanes(n * pad16(units))}
		if kind == LSTM {
			l.c = make([][2]float32, pairs)
		}
		switch {
		case m.int8 && m.tier != generic:
			l.b, l.bNext = alignedBytes(2*pairs), alignedBytes(2*pairs)
		case m.int8:
			l.q, l.qNext = make([][2]float64, pairs), make([][2]float64, pairs)
		default:
			l.p, l.pNext = make([][2]float32, pairs), make([][2]float32, pairs)
		}
	}
	return states
}

// Reset makes s the state before the first step: all zero.
func (s *State) Reset() {
	for i := range s.layers {
		s.layers[i].reset(s.model.tier)
	}
}

func (l *layerState) reset(t tier) {
	clear(l.c)
	clear(l.h)
	clear(l.q)
	clear(l.p)
	var zero byte
	if t.offset() {
		zero = 0x80
	}
	for u := range l.b {
		l.b[u] = zero
	}
}

// copySequence makes l the state of sequence i of those that lie in o.
func (l *layerState) copySequence(o *layerState, i int) {
	copy(l.c, o.c[i*len(l.c):])
	copy(l.h, o.h[i*len(l.h):])
	copy(l.p, o.p[i*len(l.p):])
	copy(l.b, o.b[i*len(l.b):])
}

// CopyFrom makes s equal to o. It is an error, ErrState, if they are of
// different models.
func (s *State) CopyFrom(o *State) error {
	if s.model != o.model {
		return fmt.Errorf("copy from a state of another model: %w", ErrState)
	}
	for i := range s.layers {
		l, m := &s.layers[i], &o.layers[i]
		copy(l.c, m.c)
		copy(l.h, m.h)
		copy(l.q, m.q)
		copy(l.p, m.p)
		copy(l.b, m.b)
	}
	return nil
}

// stateVersion is the first byte of an encoded State.
const stateVersion = 1

// AppendBinary appends the state, the same bytes on every tier, integers and
// floats big-endian:
//
//	offset  size  field
//	0       1     version, 1
//	1       1     1 for an int8 model, 0 for float32
//	2       1     number of LSTM and GRU layers
//	3             for each: units U, 2 bytes;
//	              LSTM: cell state, 4·U bytes, binary32; hidden state, U bytes
//	              int8 (at scale 1/127) or 4·U binary32
//	              GRU: hidden state, 4·U bytes, binary32, of either type
//
// It holds nothing that tells one model of the same shape from another: who
// stores it names the model beside it. The error is always nil.
func (s *State) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, stateVersion, s.kind(), byte(len(s.layers)))
	for i := range s.layers {
		l := &s.layers[i]
		b = binary.BigEndian.AppendUint16(b, uint16(l.units))
		for u := range l.units {
			b = binary.BigEndian.AppendUint32(b, math.Float32bits(l.carried(u)))
		}
		if l.kind == GRU {
			continue
		}
		for u := range l.units {
			if s.model.int8 {
				b = append(b, byte(l.hidden(s.model.tier, u)))
			} else {
				b = binary.BigEndian.AppendUint32(b, math.Float32bits(l.p[u/2][u%2]))
			}
		}
	}
	return b, nil
}

func (s *State) kind() byte {
	if s.model.int8 {
		return 1
	}
	return 0
}

// size is the number of bytes AppendBinary appends.
func (s *State) size() int {
	n, h := 3, 4
	if s.model.int8 {
		h = 1
	}
	for i := range s.layers {
		l := &s.layers[i]
		n += 2 + 4*l.units
		if l.kind == LSTM {
			n += h * l.units
		}
	}
	return n
}

// UnmarshalBinary sets s to the state encoded in b. The model of s must have
// the type and shapes of the one that encoded it. It returns ErrState, or
// ErrNonFinite or ErrRange for values no step could have left, and then s is
// as it was.
func (s *State) UnmarshalBinary(b []byte) error {
	if err := s.check(b); err != nil {
		return err
	}
	b = b[3:]
	for i := range s.layers {
		l := &s.layers[i]
		b = b[2:]
		for u := range l.units {
			l.setCarried(s.model.tier, u, math.Float32frombits(binary.BigEndian.Uint32(b[4*u:])))
		}
		b = b[4*l.units:]
		if l.kind == GRU {
			continue
		}
		if s.model.int8 {
			for u := range l.units {
				l.setHidden(s.model.tier, u, int8(b[u]))
			}
			b = b[l.units:]
			continue
		}
		for u := range l.units {
			l.p[u/2][u%2] = math.Float32frombits(binary.BigEndian.Uint32(b[4*u:]))
		}
		b = b[4*l.units:]
	}
	return nil
}

// check validates an encoded state against the shapes of s.
func (s *State) check(b []byte) error {
	if len(b) != s.size() {
		return fmt.Errorf("%d bytes, want %d: %w", len(b), s.size(), ErrState)
	}
	if b[0] != stateVersion || b[1] != s.kind() || int(b[2]) != len(s.layers) {
		return fmt.Errorf("starts % x, want % x: %w", b[:3], []byte{stateVersion, s.kind(), byte(len(s.layers))}, ErrState)
	}
	b = b[3:]
	for i := range s.layers {
		l := &s.layers[i]
		if got := int(binary.BigEndian.Uint16(b)); got != l.units {
			return fmt.Errorf("layer %d has %d units, want %d: %w", i, got, l.units, ErrState)
		}
		b = b[2:]
		if l.kind == GRU {
			if err := checkHidden(b, i, l.units); err != nil {
				return err
			}
			b = b[4*l.units:]
			continue
		}
		for u := range l.units {
			if c := math.Float32frombits(binary.BigEndian.Uint32(b[4*u:])); !finite(c) {
				return fmt.Errorf("layer %d cell state %d is %v: %w", i, u, c, ErrNonFinite)
			}
		}
		b = b[4*l.units:]
		if s.model.int8 {
			for u := range l.units {
				if int8(b[u]) == -128 {
					return fmt.Errorf("layer %d hidden state %d is -128, want -127 to 127: %w", i, u, ErrRange)
				}
			}
			b = b[l.units:]
			continue
		}
		if err := checkHidden(b, i, l.units); err != nil {
			return err
		}
		b = b[4*l.units:]
	}
	return nil
}

// checkHidden validates the float32 hidden state that b starts with.
func checkHidden(b []byte, layer, units int) error {
	for u := range units {
		if h := math.Float32frombits(binary.BigEndian.Uint32(b[4*u:])); !(h >= -hiddenBound && h <= hiddenBound) {
			return fmt.Errorf("layer %d hidden state %d is %v, want -1 to 1: %w", layer, u, h, ErrRange)
		}
	}
	return nil
}
