// Package near finds the name that somebody probably meant.
package near

import "strings"

// Match returns the name of which s is the beginning, if there is one alone and s
// has three letters or more, else the one with the fewest edits from s, the first of
// equals, or "" if none is within a third of its length.
func Match(s string, names []string) string {
	if whole := beginning(s, names); len(s) >= 3 && whole != "" {
		return whole
	}
	best, most := "", max(1, len(s)/3)+1
	for _, n := range names {
		if diff := len(n) - len(s); diff >= most || -diff >= most {
			continue
		}
		if d := Distance(s, n); d < most {
			best, most = n, d
		}
	}
	return best
}

// beginning returns the name that alone begins with s, or "".
func beginning(s string, names []string) string {
	found := ""
	for _, n := range names {
		if !strings.HasPrefix(n, s) || n == found {
			continue
		}
		if found != "" {
			return ""
		}
		found = n
	}
	return found
}

// Distance is the number of edits between a and b: a byte inserted, removed or
// changed, or two neighbours swapped (Damerau 1964, each byte edited once).
func Distance(a, b string) int {
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, above, row = above, row, before
		row[0] = i + 1
		for j := range len(b) {
			change := above[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(change, above[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
