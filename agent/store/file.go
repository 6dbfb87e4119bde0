package store

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

const (
	goldenPrefix = "golden-"
	goldenSuffix = ".bin"
)

// WriteGolden replaces golden-MODEL.bin with slot, as an artifact file. A slot
// that has a file gets a second name for it instead, and a copy only where the
// file system has no such names.
func (s *Store) WriteGolden(slot Slot) error {
	if err := s.writeGolden(slot); err != nil {
		return fmt.Errorf("export %s: %w", slot.Model, err)
	}
	return nil
}

func (s *Store) writeGolden(slot Slot) error {
	head, err := slot.head()
	if err != nil {
		return err
	}
	path := s.path(goldenPrefix + slot.Model + goldenSuffix)
	if file := s.path(slotFile(slot.Key)); len(slot.Payload) > MaxInBucket && holds(file, head, slot.Payload) {
		if s.disk.link(file, path+newSuffix) == nil {
			return mapped(s.disk.rename(path+newSuffix, path))
		}
	}
	return s.disk.replace(path, func(w io.Writer) error {
		_, err := w.Write(head)
		if err == nil {
			_, err = w.Write(slot.Payload)
		}
		return err
	})
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
	if err := s.writeNote(countersName, fmt.Sprintf("%d %d %d", c.Boot, c.Epoch, c.Rev)); err != nil {
		return fmt.Errorf("copy the counters: %w", err)
	}
	return nil
}

// Counters returns what SaveCounters stored last, zeros when that is lost.
func (s *Store) Counters() Counters {
	var c Counters
	if _, err := fmt.Sscanf(s.readNote(countersName), "%d %d %d", &c.Boot, &c.Epoch, &c.Rev); err != nil {
		return Counters{}
	}
	return c
}

// Size returns what counts towards the quota: the sizes of the database and of
// the files of slots, bytes.
func (s *Store) Size() int64 {
	_, files := s.slotFiles()
	return s.databaseSize() + files
}

func (s *Store) databaseSize() int64 {
	info, err := os.Stat(s.path(fileName))
	if err != nil {
		return 0
	}
	return info.Size()
}
