package dataset

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// MaxTexts is how many texts a category column may have: more are no categories.
const MaxTexts = 4096

// noText stands in a table for a missing text.
const noText = -1

// A lexicon numbers the texts of a category column in the order in which they come.
type lexicon struct {
	numbers map[string]int
	texts   []string
}

// number is that of s.
func (l *lexicon) number(s []byte) (n int, isNew bool) {
	if n, ok := l.numbers[string(s)]; ok {
		return n, false
	}
	n = len(l.texts)
	l.numbers[string(s)] = n
	l.texts = append(l.texts, string(s))
	return n, true
}

// lexiconOf returns that of a column that is to be a category, nil for others.
func (b *builder) lexiconOf(column string) *lexicon {
	if !slices.Contains(b.columns.Categories, column) {
		return nil
	}
	if b.lexicons[column] == nil {
		if b.lexicons == nil {
			b.lexicons = map[string]*lexicon{}
		}
		b.lexicons[column] = &lexicon{numbers: map[string]int{}}
	}
	return b.lexicons[column]
}

// text returns the number of the text in a cell. Empty cells and the spellings of
// Options.Null are missing.
func (b *builder) text(u *use, cells []cell) (float32, error) {
	c := &cells[u.column]
	b.scratch = c.appendTo(b.scratch[:0])
	if len(b.scratch) == 0 || slices.Contains(b.dialect.null, string(b.scratch)) {
		return noText, nil
	}
	n, isNew := u.lexicon.number(b.scratch)
	switch {
	case !isNew:
	case n == MaxTexts:
		return 0, b.bad(u.name, ErrTooLarge, fmt.Sprintf("more than %d different texts are no categories; is this an identifier? Leave the column out", MaxTexts))
	case len(b.scratch) > protocol.MaxName:
		return 0, b.bad(u.name, ErrTooLarge, fmt.Sprintf("the text %.40q has %d bytes, at most %d", b.scratch, len(b.scratch), protocol.MaxName))
	case !utf8.Valid(b.scratch):
		return 0, b.bad(u.name, ErrMalformed, fmt.Sprintf("%.40q is not UTF-8; save the file as UTF-8, or convert it with iconv", b.scratch))
	}
	return float32(n), nil
}

// checkCategories refuses categories that are no features, or are converted.
func (b *builder) checkCategories() error {
	for _, name := range b.columns.Categories {
		if !slices.ContainsFunc(b.features, func(u use) bool { return u.name == name }) {
			if _, err := b.find(name, "category"); err != nil {
				return err
			}
			return fmt.Errorf("category: %w: %q is not among the features; add it", ErrColumn, name)
		}
		if slices.Contains(b.columns.Targets, name) {
			return fmt.Errorf("category: %w: %q is a target, which is a number", ErrColumn, name)
		}
		if _, ok := b.convert[name]; ok {
			return fmt.Errorf("%w: a conversion of %q, which is a category", ErrOptions, name)
		}
	}
	return nil
}

// IsText reports whether a feature is a category: X has numbers that stand for texts.
func (t *Table) IsText(feature int) bool { return t.texts[t.Features[feature]] != nil }

// Dictionary returns the texts that a category has in the rows of p, ascending: of
// more than limit the most frequent ones, of equals those that come first. Others is
// the number of rows of p without one of these.
func (t *Table) Dictionary(p Part, feature, limit int) (dictionary []string, others int) {
	texts, counts := t.texts[t.Features[feature]], map[int]int{}
	for _, s := range p {
		for row := s.Start; row < s.End; row++ {
			if n := int(t.X[row*len(t.Features)+feature]); n >= 0 && n < len(texts) {
				counts[n]++
			}
		}
	}
	used := slices.SortedFunc(maps.Keys(counts), func(a, b int) int { return cmp.Or(counts[b]-counts[a], a-b) })
	others = p.Rows()
	for _, n := range used[:min(limit, len(used))] {
		dictionary = append(dictionary, texts[n])
		others -= counts[n]
	}
	slices.Sort(dictionary)
	return dictionary, others
}

// Encode returns the table with the numbers that a model of these dictionaries, one
// for each feature, nil for one that is a number, has for the texts. Texts that are
// in none are counted in Cleaning.
func (t *Table) Encode(dictionaries [][]string) *Table {
	if !slices.ContainsFunc(dictionaries, func(d []string) bool { return d != nil }) {
		return t
	}
	out := *t
	out.X, out.texts = slices.Clone(t.X), maps.Clone(t.texts)
	out.Cleaning.Notes = slices.Clone(t.Cleaning.Notes)
	n := len(t.Features)
	for f, d := range dictionaries {
		if d == nil {
			continue
		}
		texts := t.texts[t.Features[f]]
		out.texts[t.Features[f]] = d
		unknown, first := 0, ""
		for at := f; at < len(t.X); at += n {
			s := ""
			if v := int(t.X[at]); v >= 0 && v < len(texts) {
				s = texts[v]
			}
			out.X[at] = protocol.Place(d, s)
			if s != "" && out.X[at] == float32(len(d)) {
				if unknown++; unknown == 1 {
					first = s
				}
			}
		}
		if unknown > 0 {
			out.Cleaning.note("column %q: %d rows have a text that the model does not know, such as %q: it takes them for unknown", t.Features[f], unknown, first)
		}
	}
	return &out
}
