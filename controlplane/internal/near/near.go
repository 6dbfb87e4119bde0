// Package near finds the name that somebody probably meant.
package near

// Match returns the name with the fewest single-byte edits from s (Levenshtein
// 1966), the first of equals, or "" if none is within a third of its length.
func Match(s string, names []string) string {
	best, most := "", max(1, len(s)/3)+1
	for _, n := range names {
		if diff := len(n) - len(s); diff >= most || -diff >= most {
			continue
		}
		if d := distance(s, n); d < most {
			best, most = n, d
		}
	}
	return best
}

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
