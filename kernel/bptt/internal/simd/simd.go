// Package simd tells which instruction sets training uses. Plain Go stands in
// for all of them.
package simd

// A Tier is an instruction set and whether it is used.
type Tier struct {
	Name string
	Used *bool
}

// Only uses one tier, or none if name is that of none, until the function it
// returns is called. It reports whether the CPU has it.
func Only(name string) (restore func(), ok bool) {
	var before []bool
	for _, t := range Tiers {
		before = append(before, *t.Used)
		ok = ok || t.Name == name && *t.Used
		*t.Used = *t.Used && t.Name == name
	}
	return func() {
		for i, t := range Tiers {
			*t.Used = before[i]
		}
	}, ok
}
