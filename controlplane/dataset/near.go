package dataset

import (
	"fmt"
	"slices"
	"strings"
)

// suggest names the columns nearest to a name that is not there.
func suggest(name string, columns []string) string {
	type near struct {
		column   string
		distance int
	}
	var found []near
	for _, c := range columns {
		d := distance(strings.ToLower(name), strings.ToLower(c))
		if d <= max(1, len(name)/3) {
			found = append(found, near{c, d})
		}
	}
	slices.SortStableFunc(found, func(a, b near) int { return a.distance - b.distance })
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

// distance is the number of single-byte edits between a and b (Levenshtein 1966).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}
