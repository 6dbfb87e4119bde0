package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/near"
)

// formats are the values of -o.
var formats = []string{"table", "json", "yaml", "name"}

// A format is the value of -o.
type format string

func (f *format) String() string { return string(*f) }
func (f *format) Type() string   { return "format" }

func (f *format) Set(s string) error {
	if !slices.Contains(formats, s) {
		if meant := near.Match(s, formats); meant != "" {
			return fmt.Errorf("unknown format; did you mean %q?", meant)
		}
		return fmt.Errorf("unknown format; use %s", strings.Join(formats, ", "))
	}
	*f = format(s)
	return nil
}

// addOutput adds -o to a command that prints what it read.
func (a *app) addOutput(cmd *cobra.Command) {
	a.format = "table"
	cmd.Flags().VarP(&a.format, "output", "o", "what to print: "+strings.Join(formats, ", "))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
}

// print writes one answer to stdout in the format of -o: the document as JSON
// or YAML, one name a line, or what rows draws.
func (a *app) print(doc any, names []string, rows func(w *grid)) error {
	switch a.format {
	case "json", "yaml":
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(doc); err != nil {
			return fmt.Errorf("write the answer: %w", err)
		}
		if a.format == "yaml" {
			return api.WriteYAML(a.stdout, b.Bytes())
		}
		return a.write(b.Bytes())
	case "name":
		var b bytes.Buffer
		for _, n := range names {
			fmt.Fprintln(&b, n)
		}
		return a.write(b.Bytes())
	default:
		g := &grid{}
		rows(g)
		return a.write(g.render())
	}
}

// write writes b to stdout; a reader that has gone is an error.
func (a *app) write(b []byte) error {
	if _, err := a.stdout.Write(b); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

// notef writes one line for people to stderr.
func (a *app) notef(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.stderr, format+"\n", args...)
	}
}

// A grid is a table under construction: a heading, or pairs of name and value.
type grid struct {
	blocks []table.Writer
}

// header starts a table with these columns.
func (g *grid) header(columns ...string) {
	t := newTable()
	row := make(table.Row, len(columns))
	for i, c := range columns {
		row[i] = c
	}
	t.AppendHeader(row)
	g.blocks = append(g.blocks, t)
}

// row adds a row to the table that was started last.
func (g *grid) row(cells ...any) {
	if len(g.blocks) == 0 {
		g.blocks = append(g.blocks, newTable())
	}
	for i, c := range cells {
		cells[i] = text.StripEscape(fmt.Sprint(c)) // names come from files and devices
	}
	g.blocks[len(g.blocks)-1].AppendRow(cells)
}

func newTable() table.Writer {
	t := table.NewWriter()
	t.SetStyle(table.StyleDefault)
	t.Style().Options = table.OptionsNoBordersAndSeparators
	t.Style().Box.PaddingLeft = ""
	t.Style().Box.PaddingRight = "  "
	t.Style().Format.Header = text.FormatLower
	t.SuppressTrailingSpaces()
	return t
}

func (g *grid) render() []byte {
	var b bytes.Buffer
	for _, t := range g.blocks {
		if s := t.Render(); s != "" {
			if b.Len() > 0 {
				b.WriteByte('\n')
			}
			b.WriteString(s)
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

// ago says how long before now t was, in one unit.
func ago(t time.Time) string {
	switch d := time.Since(t); {
	case t.IsZero():
		return "never"
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd ago", int(d.Hours()/24))
	}
}

// orDash returns s, or a dash for nothing.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// joinLabels writes labels as k=v,k=v in the order of their keys.
func joinLabels(labels map[string]string) string {
	pairs := make([]string, 0, len(labels))
	for k, v := range labels {
		pairs = append(pairs, k+"="+v)
	}
	slices.Sort(pairs)
	return orDash(strings.Join(pairs, ","))
}

// isTerminal reports whether w is one.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
