package agent

import (
	"slices"
	"sync"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// inputsPeriod is how often the counts of one model's inputs are reported.
const inputsPeriod = time.Hour

// inputs counts in which bins of its reference each model's inputs are: of a request
// the last row, of a pipeline every row. A version begins anew.
type inputs struct {
	mu     sync.Mutex // guards what follows
	models map[string]*inputCounts
	told   string    // model whose counts were reported last
	at     time.Time // when
}

type inputCounts struct {
	version protocol.Digest
	rows    uint64 // since they were reported
	bins    []uint64
}

// count adds a row that v was given. It allocates nothing but for a new version.
func (i *inputs) count(v *served, row []float32) {
	if v.reference == nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	c := i.models[v.name]
	if c == nil || c.version != v.Digest {
		if i.models == nil {
			i.models = make(map[string]*inputCounts)
		}
		c = &inputCounts{version: v.Digest, bins: make([]uint64, v.reference.Bins())}
		i.models[v.name] = c
	}
	v.reference.Count(c.bins, row)
	c.rows++
}

// due returns what is to be reported at now: nothing before its time, and then the
// counts of the model whose turn it is, if there are new ones.
func (i *inputs) due(now time.Time) []protocol.InputCount {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.at.IsZero() || now.Before(i.at) { // the first time, or the clock was set
		i.at = now
	}
	if now.Sub(i.at) < inputsPeriod {
		return nil
	}
	names := sortedKeys(i.models)
	next, _ := slices.BinarySearch(names, i.told+"\x00")
	for k := range names {
		name := names[(next+k)%len(names)]
		if c := i.models[name]; c.rows > 0 {
			i.told, i.at, c.rows = name, now, 0
			return []protocol.InputCount{{Model: name, Version: c.version, Bins: slices.Clone(c.bins)}}
		}
	}
	return nil
}
