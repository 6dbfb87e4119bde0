package bptt

import (
	"sync"
	"sync/atomic"
)

// A pool runs numbered tasks on the calling goroutine and on helpers. Which of
// them runs a task is left to chance; tasks write to places of their own, or of
// the worker that runs them.
type pool struct {
	helpers int
	wake    chan struct{} // one token a helper and run
	done    sync.WaitGroup

	// Set before the tokens are sent, constant until done.
	task func(worker, i int)
	n    int64
	next atomic.Int64
}

// startPool starts the helpers, which end with stop.
func startPool(helpers int) *pool {
	p := &pool{helpers: helpers, wake: make(chan struct{}, helpers)}
	for i := range helpers {
		go func() {
			for range p.wake {
				p.work(i + 1)
				p.done.Done()
			}
		}()
	}
	return p
}

func (p *pool) stop() { close(p.wake) }

// run returns when task has returned for each i of 0 … n−1. Workers are 0, the
// caller, to helpers.
func (p *pool) run(n int, task func(worker, i int)) {
	p.task, p.n = task, int64(n)
	p.next.Store(0)
	p.done.Add(p.helpers)
	for range p.helpers {
		p.wake <- struct{}{}
	}
	p.work(0)
	p.done.Wait()
}

func (p *pool) work(worker int) {
	for i := p.next.Add(1) - 1; i < p.n; i = p.next.Add(1) - 1 {
		p.task(worker, int(i))
	}
}
