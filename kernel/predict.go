package kernel

import "fmt"

// Step advances s by one scaled input row x of Graph.Features values and
// writes the outputs after it, Graph.Outputs values, to y. It allocates
// nothing.
//
// A wrong length is a *ShapeError, a value that is not finite or beyond
// ±MaxInput a *ValueError, a state of another model ErrState; s and y are then
// as they were.
func (m *Model) Step(s *State, y, x []float32) error {
	if err := m.check(s, x, 1); err != nil {
		return err
	}
	if len(x) != m.graph.Features {
		return &ShapeError{"input row", m.graph.Features, len(x)}
	}
	if len(y) != m.outputs {
		return &ShapeError{"output row", m.outputs, len(y)}
	}
	m.advance(s, x)
	m.head(s, y)
	return nil
}

// Predict resets s, runs the window, one or more scaled rows, and writes
// Graph.OutputLen values to y: the same bits as stepping through it. s is left
// at the window's end, so that Step can go on from there. It allocates nothing
// after s's first window; errors are those of Step.
func (m *Model) Predict(s *State, y, window []float32) error {
	if err := m.check(s, window, 1); err != nil {
		return err
	}
	return m.predict(s, y, window)
}

// PredictBatch predicts n windows of equal length, one after the other in
// windows, and writes their outputs one after the other to y: the same bits as
// Predict for each. s is left at the end of the last. It allocates nothing
// after s's first batch; errors are those of Step.
func (m *Model) PredictBatch(s *State, y, windows []float32, n int) error {
	if n < 1 || len(windows)%n != 0 {
		return fmt.Errorf("%d values in %d windows: %w", len(windows), n, ErrShape)
	}
	if err := m.check(s, windows, n); err != nil {
		return err
	}
	in := len(windows) / n
	out := m.graph.OutputLen(in / m.graph.Features)
	if len(y)%n != 0 || len(y)/n != out {
		return &ShapeError{"outputs of the batch", product(n, out), len(y)}
	}
	i := 0
	if tile := m.tier.batchTile(); tile > 0 {
		for ; n-i >= tile; i += tile {
			m.predictTile(s, y[i*out:][:tile*out], windows[i*in:][:tile*in])
		}
	}
	for ; i < n; i++ {
		if err := m.predict(s, y[i*out:][:out], windows[i*in:][:in]); err != nil {
			return err
		}
	}
	return nil
}

// check is what all calls demand of their state and their n inputs of rows.
func (m *Model) check(s *State, x []float32, n int) error {
	if s.model != m {
		return fmt.Errorf("a state of another model: %w", ErrState)
	}
	if len(x) == 0 || len(x)/n%m.graph.Features != 0 {
		return &ShapeError{"input rows", product(len(x)/n/m.graph.Features+1, product(n, m.graph.Features)), len(x)}
	}
	for i, v := range x {
		if v >= -MaxInput && v <= MaxInput {
			continue
		}
		return valueError(v, i, m.graph.Features)
	}
	return nil
}

// predict is Predict after check.
func (m *Model) predict(s *State, y, window []float32) error {
	f := m.graph.Features
	sequences := m.graph.Sequences()
	if want := m.graph.OutputLen(len(window) / f); len(y) != want {
		return &ShapeError{"outputs", want, len(y)}
	}
	s.Reset()
	for i := 0; len(window) > 0; i, window = i+1, window[f:] {
		if m.tier != generic {
			m.advanceVector(s, window[:f], m.inputSums(s, window, i))
		} else {
			m.advance(s, window[:f])
		}
		if sequences {
			m.head(s, y[:m.outputs])
			y = y[m.outputs:]
		}
	}
	if !sequences {
		m.head(s, y)
	}
	return nil
}

// predictTile is predict for batchTile windows.
func (m *Model) predictTile(s *State, y, windows []float32) {
	tile := m.tier.batchTile()
	if s.tile == nil {
		s.tile = m.newLayerStates(tile)
	}
	for i := range s.tile {
		s.tile[i].reset(m.tier)
	}
	in, out, f := len(windows)/tile, len(y)/tile, m.graph.Features
	last := &s.tile[m.recur-1]
	groups := len(last.h) / tile
	for step := 0; step < in/f; step++ {
		var below *layerState
		for i, l := range m.vectors {
			l.stepBatch(&s.tile[i], windows[step*f:], in, below)
			below = &s.tile[i]
		}
		at := 0
		if m.graph.Sequences() {
			at = step * m.outputs
		} else if step+1 < in/f {
			continue
		}
		for i := range tile {
			m.headOf(s, y[i*out+at:][:m.outputs], last.h[i*groups:][:groups])
		}
	}
	for i := range s.layers {
		s.layers[i].copySequence(&s.tile[i], tile-1)
	}
}

// windowRows is the number of steps for which a window's input sums are
// computed together: enough to read the input kernel rarely, few enough for
// the sums to stay in the innermost cache.
const windowRows = 8

// inputSums returns the input sums of the first row of window, which is row i
// of the whole one.
func (m *Model) inputSums(s *State, window []float32, i int) []float32 {
	l := m.vectors[0]
	n := l.gates * l.padded
	if s.sums == nil {
		s.sums = make([]float32, windowRows*n)
	}
	if i %= windowRows; i == 0 {
		l.inputSums(s.sums, window[:min(len(window), windowRows*l.in)])
	}
	return s.sums[i*n:][:n]
}

// advanceVector runs the recurrent layers of a vector tier over one input row, or
// over its sums if they are there.
func (m *Model) advanceVector(s *State, x, sums []float32) {
	var below *layerState
	for i, l := range m.vectors {
		l.step(&s.layers[i], x, below, sums)
		below, sums = &s.layers[i], nil
	}
}

// advance runs the recurrent layers over one input row.
func (m *Model) advance(s *State, x []float32) {
	if m.tier != generic {
		m.advanceVector(s, x, nil)
		return
	}
	if m.int8 {
		var below [][2]float64
		for i, l := range m.int8s {
			l.step(&s.layers[i], x, below)
			below = s.layers[i].q
		}
		return
	}
	for i, v := range x {
		s.x[i/2][i%2] = v
	}
	below := s.x
	for i, l := range m.floats {
		l.step(&s.layers[i], below)
		below = s.layers[i].p
	}
}

// head runs the dense layers on the last recurrent layer's hidden state, or hands
// that on if there are none.
func (m *Model) head(s *State, y []float32) { m.headOf(s, y, s.layers[m.recur-1].h) }

// headOf is head on the hidden state in x.
func (m *Model) headOf(s *State, y []float32, x lanes) {
	if len(m.denses) == 0 {
		for u := range y {
			y[u] = x.at(u)
		}
		return
	}
	last := len(m.denses) - 1
	for i, d := range m.denses[:last] {
		out := s.y[:d.units]
		d.apply(out, x)
		x = s.denses[i]
		for u, v := range out {
			x.put(u, v)
		}
	}
	m.denses[last].apply(y, x)
}
