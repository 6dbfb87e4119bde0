package bptt

// earlyStopping is Keras's callback of that name with mode min
// (keras-team/keras keras/src/callbacks/early_stopping.py).
type earlyStopping struct {
	patience int // 0: never stop
	minDelta float64
	restore  bool // keep the best weights

	best  float64
	seen  bool // best is set
	wait  int  // epochs since best
	saved []float32
}

// observe takes the loss and parameters at the end of an epoch and reports
// whether to stop.
func (e *earlyStopping) observe(loss float64, parameters []float32) (stop bool) {
	first := !e.seen
	if first || loss < e.best-e.minDelta {
		e.best, e.seen, e.wait = loss, true, 0
		if e.restore {
			e.saved = append(e.saved[:0], parameters...)
		}
		return false
	}
	e.wait++
	return e.patience > 0 && e.wait >= e.patience
}
