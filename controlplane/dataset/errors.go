package dataset

import (
	"errors"
	"fmt"
)

// Errors that callers tell apart with errors.Is. The text around them names
// the row and the column and says what to do.
var (
	ErrEmpty      = errors.New("no data")                 // no header, or a header and no rows
	ErrMalformed  = errors.New("malformed CSV")           // a row that does not fit the header, a cell that is no number
	ErrLine       = errors.New("malformed line protocol") // a place that does not follow its syntax
	ErrParquet    = errors.New("malformed Parquet")       // a file that is cut, damaged or of a kind that is not read
	ErrColumn     = errors.New("no such column")          // a column that is asked for is not there, or cannot be what it is asked to be
	ErrTarget     = errors.New("unusable target")         // a missing or non-finite target value
	ErrLabel      = errors.New("unusable label")          // a missing or unknown label, or too many of them
	ErrWeight     = errors.New("unusable weight")         // a missing, negative or non-finite weight, or none above 0
	ErrOrder      = errors.New("time is not ascending")   // a row that is not after the one before it in its group
	ErrTooFewRows = errors.New("too few rows")            // no group, or no part, holds a single window
	ErrTooLarge   = errors.New("beyond a limit")          // a line, a header or a file larger than this package reads
	ErrSplit      = errors.New("impossible split")        // parts that do not fit the rows
	ErrLeak       = errors.New("leakage")                 // what a model is judged by would have helped to train it
	ErrTruth      = errors.New("truth does not fit data") // a truth file without the groups of the data
)

// A columnError matches ErrColumn and says itself what is wrong with the columns.
type columnError string

func (e columnError) Error() string        { return string(e) }
func (e columnError) Is(target error) bool { return target == ErrColumn }

func columnErrorf(format string, args ...any) error { return columnError(fmt.Sprintf(format, args...)) }

// A CellError is a cell, a row or a header that cannot be used.
type CellError struct {
	Row    int    // data row from 1; 0 for the header
	Line   int    // line of the file from 1, 0 where there are none
	Column string // empty when the row as a whole is wrong
	Reason string // what is wrong and what to do
	Err    error  // the sentinel
}

func (e *CellError) Error() string {
	where := fmt.Sprintf("row %d (line %d)", e.Row, e.Line)
	switch {
	case e.Line == 0:
		where = fmt.Sprintf("row %d", e.Row)
	case e.Row == 0:
		where = fmt.Sprintf("header (line %d)", e.Line)
	}
	if e.Column != "" {
		where += fmt.Sprintf(", column %q", e.Column)
	}
	return fmt.Sprintf("%s: %s: %s", where, e.Err, e.Reason)
}

func (e *CellError) Unwrap() error { return e.Err }
