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
	d, err := newCSVDecoder(lines, 0)
	if err != nil {
		return nil, fmt.Errorf("truth: %w", err)
	}
	g, v, err := truthColumns(d.names, group)
	if err != nil {
		return nil, err
	}
	p := &builder{rules: &rules{dialect: dialect{decimal: '.'}}, names: d.names}
	p.targets = []use{p.use(v, true)}
	out := map[string]float32{}
	for {
		cells, err := d.next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("truth: %w", err)
		}
		if err := p.truthRow(cells, d.line(), g, out); err != nil {
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
		return 0, 0, columnErrorf("truth: one column; it holds a group and a value a row")
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
	return 0, 0, columnErrorf("truth: none of the columns %s is named rul, truth or value", strings.Join(header, ", "))
}

func (b *builder) truthRow(cells []cell, line, g int, out map[string]float32) error {
	b.inFile++
	b.at = line
	name := string(cells[g].text)
	if _, twice := out[name]; twice {
		return b.bad(b.names[g], ErrMalformed, fmt.Sprintf("group %q comes twice", name))
	}
	if len(name) > MaxName || len(out) == MaxGroups {
		return b.bad(b.names[g], ErrTooLarge, fmt.Sprintf("group %.40q: at most %d groups with names of %d bytes", name, MaxGroups, MaxName))
	}
	value, err := b.number(&b.targets[0], cells)
	if err != nil {
		return err
	}
	out[name] = value
	return nil
}
