package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A claim is a row of docs/claims.md: `name` | claim | bar | heavy or nothing.
type claim struct {
	name  string // area.what
	text  string
	bar   string
	heavy bool // runs only when its name or its area is asked for
}

// parseClaims reads the table rows whose first cell is a name in backquotes.
func parseClaims(page string) ([]claim, error) {
	var claims []claim
	seen := map[string]bool{}
	for i, line := range strings.Split(page, "\n") {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != 4 {
			return nil, fmt.Errorf("line %d: %d cells, want name, claim, bar and weight", i+1, len(cells))
		}
		for j := range cells {
			cells[j] = strings.TrimSpace(cells[j])
		}
		c := claim{name: strings.Trim(cells[0], "`"), text: cells[1], bar: cells[2], heavy: cells[3] == "heavy"}
		if !strings.Contains(c.name, ".") || seen[c.name] {
			return nil, fmt.Errorf("line %d: %q is not a new name of the form area.what", i+1, c.name)
		}
		seen[c.name] = true
		claims = append(claims, c)
	}
	if len(claims) == 0 {
		return nil, errors.New("no claims found")
	}
	return claims, nil
}

// moduleRoot returns the folder of the go.mod above the working directory.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "docs", "claims.md")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("run this inside a clone of the project: docs/claims.md is not in any folder above")
		}
	}
}
