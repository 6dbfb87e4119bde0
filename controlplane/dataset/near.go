package dataset

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sandpiper-edge/sandpiper/controlplane/near"
)

// suggest names the columns nearest to a name that is not there.
func suggest(name string, columns []string) string {
	type match struct {
		column   string
		distance int
	}
	var found []match
	for _, c := range columns {
		d := near.Distance(strings.ToLower(name), strings.ToLower(c))
		if d <= max(1, len(name)/3) {
			found = append(found, match{c, d})
		}
	}
	slices.SortStableFunc(found, func(a, b match) int { return a.distance - b.distance })
	if len(found) > 0 {
		names := make([]string, 0, 3)
		for _, f := range found[:min(3, len(found))] {
			names = append(names, fmt.Sprintf("%q", f.column))
		}
		return "did you mean " + strings.Join(names, " or ") + "?"
	}
	const most = 12
	more := ""
	if len(columns) > most {
		more = fmt.Sprintf(" and %d more", len(columns)-most)
	}
	var shown []string
	for _, c := range columns[:min(len(columns), most)] {
		shown = append(shown, printable(c))
	}
	return "the header has " + strings.Join(shown, ", ") + more
}

// quoted lists names.
func quoted(names []string) string {
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = fmt.Sprintf("%.40q", n)
	}
	return strings.Join(q, ", ")
}

// printable is a name from a file as it may go to a terminal: short, and quoted
// where that makes a difference.
func printable(name string) string {
	const most = 40
	short := fmt.Sprintf("%.*q", most, name)
	if short == `"`+name+`"` {
		return name
	}
	return short
}
