// Command spago measures a step of LSTM(128) on 8 features in spaGO, a
// library that needs no cgo. For every line it reads it prints one, the median
// µs of a step in a few milliseconds, so that another process can take turns
// with it.
//
// It is spaGO's fastest public way: float32; parameters that need no gradient;
// a state cut off from the graph of the steps before, which would grow without
// end; operators in turn (in goroutines, spaGO's default, a step takes 1.5 to
// 2.3 times as long). Its assembly for amd64 and Go's default collector, on
// another processor if there is one, stay on.
package main

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/nlpodyssey/spago/ag"
	"github.com/nlpodyssey/spago/mat"
	"github.com/nlpodyssey/spago/mat/rand"
	"github.com/nlpodyssey/spago/nn"
	"github.com/nlpodyssey/spago/nn/recurrent/lstm"
)

const (
	features = 8
	hidden   = 128
	steps    = 50 // timed together
	runs     = 5  // of steps, a line
)

func main() {
	ag.SetForceSyncExecution(true)
	m := lstm.New[float32](features, hidden).Init(rand.NewLockedRand(1))
	nn.ForEachParam(m, func(p *nn.Param) { p.WithGrad(false) })
	row := make([]float32, features)
	for i := range row {
		row[i] = float32(i)/features - 0.5
	}
	x := mat.NewDense[float32](mat.WithBacking(row))
	var s *lstm.State
	us := make([]float64, runs)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		for range runs { // what waiting has cooled
			s = step(m, s, x)
		}
		for i := range us {
			begin := time.Now()
			s = step(m, s, x)
			us[i] = float64(time.Since(begin).Nanoseconds()) / 1e3 / steps
		}
		slices.Sort(us)
		fmt.Printf("%.3f\n", us[runs/2])
	}
}

// step advances s by steps.
func step(m *lstm.Model, s *lstm.State, x mat.Tensor) *lstm.State {
	for range steps {
		s = m.Next(s, x)
		s = &lstm.State{Y: s.Y.Value(), Cell: s.Cell.Value()}
	}
	return s
}
