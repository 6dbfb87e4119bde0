package config

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"
)

// A reader fills a struct from one TOML 1.0 document. The library's parser
// reads the syntax; which key goes where, and which may come at all, is decided
// here: the library's own decoder would be a fiftieth of the agent.
//
// Known are the types that the files have: text, numbers, true and false,
// tables, arrays of tables, tables of text by name, and what reads itself from
// text.
type reader struct {
	p       unstable.Parser
	file    string
	root    reflect.Value
	known   []string // keys, for one that is not
	keys    map[string]definition
	unknown []error

	table string        // name of the table that the last header began, with a dot behind it
	into  reflect.Value // what it fills; invalid: an unknown one, whose keys are passed over
}

// A definition is where a key was defined, and how: what may follow differs
// (TOML 1.0, "Table" and "Array of Tables").
type definition struct {
	position
	how    how
	tables int // in an array of tables, so far
}

type how uint8

const (
	asPrefix how = iota + 1 // in a header, in front of a dot: may have a header of its own
	asDotted                // the same in front of an equals sign: may not
	asTable                 // [name]
	asTables                // [[name]]
	asValue                 // name = …
)

// A part is one word of a dotted key.
type part struct {
	name string
	at   position
}

// read fills r.root from b. An unknown key is remembered in r.unknown, any
// other mistake ends it.
func (r *reader) read(b []byte) error {
	r.p.Reset(b)
	r.into = r.root
	for r.p.NextExpression() {
		e := r.p.Expression()
		var err error
		switch e.Kind {
		case unstable.Table:
			err = r.header(r.parts(e.Key()), asTable)
		case unstable.ArrayTable:
			err = r.header(r.parts(e.Key()), asTables)
		case unstable.KeyValue:
			err = r.keyValue(r.table, r.into, e)
		}
		if err != nil {
			return err
		}
	}
	var syntax *unstable.ParserError
	if errors.As(r.p.Error(), &syntax) {
		s := r.p.Shape(r.p.Range(syntax.Highlight)).Start
		return r.errorf(position{s.Line, s.Column}, "%s", syntax.Message)
	}
	return r.p.Error()
}

func (r *reader) errorf(at position, format string, args ...any) error {
	return &Error{File: r.file, Line: at.line, Column: at.column, Message: fmt.Sprintf(format, args...)}
}

func (r *reader) parts(it unstable.Iterator) []part {
	var all []part
	for it.Next() {
		n := it.Node()
		all = append(all, part{string(n.Data), r.at(n)})
	}
	return all
}

// at returns where n starts; an array is where its first element is.
func (r *reader) at(n *unstable.Node) position {
	for n.Kind == unstable.Array && n.Child().Valid() {
		n = n.Child()
	}
	s := r.p.Shape(n.Raw).Start
	return position{s.Line, s.Column}
}

// header begins the table that key names.
func (r *reader) header(key []part, h how) error {
	at, name := key[0].at, ""
	into := r.root
	var named reflect.Value
	for i, k := range key {
		name += k.name
		into = field(into, k.name)
		named = into
		seen := r.keys[name]
		switch last := i == len(key)-1; {
		case last && h == asTables && (seen.how == 0 || seen.how == asTables):
			seen = definition{at, asTables, seen.tables + 1}
			into = extend(into)
		case last && h == asTable && (seen.how == 0 || seen.how == asPrefix):
			seen = definition{position: at, how: asTable}
		case last || seen.how == asValue:
			return r.again(name, at)
		case seen.how == 0:
			seen = definition{position: at, how: asPrefix}
		case seen.how == asTables:
			into = element(into, seen.tables-1)
		}
		r.keys[name] = seen
		if seen.how == asTables {
			name = fmt.Sprintf("%s[%d]", name, seen.tables-1)
			r.keys[name] = definition{position: seen.position, how: asPrefix}
		}
		name += "."
	}
	r.table, r.into = name, table(into)
	switch {
	case r.into.IsValid():
	case !named.IsValid():
		r.pass(name, at)
	case named.Kind() == reflect.Slice:
		return r.errorf(at, "%s: a table where an array of tables is expected; begin each with [[%s]]", strings.TrimSuffix(name, "."), key[len(key)-1].name)
	default:
		return r.errorf(at, "%s: a table where %s is expected", strings.TrimSuffix(name, "."), wanted(named))
	}
	return nil
}

// keyValue reads e, a key and its value, into a table: the one that a header
// began, or an inline one. Its name has a dot behind it, or is empty.
func (r *reader) keyValue(name string, into reflect.Value, e *unstable.Node) error {
	key := r.parts(e.Key())
	at, skipped := key[0].at, !into.IsValid()
	for i, k := range key {
		name += k.name
		seen := r.keys[name]
		last := i == len(key)-1
		if seen.how != 0 && (last || seen.how != asDotted) {
			return r.again(name, at)
		}
		if last {
			r.keys[name] = definition{position: at, how: asValue}
			break
		}
		r.keys[name] = definition{position: at, how: asDotted}
		into = field(into, k.name)
		name += "."
	}
	last := key[len(key)-1].name
	if into.IsValid() && into.Kind() == reflect.Map {
		v := reflect.New(into.Type().Elem()).Elem()
		if err := r.value(name, v, e.Value()); err != nil {
			return err
		}
		if into.IsNil() {
			into.Set(reflect.MakeMap(into.Type()))
		}
		into.SetMapIndex(reflect.ValueOf(last), v)
		return nil
	}
	to := field(into, last)
	if !to.IsValid() && !skipped {
		r.pass(name, at)
	}
	return r.value(name, to, e.Value())
}

// pass remembers that nothing has the key, whose tables of arrays are numbered.
func (r *reader) pass(key string, at position) {
	words := strings.Split(strings.TrimSuffix(key, "."), ".")
	for i := range words {
		words[i], _, _ = strings.Cut(words[i], "[")
	}
	r.unknown = append(r.unknown, r.errorf(at, "%s", unknownKey(strings.Join(words, "."), r.known)))
}

func (r *reader) again(name string, at position) error {
	return r.errorf(at, "%s is in line %d already; write it once", name, r.keys[name].line)
}

// value reads n into v; an invalid v takes everything.
func (r *reader) value(name string, v reflect.Value, n *unstable.Node) error {
	if n.Kind == unstable.InlineTable {
		t := table(v)
		if v.IsValid() && !t.IsValid() {
			return r.mistake(name, n, v)
		}
		return r.inline(name+".", t, n)
	}
	if !v.IsValid() {
		return nil
	}
	if t, ok := v.Addr().Interface().(*time.Time); ok {
		return r.time(name, t, n)
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if n.Kind != unstable.String {
			return r.mistake(name, n, v)
		}
		if err := u.UnmarshalText(n.Data); err != nil {
			return r.errorf(r.at(n), "%s", err)
		}
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return r.value(name, v.Elem(), n)
	case reflect.Slice:
		return r.array(name, v, n)
	}
	if !scalar(v, n) {
		return r.mistake(name, n, v)
	}
	return nil
}

// inline reads the keys of an inline table.
func (r *reader) inline(name string, v reflect.Value, n *unstable.Node) error {
	for it := n.Children(); it.Next(); {
		if err := r.keyValue(name, v, it.Node()); err != nil {
			return err
		}
	}
	return nil
}

// array reads an array of inline tables.
func (r *reader) array(name string, v reflect.Value, n *unstable.Node) error {
	if n.Kind != unstable.Array {
		return r.mistake(name, n, v)
	}
	i := 0
	for it := n.Children(); it.Next(); i++ {
		if it.Node().Kind != unstable.InlineTable {
			return r.mistake(name, it.Node(), v)
		}
		if err := r.inline(fmt.Sprintf("%s[%d].", name, i), extend(v), it.Node()); err != nil {
			return err
		}
	}
	return nil
}

// scalar sets v to n, a number, text or truth value, if it is of v's type and
// in its range.
func scalar(v reflect.Value, n *unstable.Node) bool {
	text := string(n.Data)
	switch {
	case n.Kind == unstable.String && v.Kind() == reflect.String:
		v.SetString(text)
		return true
	case n.Kind == unstable.Bool && v.Kind() == reflect.Bool:
		v.SetBool(text == "true")
		return true
	case n.Kind == unstable.Integer && v.CanInt():
		i, err := strconv.ParseInt(text, 0, 64)
		if err != nil || v.OverflowInt(i) {
			return false
		}
		v.SetInt(i)
		return true
	case n.Kind == unstable.Integer && v.CanUint():
		u, err := strconv.ParseUint(strings.TrimPrefix(text, "+"), 0, 64)
		if err != nil || v.OverflowUint(u) {
			return false
		}
		v.SetUint(u)
		return true
	case (n.Kind == unstable.Integer || n.Kind == unstable.Float) && v.CanFloat():
		f, err := strconv.ParseFloat(strings.ReplaceAll(text, "_", ""), 64)
		if err != nil || v.OverflowFloat(f) {
			return false
		}
		v.SetFloat(f)
		return true
	}
	return false
}

// time reads n, a time with its zone, in quotes or without.
func (r *reader) time(name string, t *time.Time, n *unstable.Node) error {
	if n.Kind != unstable.String && n.Kind != unstable.DateTime {
		return r.errorf(r.at(n), "%s: %s where a time is expected; write it as 2026-12-01T01:00:00Z", name, n.Kind)
	}
	at, err := time.Parse(time.RFC3339, string(n.Data))
	if err != nil {
		return r.errorf(r.at(n), "%q is no time; write it as 2026-12-01T01:00:00Z", n.Data)
	}
	*t = at
	return nil
}

// mistake says that n is not what v, of that name, takes. It does not repeat n, which
// may be a secret.
func (r *reader) mistake(name string, n *unstable.Node, v reflect.Value) error {
	return r.errorf(r.at(n), "%s: %s where %s is expected", name, n.Kind, wanted(v))
}

// wanted says what v takes.
func wanted(v reflect.Value) string {
	switch t := v.Type(); {
	case reflect.PointerTo(t).Implements(textUnmarshaler), t.Kind() == reflect.String:
		return "text in quotes"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case v.CanInt(), v.CanFloat():
		return fmt.Sprintf("a number, as %s holds it,", t.Kind())
	case v.CanUint():
		return fmt.Sprintf("a number from 0, as %s holds it,", t.Kind())
	case t.Kind() == reflect.Slice:
		return "an array of tables"
	}
	return "a table"
}

// field returns what name sets in v, a table. It is invalid when there is
// nothing, or v is.
func field(v reflect.Value, name string) reflect.Value {
	if v = table(v); !v.IsValid() || v.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	for f := range fields(v.Type()) {
		if f.Tag.Get("toml") == name {
			return v.FieldByIndex(f.Index)
		}
	}
	return reflect.Value{}
}

// table returns what v takes a table in: a struct that is no text, a map, or
// what a pointer to one points to, made if it was nil. Else it is invalid.
func table(v reflect.Value) reflect.Value {
	if !v.IsValid() {
		return v
	}
	t := v.Type()
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Map && (t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(textUnmarshaler)) {
		return reflect.Value{}
	}
	if v.Kind() != reflect.Pointer {
		return v
	}
	if v.IsNil() {
		v.Set(reflect.New(t))
	}
	return v.Elem()
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

// extend appends a table to v, a slice of structs, and returns it.
func extend(v reflect.Value) reflect.Value {
	if !v.IsValid() || v.Kind() != reflect.Slice || v.Type().Elem().Kind() != reflect.Struct {
		return reflect.Value{}
	}
	v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
	return v.Index(v.Len() - 1)
}

// element returns table i of v, a slice that extend made longer.
func element(v reflect.Value, i int) reflect.Value {
	if !v.IsValid() || v.Kind() != reflect.Slice || i >= v.Len() {
		return reflect.Value{}
	}
	return v.Index(i)
}
