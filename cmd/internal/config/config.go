// Package config reads and writes the two TOML files of the product:
// sandpiper.toml of the control plane (Server) and agent.toml of a device
// (Agent).
//
// Reading is strict. A key that is not known, a value of the wrong type and a
// value outside its range are errors of type *Error, which name the file, the
// line and the column, and say what is wrong and what to write instead. No
// error repeats the value of a secret.
package config

import (
	"encoding"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/near"
)

// MaxFile is the largest configuration file read, in bytes.
const MaxFile = 1 << 20

// An Error is one mistake in a configuration file. Line and Column count from
// 1 and are in bytes; both are 0 when the mistake is something missing.
type Error struct {
	File         string
	Line, Column int
	Message      string // what is wrong, why, and what to write instead
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// A Duration is a time.Duration written as "1m30s".
type Duration time.Duration

// UnmarshalText reads a duration with its unit, as time.ParseDuration does.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a duration; write a number with its unit, such as \"10s\" or \"5m\"", b)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes the duration as String does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func (d Duration) String() string { return time.Duration(d).String() }

// Base64 is a byte string written in standard base64 with padding.
type Base64 []byte

// UnmarshalText decodes standard base64.
func (b *Base64) UnmarshalText(text []byte) error {
	v, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		return errors.New("not valid base64; copy the value again from the file that `sandpiper fleet add` wrote")
	}
	*b = v
	return nil
}

// MarshalText encodes in standard base64.
func (b Base64) MarshalText() ([]byte, error) {
	return []byte(base64.StdEncoding.EncodeToString(b)), nil
}

var _ encoding.TextUnmarshaler = (*Base64)(nil)

// A position is where a key stands in a file.
type position struct{ line, column int }

// A document is one configuration file with the place of each of its keys.
type document struct {
	file string
	keys map[string]definition // by dotted key; tables of an array are numbered: input[0].topic
}

// decode reads the file at path into v, which holds the defaults.
func decode(path string, v any) (*document, error) {
	b, err := read(path)
	if err != nil {
		return nil, err
	}
	r := &reader{file: path, root: reflect.ValueOf(v).Elem(), keys: map[string]definition{}}
	r.known = keysOf(r.root.Type(), "")
	if err := errors.Join(r.read(b), errors.Join(r.unknown...)); err != nil {
		return nil, err
	}
	return &document{file: path, keys: r.keys}, nil
}

// Read reads a TOML file at path into v as strictly as the configuration. mistake
// makes an *Error at a key that it has, stage[1].devices, which is for values
// that v's types take and that are wrong nevertheless.
func Read(path string, v any) (mistake func(key, format string, args ...any) error, err error) {
	doc, err := decode(path, v)
	if err != nil {
		return nil, err
	}
	return doc.errorf, nil
}

// read returns the bytes of a file of at most MaxFile bytes; a pipe or a device that
// gives more is not read to its end, which may never come.
func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if info.IsDir() {
		return nil, fmt.Errorf("read configuration: %w", &fs.PathError{Op: "open", Path: path, Err: errors.New("is a directory; name the .toml file in it")})
	}
	if info.Size() > MaxFile {
		return nil, &Error{File: path, Message: fmt.Sprintf("%d bytes, and a configuration has at most %d; is this the right file?", info.Size(), MaxFile)}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if len(b) > MaxFile {
		return nil, &Error{File: path, Message: fmt.Sprintf("more than %d bytes, which a configuration has at most; is this the right file?", MaxFile)}
	}
	return b, nil
}

// unknownKey says that key is unknown and which known one is nearest.
func unknownKey(key string, known []string) string {
	if meant := near.Match(key, known); meant != "" {
		return fmt.Sprintf("unknown key %q; did you mean %q?", key, meant)
	}
	return fmt.Sprintf("unknown key %q; the keys are %s", key, strings.Join(known, ", "))
}

// keysOf returns the dotted keys that a struct of type t accepts.
func keysOf(t reflect.Type, prefix string) []string {
	var keys []string
	for f := range fields(t) {
		name := prefix + f.Tag.Get("toml")
		typ := f.Type
		if k := typ.Kind(); k == reflect.Pointer || k == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() == reflect.Struct && !reflect.PointerTo(typ).Implements(textUnmarshaler) {
			keys = append(keys, keysOf(typ, name+".")...)
			continue
		}
		keys = append(keys, name)
	}
	return keys
}

// fields yields the fields of a struct type that a file may set.
func fields(t reflect.Type) func(yield func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range t.NumField() {
			if f := t.Field(i); f.Tag.Get("toml") != "-" && !yield(f) {
				return
			}
		}
	}
}

// errorf returns an *Error at key, or without a place where key is missing.
func (d *document) errorf(key, format string, args ...any) error {
	at := d.keys[key]
	return &Error{File: d.file, Line: at.line, Column: at.column, Message: key + ": " + fmt.Sprintf(format, args...)}
}
