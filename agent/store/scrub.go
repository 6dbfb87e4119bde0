package store

import (
	"errors"
	"fmt"
	"os"

	"go.etcd.io/bbolt"
)

// Check reads everything again: every value, and the files of slots. The error
// wraps ErrDamaged when something is, and then Repair is to be called. It may
// take as long as reading the whole cache does, and holds up no change.
func (s *Store) Check() error {
	err := s.view(func(tx *bbolt.Tx) error { return (*content)(nil).readTx(tx) })
	if errors.Is(err, ErrMissing) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("check model cache: %w", err)
	}
	damaged, err := s.damagedFiles()
	for _, d := range damaged {
		err = errors.Join(err, d.err)
	}
	return err
}

// Repair opens the cache anew, as Open does: what is damaged is set aside, and
// Findings tells. Slots that were damaged are missing then.
func (s *Store) Repair() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readOnly || s.db == nil {
		return ErrReadOnly
	}
	db := s.db
	s.db = nil
	if err := db.Close(); err != nil {
		return fmt.Errorf("repair model cache: %w", err)
	}
	if err := s.open(); err != nil {
		return fmt.Errorf("repair model cache: %w", err)
	}
	return nil
}

// A damagedFile is a slot whose file is not what the database says.
type damagedFile struct {
	key Key
	err error
}

// damagedFiles re-hashes the files of slots. A damaged database is an error of
// its own.
func (s *Store) damagedFiles() ([]damagedFile, error) {
	records := make(map[Key][]byte)
	err := s.view(func(tx *bbolt.Tx) error { return fileRecords(tx, records) })
	if errors.Is(err, ErrMissing) {
		err = nil
	}
	return s.unlike(records), err
}

// fileRecords reads the record of every slot that has a file.
func fileRecords(tx *bbolt.Tx, records map[Key][]byte) error {
	return tx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
		k, ok := parseSlotBucket(name)
		if !ok {
			return nil
		}
		record, err := get(tx, name, fileKey)
		if errors.Is(err, ErrMissing) {
			return nil
		}
		records[k] = record
		return err
	})
}

func (s *Store) unlike(records map[Key][]byte) []damagedFile {
	var out []damagedFile
	for k, record := range records {
		f, err := os.Open(s.path(slotFile(k)))
		if err != nil {
			err = fileError(err)
		} else {
			err = errors.Join(checkFile(f, record), f.Close())
		}
		if errors.Is(err, ErrDamaged) {
			out = append(out, damagedFile{k, err})
		}
	}
	return out
}

// dropDamagedFiles lets the slots go whose files are damaged. The files stay:
// a download takes over what is whole of them. It is part of open.
func (s *Store) dropDamagedFiles() error {
	records := make(map[Key][]byte)
	if err := s.db.View(func(tx *bbolt.Tx) error { return fileRecords(tx, records) }); err != nil {
		return err
	}
	damaged := s.unlike(records)
	for _, d := range damaged {
		s.findings = append(s.findings, d.err.Error())
	}
	if len(damaged) == 0 || s.readOnly {
		return nil
	}
	err := s.db.Update(func(tx *bbolt.Tx) error {
		for _, d := range damaged {
			if err := dropSlot(tx, d.key); err != nil {
				return err
			}
		}
		return nil
	})
	if err = mapped(err); errors.Is(err, ErrFull) || errors.Is(err, ErrQuota) {
		return nil // Slot says that it is damaged
	}
	return err
}
