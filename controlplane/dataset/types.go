package dataset

import (
	"fmt"
	"slices"
	"strings"
)

// overridable are the types that Options.Types may give a column.
var overridable = []string{TypeNumber, TypeText, TypeTime}

// parseTypes reads Options.Types, and Text.
func parseTypes(o Options) (types map[string]string, err error) {
	types = map[string]string{}
	for _, name := range o.Text {
		types[name] = TypeText
	}
	for _, s := range o.Types {
		column, kind, ok := cutLast(s)
		if before, twice := types[column]; !ok || !slices.Contains(overridable, kind) || twice && before != kind {
			return nil, fmt.Errorf("%w: type %.60q; write COLUMN=TYPE once for a column, the type being %s", ErrOptions, s, strings.Join(overridable, ", "))
		}
		types[column] = kind
	}
	return types, nil
}

// typedTime returns the only column that is said to hold times, which orders the rows
// where nothing else is named.
func (r *rules) typedTime() string {
	found := ""
	for name, kind := range r.types {
		if kind == TypeTime {
			if found != "" {
				return ""
			}
			found = name
		}
	}
	return found
}

// noNumber reports whether a column is said to be text or a time.
func (r *rules) noNumber(name string) bool {
	kind := r.types[name]
	return kind == TypeText || kind == TypeTime
}
