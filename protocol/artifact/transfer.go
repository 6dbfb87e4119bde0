package artifact

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A Transfer is one encoding of a model. Its payload is the size of the
// manifest as a uvarint, the coded manifest, and the coded data of each tensor
// in order; of a head, of the tensors of the last layer. An i8 tensor is one
// stream; an f32 tensor is four, byte 0 of every element first, because
// exponents repeat and low bytes of rounded scales are zero. Descriptor.Codecs
// names the codec of each stream.
//
// A delta and a head start from a base: the manifest and every tensor are
// residuals from the base's, or plain where that takes fewer bytes.
type Transfer struct {
	Descriptor
	Payload []byte
}

// Pack encodes m as a full transfer, each stream by the codec that makes it
// smallest. It returns what Validate returns.
func Pack(m *Model) (*Transfer, error) { return packAs(m, nil, protocol.KindFull, encodeBest) }

// PackRaw encodes m as a full transfer without coding its streams. It needs no
// encoder: this is how a device keeps a model that came as a delta.
func PackRaw(m *Model) (*Transfer, error) { return packAs(m, nil, protocol.KindFull, encodeRaw) }

// PackDelta encodes m as a delta from base, which must have the same tensors in
// name, type and shape: ErrBase otherwise.
func PackDelta(m, base *Model) (*Transfer, error) {
	return packAs(m, base, protocol.KindDelta, encodeBest)
}

// PackHead encodes m as the last layer on top of base. ErrBase unless all other
// tensors are the base's to the last bit.
func PackHead(m, base *Model) (*Transfer, error) {
	return packAs(m, base, protocol.KindHead, encodeBest)
}

// RawSize returns the largest payload that PackRaw makes of a model that decodes
// to so many bytes, and so one that no other transfer of it exceeds.
func RawSize(decoded uint32) uint32 {
	const length = 3 // of MaxManifest as a uvarint
	return decoded + length
}

// packAs encodes m as a transfer of a kind; base is nil for a full one.
func packAs(m, base *Model, kind string, code coder) (*Transfer, error) {
	man, sum, err := m.canonical()
	if err != nil {
		return nil, err
	}
	t := &Transfer{Descriptor: Descriptor{Digest: sum, Kind: kind, Decoded: uint32(len(man))}}
	t.Payload = binary.AppendUvarint(nil, uint64(len(man)))
	manifest := []form{{streams: [][]byte{man}}}
	from := 0
	if base != nil {
		baseMan, baseSum, err := base.canonical()
		if err != nil {
			return nil, fmt.Errorf("base: %w", err)
		}
		if err := fitsBase(m, base, kind); err != nil {
			return nil, err
		}
		t.Base, from = &baseSum, firstTensor(m, kind)
		if len(baseMan) == len(man) {
			manifest = append(manifest, form{residual: true, streams: [][]byte{xor(man, baseMan)}})
		}
	}
	if err := t.add(code, manifest...); err != nil {
		return nil, err
	}
	for i := range m.Tensors {
		data, width := m.Tensors[i].Data, m.Tensors[i].width()
		t.Decoded += uint32(len(data))
		if i < from {
			continue
		}
		forms := []form{{streams: planes(data, width)}}
		if base != nil {
			forms = append(forms, form{residual: true, streams: planes(residual(m, base, i), width)})
		}
		if err := t.add(code, forms...); err != nil {
			return nil, err
		}
	}
	if len(t.Payload) > protocol.MaxTransfer {
		return nil, fmt.Errorf("pack: %w: %d bytes, at most %d", ErrTooLarge, len(t.Payload), protocol.MaxTransfer)
	}
	t.Size = uint32(len(t.Payload))
	for n := range chunks(len(t.Payload)) {
		t.Chunks = append(t.Chunks, sha256.Sum256(t.Chunk(n)))
	}
	return t, nil
}

// planes splits elements of width bytes: byte 0 of all of them, byte 1, …
func planes(data []byte, width int) [][]byte {
	out := make([][]byte, width)
	for p := range out {
		out[p] = make([]byte, len(data)/width)
		for j := range out[p] {
			out[p][j] = data[j*width+p]
		}
	}
	return out
}

// A form is one way to write a manifest or a tensor.
type form struct {
	residual bool
	streams  [][]byte
}

// add appends the form that takes the fewest bytes; the first wins among equals.
func (t *Transfer) add(code coder, forms ...form) error {
	var best []byte
	var codecs []Codec
	for i, f := range forms {
		var b []byte
		cs := make([]Codec, len(f.streams))
		for n, s := range f.streams {
			var err error
			if b, cs[n], err = code(b, s); err != nil {
				return fmt.Errorf("pack: %w", err)
			}
			if f.residual {
				cs[n] |= Residual
			}
		}
		if i == 0 || len(b) < len(best) {
			best, codecs = b, cs
		}
	}
	t.Payload = append(t.Payload, best...)
	t.Codecs = append(t.Codecs, codecs...)
	return nil
}

// Chunk returns chunk n of the payload, part of it, or nil if there is none.
func (t *Transfer) Chunk(n int) []byte {
	if n < 0 || n >= chunks(len(t.Payload)) {
		return nil
	}
	b := t.Payload[n*protocol.ChunkSize:]
	return b[:min(len(b), protocol.ChunkSize)]
}

// Unpack decodes the payload of d and verifies, in this order: the caps of
// the release, which must be verified; the digests of the chunks; that base is
// the one that d names; that it decodes within d.Decoded; that the model's
// digest is the signed one; that every number is finite. It allocates no more
// than the caps allow. base is not used by a full transfer, and may be nil.
func Unpack(d Descriptor, payload []byte, base *Model, caps *Release) (*Model, error) {
	if err := d.checkCaps(caps); err != nil {
		return nil, err
	}
	if err := d.checkPayload(payload); err != nil {
		return nil, err
	}
	if err := d.checkBase(base); err != nil {
		return nil, fmt.Errorf("%s: %w", caps, err)
	}
	m, sum, err := d.decode(payload, base)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", caps, err)
	}
	if sum != d.Digest {
		return nil, fmt.Errorf("%w: the transfer of %s decodes to %s, signed is %s; "+
			"it was packed from another model, export the version that was released",
			ErrDigest, caps, sum.Short(), caps.Digest.Short())
	}
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", caps, err)
	}
	return m, nil
}

// checkCaps checks what the descriptor promises against the signed caps.
func (d *Descriptor) checkCaps(caps *Release) error {
	if _, err := d.AppendBinary(nil); err != nil {
		return err
	}
	if d.Size > caps.MaxTransfer || d.Decoded > caps.MaxDecoded {
		return fmt.Errorf("%w: the transfer has %d bytes and decodes to %d, the release of %s allows %d and %d; "+
			"export the version that was released",
			ErrTooLarge, d.Size, d.Decoded, caps, caps.MaxTransfer, caps.MaxDecoded)
	}
	if d.Digest != caps.Digest {
		return fmt.Errorf("%w: the transfer is of %s, the release of %s signs %s; export the version that was released",
			ErrDigest, d.Digest.Short(), caps, caps.Digest.Short())
	}
	return nil
}

// checkPayload checks size and chunk digests.
func (d *Descriptor) checkPayload(payload []byte) error {
	switch {
	case len(payload) < int(d.Size):
		return fmt.Errorf("payload: %w: %d of %d bytes; fetch it again", ErrTruncated, len(payload), d.Size)
	case len(payload) > int(d.Size):
		return fmt.Errorf("payload: %w: %d bytes, the descriptor says %d", ErrTooLarge, len(payload), d.Size)
	}
	t := Transfer{Payload: payload}
	for n := range d.Chunks {
		if err := d.CheckChunk(n, t.Chunk(n)); err != nil {
			return err
		}
	}
	return nil
}

// checkBase reports whether base is the model that d starts from.
func (d *Descriptor) checkBase(base *Model) error {
	if d.Base == nil {
		return nil
	}
	if base == nil {
		return fmt.Errorf("%w: a %s from %s, which is not here; get the full transfer", ErrBase, d.Kind, d.Base.Short())
	}
	switch sum, err := base.Digest(); {
	case err != nil:
		return fmt.Errorf("%w: %s is damaged: %w; get the full transfer", ErrBase, d.Base.Short(), err)
	case sum != *d.Base:
		return fmt.Errorf("%w: a %s from %s, not from %s; get the full transfer", ErrBase, d.Kind, d.Base.Short(), sum.Short())
	}
	return nil
}

// decode decodes a payload and returns the model and its digest. The tensors'
// values are not checked. base is the model that d starts from, valid.
func (d *Descriptor) decode(payload []byte, base *Model) (*Model, protocol.Digest, error) {
	none := protocol.Digest{}
	n, head := binary.Uvarint(payload)
	if head <= 0 {
		return nil, none, ErrTruncated
	}
	if n == 0 || n > MaxManifest || n > uint64(d.Decoded) {
		return nil, none, fmt.Errorf("%w: a manifest of %d bytes, at most %d", ErrTooLarge, n, min(MaxManifest, d.Decoded))
	}
	dec := decoder{b: payload[head:]}
	defer dec.close()
	man := make([]byte, n)
	if err := dec.manifest(man, d.Codecs[0], base); err != nil {
		return nil, none, fmt.Errorf("manifest: %w", err)
	}
	var w manifest
	if err := decodeDocument(man, "manifest", &w, MaxManifest); err != nil {
		return nil, none, err
	}
	m := w.model()
	if err := m.validateShape(); err != nil {
		return nil, none, err
	}
	if d.Kind != protocol.KindFull {
		if err := sameTensors(m, base); err != nil {
			return nil, none, err
		}
	}
	from := firstTensor(m, d.Kind)
	total, streams := len(man), 1
	for i := range m.Tensors {
		size, _ := m.Tensors[i].size() // within limits: validateShape
		total += size
		if i >= from {
			streams += m.Tensors[i].width()
		}
	}
	if total != int(d.Decoded) || streams != len(d.Codecs) {
		return nil, none, fmt.Errorf("%w: %d bytes in %d streams, the descriptor says %d in %d",
			ErrCorrupt, total, streams, d.Decoded, len(d.Codecs))
	}
	if err := dec.tensors(m, base, from, d.Codecs[1:]); err != nil {
		return nil, none, err
	}
	if len(dec.b) > 0 {
		return nil, none, fmt.Errorf("%w: %d bytes behind the last tensor", ErrCorrupt, len(dec.b))
	}
	return m, digest(man, m.Tensors), nil
}

// manifest fills man.
func (d *decoder) manifest(man []byte, c Codec, base *Model) error {
	if err := d.stream(man, c&^Residual); err != nil || c&Residual == 0 {
		return err
	}
	baseMan, err := base.encodeManifest()
	if err != nil {
		return err
	}
	if len(baseMan) != len(man) {
		return fmt.Errorf("%w: a residual of %d bytes from a manifest of %d", ErrBase, len(man), len(baseMan))
	}
	copy(man, xor(man, baseMan))
	return nil
}

// tensors decodes the data of m's tensors; those before from are the base's.
func (d *decoder) tensors(m, base *Model, from int, codecs []Codec) error {
	residuals := make([]bool, len(m.Tensors))
	for i := range m.Tensors {
		t := &m.Tensors[i]
		if i < from {
			t.Data = bytes.Clone(base.Tensors[i].Data)
			continue
		}
		residual, err := d.tensor(t, codecs[:t.width()])
		if err != nil {
			return fmt.Errorf("tensor %s: %w", t.Name, err)
		}
		residuals[i], codecs = residual, codecs[t.width():]
	}
	// The scales of a tensor come behind it.
	for i, residual := range slices.Backward(residuals) {
		if residual {
			addBase(m, base, i)
		}
	}
	return nil
}

// tensor decodes the data of t, one stream for each byte of an element, and
// reports whether it is a residual.
func (d *decoder) tensor(t *Tensor, codecs []Codec) (residual bool, err error) {
	size, err := t.size()
	if err != nil {
		return false, err
	}
	t.Data = make([]byte, size)
	plane := make([]byte, size/len(codecs))
	for p, c := range codecs {
		if c&Residual != codecs[0]&Residual {
			return false, fmt.Errorf("%w: it is in part a residual", ErrCorrupt)
		}
		if err := d.stream(plane, c&^Residual); err != nil {
			return false, err
		}
		for j, b := range plane {
			t.Data[j*len(codecs)+p] = b
		}
	}
	return codecs[0]&Residual != 0, nil
}
