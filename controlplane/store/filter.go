package store

import (
	"fmt"
	"strings"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/filter"
)

// A Where selects devices: all of them if Expr is nil, else those for which it is
// true at Now.
type Where struct {
	Expr filter.Expr
	Now  time.Time
}

// sql returns a condition on the row d of devices, and its arguments.
func (w Where) sql() (string, []any) {
	if w.Expr == nil {
		return "1", nil
	}
	var c condition
	c.now = w.Now
	c.write(w.Expr)
	return c.String(), c.args
}

// A condition is SQL under construction: only constants of this file are text in
// it, everything that somebody wrote is an argument.
type condition struct {
	strings.Builder
	args []any
	now  time.Time
}

func (c *condition) add(args []any, format string, a ...any) {
	fmt.Fprintf(c, format, a...)
	c.args = append(c.args, args...)
}

func (c *condition) write(e filter.Expr) {
	switch e := e.(type) {
	case filter.And:
		c.both(e.L, "AND", e.R)
	case filter.Or:
		c.both(e.L, "OR", e.R)
	case filter.Not:
		c.WriteString("NOT ")
		c.write(e.X)
	case filter.Compare:
		c.compare(e)
	}
}

func (c *condition) both(l filter.Expr, op string, r filter.Expr) {
	c.WriteString("(")
	c.write(l)
	c.WriteString(" " + op + " ")
	c.write(r)
	c.WriteString(")")
}

func (c *condition) compare(e filter.Compare) {
	c.WriteString("(")
	for i, v := range e.Values {
		if i > 0 {
			c.WriteString(" OR ")
		}
		c.value(e.Field, e.Op, v)
	}
	c.WriteString(")")
}

// value is never NULL: what a device did not report is in no relation to anything,
// and NOT of that is true.
func (c *condition) value(f filter.Field, op filter.Op, v filter.Value) {
	switch f.Name {
	case "up":
		c.WriteString(map[string]string{"online": "d.online", "offline": "(d.seen > 0 AND NOT d.online)", "new": "d.seen = 0"}[v.Text])
	case "seen": // a device that is connected is seen, also while it has nothing to say
		c.add([]any{millis(c.now), millis(c.now.Add(-v.Age))}, "(d.seen > 0 AND iif(d.online, ?, d.seen) %s ?)", later(op))
	case "added":
		c.add([]any{millis(c.now.Add(-v.Age))}, "(d.created > 0 AND d.created %s ?)", later(op))
	case "free", "boot":
		c.add([]any{v.Number}, "coalesce(d.%s %s ?, 0)", f.Name, op)
	case filter.Label:
		c.add([]any{f.Key, pattern(op, v.Text)}, "d.id IN (SELECT l.device FROM labels l WHERE l.key = ? AND l.value %s ?)", match(op))
	case filter.Model:
		c.version(f.Key, "= 'active'", op, v.Number)
	case filter.Previous:
		c.version(f.Key, "= 'previous'", op, v.Number)
	case filter.Shadow:
		c.version(f.Key, "= 'shadow'", op, v.Number)
	case filter.Cached:
		c.version(f.Key, "<> 'failed'", op, v.Number)
	case filter.Failed:
		c.version(f.Key, "= 'failed'", op, v.Number)
	default: // text that every device reports: id, agent, kernel, os, arch
		c.add([]any{pattern(op, v.Text)}, "coalesce(d.%s %s ?, 0)", f.Name, match(op))
	}
}

func (c *condition) version(model, slot string, op filter.Op, number int64) {
	if number == 0 && op == filter.Equal {
		c.add([]any{model}, "d.id NOT IN (SELECT s.device FROM slots s WHERE s.model = ? AND s.slot %s)", slot)
		return
	}
	c.add([]any{model, number}, `d.id IN (SELECT s.device FROM versions v JOIN slots s ON s.digest = v.digest
		WHERE v.name = ? AND s.model = v.name AND s.slot %s AND v.number %s ?)`, slot, op)
}

// later turns a relation of ages into one of times.
func later(op filter.Op) string {
	return map[filter.Op]string{filter.Less: ">", filter.AtMost: ">=", filter.Greater: "<", filter.AtLeast: "<="}[op]
}

func match(op filter.Op) string {
	if op == filter.Matching {
		return "GLOB"
	}
	return "="
}

// pattern makes of a pattern one of SQLite's, where brackets mean something too.
func pattern(op filter.Op, s string) string {
	if op == filter.Matching {
		return strings.ReplaceAll(s, "[", "[[]")
	}
	return s
}
