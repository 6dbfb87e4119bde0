package train

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

const (
	// minRegimeRows is how many training rows a regime needs to have statistics.
	minRegimeRows = 10
	// maxRegimePoints is how many rows regimes are looked for among, evenly spread:
	// the centres are then those of all rows.
	maxRegimePoints = 20_000
	// leastSpread is the least deviation in a regime, as a part of the deviation over
	// all rows, that is no rounding.
	leastSpread = 1e-5
)

// fitRegimes finds the operating conditions of the training rows and the statistics
// of each. Columns that tell regimes apart keep the scaling that holds for all rows,
// and so tell the network which one it is.
func (r *run) fitRegimes() error {
	if r.o.Regimes == 0 || r.o.From != nil {
		return nil
	}
	features, err := r.regimeFeatures()
	if err != nil {
		return err
	}
	centers, err := r.regimeCenters(features)
	if err != nil {
		return err
	}
	g := &artifact.Regimes{Features: features}
	for _, c := range centers {
		for j, f := range features {
			i := r.firstInput(f)
			g.Centers = append(g.Centers, float32(c[j]/float64(r.sc.Inv[i])+float64(r.sc.Mean[i])))
		}
		g.Mean, g.Inv = append(g.Mean, r.sc.Mean...), append(g.Inv, r.sc.Inv...)
	}
	r.preparation().Regimes = g
	return r.fitRegimeScalers(g)
}

// regimeFeatures are the columns that tell regimes apart, ascending.
func (r *run) regimeFeatures() (features []int, err error) {
	for _, name := range r.o.RegimeColumns {
		f := slices.Index(r.table.Features[:r.columns], name)
		switch {
		case f < 0:
			return nil, fmt.Errorf("%w: the regime column %q is no feature", ErrOptions, name)
		case r.table.IsText(f):
			return nil, fmt.Errorf("%w: the regime column %q is a category; regimes are told apart by numbers", ErrOptions, name)
		case r.sc.Inv[r.firstInput(f)] == 0:
			return nil, fmt.Errorf("%w: the regime column %q is constant in the training rows and tells nothing apart", ErrOptions, name)
		}
		features = append(features, f)
	}
	slices.Sort(features)
	return features, nil
}

// regimeCenters are those of the training rows, scaled, ascending.
func (r *run) regimeCenters(features []int) ([][]float64, error) {
	n := len(r.learned.Features)
	step := max(1, r.parts.Train.Rows()/maxRegimePoints)
	var points [][]float64
	at := 0
	for _, s := range r.parts.Train {
		for row := s.Start; row < s.End; row++ {
			if at++; at%step != 0 {
				continue
			}
			p := make([]float64, len(features))
			for j, f := range features {
				i := r.firstInput(f)
				p[j] = (float64(r.learned.X[row*n+f]) - float64(r.sc.Mean[i])) * float64(r.sc.Inv[i])
			}
			points = append(points, p)
		}
	}
	centers := kmeans(points, r.o.Regimes, r.o.Seed)
	if len(centers) < r.o.Regimes {
		return nil, fmt.Errorf("%w: %d regimes, and the training rows have %d different values of %q; ask for fewer", ErrOptions, r.o.Regimes, len(centers), r.o.RegimeColumns)
	}
	return centers, nil
}

// fitRegimeScalers sets the means and factors of each regime by its training rows,
// which the plan that devices follow tells.
func (r *run) fitRegimeScalers(g *artifact.Regimes) error {
	plan, err := predictor.Plan(r.schema(), *r.sc)
	if err != nil {
		return err
	}
	n, parts := len(r.learned.Features), make([]dataset.Part, g.Len())
	for _, s := range r.parts.Train {
		for row := s.Start; row < s.End; row++ {
			p := &parts[plan.Regime(r.learned.X[row*n:][:n])]
			if k := len(*p) - 1; k >= 0 && (*p)[k].End == row && (*p)[k].Group == s.Group {
				(*p)[k].End++
			} else {
				*p = append(*p, dataset.Span{Group: s.Group, Start: row, End: row + 1})
			}
		}
	}
	how, err := r.o.scales(r.learned.Features[:r.columns])
	if err != nil {
		return err
	}
	how = append(how, slices.Repeat([]string{dataset.ZScore}, n-r.columns)...)
	inputs := plan.Inputs()
	constant := slices.Repeat([]bool{true}, r.columns)
	for k, p := range parts {
		if rows := p.Rows(); rows < minRegimeRows {
			return fmt.Errorf("%w: %d regimes, and one of them has %d training rows, at least %d make statistics; ask for fewer", ErrOptions, r.o.Regimes, rows, minRegimeRows)
		}
		sc, _, _ := r.learned.Scaler(p, how)
		for f := range r.columns {
			i := r.firstInput(f)
			if slices.Contains(g.Features, f) || r.learned.IsText(f) {
				constant[f] = false
				continue
			}
			mean, inv := sc.Mean[f], sc.Inv[f]
			if sc.Std[f] < leastSpread*r.sc.Std[i] {
				inv = 0
			}
			g.Mean[k*inputs+i], g.Inv[k*inputs+i] = mean, inv
			constant[f] = constant[f] && inv == 0
		}
	}
	for f, c := range constant {
		if c && r.sc.Inv[r.firstInput(f)] > 0 {
			r.warn("column %q is constant in every regime and scales to 0, whatever it holds later", r.table.Features[f])
		}
	}
	return nil
}

// kmeans returns the centres of k clusters of points by Lloyd's algorithm from the
// seeds of k-means++ (Arthur, Vassilvitskii 2007), the best of 8 starts, ascending;
// fewer than k if there are not as many different points.
func kmeans(points [][]float64, k int, seed uint64) (best [][]float64) {
	rng := rand.New(rand.NewPCG(seed, 0x726567696d6573)) // "regimes"
	least := math.Inf(1)
	for range 8 {
		centers := seeds(points, k, rng)
		if len(centers) < k {
			return centers
		}
		if inertia := lloyd(points, centers); inertia < least {
			best, least = centers, inertia
		}
	}
	slices.SortFunc(best, slices.Compare)
	return best
}

// seeds draws k points, each with a chance by its squared distance from those drawn
// before.
func seeds(points [][]float64, k int, rng *rand.Rand) [][]float64 {
	if len(points) == 0 {
		return nil
	}
	centers := [][]float64{slices.Clone(points[rng.IntN(len(points))])}
	distances := make([]float64, len(points))
	for len(centers) < k {
		sum := 0.0
		for i, p := range points {
			_, distances[i] = nearest(p, centers)
			sum += distances[i]
		}
		if sum == 0 {
			break
		}
		at, chosen := rng.Float64()*sum, -1
		for i, d := range distances {
			if d > 0 {
				chosen = i
			}
			if at -= d; at < 0 {
				break
			}
		}
		centers = append(centers, slices.Clone(points[chosen]))
	}
	return centers
}

// lloyd moves centers to the means of the points that are nearest to them until
// none moves, or 100 times, and returns the sum of squared distances before the last
// move. A centre without points stays.
func lloyd(points, centers [][]float64) (inertia float64) {
	sums, counts := make([][]float64, len(centers)), make([]int, len(centers))
	for range 100 {
		for k := range sums {
			sums[k], counts[k] = make([]float64, len(centers[k])), 0
		}
		inertia = 0
		for _, p := range points {
			k, d := nearest(p, centers)
			inertia += d
			counts[k]++
			for j, v := range p {
				sums[k][j] += v
			}
		}
		moved := false
		for k, c := range centers {
			for j := range c {
				if counts[k] == 0 {
					continue
				}
				if m := sums[k][j] / float64(counts[k]); m != c[j] {
					c[j], moved = m, true
				}
			}
		}
		if !moved {
			break
		}
	}
	return inertia
}

// nearest returns the nearest of centers, the first of equals, and the squared
// distance.
func nearest(p []float64, centers [][]float64) (k int, least float64) {
	least = math.Inf(1)
	for i, c := range centers {
		d := 0.0
		for j, v := range p {
			d += (v - c[j]) * (v - c[j])
		}
		if d < least {
			k, least = i, d
		}
	}
	return k, least
}

// checkRegimes refuses what needs no data to be refused.
func (o Options) checkRegimes() error {
	switch {
	case o.Regimes == 0 && len(o.RegimeColumns) == 0:
		return nil
	case o.Regimes < 2 || o.Regimes > artifact.MaxRegimes:
		return fmt.Errorf("%w: %d regimes, want 2 to %d, and the columns that tell them apart", ErrOptions, o.Regimes, artifact.MaxRegimes)
	case len(o.RegimeColumns) == 0:
		return fmt.Errorf("%w: %d regimes by no column; name the columns that tell them apart", ErrOptions, o.Regimes)
	case o.Anchor != "none":
		return fmt.Errorf("%w: an anchor and regimes: the change between two rows has no scale of one regime; leave one out", ErrOptions)
	}
	for i, name := range o.RegimeColumns {
		if slices.Contains(o.RegimeColumns[:i], name) {
			return fmt.Errorf("%w: the regime column %q twice", ErrOptions, name)
		}
	}
	return nil
}

// firstInput is the first input of a column of the table, its only one unless it is
// a category.
func (r *run) firstInput(column int) int {
	n := column
	for f, d := range r.dictionaries {
		if f < column && d != nil {
			n += len(d)
		}
	}
	return n
}

// inputs makes of a scaler of the table's columns one of the network's inputs:
// those of texts are not scaled.
func (r *run) inputs(columns *kernel.Scaler) *kernel.Scaler {
	sc := &kernel.Scaler{}
	for f := range columns.Mean {
		mean, std, inv, n := columns.Mean[f], columns.Std[f], columns.Inv[f], 1
		if f < len(r.dictionaries) && r.dictionaries[f] != nil {
			mean, std, inv, n = 0, 1, 1, len(r.dictionaries[f])+1
		}
		for range n {
			sc.Mean, sc.Std, sc.Inv = append(sc.Mean, mean), append(sc.Std, std), append(sc.Inv, inv)
		}
	}
	return sc
}
