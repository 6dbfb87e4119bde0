package bptt

import (
	"sync"
	"sync/atomic"
)

// spins is how often a helper looks for a next run, and run for the end of its
// own, before they sleep: some tens of microseconds. Waking a sleeper takes as
// long, and a batch has three runs of which two take little longer than that.
const spins = 4000

// A pool runs numbered tasks on the calling goroutine and on helpers. Which of
// them runs a task is left to chance; tasks write to places of their own.
type pool struct {
	helpers int
	wake    chan struct{} // one token a helper and run
	done    sync.WaitGroup
	working atomic.Int64 // what done counts

	// Set before the tokens are sent, constant until done.
	task func(int)
	n    int64
	next atomic.Int64
}

// startPool starts the helpers, which end with stop.
func startPool(helpers int) *pool {
	p := &pool{helpers: helpers, wake: make(chan struct{}, helpers)}
	for range helpers {
		go func() {
			for p.await() {
				p.work()
				p.working.Add(-1)
				p.done.Done()
			}
		}()
	}
	return p
}

func (p *pool) stop() { close(p.wake) }

// await returns true at the next run and false after stop.
func (p *pool) await() bool {
	for range spins {
		select {
		case _, ok := <-p.wake:
			return ok
		default:
		}
	}
	_, ok := <-p.wake
	return ok
}

// run returns when task has returned for each of 0 … n−1.
func (p *pool) run(n int, task func(int)) {
	p.task, p.n = task, int64(n)
	p.next.Store(0)
	p.done.Add(p.helpers)
	p.working.Store(int64(p.helpers))
	for range p.helpers {
		p.wake <- struct{}{}
	}
	p.work()
	for i := 0; i < spins && p.working.Load() > 0; i++ {
	}
	p.done.Wait()
}

func (p *pool) work() {
	for i := p.next.Add(1) - 1; i < p.n; i = p.next.Add(1) - 1 {
		p.task(int(i))
	}
}
