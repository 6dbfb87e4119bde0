package parquet

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pq "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/parquet-go/parquet-go/deprecated"
)

// A sample is a row of each kind of column.
type sample struct {
	When   time.Time        `parquet:"when,timestamp(microsecond)"`
	Day    int32            `parquet:"day,date"`
	Old    deprecated.Int96 `parquet:"old"`
	Temp   *float64         `parquet:"temp,optional"`
	Small  float32          `parquet:"small"`
	Count  int32            `parquet:"count"`
	Far    uint64           `parquet:"far"`
	On     bool             `parquet:"on"`
	Price  int64            `parquet:"price,decimal(2:9)"`
	Site   string           `parquet:"site,dict"`
	Inside struct {
		Level int64 `parquet:"level"`
	} `parquet:"inside"`
	List []int64 `parquet:"list"`
}

func samples() []sample {
	t := 21.5
	a := sample{
		When: time.Date(2024, 3, 1, 12, 0, 0, 250_000, time.UTC), Day: 19783, Old: deprecated.Int96{1000, 0, 2440589}, Temp: &t,
		Small: 0.1, Count: -7, Far: math.MaxUint64, On: true, Price: -1234, Site: "oslo", List: []int64{1, 2, 3},
	}
	a.Inside.Level = 9
	b := a
	b.When, b.Temp, b.On, b.Site, b.List = a.When.Add(time.Hour), nil, false, "", nil
	return []sample{a, b}
}

// write writes rows with a row group each and the given codec.
func write[T any](t testing.TB, codec compress.Codec, rows ...T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := pq.NewGenericWriter[T](&b, pq.Compression(codec), pq.MaxRowsPerRowGroup(2))
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func openBytes(b []byte) (*Reader, error) { return Open(bytes.NewReader(b), int64(len(b))) }

// readAll returns all rows, with texts of their own.
func readAll(r *Reader) (rows [][]Value, err error) {
	defer r.Close()
	for {
		row, err := r.Next()
		if errors.Is(err, io.EOF) {
			return rows, nil
		} else if err != nil {
			return rows, err
		}
		own := make([]Value, len(row))
		for i, v := range row {
			own[i] = v
			own[i].Text = bytes.Clone(v.Text)
		}
		rows = append(rows, own)
	}
}

func TestKindsOfColumns(t *testing.T) {
	for name, codec := range map[string]compress.Codec{"plain": &pq.Uncompressed, "snappy": &pq.Snappy, "gzip": &pq.Gzip, "zstd": &pq.Zstd, "lz4": &pq.Lz4Raw, "brotli": &pq.Brotli} {
		r, err := openBytes(write(t, codec, append(samples(), samples()...)...)) // two row groups
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff([]string{"when", "day", "old", "temp", "small", "count", "far", "on", "price", "site", "inside.level"}, r.Columns()); diff != "" {
			t.Errorf("%s: columns: %s", name, diff)
		}
		rows, err := readAll(r)
		if err != nil || len(rows) != 4 {
			t.Fatalf("%s: %d rows, %v", name, len(rows), err)
		}
		at := time.Date(2024, 3, 1, 12, 0, 0, 250_000, time.UTC)
		want := []Value{
			{Kind: Time, Int: at.UnixNano()},
			{Kind: Time, Int: time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC).UnixNano()},
			{Kind: Time, Int: time.Date(1970, 1, 2, 0, 0, 0, 1000, time.UTC).UnixNano()},
			{Kind: Float, Float: 21.5},
			{Kind: Float, Float: float64(float32(0.1))},
			{Kind: Integer, Int: -7},
			{Kind: Float, Float: 1 << 64},
			{Kind: Integer, Int: 1},
			{Kind: Float, Float: -12.34},
			{Kind: Text, Text: []byte("oslo")},
			{Kind: Integer, Int: 9},
		}
		if diff := cmp.Diff(want, rows[2]); diff != "" {
			t.Errorf("%s: row 3: %s", name, diff)
		}
		if last := rows[3]; last[3].Kind != Null || last[7].Kind != Integer || last[7].Int != 0 || last[0].Int != at.Add(time.Hour).UnixNano() {
			t.Errorf("%s: row 4: %+v", name, last)
		}
	}
}

func TestKeepReadsNoOtherColumn(t *testing.T) {
	r, err := openBytes(write(t, &pq.Snappy, append(samples(), samples()...)...))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	r.Keep([]int{5})
	rows, err := readAll(r)
	if err != nil || len(rows) != 3 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for _, row := range rows {
		for i, v := range row {
			if (i == 5) != (v.Kind != Null) {
				t.Errorf("column %d is %+v", i, v)
			}
		}
	}
}

func TestDecimalsOfBytes(t *testing.T) {
	for want, b := range map[float64][]byte{0: nil, 1: {1}, -1: {0xff}, 256: {1, 0}, -32768: {0x80, 0}, 1 << 80: append([]byte{1}, make([]byte, 10)...)} {
		if got := decimal(b); got != want {
			t.Errorf("decimal(%x) = %v, want %v", b, got, want)
		}
	}
	if v := instant(math.MaxInt64/1000, time.Millisecond); v.Kind != Null {
		t.Errorf("a time beyond 2261: %+v, want null", v)
	}
}

func TestDamagedFiles(t *testing.T) {
	whole := write(t, &pq.Snappy, samples()...)
	for n := range whole {
		if _, err := openBytes(whole[:n]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("the first %d of %d bytes: %v, want ErrDamaged", n, len(whole), err)
		}
	}
	for i := range whole { // every byte damaged gives rows or an error
		b := bytes.Clone(whole)
		b[i] ^= 0x55
		r, err := openBytes(b)
		if err == nil {
			_, err = readAll(r)
		}
		if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("byte %d damaged: %v", i, err)
		}
	}
	footer := bytes.Clone(whole)
	copy(footer[len(footer)-8:], "\xff\xff\xff\x7f")
	encrypted := append(bytes.Clone(whole[:len(whole)-4]), "PARE"...)
	for says, b := range map[string][]byte{"cut short": whole[:len(whole)-1], "are no Parquet file": []byte("PAR1"), "a description of 2147483647 bytes": footer, "encrypted": encrypted} {
		if _, err := openBytes(b); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want ErrDamaged that says %q", err, says)
		}
	}
}

// A page that says it is large does not get the memory.
func TestPagesAreBounded(t *testing.T) {
	type row struct {
		A int64 `parquet:"a,plain"`
	}
	b := write(t, &pq.Uncompressed, row{1}, row{2})
	// The header of the page: field 1, type 0; field 2, uncompressed size; field 3,
	// compressed size; each a zigzag varint (Thrift compact protocol).
	i := bytes.Index(b, []byte{0x15, 0x00, 0x15, 0x20, 0x15, 0x20})
	if i < 0 {
		i = bytes.Index(b, []byte{0x15, 0x06, 0x15, 0x20, 0x15, 0x20})
	}
	if i < 0 {
		t.Fatalf("no page header in % x", b[:40])
	}
	large := append(append(bytes.Clone(b[:i+3]), 0xfe, 0xff, 0xff, 0xff, 0x0f), b[i+4:]...) // 2³¹−1
	r, err := openBytes(large)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(r); !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "a page of 2147483647 bytes") {
		t.Errorf("a page of 2 GiB: %v, want ErrTooLarge", err)
	}
}

// FuzzReader holds that any bytes give rows or an error of ours.
func FuzzReader(f *testing.F) {
	f.Add(write(f, &pq.Snappy, samples()...))
	f.Add(write(f, &pq.Uncompressed, samples()[0]))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := openBytes(b)
		if err == nil {
			r.Keep([]int{0, 3, 9})
			for range 1000 {
				if _, err = r.Next(); err != nil {
					break
				}
			}
			r.Close()
		}
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrTooLarge) {
			t.Fatal(err)
		}
	})
}
