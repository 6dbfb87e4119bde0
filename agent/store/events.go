package store

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"go.etcd.io/bbolt"
)

// A Pending is an event that was not acknowledged yet. Seq never repeats
// within one database and grows.
type Pending struct {
	Seq  uint64
	Data []byte
}

// appendEvent adds e to the ring; the oldest gives way beyond MaxEvents.
func appendEvent(tx *bbolt.Tx, e []byte) error {
	b, err := tx.CreateBucketIfNotExists(eventsBucket)
	if err != nil {
		return err
	}
	seq, err := b.NextSequence()
	if err != nil {
		return err
	}
	if err := put(tx, eventsBucket, eventKey(seq), e); err != nil {
		return err
	}
	n := 0
	c := b.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		n++
	}
	for k, _ := c.First(); k != nil && n > MaxEvents; k, _ = c.First() {
		if err := c.Delete(); err != nil {
			return err
		}
		n--
	}
	return nil
}

func eventKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// Events returns the events that wait, oldest first; the bytes are the caller's.
func (s *Store) Events() ([]Pending, error) {
	var out []Pending
	err := s.view(func(tx *bbolt.Tx) error {
		b := tx.Bucket(eventsBucket)
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, sealed []byte) error {
			data, err := unseal(eventsBucket, k, sealed)
			if err != nil {
				return err
			}
			if len(k) != 8 {
				return fmt.Errorf("%w: event key of %d bytes", ErrDamaged, len(k))
			}
			out = append(out, Pending{binary.BigEndian.Uint64(k), bytes.Clone(data)})
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return out, nil
}

// DropEvents removes acknowledged events; one that is gone already is fine.
func (s *Store) DropEvents(seqs ...uint64) error {
	return s.update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(eventsBucket)
		for _, seq := range seqs {
			if err := b.Delete(eventKey(seq)); err != nil {
				return err
			}
		}
		return nil
	})
}
