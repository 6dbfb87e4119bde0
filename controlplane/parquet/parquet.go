// Package parquet reads the flat columns of Apache Parquet files, row by row, with
// the memory of one page a column. Files are written by others: whatever is in one
// gives rows or an error. It is the one package that imports parquet-go.
//
// A file is rows in groups; a group has a chunk for each column, a chunk has pages
// of values (parquet.apache.org/docs/file-format). What a file says about its sizes
// is checked before the library takes memory for it.
package parquet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"slices"
	"strings"
	"time"

	pq "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// ErrDamaged: a file that is cut short or broken, or of a kind that is not read.
var ErrDamaged = errors.New("damaged or not readable")

// ErrTooLarge: a file that is beyond a limit of this package.
var ErrTooLarge = errors.New("beyond a limit")

// Limits of what is read.
const (
	MaxFooter  = 64 << 20  // bytes of the description at the end of a file
	MaxPage    = 256 << 20 // bytes of a page, uncompressed
	MaxColumns = 4096
)

// A Kind is what a Value is.
type Kind uint8

// Kinds.
const (
	Null Kind = iota
	Integer
	Float
	Text
	Time
)

// A Value is one cell of a row.
type Value struct {
	Kind  Kind
	Int   int64   // Integer, and Time: ns since 1970 UTC
	Float float64 // Float
	Text  []byte  // Text; valid until the next row
}

// A Reader reads the rows of a file.
type Reader struct {
	file    *pq.File
	r       io.ReaderAt
	names   []string
	columns []column
	groups  []pq.RowGroup // that are still to be read
	left    int64         // rows of the group at hand
	row     []Value
}

// A column is a leaf of the schema that no list is above.
type column struct {
	leaf   int // index of its chunk in a group
	decode func(pq.Value) Value
	keep   bool
	cursor *cursor
}

// Open reads the description of a file of size bytes. The reader reads from r as
// it goes. Lists and maps are no columns; members of a group are, as group.member.
func Open(r io.ReaderAt, size int64) (reader *Reader, err error) {
	defer catch(&err)
	if err := checkFooter(r, size); err != nil {
		return nil, err
	}
	f, err := pq.OpenFile(r, size, pq.SkipPageIndex(true), pq.SkipBloomFilters(true))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	reader = &Reader{file: f, r: r, groups: slices.Clone(f.RowGroups())}
	for _, path := range f.Schema().Columns() {
		leaf, ok := f.Schema().Lookup(path...)
		if !ok || leaf.MaxRepetitionLevel > 0 {
			continue
		}
		decode := decoder(leaf.Node.Type())
		if decode == nil {
			continue
		}
		reader.names = append(reader.names, strings.Join(path, "."))
		reader.columns = append(reader.columns, column{leaf: leaf.ColumnIndex, decode: decode, keep: true})
	}
	if len(reader.columns) > MaxColumns {
		return nil, fmt.Errorf("%w: %d columns, at most %d are read", ErrTooLarge, len(reader.columns), MaxColumns)
	}
	reader.row = make([]Value, len(reader.columns))
	return reader, nil
}

// catch makes a panic of the library an error: the bytes of a file are no reason
// to end the program.
func catch(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: %v", ErrDamaged, p)
	}
}

// checkFooter looks at the last 8 bytes: the length of the description before them,
// little-endian, and PAR1.
func checkFooter(r io.ReaderAt, size int64) error {
	if size < 12 {
		return fmt.Errorf("%w: %d bytes are no Parquet file", ErrDamaged, size)
	}
	var tail [8]byte
	if _, err := r.ReadAt(tail[:], size-8); err != nil && err != io.EOF {
		return err
	}
	n := int64(binary.LittleEndian.Uint32(tail[:4]))
	switch magic := string(tail[4:]); {
	case magic == "PARE":
		return fmt.Errorf("%w: it is encrypted", ErrDamaged)
	case magic != "PAR1":
		return fmt.Errorf("%w: it does not end in PAR1: it was cut short", ErrDamaged)
	case n > size-12:
		return fmt.Errorf("%w: a description of %d bytes in a file of %d", ErrDamaged, n, size)
	case n > MaxFooter:
		return fmt.Errorf("%w: a description of %d bytes, at most %d", ErrTooLarge, n, MaxFooter)
	}
	return nil
}

// Columns returns the names of the columns.
func (r *Reader) Columns() []string { return r.names }

// Keep makes the reader read the columns at these indices only; the others are
// null from the next row group on, or at once where nothing has been read.
func (r *Reader) Keep(columns []int) {
	for i := range r.columns {
		r.columns[i].keep = slices.Contains(columns, i)
	}
	for i := range r.columns {
		if c := &r.columns[i]; !c.keep && c.cursor != nil {
			c.cursor.close()
			c.cursor = nil
			r.row[i] = Value{}
		}
	}
}

// Next returns the next row, valid until the following call, or io.EOF.
func (r *Reader) Next() (row []Value, err error) {
	defer catch(&err)
	for r.left == 0 {
		if err := r.nextGroup(); err != nil {
			return nil, err
		}
	}
	r.left--
	for i := range r.columns {
		c := &r.columns[i]
		if c.cursor == nil {
			continue
		}
		v, err := c.cursor.next()
		if err == io.EOF { //nolint:errorlint // the library's own
			err = fmt.Errorf("%w: it has fewer values than rows", ErrDamaged)
		}
		if err == nil {
			r.row[i] = c.decode(v)
		}
		if err != nil {
			return nil, fmt.Errorf("column %.60q: %w", r.names[i], err)
		}
	}
	return r.row, nil
}

// nextGroup opens the columns of the next group of rows.
func (r *Reader) nextGroup() error {
	r.Close()
	if len(r.groups) == 0 {
		return io.EOF
	}
	g := r.groups[0]
	index := len(r.file.RowGroups()) - len(r.groups)
	r.groups, r.left = r.groups[1:], g.NumRows()
	if r.left < 0 {
		return fmt.Errorf("%w: a group of %d rows", ErrDamaged, r.left)
	}
	chunks := g.ColumnChunks()
	for i := range r.columns {
		c := &r.columns[i]
		if !c.keep {
			continue
		}
		if c.leaf >= len(chunks) {
			return fmt.Errorf("%w: a group of rows lacks the column %.60q", ErrDamaged, r.names[i])
		}
		if err := r.checkPages(index, c.leaf); err != nil {
			return fmt.Errorf("column %.60q: %w", r.names[i], err)
		}
		c.cursor = &cursor{pages: chunks[c.leaf].Pages()}
	}
	return nil
}

// Close gives up the pages at hand.
func (r *Reader) Close() {
	for i := range r.columns {
		if c := &r.columns[i]; c.cursor != nil {
			c.cursor.close()
			c.cursor = nil
		}
	}
}

// checkPages walks over the headers of a chunk's pages: the library takes as much
// memory as they say.
func (r *Reader) checkPages(group, leaf int) error {
	m := r.file.Metadata().RowGroups[group].Columns[leaf].MetaData
	at := m.DataPageOffset
	if d := m.DictionaryPageOffset; d > 0 && d < at {
		at = d
	}
	end := at + m.TotalCompressedSize
	if at < 4 || end < at || end > r.file.Size() {
		return fmt.Errorf("%w: its bytes %d to %d are not in the file", ErrDamaged, at, end)
	}
	var protocol thrift.CompactProtocol
	buf := make([]byte, 4<<10)
	for at < end {
		b := buf[:min(int64(len(buf)), end-at)]
		if _, err := r.r.ReadAt(b, at); err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		var h format.PageHeader
		p := protocol.NewReaderFromBytes(b)
		if err := thrift.NewDecoder(p).Decode(&h); err != nil {
			if int64(len(b)) < min(end-at, 1<<20) { // statistics in a header may be long
				buf = make([]byte, 1<<20)
				continue
			}
			return fmt.Errorf("%w: a page at byte %d: %w", ErrDamaged, at, err)
		}
		if h.UncompressedPageSize > MaxPage {
			return fmt.Errorf("%w: a page of %d bytes, at most %d", ErrTooLarge, h.UncompressedPageSize, MaxPage)
		}
		if h.CompressedPageSize < 0 || int64(h.CompressedPageSize) > end-at-int64(p.BytesRead()) {
			return fmt.Errorf("%w: a page at byte %d of %d bytes goes beyond its column", ErrDamaged, at, h.CompressedPageSize)
		}
		at += int64(p.BytesRead()) + int64(h.CompressedPageSize)
	}
	return nil
}

// A cursor reads the values of a chunk.
type cursor struct {
	pages  pq.Pages
	page   pq.Page
	values pq.ValueReader
	buf    [128]pq.Value
	n, at  int
}

// next returns the next value, whose bytes are valid until the following call.
func (c *cursor) next() (pq.Value, error) {
	for c.at == c.n {
		if c.values == nil {
			page, err := c.pages.ReadPage()
			if err != nil {
				if err != io.EOF { //nolint:errorlint // the library's own
					err = fmt.Errorf("%w: %w", ErrDamaged, err)
				}
				return pq.Value{}, err
			}
			c.page, c.values = page, page.Values()
		}
		n, err := c.values.ReadValues(c.buf[:])
		c.n, c.at = n, 0
		switch {
		case n > 0:
		case err == io.EOF: //nolint:errorlint // the library's own
			pq.Release(c.page)
			c.page, c.values = nil, nil
		case err != nil:
			return pq.Value{}, fmt.Errorf("%w: %w", ErrDamaged, err)
		default:
			return pq.Value{}, fmt.Errorf("%w: a page without an end", ErrDamaged)
		}
	}
	c.at++
	return c.buf[c.at-1], nil
}

func (c *cursor) close() {
	if c.page != nil {
		pq.Release(c.page)
	}
	_ = c.pages.Close() // nothing was written
}

// decoder returns what makes a Value of a value of a type, nil for a type that is
// neither number, text nor time.
func decoder(t pq.Type) func(pq.Value) Value {
	present := func(f func(pq.Value) Value) func(pq.Value) Value {
		return func(v pq.Value) Value {
			if v.IsNull() {
				return Value{}
			}
			return f(v)
		}
	}
	integer := func(v pq.Value) int64 {
		if v.Kind() == pq.Int32 {
			return int64(v.Int32())
		}
		return v.Int64()
	}
	if l := t.LogicalType(); l != nil {
		switch l := l.Value.(type) {
		case *format.DateType:
			return present(func(v pq.Value) Value { return instant(integer(v), 24*time.Hour) })
		case *format.TimestampType:
			unit := l.Unit.Value.Duration()
			return present(func(v pq.Value) Value { return instant(integer(v), unit) })
		case *format.DecimalType:
			scale := math.Pow10(-int(l.Scale))
			if kind := t.Kind(); kind == pq.ByteArray || kind == pq.FixedLenByteArray {
				return present(func(v pq.Value) Value {
					return Value{Kind: Float, Float: decimal(v.ByteArray()) * scale}
				})
			}
			return present(func(v pq.Value) Value {
				return Value{Kind: Float, Float: float64(integer(v)) * scale}
			})
		case *format.IntType:
			if !l.IsSigned {
				return present(func(v pq.Value) Value {
					if v.Kind() == pq.Int32 {
						return Value{Kind: Integer, Int: int64(v.Uint32())}
					}
					return Value{Kind: Float, Float: float64(v.Uint64())}
				})
			}
		}
	}
	switch t.Kind() {
	case pq.Boolean:
		return present(func(v pq.Value) Value {
			if v.Boolean() {
				return Value{Kind: Integer, Int: 1}
			}
			return Value{Kind: Integer}
		})
	case pq.Int32, pq.Int64:
		return present(func(v pq.Value) Value { return Value{Kind: Integer, Int: integer(v)} })
	case pq.Int96: // how Spark used to write timestamps: ns of the day, Julian day
		return present(func(v pq.Value) Value {
			i := v.Int96()
			const epoch = 2440588 // Julian day of 1970-01-01
			day := instant(int64(i[2])-epoch, 24*time.Hour)
			day.Int += int64(uint64(i[1])<<32 | uint64(i[0]))
			return day
		})
	case pq.Float:
		return present(func(v pq.Value) Value { return Value{Kind: Float, Float: float64(v.Float())} })
	case pq.Double:
		return present(func(v pq.Value) Value { return Value{Kind: Float, Float: v.Double()} })
	case pq.ByteArray:
		return present(func(v pq.Value) Value { return Value{Kind: Text, Text: v.ByteArray()} })
	}
	return nil
}

// instant is n units after 1970, and null outside of the years 1678 to 2261.
func instant(n int64, unit time.Duration) Value {
	if n > math.MaxInt64/int64(unit) || n < math.MinInt64/int64(unit) {
		return Value{}
	}
	return Value{Kind: Time, Int: n * int64(unit)}
}

// decimal reads a big-endian number in two's complement.
func decimal(b []byte) float64 {
	n := new(big.Int).SetBytes(b)
	if len(b) > 0 && b[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	f, _ := new(big.Float).SetInt(n).Float64()
	return f
}
