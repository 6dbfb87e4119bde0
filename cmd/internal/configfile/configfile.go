// Package configfile writes the two TOML files that cmd/internal/config reads,
// with a comment for each key. It is apart from it so that an agent, which only
// reads, does not link text/template.
package configfile

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/sandpiper-edge/sandpiper/cmd/internal/config"
)

// EncodeAgent writes agent.toml to w.
func EncodeAgent(w io.Writer, a config.Agent) error {
	if a.Username == "" {
		a.Username = "d." + a.Device
	}
	return execute(w, agentFile, a)
}

// WriteAgent writes agent.toml to path with mode 0600, complete or not at all.
func WriteAgent(path string, a config.Agent) error {
	return writeFile(path, func(w io.Writer) error { return EncodeAgent(w, a) })
}

// WriteServer writes sandpiper.toml to path as WriteAgent does.
func WriteServer(path string, s config.Server) error {
	return writeFile(path, func(w io.Writer) error { return execute(w, serverFile, s) })
}

// execute writes a file from its template.
func execute(w io.Writer, file string, data any) error {
	t, err := template.New("").Funcs(template.FuncMap{
		"q":      quote,
		"base64": func(b config.Base64) string { return base64.StdEncoding.EncodeToString(b) },
		"level":  func(l slog.Level) string { return strings.ToLower(l.String()) },
	}).Parse(file)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

// quote writes s as a TOML basic string (TOML 1.0, "String").
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// writeFile writes a private file through a synced temporary one beside it.
func writeFile(path string, encode func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // CreateTemp uses mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err := encode(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
