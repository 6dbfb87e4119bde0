package store

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// writeFile replaces name in the data folder: temporary file, sync, rename,
// sync of the folder.
func (s *Store) writeFile(name string, write func(io.Writer) error) (err error) {
	f, err := os.OpenFile(s.path(name+".new"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return mapped(err)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return mapped(err)
	}
	if err := os.Rename(f.Name(), s.path(name)); err != nil {
		return mapped(err)
	}
	return syncDir(s.dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

const (
	goldenPrefix = "golden-"
	goldenSuffix = ".bin"
)

// WriteGolden replaces golden-MODEL.bin with what write writes.
func (s *Store) WriteGolden(model string, write func(io.Writer) error) error {
	if err := s.writeFile(goldenPrefix+model+goldenSuffix, write); err != nil {
		return fmt.Errorf("export %s: %w", model, err)
	}
	return nil
}

// Golden opens golden-MODEL.bin; the caller closes it.
func (s *Store) Golden(model string) (io.ReadCloser, error) {
	return os.Open(s.path(goldenPrefix + model + goldenSuffix))
}

// Goldens lists the models that have an exported copy.
func (s *Store) Goldens() ([]string, error) {
	paths, err := filepath.Glob(s.path(goldenPrefix + "*" + goldenSuffix))
	var models []string
	for _, p := range paths {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(p), goldenPrefix), goldenSuffix)
		models = append(models, name)
	}
	return models, err
}

// Counters only ever grow, and a lost database must not turn them back: they
// are copied to a file beside it.
type Counters struct {
	Boot       uint64 // starts of the process
	Epoch, Rev uint64 // of the newest verified want
}

// SaveCounters stores c outside the database.
func (s *Store) SaveCounters(c Counters) error {
	if s.readOnly {
		return ErrReadOnly
	}
	text := fmt.Sprintf("%d %d %d", c.Boot, c.Epoch, c.Rev)
	err := s.writeFile(countersName, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s %s\n", text, countersSum(text))
		return err
	})
	if err != nil {
		return fmt.Errorf("copy the counters: %w", err)
	}
	return nil
}

// Counters returns what SaveCounters stored last, zeros when that is lost.
func (s *Store) Counters() Counters {
	b, err := os.ReadFile(s.path(countersName))
	if err != nil {
		return Counters{}
	}
	line := strings.TrimSpace(string(b))
	end := strings.LastIndexByte(line, ' ')
	if end < 0 || line[end+1:] != countersSum(line[:end]) {
		return Counters{}
	}
	var c Counters
	if _, err := fmt.Sscanf(line[:end], "%d %d %d", &c.Boot, &c.Epoch, &c.Rev); err != nil {
		return Counters{}
	}
	return c
}

func countersSum(text string) string {
	return hex.EncodeToString(sum([]byte(countersName), nil, []byte(text)))
}

// Size returns the size of the database file, bytes.
func (s *Store) Size() int64 {
	info, err := os.Stat(s.path(fileName))
	if err != nil {
		return 0
	}
	return info.Size()
}
