// Package filter reads the conditions that select devices:
//
//	site=oslo and kernel!=generic and seen<5m and model.pump!=v7
//	not (hw in (rev2, rev3)) or free < 10MB
//
// In EBNF, with white space between any two tokens:
//
//	or      = and { "or" and } .
//	and     = not { "and" not } .
//	not     = "not" not | "(" or ")" | compare .
//	compare = field op value | field [ "not" ] "in" "(" value { "," value } ")" .
//	op      = "=" | "!=" | "<" | "<=" | ">" | ">=" | "~" | "!~" .
//	value   = word | '"' { any character but '"' } '"' | "'" { any but "'" } "'" .
//
// A field is one of Fields, such as kernel or seen, model.NAME (the version that
// answers), previous.NAME, shadow.NAME, cached.NAME (any version in the device's store),
// failed.NAME (the last one that did not make it), or the key of a label, also
// written label.KEY. "~" compares with a pattern in which "*" is any text and "?"
// any character. What a device never reported equals nothing and is neither less
// nor more than anything; "!=", "!~" and "not in" are true exactly where "=", "~"
// and "in" are not.
package filter

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrFilter: text that is no filter. The error says where, and what would be.
var ErrFilter = errors.New("filter")

const (
	// MaxBytes is the length of the longest filter.
	MaxBytes = 1024
	// MaxCompares is the largest number of comparisons and values in lists.
	MaxCompares = 64
	maxDepth    = 32
)

// An Expr is a parsed filter: And, Or, Not or Compare.
type Expr interface{ isExpr() }

type (
	// And is true where both are.
	And struct{ L, R Expr }
	// Or is true where one of both is.
	Or struct{ L, R Expr }
	// Not is true where X is not.
	Not struct{ X Expr }
	// A Compare is true where the field stands in relation Op to one of Values, of
	// which only "=" has several.
	Compare struct {
		Field  Field
		Op     Op
		Values []Value
	}
)

func (And) isExpr()     {}
func (Or) isExpr()      {}
func (Not) isExpr()     {}
func (Compare) isExpr() {}

// An Op is a relation. "!=", "!~" and "not in" are Not of the others.
type Op string

// The relations.
const (
	Equal    Op = "="
	Less     Op = "<"
	AtMost   Op = "<="
	Greater  Op = ">"
	AtLeast  Op = ">="
	Matching Op = "~"
)

// A Field is what is compared.
type Field struct {
	Name string // of Fields, or Label, Model, Previous, Shadow, Cached, Failed
	Key  string // of a label or model, else ""
	kind kind
	pos  int
}

// Families of fields, with a Key.
const (
	Label    = "label"
	Model    = "model"    // the version that answers
	Previous = "previous" // where a rollback goes
	Cached   = "cached"   // any version in the device's store
	Shadow   = "shadow"   // the version that runs beside it
	Failed   = "failed"   // the last version that did not make it
)

// A kind is what a field is compared with.
type kind int

const (
	text     kind = iota // = ~
	presence             // = online, offline, new
	age                  // a duration: 5m, 36h, 7d
	size                 // bytes: 500KB, 64MiB
	count                // a whole number
	version              // v7, or none
)

// Fields are the fields of every device and their kinds.
var fields = map[string]kind{
	"id": text, "agent": text, "kernel": text, "os": text, "arch": text,
	"up": presence, "seen": age, "added": age, "free": size, "boot": count,
}

var families = map[string]kind{Label: text, Model: version, Previous: version, Shadow: version, Cached: version, Failed: version}

// A Value is what a field is compared with: Text, or Number of bytes, of a
// version or of whatever is counted, or Age.
type Value struct {
	Text   string // of id, labels, …: as written; of up: online, offline or new
	Number int64  // of versions: 0 for none
	Age    time.Duration
}

// Labels returns the keys of labels in e, in the order they appear.
func Labels(e Expr) []string {
	var keys []string
	walk(e, func(c Compare) {
		if c.Field.Name == Label {
			keys = append(keys, c.Field.Key)
		}
	})
	return keys
}

func walk(e Expr, f func(Compare)) {
	switch e := e.(type) {
	case And:
		walk(e.L, f)
		walk(e.R, f)
	case Or:
		walk(e.L, f)
		walk(e.R, f)
	case Not:
		walk(e.X, f)
	case Compare:
		f(e)
	}
}

// Check refuses a label that no device has, with the nearest field: what was meant
// as a field of Fields is read as a label. It refuses a model that does not exist,
// which no device runs: that would be true of none with "=", and of all with "!=".
// labels are the keys of labels in the fleet, models the names in the registry.
func Check(s string, e Expr, labels, models []string) error {
	var err error
	walk(e, func(c Compare) {
		switch f := c.Field; {
		case err != nil:
		case f.Name == Label && !slices.Contains(labels, f.Key):
			err = at(s, f.pos, "no device has a label %q, and it is no other field%s", f.Key, suggestField(f.Key, labels))
		case f.kind == version && !slices.Contains(models, f.Key):
			err = at(s, f.pos, "there is no model %q%s", f.Key, suggestModel(f, models))
		}
	})
	return err
}

// at is an error about the byte of s at pos.
func at(s string, pos int, format string, args ...any) error {
	return fmt.Errorf("%w, character %d: %s\n  %s\n  %*s", ErrFilter, pos+1, fmt.Sprintf(format, args...), s, pos+1, "^")
}
