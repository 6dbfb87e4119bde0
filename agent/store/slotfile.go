package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// MaxInBucket is the largest payload that is kept inside the database. A larger
// one has a file of its own, written once as it arrives, where the database
// would have to be given it as a whole.
const MaxInBucket = 128 << 10

const (
	slotFilePrefix = "slot-"
	slotFileSuffix = ".bin"
	partSuffix     = ".part"
)

// slotFile returns the name of k's file: slot-MODEL-DIGEST.bin.
func slotFile(k Key) string {
	return slotFilePrefix + k.Model + "-" + k.Digest.String() + slotFileSuffix
}

func partFile(k Key) string { return strings.TrimSuffix(slotFile(k), slotFileSuffix) + partSuffix }

// parseSlotFile reads the name of a slot's file, complete or in part.
func parseSlotFile(name string) (Key, bool) {
	rest, ok := strings.CutPrefix(name, slotFilePrefix)
	rest = strings.TrimSuffix(rest, newSuffix)
	rest, whole := strings.CutSuffix(rest, slotFileSuffix)
	rest, part := strings.CutSuffix(rest, partSuffix)
	i := strings.LastIndexByte(rest, '-')
	if !ok || whole == part || i < 0 {
		return Key{}, false
	}
	d, err := protocol.ParseDigest(rest[i+1:])
	return Key{rest[:i], d}, err == nil
}

// fileSumSize is the size of what the database holds of a file: SHA-256 and
// size, 8 bytes big-endian.
const fileSumSize = sha256.Size + 8

// slotFiles lists the files of slots, complete and in part.
func (s *Store) slotFiles() (paths []string, size int64) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, 0
	}
	for _, e := range entries {
		if _, ok := parseSlotFile(e.Name()); !ok {
			continue
		}
		if info, err := e.Info(); err == nil {
			size += info.Size()
		}
		paths = append(paths, s.path(e.Name()))
	}
	return paths, size
}

// room returns an error that wraps ErrQuota unless need more bytes of files fit.
func (s *Store) room(need int64) error {
	if s.Size()+need > s.cfg.Quota {
		return s.overQuota(need)
	}
	return nil
}

// overQuota is the error for a change that needs so many bytes, 0 if that is
// not known.
func (s *Store) overQuota(need int64) error {
	what := "more is needed"
	if need > 0 {
		what = fmt.Sprintf("%d bytes more are needed", need)
	}
	return fmt.Errorf("%w: %s, and of %d bytes %d are in use; raise limits.quota_bytes in agent.toml, or have fewer models on this device",
		ErrQuota, what, s.cfg.Quota, s.Size())
}

// head is what the file of a slot has before the payload.
func (s Slot) head() ([]byte, error) {
	var d artifact.Descriptor
	if err := d.UnmarshalBinary(s.Descriptor); err != nil {
		return nil, err
	}
	if int(d.Size) != len(s.Payload) {
		return nil, fmt.Errorf("slot %s: a payload of %d bytes, its descriptor says %d", s.Digest.Short(), len(s.Payload), d.Size)
	}
	return artifact.AppendFileHead(nil, s.Release, &d)
}

// putFile makes the file of a slot, from the download in part if that is what
// the slot holds, and returns what the database is to hold of it. It may be
// called again after a failure, whatever that left behind.
func (s *Store) putFile(slot Slot) ([]byte, error) {
	head, err := slot.head()
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	h.Write(head)
	h.Write(slot.Payload)
	size := int64(len(head) + len(slot.Payload))
	record := binary.BigEndian.AppendUint64(h.Sum(nil), uint64(size))

	path, part := s.path(slotFile(slot.Key)), s.path(partFile(slot.Key))
	switch {
	case holds(path, head, slot.Payload):
		return record, nil
	case holds(part, head, slot.Payload):
		err = s.disk.rename(part, path)
	default:
		if err = s.room(size); err != nil {
			return nil, err
		}
		err = s.disk.replace(path, func(w io.Writer) error {
			_, err := w.Write(head)
			if err == nil {
				_, err = w.Write(slot.Payload)
			}
			return err
		})
	}
	return record, mapped(err)
}

// holds reports whether a file begins with head and then payload.
func holds(path string, head, payload []byte) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	buf := make([]byte, 32<<10)
	for _, want := range [2][]byte{head, payload} {
		for len(want) > 0 {
			b := buf[:min(len(buf), len(want))]
			if _, err := io.ReadFull(f, b); err != nil || !bytes.Equal(b, want[:len(b)]) {
				return false
			}
			want = want[len(b):]
		}
	}
	return true
}

// readFile reads the payload from the file of k. The error wraps ErrDamaged.
func (s *Store) readFile(k Key, record []byte) ([]byte, error) {
	f, err := os.Open(s.path(slotFile(k)))
	if err != nil {
		return nil, fileError(err)
	}
	defer f.Close()
	if err := checkFile(f, record); err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	_, t, err := artifact.ReadFile(f)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return t.Payload, nil
}

// checkFile re-hashes a file.
func checkFile(f *os.File, record []byte) error {
	if len(record) != fileSumSize {
		return fmt.Errorf("%w: a record of %d bytes for a file", ErrDamaged, len(record))
	}
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return fileError(err)
	}
	if !bytes.Equal(record, binary.BigEndian.AppendUint64(h.Sum(nil), uint64(n))) {
		return fmt.Errorf("%w: %s does not match its checksum", ErrDamaged, filepath.Base(f.Name()))
	}
	return nil
}

// fileError takes a file that is not there, and a read that the disk fails, for
// damage.
func fileError(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// Tidy removes the files of slots that are not in the database and that keep
// does not name: downloads that were given up.
func (s *Store) Tidy(keep func(Key) bool) error {
	if s.readOnly {
		return nil
	}
	slots, err := s.Slots()
	if err != nil {
		return err
	}
	inUse := make(map[string]bool)
	for _, k := range slots {
		inUse[s.path(slotFile(k))] = true
	}
	var errs []error
	paths, _ := s.slotFiles()
	for _, p := range paths {
		k, _ := parseSlotFile(filepath.Base(p))
		if inUse[p] || keep(k) {
			continue
		}
		errs = append(errs, mapped(s.disk.remove(p)))
	}
	return errors.Join(errs...)
}
