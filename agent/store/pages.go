package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// What checkTree reads of a bbolt file (go.etcd.io/bbolt internal/common
// page.go, meta.go, bucket.go), integers in the machine's byte order:
//
//	page     0 id u64, 8 flags u16, 10 count u16, 12 overflow u32, 16 elements
//	meta    16 magic u32, version u32, page size u32, flags u32,
//	        32 root u64, sequence u64, freelist u64, 56 pages u64, 64 txid u64, 72 checksum u64
//	branch   0 pos u32, key size u32, 8 page u64
//	leaf     0 flags u32, pos u32, key size u32, value size u32
//	bucket   0 root u64, 8 sequence u64, 16 a page of its own if root is 0
const (
	pageHeader   = 16
	elementSize  = 16
	bucketHeader = 16
	metaEnd      = 80

	branchFlag     = 0x01
	leafFlag       = 0x02
	bucketLeafFlag = 0x01

	metaMagic = 0xED0CDAED
)

var native = binary.NativeEndian

// checkTree reports whether the pages that the newest meta page of f leads to
// are a tree. bbolt trusts that: it follows a cycle until memory is gone, which
// no recover and no time limit helps against. Other damage it answers with a
// panic or an error, and what it can still read is worth having: that is left
// to it.
func checkTree(f io.ReaderAt, size int64) error {
	root, pages, ok := newestMeta(f)
	if !ok {
		return nil
	}
	pages = min(pages, uint64(size/pageSize))
	t := tree{f: f, pages: pages, seen: make([]bool, pages), todo: []uint64{root}}
	for len(t.todo) > 0 {
		id := t.todo[len(t.todo)-1]
		t.todo = t.todo[:len(t.todo)-1]
		if err := t.page(id); err != nil {
			return fmt.Errorf("%w: page %d %w", ErrDamaged, id, err)
		}
	}
	return nil
}

// newestMeta returns root page and number of pages of the valid meta page with
// the higher transaction.
func newestMeta(f io.ReaderAt) (root, pages uint64, ok bool) {
	var newest uint64
	for id := range int64(2) {
		var b [metaEnd]byte
		if _, err := f.ReadAt(b[:], id*pageSize); err != nil {
			continue
		}
		sum := fnv.New64a()
		sum.Write(b[pageHeader : metaEnd-8])
		txid := native.Uint64(b[64:])
		if native.Uint32(b[16:]) != metaMagic || native.Uint32(b[24:]) != pageSize ||
			native.Uint64(b[72:]) != sum.Sum64() || ok && txid <= newest {
			continue
		}
		newest, root, pages, ok = txid, native.Uint64(b[32:]), native.Uint64(b[56:]), true
	}
	return root, pages, ok
}

// A tree is a walk over pages.
type tree struct {
	f     io.ReaderAt
	pages uint64
	seen  []bool // by page
	todo  []uint64
	buf   []byte
}

var (
	errBeyond = errors.New("has elements beyond its end")
	errTwice  = errors.New("has two parents")
)

// page reads one page, with those it overflows into, and notes what it leads
// to. Pages outside the file lead nowhere.
func (t *tree) page(id uint64) error {
	var head [pageHeader]byte
	if id < 2 || id >= t.pages {
		return nil
	}
	if _, err := t.f.ReadAt(head[:], int64(id)*pageSize); err != nil {
		return err
	}
	n := 1 + uint64(native.Uint32(head[12:]))
	if n > t.pages-id {
		return errBeyond
	}
	for i := id; i < id+n; i++ {
		if t.seen[i] {
			return errTwice
		}
		t.seen[i] = true
	}
	if uint64(len(t.buf)) < n*pageSize {
		t.buf = make([]byte, n*pageSize)
	}
	b := t.buf[:n*pageSize]
	if _, err := t.f.ReadAt(b, int64(id)*pageSize); err != nil {
		return err
	}
	return t.elements(b)
}

// elements notes what the elements of a page lead to.
func (t *tree) elements(b []byte) error {
	flags, count := native.Uint16(b[8:]), int(native.Uint16(b[10:]))
	if flags != branchFlag && flags != leafFlag {
		return nil
	}
	if len(b) < pageHeader+count*elementSize {
		return errBeyond
	}
	for at := pageHeader; at < pageHeader+count*elementSize; at += elementSize {
		e := b[at:]
		if flags == branchFlag {
			t.todo = append(t.todo, native.Uint64(e[8:]))
			continue
		}
		begin := uint64(native.Uint32(e[4:])) + uint64(native.Uint32(e[8:]))
		end := begin + uint64(native.Uint32(e[12:]))
		if native.Uint32(e)&bucketLeafFlag == 0 || end > uint64(len(e)) {
			continue
		}
		if err := t.bucket(e[begin:end]); err != nil {
			return err
		}
	}
	return nil
}

// bucket reads a value that is a bucket: a page elsewhere, or one inside it.
func (t *tree) bucket(value []byte) error {
	if len(value) < bucketHeader {
		return nil
	}
	if root := native.Uint64(value); root != 0 {
		t.todo = append(t.todo, root)
		return nil
	}
	if page := value[bucketHeader:]; len(page) >= pageHeader && native.Uint16(page[8:]) == leafFlag {
		return t.elements(page)
	}
	return nil
}

// checkTreeOf is checkTree on a file.
func checkTreeOf(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return checkTree(f, info.Size())
}
