package train

import (
	"math"
	"slices"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/controlplane/drift"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// referenceBins is how many bins a feature has at most.
const referenceBins = 8

// referenceRows is how many rows a reference is made of at most, evenly spread.
const referenceRows = 100_000

// reference says how the first features, as a device sends them, are spread over the
// rows of p: in up to referenceBins bins each, fewer where there are many, and of as
// many as have two.
func reference(t *dataset.Table, p dataset.Part, features int) *artifact.Reference {
	n := min(features, artifact.MaxReferenceBins/2)
	bins := min(artifact.MaxReferenceBins/n, referenceBins)
	step := max(p.Rows()/referenceRows, 1)
	r := &artifact.Reference{}
	for f := range n {
		var values []float32
		for _, s := range p {
			for row := s.Start; row < s.End; row += step {
				values = append(values, t.X[row*len(t.Features)+f])
			}
		}
		slices.Sort(values)
		h := artifact.Histogram{Edges: drift.Edges(values, bins)}
		from := 0
		for _, e := range append(slices.Clone(h.Edges), values[len(values)-1]) {
			to, _ := slices.BinarySearch(values, math.Nextafter32(e, float32(math.Inf(1))))
			h.Parts = append(h.Parts, uint16(math.Round(1e4*float64(to-from)/float64(len(values)))))
			from = to
		}
		r.Features = append(r.Features, h)
	}
	return r
}
