package bptt

// An earlyStopping is Keras's callback of that name with mode min
// (keras-team/keras keras/src/callbacks/early_stopping.py).
type earlyStopping struct {
	patience int // 0: never stop
	minDelta float64
	start    int  // epochs that are not looked at
	restore  bool // keep the best weights

	best  float64
	seen  bool      // best is set
	wait  int       // epochs since best
	saved []float32 // parameters of the best epoch; nil before there is one
}

// observe takes the loss and parameters at the end of epoch n, from 1, and
// reports whether it is the best so far and whether to stop.
func (e *earlyStopping) observe(n int, loss float64, parameters []float32) (best, stop bool) {
	if n <= e.start {
		return false, false
	}
	if !e.seen || loss+e.minDelta < e.best {
		e.best, e.seen, e.wait = loss, true, 0
		if e.restore {
			e.saved = append(e.saved[:0], parameters...)
		}
		return true, false
	}
	e.wait++
	return false, e.patience > 0 && e.wait >= e.patience
}

// state is what a checkpoint keeps of e.
func (e *earlyStopping) state() []field {
	return []field{
		{"early stopping best", &e.best}, {"early stopping seen", &e.seen}, {"early stopping wait", &e.wait},
		{"early stopping weights", &e.saved},
	}
}
