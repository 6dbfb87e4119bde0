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
	if len(columns) > most {
		return fmt.Sprintf("the header has %s and %d more", strings.Join(columns[:most], ", "), len(columns)-most)
	}
	return "the header has " + strings.Join(columns, ", ")
}
