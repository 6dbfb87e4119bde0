package store

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
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

// SaveBoot stores the number of this start outside the database.
func (s *Store) SaveBoot(n uint64) error {
	if s.readOnly {
		return ErrReadOnly
	}
	text := strconv.FormatUint(n, 10)
	err := s.writeFile(bootName, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s %s\n", text, bootSum(text))
		return err
	})
	if err != nil {
		return fmt.Errorf("count this start: %w", err)
	}
	return nil
}

// Boot returns what SaveBoot stored last, 0 when that is lost.
func (s *Store) Boot() uint64 {
	b, err := os.ReadFile(s.path(bootName))
	if err != nil {
		return 0
	}
	text, check, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	n, err := strconv.ParseUint(text, 10, 53)
	if err != nil || check != bootSum(text) {
		return 0
	}
	return n
}

func bootSum(text string) string {
	return hex.EncodeToString(sum([]byte(bootName), nil, []byte(text)))
}

// Size returns the size of the database file, bytes.
func (s *Store) Size() int64 {
	info, err := os.Stat(s.path(fileName))
	if err != nil {
		return 0
	}
	return info.Size()
}
