package dataset

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/sandpiper-edge/sandpiper/controlplane/parquet"
)

// A parquetDecoder reads the rows of a Parquet file.
type parquetDecoder struct {
	file  *os.File // the copy that is read
	named bool     // it is still in its folder
	r     *parquet.Reader
	cells []cell
	row   int
}

// newParquetDecoder copies r to a file in the temporary folder: the description of
// a Parquet file is at its end.
func newParquetDecoder(r io.Reader) (*parquetDecoder, error) {
	f, err := os.CreateTemp("", "sandpiper-*.parquet")
	if err != nil {
		return nil, fmt.Errorf("copy of a Parquet file: %w", err)
	}
	// Where a file that is open can be removed, a crash leaves nothing behind.
	d := &parquetDecoder{file: f, named: os.Remove(f.Name()) != nil}
	if err := d.open(r); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *parquetDecoder) open(r io.Reader) error {
	size, err := io.Copy(d.file, r)
	if err != nil {
		return err
	}
	if d.r, err = parquet.Open(d.file, size); err != nil {
		return parquetError(err)
	}
	if len(d.r.Columns()) == 0 {
		return columnErrorf("it has no column of numbers, text or times")
	}
	d.cells = make([]cell, len(d.r.Columns()))
	return nil
}

// parquetError puts an error of package parquet in this package's terms.
func parquetError(err error) error {
	switch {
	case errors.Is(err, parquet.ErrTooLarge):
		return fmt.Errorf("%w: Parquet: %w", ErrTooLarge, err)
	case errors.Is(err, parquet.ErrDamaged):
		return fmt.Errorf("%w: %w; write the file again", ErrParquet, err)
	}
	return err
}

// Close removes the copy.
func (d *parquetDecoder) Close() error {
	if d.r != nil {
		d.r.Close()
	}
	err := d.file.Close()
	if d.named {
		err = errors.Join(err, os.Remove(d.file.Name()))
	}
	return err
}

func (d *parquetDecoder) header() []string { return d.r.Columns() }

func (d *parquetDecoder) line() int { return 0 }

// keep leaves the other columns out of what is decoded.
func (d *parquetDecoder) keep(columns []int) { d.r.Keep(columns) }

func (d *parquetDecoder) next() ([]cell, error) {
	row, err := d.r.Next()
	if err == io.EOF { //nolint:errorlint // as io.Reader has it
		return nil, err
	}
	d.row++
	if err != nil {
		return nil, fmt.Errorf("row %d: %w", d.row, parquetError(err))
	}
	for i, v := range row {
		switch v.Kind {
		case parquet.Integer:
			d.cells[i] = cell{kind: integer, int: v.Int}
		case parquet.Float:
			d.cells[i] = cell{kind: number, number: v.Float}
		case parquet.Text:
			d.cells[i] = textCell(trim(v.Text))
		case parquet.Time:
			d.cells[i] = cell{kind: stamp, int: v.Int}
		default:
			d.cells[i] = cell{}
		}
	}
	return d.cells, nil
}
