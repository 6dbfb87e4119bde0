package artifact

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A Transfer is one encoding of a model. The payload of a full one is the
// size of the manifest as a uvarint, the coded manifest, and the coded data
// of each tensor in order. An i8 tensor is one stream; an f32 tensor is four,
// byte 0 of every element first, because exponents repeat and low bytes of
// rounded scales are zero. Descriptor.Codecs names the codec of each stream.
type Transfer struct {
	Descriptor
	Payload []byte
}

// Pack encodes m as a full transfer, each stream by the codec that makes it
// smallest. It returns what Validate returns.
func Pack(m *Model) (*Transfer, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	man, err := appendDocument(nil, "manifest", m.manifest(), MaxManifest)
	if err != nil {
		return nil, err
	}
	t := &Transfer{Descriptor: Descriptor{Digest: digest(man, m.Tensors), Kind: protocol.KindFull, Decoded: uint32(len(man))}}
	t.Payload = binary.AppendUvarint(nil, uint64(len(man)))
	if err := t.add(man); err != nil {
		return nil, err
	}
	for i := range m.Tensors {
		data := m.Tensors[i].Data
		t.Decoded += uint32(len(data))
		width := m.Tensors[i].width()
		plane := make([]byte, len(data)/width)
		for p := range width {
			for j := range plane {
				plane[j] = data[j*width+p]
			}
			if err := t.add(plane); err != nil {
				return nil, err
			}
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

// add appends one stream.
func (t *Transfer) add(stream []byte) error {
	var c Codec
	var err error
	if t.Payload, c, err = encodeBest(t.Payload, stream); err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	t.Codecs = append(t.Codecs, c)
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
// the release, which must be verified; the digests of the chunks; that it
// decodes within d.Decoded; that the model's digest is the signed one; that
// every number is finite. It allocates no more than the caps allow.
func Unpack(d Descriptor, payload []byte, caps *Release) (*Model, error) {
	if err := d.checkCaps(caps); err != nil {
		return nil, err
	}
	if err := d.checkPayload(payload); err != nil {
		return nil, err
	}
	m, sum, err := d.decode(payload)
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
	if d.Kind != protocol.KindFull {
		return fmt.Errorf("%w: this version decodes full transfers, not %s; update the software", ErrFormat, d.Kind)
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

// decode decodes a payload and returns the model and its digest. The tensors'
// values are not checked.
func (d *Descriptor) decode(payload []byte) (*Model, protocol.Digest, error) {
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
	if err := dec.stream(man, d.Codecs[0]); err != nil {
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
	total, streams := len(man), 1
	for i := range m.Tensors {
		size, _ := m.Tensors[i].size() // within limits: validateShape
		total += size
		streams += m.Tensors[i].width()
	}
	if total != int(d.Decoded) || streams != len(d.Codecs) {
		return nil, none, fmt.Errorf("%w: %d bytes in %d streams, the descriptor says %d in %d",
			ErrCorrupt, total, streams, d.Decoded, len(d.Codecs))
	}
	codecs := d.Codecs[1:]
	for i := range m.Tensors {
		t := &m.Tensors[i]
		if err := dec.tensor(t, codecs); err != nil {
			return nil, none, fmt.Errorf("tensor %s: %w", t.Name, err)
		}
		codecs = codecs[t.width():]
	}
	if len(dec.b) > 0 {
		return nil, none, fmt.Errorf("%w: %d bytes behind the last tensor", ErrCorrupt, len(dec.b))
	}
	return m, digest(man, m.Tensors), nil
}

// tensor decodes the data of t, one stream for each byte of an element.
func (d *decoder) tensor(t *Tensor, codecs []Codec) error {
	size, err := t.size()
	if err != nil {
		return err
	}
	t.Data = make([]byte, size)
	width := t.width()
	if width == 1 {
		return d.stream(t.Data, codecs[0])
	}
	plane := make([]byte, size/width)
	for p := range width {
		if err := d.stream(plane, codecs[p]); err != nil {
			return err
		}
		for j, b := range plane {
			t.Data[j*width+p] = b
		}
	}
	return nil
}
