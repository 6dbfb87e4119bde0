package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAFileThatChangesWhileItIsRead(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(path string) error
		says   string
	}{
		{"nothing", func(string) error { return nil }, ""},
		{"grows", func(path string) error {
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("3,2")
			return errors.Join(err, f.Close())
		}, "it had 16 bytes and has more now; copy it first"},
		{"is cut", func(path string) error { return os.Truncate(path, 6) }, "it had 16 bytes, and 8 were read"},
		{"is written again", func(path string) error {
			return errors.Join(os.WriteFile(path, []byte("time,a\n1,9\n2,9\n\n"), 0o600), os.Chtimes(path, time.Time{}, time.Unix(1, 0)))
		}, "it had 16 bytes, and 16 were read"},
	} {
		path := filepath.Join(t.TempDir(), "data.csv")
		if err := os.WriteFile(path, []byte("time,a\n1,5\n2,6\n\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := (&app{}).openSteady(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(f, make([]byte, 8)); err != nil {
			t.Fatal(err)
		}
		if err := test.change(path); err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, f)
		if errors.Is(err, errChanged) != (test.says != "") || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %q", test.name, err, test.says)
		}
		f.Close()
	}
	if _, err := (&app{}).openSteady(os.DevNull); err != nil {
		t.Errorf("a device: %v", err)
	}
}
