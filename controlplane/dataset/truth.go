package dataset

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// ReadTruth reads the second file of a `rul` test set: one row a group, the
// value being what is left after the group's last row. The group's column is
// named group (as in the data) or, failing that, is the first; the value's
// is the other one, or is named rul, truth or value.
func ReadTruth(r io.Reader, group string) (map[string]float32, error) {
	lines, err := newLineReader(r)
	if err != nil {
		return nil, fmt.Errorf("truth: %w", err)
	}
	head, err := lines.next()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("truth: %w: the file is empty; it holds a group and a value a row", ErrEmpty)
	} else if err != nil {
		return nil, fmt.Errorf("truth: %w", err)
	}
	p := &parser{lines: lines, sep: separatorOf(head), line: 1}
	if err := p.readHeader(head); err != nil {
		return nil, fmt.Errorf("truth: %w", err)
	}
	g, v, err := truthColumns(p.header, group)
	if err != nil {
		return nil, err
	}
	out := map[string]float32{}
	for {
		b, err := lines.next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("truth: %w", err)
		}
		if err := p.truthRow(b, g, v, out); err != nil {
			return nil, fmt.Errorf("truth: %w", err)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("truth: %w: a header and no rows", ErrEmpty)
	}
	return out, nil
}

func truthColumns(header []string, group string) (g, v int, err error) {
	if len(header) < 2 {
		return 0, 0, fmt.Errorf("truth: %w: one column; it holds a group and a value a row", ErrColumn)
	}
	for i, name := range header {
		if name == group {
			g = i
		}
	}
	if len(header) == 2 {
		return g, 1 - g, nil
	}
	for i, name := range header {
		switch strings.ToLower(name) {
		case "rul", "truth", "value":
			if i != g {
				return g, i, nil
			}
		}
	}
	return 0, 0, fmt.Errorf("truth: %w: none of %s is named rul, truth or value", ErrColumn, strings.Join(header, ", "))
}

func (p *parser) truthRow(b []byte, g, v int, out map[string]float32) error {
	p.row++
	p.line = p.lines.line
	var ok bool
	if p.fields, ok = splitFields(p.fields, b, p.sep); !ok || len(p.fields) != len(p.header) {
		return p.bad("", ErrMalformed, fmt.Sprintf("%d fields, the header has %d", len(p.fields), len(p.header)))
	}
	name := string(p.fields[g])
	if _, twice := out[name]; twice {
		return p.bad(p.header[g], ErrMalformed, fmt.Sprintf("group %q comes twice", name))
	}
	if len(name) > MaxName || len(out) == MaxGroups {
		return p.bad(p.header[g], ErrTooLarge, fmt.Sprintf("group %.40q: at most %d groups with names of %d bytes", name, MaxGroups, MaxName))
	}
	value, err := p.number(use{column: v, name: p.header[v], target: true})
	if err != nil {
		return err
	}
	out[name] = value
	return nil
}
