package artifact

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/fse"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A coded stream takes the place of one that Pack would make.
type coded struct {
	codec Codec
	bytes []byte
}

// craft packs m raw, but for the streams in override.
func craft(t testing.TB, m *Model, override map[int]coded) *Transfer {
	t.Helper()
	man, err := appendDocument(nil, "manifest", m.manifest(), MaxManifest)
	if err != nil {
		t.Fatal(err)
	}
	tr := &Transfer{Descriptor: Descriptor{Digest: digest(man, m.Tensors), Kind: protocol.KindFull, Decoded: uint32(len(man))}}
	tr.Payload = binary.AppendUvarint(nil, uint64(len(man)))
	add := func(stream []byte) {
		c, ok := override[len(tr.Codecs)]
		if !ok {
			c = coded{Raw, stream}
		}
		tr.Codecs = append(tr.Codecs, c.codec)
		tr.Payload = append(tr.Payload, c.bytes...)
	}
	add(man)
	for i := range m.Tensors {
		data, width := m.Tensors[i].Data, m.Tensors[i].width()
		tr.Decoded += uint32(len(data))
		for p := range width {
			var plane []byte
			for j := p; j < len(data); j += width {
				plane = append(plane, data[j])
			}
			add(plane)
		}
	}
	rechunk(tr)
	return tr
}

// rechunk makes the descriptor fit a changed payload.
func rechunk(tr *Transfer) {
	tr.Size, tr.Chunks = uint32(len(tr.Payload)), nil
	for n := range chunks(len(tr.Payload)) {
		tr.Chunks = append(tr.Chunks, sha256.Sum256(tr.Chunk(n)))
	}
}

// block prefixes a coded block with its length.
func block(b []byte) []byte { return append(binary.AppendUvarint(nil, uint64(len(b))), b...) }

// bomb is a zstd frame (RFC 8878 §3.1.1) of n blocks that each repeat a zero
// 128 KiB times; header begins behind the magic number.
func bomb(n int, header ...byte) []byte {
	b := append([]byte{0x28, 0xb5, 0x2f, 0xfd}, header...)
	for i := range n {
		h := uint32(1<<1 | (128<<10)<<3)
		if i == n-1 {
			h |= 1
		}
		b = append(b, byte(h), byte(h>>8), byte(h>>16), 0)
	}
	return b
}

// fseBomb is a few bytes that fse decodes to 64 MiB.
func fseBomb(t testing.TB) []byte {
	t.Helper()
	zeros := make([]byte, 64<<20)
	for i := 0; i < len(zeros); i += 1 << 16 {
		zeros[i] = 1
	}
	b, err := fse.Compress(zeros, &fse.Scratch{TableLog: 12})
	if err != nil {
		t.Fatal(err)
	}
	if len(b) >= blockSize {
		t.Fatalf("the bomb has %d bytes", len(b))
	}
	return b
}

func unpack(t testing.TB, tr *Transfer) error {
	t.Helper()
	return unpackUpdate(t, tr, nil)
}

// unpackOn unpacks tr, whose base is base.
func unpackUpdate(t testing.TB, tr *Transfer, base *Model) error {
	t.Helper()
	rel := releaseOf(t, tr)
	_, err := Unpack(tr.Descriptor, tr.Payload, base, &rel)
	return err
}

func TestUnpackRefusesBombs(t *testing.T) {
	m := model(1, 200) // its recurrent kernel is longer than a block
	const stream = 6   // manifest, kernel, 4 of kernel_scale, recurrent
	if err := unpack(t, craft(t, m, nil)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		bomb coded
		want error
	}{
		{"streams 1 GiB", coded{Zstd, block(bomb(8192, 0, 0x38))}, ErrTooLarge},
		{"streams one block too many", coded{Zstd, block(bomb(2, 0, 0x38))}, ErrTooLarge},
		{"claims 1 GiB", coded{Zstd, block(bomb(8192, 0xa0, 0, 0, 0, 0x40))}, ErrCorrupt},
		{"window of 1 GiB", coded{Zstd, block(bomb(8192, 0, 20<<3))}, ErrCorrupt},
		{"stops early", coded{Zstd, block(bomb(1, 0, 0x38)[:8])}, ErrCorrupt},
		{"no frame", coded{Zstd, block([]byte("no frame"))}, ErrCorrupt},
		{"no block", coded{Zstd, []byte{0}}, ErrCorrupt},
		{"block that does not shrink", coded{Zstd, binary.AppendUvarint(nil, blockSize)}, ErrCorrupt},
		{"block of 2^63 bytes", coded{Huff0, binary.AppendUvarint(nil, 1<<63)}, ErrCorrupt},
		{"length without end", coded{FSE, bytes.Repeat([]byte{0xff}, 12)}, ErrTruncated},
		{"fse that gives 64 MiB", coded{FSE, block(fseBomb(t))}, ErrCorrupt},
		{"huff0 without table", coded{Huff0, block([]byte{1, 2, 3, 4, 5, 6, 7, 8})}, ErrCorrupt},
		{"fse without table", coded{FSE, block([]byte{0xff, 2, 3, 4, 5, 6, 7, 8})}, ErrCorrupt},
	} {
		tr := craft(t, m, map[int]coded{stream: c.bomb})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := unpack(t, tr)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20 {
			t.Errorf("%s: %d MiB allocated for %d bytes", c.name, used>>20, tr.Size)
		}
	}
}

func TestUnpackRefusesWhatItsCodecDoesNotFill(t *testing.T) {
	m := model(1, 64)
	short := bytes.Repeat([]byte{1, 1, 1, 2}, 1000)
	for c := Zstd; c < codecEnd; c++ {
		b, err := encodeBlock(short, c)
		if err != nil {
			t.Fatal(err)
		}
		err = unpack(t, craft(t, m, map[int]coded{6: {c, block(b)}})) // 4,000 bytes for 16,384
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTruncated) {
			t.Errorf("%v that decodes to too little: %v, want ErrCorrupt or ErrTruncated", c, err)
		}
		b, err = encodeBlock(bytes.Repeat(short, 5), c)
		if err != nil {
			t.Fatal(err)
		}
		err = unpack(t, craft(t, m, map[int]coded{6: {c, block(b)}})) // 20,000 bytes
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%v that decodes to too much: %v, want ErrCorrupt or ErrTooLarge", c, err)
		}
	}
}

func TestEveryCodecDecodesWhatItCodes(t *testing.T) {
	rng := bytes.Repeat([]byte{1, 2, 3, 1, 1, 7, 1}, 60000) // more than one block
	for c := Zstd; c < codecEnd; c++ {
		b, err := encode(rng, c)
		if err != nil {
			t.Fatal(c, err)
		}
		d := decoder{b: b}
		out := make([]byte, len(rng))
		if err := d.stream(out, c); err != nil || !bytes.Equal(out, rng) || len(d.b) != 0 {
			t.Errorf("%v: %v", c, err)
		}
		d.close()
	}
}

func TestUnpackRefuses(t *testing.T) {
	m := model(3, 16)
	good := pack(t, m)
	for _, c := range []struct {
		name   string
		change func(tr *Transfer, rel *Release)
		want   error
	}{
		{"short payload", func(tr *Transfer, _ *Release) { tr.Payload = tr.Payload[:len(tr.Payload)-1] }, ErrTruncated},
		{"long payload", func(tr *Transfer, _ *Release) { tr.Payload = append(tr.Payload, 0) }, ErrTooLarge},
		{"flipped bit", func(tr *Transfer, _ *Release) { tr.Payload[100] ^= 4 }, ErrCorrupt},
		{"over the cap", func(_ *Transfer, rel *Release) { rel.MaxTransfer = 10 }, ErrTooLarge},
		{"over the decoded cap", func(_ *Transfer, rel *Release) { rel.MaxDecoded = 10 }, ErrTooLarge},
		{"another digest", func(_ *Transfer, rel *Release) { rel.Digest[0]++ }, ErrDigest},
		{"delta without its base", func(tr *Transfer, _ *Release) { tr.Kind, tr.Base = protocol.KindDelta, &protocol.Digest{1} }, ErrBase},
		{"residual without a base", func(tr *Transfer, _ *Release) { tr.Codecs[1] |= Residual }, ErrCorrupt},
		{"unknown codec of a residual", func(tr *Transfer, _ *Release) { tr.Codecs[3] = Residual | 9 }, ErrFormat},
		{"unknown codec", func(tr *Transfer, _ *Release) { tr.Codecs[3] = 9 }, ErrFormat},
		{"a codec less", func(tr *Transfer, _ *Release) { tr.Codecs = tr.Codecs[1:] }, ErrCorrupt},
		{"decoded size", func(tr *Transfer, _ *Release) { tr.Decoded-- }, ErrCorrupt},
		{"a chunk digest less", func(tr *Transfer, _ *Release) { tr.Chunks = nil }, ErrCorrupt},
		{"manifest larger than declared", func(tr *Transfer, _ *Release) {
			tr.Payload = append([]byte{0xff, 0xff, 0xff, 0xff, 0x7f}, tr.Payload[2:]...)
			rechunk(tr)
		}, ErrTooLarge},
		{"bytes behind the last tensor", func(tr *Transfer, _ *Release) { tr.Payload = append(tr.Payload, 0); rechunk(tr) }, ErrCorrupt},
		{"payload cut, chunks fitting", func(tr *Transfer, _ *Release) { tr.Payload = tr.Payload[:len(tr.Payload)-1]; rechunk(tr) }, ErrTruncated},
		{"another model, honest chunks", func(tr *Transfer, rel *Release) {
			other := model(3, 16)
			copy(other.Tensors[0].Data, []byte{1, 2, 3, 4, 5, 6, 7, 8})
			o := pack(t, other)
			o.Digest = tr.Digest
			*tr = *o
		}, ErrDigest},
		{"signed but not finite", func(tr *Transfer, rel *Release) {
			bad := model(3, 16)
			copy(bad.Tensors[4].Data, []byte{0, 0, 0xc0, 0x7f})
			*tr = *craft(t, bad, nil)
			*rel = releaseOf(t, tr)
		}, ErrNonFinite},
	} {
		tr := &Transfer{Descriptor: good.Descriptor, Payload: bytes.Clone(good.Payload)}
		tr.Codecs = append([]Codec(nil), good.Codecs...)
		rel := releaseOf(t, tr)
		c.change(tr, &rel)
		m, err := Unpack(tr.Descriptor, tr.Payload, nil, &rel)
		if !errors.Is(err, c.want) || m != nil {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestUnpackRefusesEveryTruncation(t *testing.T) {
	good := pack(t, pinned())
	for n := 1; n < len(good.Payload); n++ {
		tr := &Transfer{Descriptor: good.Descriptor, Payload: good.Payload[:n]}
		if unpack(t, tr) == nil {
			t.Fatalf("%d of %d bytes unpack", n, len(good.Payload))
		}
		rechunk(tr) // past the chunk digests
		if unpack(t, tr) == nil {
			t.Fatalf("%d of %d bytes unpack with their own chunk digests", n, len(good.Payload))
		}
	}
}

func TestChunksCoverThePayload(t *testing.T) {
	tr := pack(t, model(14, 128))
	var all []byte
	for n := range tr.Chunks {
		c := tr.Chunk(n)
		if err := tr.CheckChunk(n, c); err != nil {
			t.Error(err)
		}
		if err := tr.CheckChunk(n, c[1:]); !errors.Is(err, ErrTruncated) {
			t.Errorf("short chunk %d: %v, want ErrTruncated", n, err)
		}
		if err := tr.CheckChunk(n, append(bytes.Clone(c), 0)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("long chunk %d: %v, want ErrTooLarge", n, err)
		}
		all = append(all, c...)
	}
	if !bytes.Equal(all, tr.Payload) || len(tr.Chunks) != 3 || tr.Chunk(3) != nil || tr.Chunk(-1) != nil {
		t.Error("the chunks are not the payload")
	}
	if err := tr.CheckChunk(3, nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("chunk 3 of 3: %v, want ErrCorrupt", err)
	}
	if err := tr.CheckChunk(0, tr.Chunk(1)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("swapped chunk: %v, want ErrCorrupt", err)
	}
}

func TestSmallTransfersTravelInline(t *testing.T) {
	small, large := pack(t, pinned()), pack(t, model(14, 128))
	if a := Announce(nil, small); !bytes.Equal(a.Inline, small.Payload) {
		t.Error("a small payload is not inline")
	}
	if a := Announce(nil, large); a.Inline != nil {
		t.Error("a large payload is inline")
	}
	if small.Hash() == large.Hash() || protocol.CheckHash(small.Hash()) != nil {
		t.Errorf("hashes %s and %s", small.Hash(), large.Hash())
	}
}

func writeFile(t testing.TB, release []byte, tr *Transfer) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := WriteFile(&b, release, tr); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFile(t *testing.T) {
	tr := pack(t, pinned())
	envelope := seal(t, TypeRelease, releaseOf(t, tr), releaseKey)
	file := writeFile(t, envelope, tr)
	release, got, err := ReadFile(iotest.OneByteReader(bytes.NewReader(file)))
	if err != nil || !bytes.Equal(release, envelope) || !bytes.Equal(got.Payload, tr.Payload) || got.Hash() != tr.Hash() {
		t.Fatalf("ReadFile: %v", err)
	}
	for n := range file {
		if _, _, err := ReadFile(bytes.NewReader(file[:n])); !errors.Is(err, ErrTruncated) || !strings.HasSuffix(err.Error(), exportAgain) {
			t.Fatalf("%d of %d bytes: %v, want ErrTruncated and to export it again", n, len(file), err)
		}
	}
	for i := range file {
		bad := bytes.Clone(file)
		bad[i] ^= 0x10
		_, tr, err := ReadFile(bytes.NewReader(bad))
		if inRelease := i >= 20 && i < 20+len(envelope); err == nil && !inRelease && tr.Hash() == got.Hash() {
			t.Fatalf("byte %d changed and nothing noticed", i)
		}
		if err != nil && !errors.Is(err, ErrFormat) && !strings.Contains(err.Error(), "sandpiper model export") {
			t.Fatalf("byte %d changed: %v, which does not say what to do", i, err)
		}
	}
	if _, _, err := ReadFile(strings.NewReader(string(file) + "x")); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a byte behind the end: %v, want ErrCorrupt", err)
	}
	if _, _, err := ReadFile(strings.NewReader(strings.Repeat("name,value\n", 9))); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a text file: %v, want ErrCorrupt", err)
	}
	for _, field := range []int{8, 12, 16} {
		bad := bytes.Clone(file)
		binary.LittleEndian.PutUint32(bad[field:], 1<<31)
		if _, _, err := ReadFile(bytes.NewReader(bad)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("length %d of 2 GiB: %v, want ErrTooLarge", field, err)
		}
	}
	if _, _, err := ReadFile(iotest.ErrReader(io.ErrClosedPipe)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a broken reader: %v", err)
	}
}

func FuzzReadFile(f *testing.F) {
	tr := pack(f, pinned())
	f.Add(writeFile(f, seal(f, TypeRelease, releaseOf(f, tr), releaseKey), tr))
	f.Fuzz(func(t *testing.T, b []byte) {
		release, tr, err := ReadFile(bytes.NewReader(b))
		if err == nil && !bytes.Equal(writeFile(t, release, tr), b) {
			t.Fatal("another file when written again")
		}
	})
}

// FuzzDecode decodes payloads past the chunk digests; codecs cycles through
// what the streams are said to be.
func FuzzDecode(f *testing.F) {
	for _, m := range []*Model{pinned(), model(3, 16), gru()} {
		for _, tr := range []*Transfer{pack(f, m), craft(f, m, nil)} {
			f.Add(tr.Payload, codecBytes(tr), tr.Decoded)
		}
	}
	f.Fuzz(func(t *testing.T, payload, codecs []byte, decoded uint32) {
		fuzzDecode(t, Descriptor{Kind: protocol.KindFull, Decoded: decoded}, payload, codecs, nil)
	})
}

// FuzzDecodeUpdate is FuzzDecode for deltas and heads of three bases.
func FuzzDecodeUpdate(f *testing.F) {
	bases := []*Model{pinned(), model(3, 16), gru()}
	for i, base := range bases {
		delta, head := tuned(base), tunedHead(base)
		for _, tr := range []*Transfer{packUpdate(f, delta, base, PackDelta), packUpdate(f, head, base, PackHead)} {
			f.Add(tr.Payload, codecBytes(tr), tr.Decoded, uint8(i), tr.Kind == protocol.KindHead)
		}
	}
	f.Fuzz(func(t *testing.T, payload, codecs []byte, decoded uint32, base uint8, head bool) {
		d := Descriptor{Kind: protocol.KindDelta, Decoded: decoded}
		if head {
			d.Kind = protocol.KindHead
		}
		fuzzDecode(t, d, payload, codecs, bases[int(base)%len(bases)])
	})
}

func codecBytes(tr *Transfer) []byte {
	b := make([]byte, len(tr.Codecs))
	for i, c := range tr.Codecs {
		b[i] = byte(c)
	}
	return b
}

func fuzzDecode(t *testing.T, d Descriptor, payload, codecs []byte, base *Model) {
	if len(codecs) == 0 || d.Decoded > 1<<20 {
		return
	}
	for _, c := range codecs {
		codec := Codec(c) % codecEnd
		if base != nil {
			codec |= Codec(c) & Residual
		}
		d.Codecs = append(d.Codecs, codec)
	}
	m, sum, err := d.decode(payload, base)
	if err != nil || m.Validate() != nil {
		return
	}
	if again, err := m.Digest(); err != nil || again != sum {
		t.Fatalf("decoded to %v, whose digest is %v, %v", sum, again, err)
	}
}

// FuzzBlock feeds each codec's decoder.
func FuzzBlock(f *testing.F) {
	for c := Zstd; c < codecEnd; c++ {
		b, err := encodeBlock(bytes.Repeat([]byte{1, 2, 1, 1, 9}, 300), c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, byte(c), uint16(1500))
	}
	f.Fuzz(func(t *testing.T, b []byte, c byte, n uint16) {
		var d decoder
		defer d.close()
		_ = d.block(make([]byte, n), b, Codec(c)%codecEnd)
	})
}
