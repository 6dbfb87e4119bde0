package store

import (
	"bytes"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// A content is what of a database is whole: all there is to carry over when
// the rest is damaged.
type content struct {
	state, usage []byte
	slots        []savedSlot
	events       [][]byte
	seq          uint64
}

// A savedSlot is a slot, and the record of its file if it has one.
type savedSlot struct {
	Slot
	file []byte
}

// maxKeys is more than any agent writes; a damaged tree may repeat itself.
const maxKeys = 100_000

// verify checks every value of db, without copying any. The error wraps
// ErrDamaged.
func verify(db *bbolt.DB) error { return (*content)(nil).read(db) }

// read verifies every value of db and, unless c is nil, keeps what is whole.
// The first damage is returned, wrapping ErrDamaged, after everything readable
// has been read.
func (c *content) read(db *bbolt.DB) error { return db.View(c.readTx) }

func (c *content) readTx(tx *bbolt.Tx) error {
	version, err := get(tx, metaBucket, formatKey)
	switch {
	case errors.Is(err, ErrMissing):
		err = fmt.Errorf("%w: it has no format", ErrDamaged)
	case err == nil && string(version) != format && string(version) != firstFormat:
		return fmt.Errorf("%w: it is %q, this agent reads %s and %s", ErrFormat, version, firstFormat, format)
	}
	errs := []error{err}
	for i, key := range [][]byte{stateKey, usageKey} {
		b, err := get(tx, metaBucket, key)
		if errors.Is(err, ErrMissing) {
			continue
		}
		if c != nil {
			*[]*[]byte{&c.state, &c.usage}[i] = b
		}
		errs = append(errs, err)
	}
	errs = append(errs, c.readBuckets(tx))
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *content) readBuckets(tx *bbolt.Tx) (first error) {
	keys := 0
	err := tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
		if keys++; keys > maxKeys {
			return fmt.Errorf("%w: too many keys", ErrDamaged)
		}
		k, isSlot := parseSlotBucket(name)
		slot := savedSlot{Slot: Slot{Key: k}}
		whole := 0
		err := b.ForEach(func(key, sealed []byte) error {
			if keys++; keys > maxKeys {
				return fmt.Errorf("%w: too many keys", ErrDamaged)
			}
			value, err := unseal(name, key, sealed)
			if err != nil {
				if first == nil {
					first = err
				}
				return nil
			}
			switch {
			case isSlot:
				p := slot.field(string(key))
				if p == nil {
					return nil
				}
				whole++
				if c != nil {
					*p = bytes.Clone(value)
				}
			case c != nil && string(name) == string(eventsBucket):
				c.events = append(c.events, bytes.Clone(value))
			}
			return nil
		})
		switch {
		case isSlot && whole < len(slotKeys):
			if first == nil {
				first = fmt.Errorf("%w: slot %s %s is not complete", ErrDamaged, k.Model, k.Digest.Short())
			}
		case c == nil:
		case isSlot:
			c.slots = append(c.slots, slot)
		case string(name) == string(eventsBucket):
			c.seq = b.Sequence()
		}
		return err
	})
	if err != nil {
		return err
	}
	return first
}

// field returns where the value of a key of a slot's bucket belongs.
func (s *savedSlot) field(key string) *[]byte {
	switch key {
	case "release":
		return &s.Release
	case "descriptor":
		return &s.Descriptor
	case "payload":
		return &s.Payload
	case "file":
		return &s.file
	}
	return nil
}

// write puts c into a new database.
func (c *content) write(tx *bbolt.Tx) error {
	if c == nil {
		return nil
	}
	for _, v := range []struct{ key, value []byte }{{stateKey, c.state}, {usageKey, c.usage}} {
		if v.value == nil {
			continue
		}
		if err := put(tx, metaBucket, v.key, v.value); err != nil {
			return err
		}
	}
	for _, s := range c.slots {
		if err := s.write(tx, s.file); err != nil {
			return err
		}
	}
	b, err := tx.CreateBucketIfNotExists(eventsBucket)
	if err != nil {
		return err
	}
	if err := b.SetSequence(c.seq); err != nil {
		return err
	}
	for _, e := range c.events {
		if err := appendEvent(tx, e); err != nil {
			return err
		}
	}
	return nil
}
