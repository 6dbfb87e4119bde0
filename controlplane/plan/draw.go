package plan

import (
	"cmp"
	"math/rand/v2"
	"slices"
)

// A Candidate is a device of the target.
type Candidate struct {
	ID    string
	Group string // value of the plan's label; "" for none
	// Comparable devices run another version, so that pairs can be had of them.
	// The others come last.
	Comparable bool
	// Busy devices report pairs of another model, and can of one alone. They come
	// after the others that are comparable.
	Busy bool
	// Kept devices stay on their version by the will of their owner. They come at
	// the very end.
	Kept bool
}

// leastOfGroup is how many devices of each label value a stage has, where there
// are so many: a group of fewer is not judged.
const leastOfGroup = 8

// Draw orders the devices of a target so that each stage of the given sizes is
// a beginning of the order: at random, with a share for every group in each
// stage, and at least leastOfGroup where that fits. Equal arguments give equal
// orders.
func Draw(devices []Candidate, sizes []int, seed uint64) []Candidate {
	rng := rand.New(rand.NewPCG(seed, 0x5a9d))
	devices = slices.Clone(devices)
	slices.SortFunc(devices, func(a, b Candidate) int { return cmp.Compare(a.ID, b.ID) })
	rng.Shuffle(len(devices), func(i, j int) { devices[i], devices[j] = devices[j], devices[i] })
	var d draw
	for _, c := range devices {
		switch {
		case c.Kept:
			d.kept = append(d.kept, c)
		case c.Comparable && c.Busy:
			d.busy = append(d.busy, c)
		case c.Comparable:
			d.groups.add(c)
		default:
			d.others = append(d.others, c)
		}
	}
	d.mix(rng)
	ends := slices.Sorted(slices.Values(sizes))
	for _, end := range append(ends, len(d.mixed)) {
		d.fill(min(end, len(d.mixed)))
	}
	return slices.Concat(d.order, d.busy, d.others, d.kept)
}

// groups holds devices by their label value, and how many of each are drawn.
type groups struct {
	names []string
	of    map[string][]Candidate
	taken map[string]int
}

func (g *groups) add(c Candidate) {
	if g.of == nil {
		g.of, g.taken = map[string][]Candidate{}, map[string]int{}
	}
	if _, has := g.of[c.Group]; !has {
		g.names = append(g.names, c.Group)
	}
	g.of[c.Group] = append(g.of[c.Group], c)
}

type draw struct {
	groups
	busy   []Candidate
	others []Candidate
	kept   []Candidate
	mixed  []turn // of all groups, each evenly over the whole
	next   int    // of mixed
	order  []Candidate
}

// A turn is the n-th device of a group, at its place between 0 and 1.
type turn struct {
	group string
	n     int
	at    float64
}

func (d *draw) mix(rng *rand.Rand) {
	slices.Sort(d.names)
	for _, name := range d.names {
		all := len(d.of[name])
		for n := range all {
			d.mixed = append(d.mixed, turn{name, n, (float64(n) + rng.Float64()) / float64(all)})
		}
	}
	slices.SortFunc(d.mixed, func(a, b turn) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.group, b.group), cmp.Compare(a.n, b.n))
	})
	// Where there is no room for the least of every group, the largest have it.
	slices.SortStableFunc(d.names, func(a, b string) int { return cmp.Compare(len(d.of[b]), len(d.of[a])) })
}

// fill draws until there are end: what each group needs to be judged, while
// there is room, then each in its turn.
func (d *draw) fill(end int) {
	for _, name := range d.names {
		want := min(leastOfGroup, len(d.of[name])) - d.taken[name]
		for ; want > 0 && len(d.order)+want <= end; want-- {
			d.take(name)
		}
	}
	for len(d.order) < end {
		t := d.mixed[d.next]
		d.next++
		if t.n >= d.taken[t.group] {
			d.take(t.group)
		}
	}
}

func (d *draw) take(name string) {
	d.order = append(d.order, d.of[name][d.taken[name]])
	d.taken[name]++
}
