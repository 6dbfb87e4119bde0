package artifact

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"github.com/klauspost/compress/fse"
	"github.com/klauspost/compress/huff0"
	"github.com/klauspost/compress/zstd"
)

// A Codec is how one stream of a payload is coded.
type Codec uint8

// Codecs. Of each stream the smallest result is kept.
const (
	Raw      Codec = iota
	Zstd           // RFC 8878, one frame a block
	Huff0          // the Huffman coding of zstd literals, table included
	FSE            // finite state entropy, table included
	Adaptive       // arithmetic coding that learns as it goes: see adaptive
	codecEnd
)

// Residual is added to the codec of a stream that holds a difference from the
// base.
const Residual Codec = 0x10

// valid reports whether c is known.
func (c Codec) valid() bool { return c&^Residual < codecEnd }

// String returns the codec's name in lower case, with a + before that of a
// residual.
func (c Codec) String() string {
	if c&Residual != 0 {
		return "+" + (c &^ Residual).String()
	}
	switch c {
	case Raw:
		return "raw"
	case Zstd:
		return "zstd"
	case Huff0:
		return "huff0"
	case FSE:
		return "fse"
	case Adaptive:
		return "adaptive"
	}
	return "Codec(" + strconv.Itoa(int(c)) + ")"
}

// blockSize is the largest part of a stream that is coded at once, the most
// that huff0 takes. A coded block is its length as a uvarint, less than that
// of the block, and its bytes; a raw one is its bytes alone.
const blockSize = 128 << 10

// errLarger says that a codec does not make a block smaller.
var errLarger = errors.New("not smaller")

// A coder appends a stream, coded by the codec it returns.
type coder func(b, stream []byte) ([]byte, Codec, error)

func encodeRaw(b, stream []byte) ([]byte, Codec, error) { return append(b, stream...), Raw, nil }

// encodeBest appends stream coded by the codec that makes it smallest; the
// first wins among equals. The adaptive code must save a byte in 256 of what it
// decodes to: a device reads its version at every start, and at 0.1 µs a byte
// that is ten times the time of the table codes.
func encodeBest(b, stream []byte) ([]byte, Codec, error) {
	best, codec := stream, Raw
	for c := Zstd; c < codecEnd; c++ {
		e, err := encode(stream, c)
		if err != nil {
			if errors.Is(err, errLarger) {
				continue
			}
			return b, 0, err
		}
		cost := 0
		if c == Adaptive {
			cost = len(stream) / 256
		}
		if len(e)+cost < len(best) {
			best, codec = e, c
		}
	}
	return append(b, best...), codec, nil
}

// encode codes every block of stream, or returns errLarger if c makes one of
// them no smaller.
func encode(stream []byte, c Codec) ([]byte, error) {
	var out []byte
	for len(stream) > 0 {
		block := stream[:min(len(stream), blockSize)]
		stream = stream[len(block):]
		e, err := encodeBlock(block, c)
		if err != nil {
			return nil, err
		}
		if len(e) >= len(block) {
			return nil, errLarger
		}
		out = append(binary.AppendUvarint(out, uint64(len(e))), e...)
	}
	return out, nil
}

// encoder is zstd's. It is made once, because it is large, and in a function
// rather than here: a program that packs nothing, the agent, does not link it.
var encoder struct {
	once sync.Once
	zstd *zstd.Encoder
	err  error
}

func zstdEncoder() (*zstd.Encoder, error) {
	encoder.once.Do(func() {
		encoder.zstd, encoder.err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(blockSize), zstd.WithEncoderCRC(false))
	})
	return encoder.zstd, encoder.err
}

func encodeBlock(block []byte, c Codec) ([]byte, error) {
	switch c {
	case Zstd:
		e, err := zstdEncoder()
		if err != nil {
			return nil, err
		}
		return e.EncodeAll(block, nil), nil
	case Huff0:
		e, _, err := huff0.Compress1X(block, &huff0.Scratch{Reuse: huff0.ReusePolicyNone})
		if errors.Is(err, huff0.ErrIncompressible) || errors.Is(err, huff0.ErrUseRLE) {
			return nil, errLarger
		}
		return e, err
	case FSE:
		e, err := fse.Compress(block, &fse.Scratch{})
		if errors.Is(err, fse.ErrIncompressible) || errors.Is(err, fse.ErrUseRLE) {
			return nil, errLarger
		}
		return e, err
	case Adaptive:
		return encodeAdaptive(block), nil
	}
	return nil, fmt.Errorf("%w: %v", ErrFormat, c)
}

// A decoder reads the streams of a payload. It keeps its scratch memory from
// stream to stream; close frees it.
type decoder struct {
	b    []byte // what is left of the payload
	zstd *zstd.Decoder
	huff *huff0.Scratch
	fse  *fse.Scratch
}

func (d *decoder) close() {
	if d.zstd != nil {
		d.zstd.Close()
	}
}

// stream fills out, whose length is the decoded size, with the next stream.
func (d *decoder) stream(out []byte, c Codec) error {
	for len(out) > 0 {
		block := out[:min(len(out), blockSize)]
		out = out[len(block):]
		if c == Raw {
			if len(d.b) < len(block) {
				return ErrTruncated
			}
			copy(block, d.b)
			d.b = d.b[len(block):]
			continue
		}
		n, head := binary.Uvarint(d.b)
		if head <= 0 {
			return ErrTruncated
		}
		if n == 0 || n >= uint64(len(block)) {
			return fmt.Errorf("%w: a coded block of %d bytes for %d", ErrCorrupt, n, len(block))
		}
		if n > uint64(len(d.b)-head) {
			return ErrTruncated
		}
		coded := d.b[head : head+int(n)]
		d.b = d.b[head+int(n):]
		if err := d.block(block, coded, c); err != nil {
			return fmt.Errorf("%v: %w", c, err)
		}
	}
	return nil
}

// block decodes coded to exactly len(block) bytes.
func (d *decoder) block(block, coded []byte, c Codec) error {
	switch c {
	case Zstd:
		return d.zstdBlock(block, coded)
	case Huff0:
		s, rest, err := huff0.ReadTable(coded, d.huff)
		if err != nil {
			return fmt.Errorf("%w: %v", ErrCorrupt, err)
		}
		d.huff = s
		got, err := s.Decoder().Decompress1X(block[:0:len(block)], rest) // bounded by the capacity
		return exactly(block, got, err)
	case FSE:
		if d.fse == nil {
			d.fse = &fse.Scratch{}
		}
		d.fse.DecompressLimit = len(block)
		got, err := fse.Decompress(coded, d.fse)
		return exactly(block, got, err)
	case Adaptive:
		return decodeAdaptive(block, coded)
	}
	return fmt.Errorf("%w %v; update the software", ErrFormat, c)
}

// exactly copies got to block if it has its length.
func exactly(block, got []byte, err error) error {
	if err != nil {
		return fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	if len(got) != len(block) {
		return fmt.Errorf("%w: a block decodes to %d bytes, %d were declared", ErrCorrupt, len(got), len(block))
	}
	copy(block, got)
	return nil
}

// zstdBlock decodes one frame. WithDecoderMaxWindow and WithDecoderMaxMemory
// bound memory; neither bounds how much a frame streams, a LimitReader does.
func (d *decoder) zstdBlock(block, coded []byte) error {
	if d.zstd == nil {
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(blockSize), zstd.WithDecoderMaxMemory(blockSize))
		if err != nil {
			return err
		}
		d.zstd = z
	}
	if err := d.zstd.Reset(bytes.NewReader(coded)); err != nil {
		return fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	limited := io.LimitReader(d.zstd, int64(len(block))+1)
	if n, err := io.ReadFull(limited, block); err != nil {
		return fmt.Errorf("%w: a block decodes to %d bytes, %d were declared: %v", ErrCorrupt, n, len(block), err)
	}
	var one [1]byte
	if n, err := limited.Read(one[:]); n != 0 || err != io.EOF {
		return fmt.Errorf("%w: a block decodes to more than the %d bytes declared; get the model again from whoever released it",
			ErrTooLarge, len(block))
	}
	return nil
}
