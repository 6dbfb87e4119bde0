package train

import (
	"fmt"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/kernel/bptt"
)

// A weightedSource is a bptt.Weighted by the weight column of its table.
type weightedSource struct{ *dataset.Source }

func (s weightedSource) Weight(i int) float32 { return s.WindowWeight(i) }

// A weightedStream is the same of a stream, all rows of a window having the
// weight of its last.
type weightedStream struct{ *dataset.Stream }

func (s weightedStream) Weight(i int) float32 { return s.WindowWeight(i) }

func (r *run) weighted(s *dataset.Source) bptt.Source {
	if r.o.Weight == "" {
		return s
	}
	return weightedSource{s}
}

func (r *run) weightedStream(s *dataset.Stream) bptt.Source {
	if r.o.Weight == "" {
		return s
	}
	return weightedStream{s}
}

// checkWeights refuses training windows none of which counts.
func (r *run) checkWeights() error {
	if r.o.Weight == "" {
		return nil
	}
	for i := range r.train.Len() {
		if r.train.Weight(i) > 0 {
			return nil
		}
	}
	return fmt.Errorf("column %q: %w: it is 0 in the last row of every training window, so nothing would be learned", r.o.Weight, dataset.ErrWeight)
}
