package dataset

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
)

// Limits of what is read. They bound the memory that a hostile or broken file
// can take, whatever its compressed size.
const (
	MaxLine    = 1 << 20 // bytes in one line
	MaxColumns = 4096    // columns in the header
	MaxValues  = 1 << 27 // values kept of a file, each 4 bytes: 512 MiB
	MaxGroups  = 1 << 20 // groups in a file
	MaxName    = 256     // bytes in the name of a group
)

// A lineReader gives the lines of a plain or gzip-compressed text, without
// line ends, blank lines left out.
type lineReader struct {
	s     *bufio.Scanner
	line  int    // of the line last given, from 1
	last  []byte // that line
	again bool   // it is to be given once more
}

// newLineReader looks at the first two bytes of r: 1f 8b is gzip (RFC 1952 §2.3.1).
func newLineReader(r io.Reader) (*lineReader, error) {
	br := bufio.NewReaderSize(r, 64<<10) // r itself if it is one
	if magic, _ := br.Peek(4); bytes.HasPrefix(magic, []byte{0x1f, 0x8b}) {
		zr, err := gzip.NewReader(br)
		if err != nil {
			return nil, fmt.Errorf("gzip header: %w: %w", ErrMalformed, err)
		}
		r = zr
	} else if what := foreign(magic); what != "" {
		return nil, fmt.Errorf("%w: this is %s; give CSV in UTF-8, plain or gzip-compressed, line protocol or Parquet", ErrMalformed, what)
	} else {
		r = br
	}
	w := &watched{r: r}
	s := bufio.NewScanner(w)
	s.Buffer(make([]byte, 64<<10), MaxLine)
	s.Split(w.split)
	return &lineReader{s: s}, nil
}

// A watched reader remembers how it ended.
type watched struct {
	r   io.Reader
	err error
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.r.Read(b)
	w.err = err
	return n, err
}

// split is bufio.ScanLines, but for a line that broke off: it says why, not what
// is wrong with half a line.
func (w *watched) split(data []byte, atEOF bool) (int, []byte, error) {
	advance, token, err := bufio.ScanLines(data, atEOF)
	if atEOF && advance > 0 && data[advance-1] != '\n' && w.err != io.EOF { //nolint:errorlint // as io.Reader has it
		return 0, nil, w.err
	}
	return advance, token, err
}

// foreign names a kind of file that is often mistaken for CSV.
func foreign(magic []byte) string {
	for _, k := range []struct{ magic, name string }{
		{"PAR1", "a Parquet file where CSV is read"},
		{"PARE", "an encrypted Parquet file"},
		{"PK\x03\x04", "a ZIP archive or a spreadsheet"},
		{"\x28\xb5\x2f\xfd", "a zstd-compressed file"},
		{"BZh", "a bzip2-compressed file"},
		{"\xfd7zX", "an xz-compressed file"},
		{"\xff\xfe", "text in UTF-16"},
		{"\xfe\xff", "text in UTF-16"},
	} {
		if bytes.HasPrefix(magic, []byte(k.magic)) {
			return k.name
		}
	}
	return ""
}

// next returns the next line that is not blank, valid until the following
// call, or io.EOF.
func (l *lineReader) next() ([]byte, error) {
	if l.again {
		l.again = false
		return l.last, nil
	}
	for l.s.Scan() {
		l.line++
		b := bytes.TrimSuffix(l.s.Bytes(), []byte{'\r'})
		if l.line == 1 {
			b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")) // byte order mark
		}
		if len(bytes.TrimSpace(b)) > 0 {
			l.last = b
			return b, nil
		}
	}
	switch err := l.s.Err(); {
	case err == nil:
		return nil, io.EOF
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("line %d: %w: longer than %d bytes; is this a CSV file?", l.line+1, ErrTooLarge, MaxLine)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader):
		return nil, fmt.Errorf("after line %d: %w: the compressed file is cut short or damaged: %w", l.line, ErrMalformed, err)
	default:
		return nil, fmt.Errorf("after line %d: %w", l.line, err)
	}
}

// peek returns the next line, which next will return again.
func (l *lineReader) peek() ([]byte, error) {
	b, err := l.next()
	l.again = err == nil
	return b, err
}

// separatorOf returns the separator that occurs most in the header: comma,
// semicolon or tab, the first of them at a tie.
func separatorOf(header []byte) byte {
	best, most := byte(','), 0
	for _, sep := range []byte{',', ';', '\t'} {
		n, quoted := 0, false
		for _, c := range header {
			switch {
			case c == '"':
				quoted = !quoted
			case c == sep && !quoted:
				n++
			}
		}
		if n > most {
			best, most = sep, n
		}
	}
	return best
}

// splitFields cuts line at sep into dst[:0]. The fields point into line, which
// is changed in place where a field is quoted (RFC 4180 §2.5–2.7, except that
// a quoted field ends on its line). ok is false for a quote that does not close
// or that has text behind it.
func splitFields(dst [][]byte, line []byte, sep byte) (_ [][]byte, ok bool) {
	dst = dst[:0]
	for {
		if trimmed := bytes.TrimLeft(line, " "); len(trimmed) > 0 && trimmed[0] == '"' {
			field, rest, closed := unquote(trimmed[1:])
			if !closed || (len(rest) > 0 && rest[0] != sep) {
				return dst, false
			}
			dst = append(dst, field)
			if len(rest) == 0 {
				return dst, true
			}
			line = rest[1:]
			continue
		}
		i := bytes.IndexByte(line, sep)
		if i < 0 {
			return append(dst, trim(line)), true
		}
		dst = append(dst, trim(line[:i]))
		line = line[i+1:]
	}
}

// unquote reads b from behind an opening quote, turning "" into " in place,
// and returns what follows the closing quote and its spaces.
func unquote(b []byte) (field, rest []byte, closed bool) {
	n := 0
	for i := 0; i < len(b); i++ {
		if b[i] == '"' {
			if i+1 == len(b) || b[i+1] != '"' {
				return b[:n], bytes.TrimLeft(b[i+1:], " "), true
			}
			i++
		}
		b[n] = b[i]
		n++
	}
	return nil, nil, false
}

func trim(b []byte) []byte {
	if len(b) > 0 && b[0] > ' ' && b[len(b)-1] > ' ' {
		return b // the usual case
	}
	return bytes.TrimSpace(b)
}
