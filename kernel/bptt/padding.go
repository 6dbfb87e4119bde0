package bptt

import (
	"fmt"
	"math"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

// A Padded is a Source of series of different length: a window is as long as the
// longest, and the first rows of a shorter one are none. Layers pass over them in the
// zero state, as keras.layers.Masking in front of left-padded series makes them, and
// so a window has the outputs of its rows alone.
type Padded interface {
	Source
	// Padding is how many of the first rows of window i are none, fewer than Steps.
	Padding(i int) int
}

// paddingOf is how many of the first rows of window i of src are none.
func paddingOf(src Source, i int) int {
	if p, ok := src.(Padded); ok {
		return p.Padding(i)
	}
	return 0
}

// checkPadding refuses rows that are none where an output is of every row, or the
// state of rows before comes in.
func checkPadding(cfg Config, g kernel.Graph, sources ...Source) error {
	padded := cfg.Crop > 0
	for _, src := range sources {
		if p, ok := src.(Padded); ok {
			for i := range p.Len() {
				n := p.Padding(i)
				if n < 0 || n >= p.Steps() {
					return fmt.Errorf("window %d is padded with %d rows of %d: %w", i, n, p.Steps(), kernel.ErrShape)
				}
				padded = padded || n > 0
			}
		}
	}
	if padded && (cfg.Stateful || g.Sequences()) {
		return fmt.Errorf("padded or cropped windows with a state that is carried on, or an output for every step: %w", ErrConfig)
	}
	return nil
}

// padding is where the rows of the windows at hand begin; empty if with step 0.
type padding struct{ first []int }

// begin makes room for n windows, if src or cfg may pad any.
func (p *padding) begin(src Source, cfg *Config, n int) {
	p.first = p.first[:0]
	if _, ok := src.(Padded); ok || cfg.Crop > 0 {
		for range n {
			p.first = append(p.first, 0)
		}
	}
}

// end forgets beginnings that are all the windows' own.
func (p *padding) end() {
	for _, first := range p.first {
		if first > 0 {
			return
		}
	}
	p.first = p.first[:0]
}

// clear clears rows, of width values each stride apart, of the windows that have
// not begun at step t.
func (p *padding) clear(rows []float32, stride, width, t int) {
	for i, first := range p.first {
		if t < first {
			clear(rows[i*stride:][:width])
		}
	}
}

// The draws of what is done to inputs in training, as counters of splitmix64
// beside the seed, the update and the window's place in the batch.
const (
	drawCrop = iota
	drawNoise
)

// disturb finds where window i of the shard, index of the Source, begins, and in
// training crops it and adds noise. What is drawn depends on the seed, the number of
// updates made and the window's place in the batch alone.
func (k *worker) disturb(i, index int) {
	training := k.pass.terms > 0
	key := splitmix(splitmix(splitmix(k.cfg.Seed^0x6e6f697365)+uint64(k.pass.update)) + uint64(k.pass.first+i)) // "noise"
	first := 0
	if len(k.padding.first) > 0 {
		first = paddingOf(k.pass.src, index)
		if training {
			first += int(uniform(key+drawCrop) * k.cfg.Crop * float64(k.steps-first))
		}
		k.padding.first[i] = first
	}
	if !training || k.cfg.Noise == 0 {
		return
	}
	rows := k.window[first*k.features:]
	for j := range rows {
		rows[j] += float32(k.cfg.Noise * normal(splitmix(key+drawNoise)+uint64(j)))
	}
}

// uniform is a draw from [0, 1).
func uniform(counter uint64) float64 { return float64(splitmix(counter)>>11) / (1 << 53) }

// normal is a draw from the standard normal distribution (Box and Muller 1958).
func normal(counter uint64) float64 {
	r := splitmix(counter)
	u, v := (float64(r>>32)+0.5)/(1<<32), float64(uint32(r))/(1<<32)
	return math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*v)
}
