package filter

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/near"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// Parse reads a filter. ErrFilter says what is wrong, where, and what was
// probably meant.
func Parse(s string) (Expr, error) {
	if len(s) > MaxBytes {
		return nil, fmt.Errorf("%w: %d bytes; use at most %d", ErrFilter, len(s), MaxBytes)
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return nil, at(strings.ToValidUTF8(s, "?"), i, "not a printable ASCII character")
		}
	}
	p := parser{s: s}
	p.next()
	e, err := p.or()
	if err == nil && p.tok.kind != end {
		err = p.errorf(`want "and", "or" or the end, not %s`, p.tok)
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

type tokenKind int

const (
	end tokenKind = iota
	word
	quoted
	symbol
)

// A token is a piece of the filter: text without quotes, at pos.
type token struct {
	kind tokenKind
	text string
	pos  int
}

func (t token) String() string {
	if t.kind == end {
		return "the end"
	}
	return strconv.Quote(t.text)
}

type parser struct {
	s        string
	at       int // where the next token is looked for
	tok      token
	open     bool // tok is a string without its closing quote
	depth    int
	compares int
}

func (p *parser) errorf(format string, args ...any) error { return at(p.s, p.tok.pos, format, args...) }

const symbols = `()=!<>~,"'`

// next reads the next token into p.tok.
func (p *parser) next() {
	for p.at < len(p.s) && p.s[p.at] == ' ' {
		p.at++
	}
	start := p.at
	switch rest := p.s[start:]; {
	case rest == "":
		p.tok = token{end, "", start}
	case rest[0] == '"' || rest[0] == '\'':
		in, _, closed := strings.Cut(rest[1:], rest[:1])
		p.tok, p.open = token{quoted, in, start}, !closed
		p.at = min(len(p.s), start+len(in)+2)
	case strings.IndexByte(symbols, rest[0]) >= 0:
		n := 1
		if len(rest) > 1 && slices.Contains([]string{"!=", "<=", ">=", "!~"}, rest[:2]) {
			n = 2
		}
		p.tok = token{symbol, rest[:n], start}
		p.at += n
	default:
		n := strings.IndexAny(rest, symbols+" ")
		if n < 0 {
			n = len(rest)
		}
		p.tok = token{word, rest[:n], start}
		p.at += n
	}
}

// accept reads over a token if it is that one.
func (p *parser) accept(kind tokenKind, text string) bool {
	if p.tok.kind != kind || p.tok.text != text {
		return false
	}
	p.next()
	return true
}

func (p *parser) or() (Expr, error) {
	l, err := p.and()
	for err == nil && p.accept(word, "or") {
		var r Expr
		r, err = p.and()
		l = Or{l, r}
	}
	return l, err
}

func (p *parser) and() (Expr, error) {
	l, err := p.not()
	for err == nil && p.accept(word, "and") {
		var r Expr
		r, err = p.not()
		l = And{l, r}
	}
	return l, err
}

func (p *parser) not() (Expr, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, p.errorf("more than %d levels of not and parentheses", maxDepth)
	}
	defer func() { p.depth-- }()
	if p.accept(word, "not") {
		x, err := p.not()
		return Not{x}, err
	}
	if !p.accept(symbol, "(") {
		return p.compare()
	}
	x, err := p.or()
	if err == nil && !p.accept(symbol, ")") {
		err = p.errorf(`want ")", not %s`, p.tok)
	}
	return x, err
}

func (p *parser) compare() (Expr, error) {
	f, err := p.field()
	if err != nil {
		return nil, err
	}
	negative := p.accept(word, "not")
	if p.tok.kind == word && p.tok.text == "in" {
		p.next()
		c, err := p.list(f)
		return negate(c, negative), err
	}
	if negative {
		return nil, p.errorf(`want "in" after "not", not %s`, p.tok)
	}
	op, negative, err := p.op(f)
	if err != nil {
		return nil, err
	}
	v, err := p.value(f)
	return negate(Compare{f, op, []Value{v}}, negative), err
}

func negate(x Expr, negative bool) Expr {
	if negative {
		return Not{x}
	}
	return x
}

// list reads the values of in.
func (p *parser) list(f Field) (Expr, error) {
	if !p.accept(symbol, "(") {
		return nil, p.errorf(`want "(" and the values with commas between, not %s`, p.tok)
	}
	c := Compare{Field: f, Op: Equal}
	for {
		v, err := p.value(f)
		if err != nil {
			return nil, err
		}
		c.Values = append(c.Values, v)
		if p.accept(symbol, ")") {
			return c, nil
		}
		if !p.accept(symbol, ",") {
			return nil, p.errorf(`want "," or ")", not %s`, p.tok)
		}
	}
}

// field reads a field: whether a label of that key exists is not known here.
func (p *parser) field() (Field, error) {
	if p.tok.kind != word {
		return Field{}, p.errorf("want a field, such as site or kernel, not %s", p.tok)
	}
	name := p.tok.text
	f := Field{Name: name, pos: p.tok.pos}
	family, key, in := strings.Cut(name, ".")
	k, ok := fields[name]
	switch {
	case ok:
		f.kind = k
	case in:
		if f.kind, ok = families[family]; !ok {
			return f, p.errorf("unknown field %q%s", name, suggestFamily(family, key))
		}
		f.Name, f.Key = family, key
	default:
		f.Name, f.Key, f.kind = Label, name, text
	}
	if f.Key != "" || in {
		if err := protocol.CheckID(f.Key); err != nil {
			return f, p.errorf("field %q: %v", name, err)
		}
	}
	p.next()
	return f, nil
}

var ordered = []kind{age, size, count, version}

func (p *parser) op(f Field) (op Op, negative bool, err error) {
	if p.tok.kind != symbol {
		return "", false, p.errorf(`want one of = != < <= > >= ~ !~ or "in", not %s`, p.tok)
	}
	switch op = Op(p.tok.text); op {
	case "!=":
		op, negative = Equal, true
	case "!~":
		op, negative = Matching, true
	}
	switch op {
	case Equal:
		if f.kind == age {
			return "", false, p.errorf("a time is compared by < or >")
		}
	case Matching:
		if f.kind != text {
			return "", false, p.errorf("a pattern is for text, and %s is none", f.Name)
		}
	case Less, AtMost, Greater, AtLeast:
		if !slices.Contains(ordered, f.kind) {
			return "", false, p.errorf("text is neither less nor more; use = != ~ !~ or in")
		}
	default:
		return "", false, p.errorf("%s is no comparison; use one of = != < <= > >= ~ !~", p.tok)
	}
	p.next()
	return op, negative, nil
}

func (p *parser) value(f Field) (Value, error) {
	if p.compares++; p.compares > MaxCompares {
		return Value{}, p.errorf("more than %d values", MaxCompares)
	}
	if p.open {
		return Value{}, p.errorf("text without its closing quote")
	}
	if p.tok.kind != word && p.tok.kind != quoted {
		return Value{}, p.errorf("want a value, not %s", p.tok)
	}
	v, err := readValue(f.kind, p.tok.text)
	if err != nil {
		return v, p.errorf("%v", err)
	}
	p.next()
	return v, nil
}

var presences = []string{"online", "offline", "new"}

func readValue(k kind, s string) (Value, error) {
	switch k {
	case presence:
		if !slices.Contains(presences, s) {
			return Value{}, fmt.Errorf("want online, offline or new, not %q%s", s, suggest(s, presences))
		}
	case age:
		d, err := readAge(s)
		return Value{Age: d}, err
	case size:
		n, err := readSize(s)
		return Value{Number: n}, err
	case count:
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 0 {
			return Value{}, fmt.Errorf("want a whole number, not %q", s)
		}
		return Value{Number: n}, nil
	case version:
		if s == "none" {
			return Value{}, nil
		}
		n, err := strconv.ParseInt(strings.TrimPrefix(s, "v"), 10, 64)
		if err != nil || n <= 0 {
			return Value{}, fmt.Errorf("want a version, such as v7, or none, not %q", s)
		}
		return Value{Number: n}, nil
	}
	return Value{Text: s}, nil
}

// readAge reads a duration as Go writes them, or in days.
func readAge(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n int64
		n, err = strconv.ParseInt(days, 10, 32)
		d = time.Duration(n) * 24 * time.Hour
		if n > 36500 {
			err = strconv.ErrRange
		}
	}
	if err != nil || d < 0 {
		return 0, fmt.Errorf("want a time, such as 30s, 5m, 36h or 7d, not %q", s)
	}
	return d, nil
}

var sizes = []struct {
	unit  string
	bytes int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}}

func readSize(s string) (int64, error) {
	number, unit := s, int64(1)
	for _, u := range sizes {
		if cut, ok := strings.CutSuffix(s, u.unit); ok {
			number, unit = cut, u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > (1<<53)/unit {
		return 0, fmt.Errorf("want bytes, such as 500KB, 10MB or 64MiB, not %q", s)
	}
	return n * unit, nil
}

func suggest(s string, names []string) string {
	if m := near.Match(s, names); m != "" {
		return fmt.Sprintf("; did you mean %q?", m)
	}
	return fmt.Sprintf("; there are %s", strings.Join(names, ", "))
}

func suggestFamily(s, key string) string {
	names := slices.Sorted(maps.Keys(families))
	if m := near.Match(s, names); m != "" {
		return fmt.Sprintf("; did you mean %q?", m+"."+key)
	}
	return fmt.Sprintf("; there are %s.NAME", strings.Join(names, ".NAME, "))
}

func suggestModel(f Field, models []string) string {
	if m := near.Match(f.Key, models); m != "" {
		return fmt.Sprintf("; did you mean %q?", f.Name+"."+m)
	}
	return ""
}

func suggestField(s string, labels []string) string {
	names := slices.Sorted(maps.Keys(fields))
	if m := near.Match(s, append(names, labels...)); m != "" {
		return fmt.Sprintf("; did you mean %q?", m)
	}
	text := fmt.Sprintf("; there are %s, %s.NAME", strings.Join(names, ", "), strings.Join(slices.Sorted(maps.Keys(families)), ".NAME, "))
	if len(labels) == 0 {
		return text
	}
	return text + " and the labels " + strings.Join(labels, ", ")
}
