package artifact

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A Descriptor describes one transfer. Deterministic CBOR; the transfer's
// hash is that of these bytes. It is not signed: it only promises, and what
// its payload decodes to must have the signed digest.
type Descriptor struct {
	Digest protocol.Digest  // of the model
	Kind   string           // protocol.KindFull, KindDelta or KindHead
	Base   *protocol.Digest // of delta and head
	Size   uint32           // of the payload, bytes
	// Decoded is the size of the manifest and all tensors, bytes.
	Decoded uint32
	// Chunks are the SHA-256 of each chunk of the payload.
	Chunks [][32]byte
	// Codecs are those of the payload's streams, the manifest first.
	Codecs []Codec
	Extra  protocol.Extra // kept, because the hash covers it
}

// wireDescriptor packs the digests and codecs into byte strings.
type wireDescriptor struct {
	Format  int              `cbor:"format"`
	Digest  protocol.Digest  `cbor:"digest"`
	Kind    string           `cbor:"kind"`
	Base    *protocol.Digest `cbor:"base,omitempty"`
	Size    uint32           `cbor:"size"`
	Decoded uint32           `cbor:"decoded"`
	Chunks  []byte           `cbor:"chunks"`
	Codecs  []byte           `cbor:"codecs"`
	Extra   protocol.Extra   `cbor:"extra,omitzero"`
}

// AppendBinary appends the deterministic CBOR of d.
func (d Descriptor) AppendBinary(b []byte) ([]byte, error) {
	w := wireDescriptor{Format: Format, Digest: d.Digest, Kind: d.Kind, Base: d.Base, Size: d.Size, Decoded: d.Decoded, Extra: d.Extra,
		Chunks: make([]byte, 0, 32*len(d.Chunks)), Codecs: make([]byte, 0, len(d.Codecs))}
	for i := range d.Chunks {
		w.Chunks = append(w.Chunks, d.Chunks[i][:]...)
	}
	for _, c := range d.Codecs {
		w.Codecs = append(w.Codecs, byte(c))
	}
	return appendDocument(b, "descriptor", &w, MaxDescriptor)
}

// UnmarshalBinary decodes deterministic CBOR.
func (d *Descriptor) UnmarshalBinary(b []byte) error {
	var w wireDescriptor
	if err := decodeDocument(b, "descriptor", &w, MaxDescriptor); err != nil {
		return err
	}
	*d = Descriptor{Digest: w.Digest, Kind: w.Kind, Base: w.Base, Size: w.Size, Decoded: w.Decoded, Extra: w.Extra,
		Chunks: make([][32]byte, len(w.Chunks)/32), Codecs: make([]Codec, len(w.Codecs))}
	for i := range d.Chunks {
		d.Chunks[i] = [32]byte(w.Chunks[32*i:])
	}
	for i, c := range w.Codecs {
		d.Codecs[i] = Codec(c)
	}
	return nil
}

func (w *wireDescriptor) check() error {
	if err := checkFormat(w.Format); err != nil {
		return err
	}
	if w.Digest.IsZero() {
		return fmt.Errorf("%w: the digest is missing", ErrCorrupt)
	}
	if err := protocol.CheckKind(w.Kind, w.Base); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if w.Size == 0 || w.Size > protocol.MaxTransfer || w.Decoded == 0 || w.Decoded > MaxDecoded+MaxManifest {
		return fmt.Errorf("%w: %d bytes that decode to %d, at most %d and %d",
			ErrTooLarge, w.Size, w.Decoded, protocol.MaxTransfer, MaxDecoded+MaxManifest)
	}
	if n := chunks(int(w.Size)); len(w.Chunks) != 32*n {
		return fmt.Errorf("%w: %d bytes of chunk digests for %d chunks", ErrCorrupt, len(w.Chunks), n)
	}
	if len(w.Codecs) == 0 || len(w.Codecs) > 1+4*MaxTensors {
		return fmt.Errorf("%w: %d codecs", ErrCorrupt, len(w.Codecs))
	}
	for _, c := range w.Codecs {
		switch c := Codec(c); {
		case !c.valid():
			return fmt.Errorf("%w: codec %d; update the software", ErrFormat, c)
		case c&Residual != 0 && w.Base == nil:
			return fmt.Errorf("%w: a residual without a base", ErrCorrupt)
		}
	}
	return nil
}

// chunks returns the number of chunks of size bytes.
func chunks(size int) int { return (size + protocol.ChunkSize - 1) / protocol.ChunkSize }

// Hash returns the name of the transfer in topics and wants: the first 32 hex
// digits of the SHA-256 of the encoded descriptor. It is empty for a
// descriptor that cannot be encoded.
func (d Descriptor) Hash() string {
	b, err := d.AppendBinary(nil)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:protocol.HashLen/2])
}

// CheckChunk verifies chunk n of the payload.
func (d *Descriptor) CheckChunk(n int, chunk []byte) error {
	if n < 0 || n >= len(d.Chunks) {
		return fmt.Errorf("%w: chunk %d of %d", ErrCorrupt, n, len(d.Chunks))
	}
	want := min(int(d.Size)-n*protocol.ChunkSize, protocol.ChunkSize)
	if len(chunk) < want {
		return fmt.Errorf("chunk %d: %w: %d of %d bytes; fetch it again", n, ErrTruncated, len(chunk), want)
	}
	if len(chunk) > want {
		return fmt.Errorf("chunk %d: %w: %d bytes, want %d", n, ErrTooLarge, len(chunk), want)
	}
	if sha256.Sum256(chunk) != d.Chunks[n] {
		return fmt.Errorf("chunk %d: %w: SHA-256 does not match the descriptor; fetch it again", n, ErrCorrupt)
	}
	return nil
}

// An Announcement is the payload of sp1/F/b/HASH/m. Deterministic CBOR.
type Announcement struct {
	Descriptor
	Release []byte // envelope
	Inline  []byte // the payload, if at most protocol.MaxInline bytes
	Extra   protocol.Extra
}

type wireAnnouncement struct {
	Descriptor []byte         `cbor:"descriptor"`
	Release    []byte         `cbor:"release"`
	Inline     []byte         `cbor:"inline,omitempty"`
	Extra      protocol.Extra `cbor:"extra,omitzero"`
}

func (w *wireAnnouncement) check() error {
	if len(w.Release) == 0 || len(w.Release) > protocol.MaxRelease {
		return fmt.Errorf("%w: a release of %d bytes, want 1 to %d", ErrTooLarge, len(w.Release), protocol.MaxRelease)
	}
	if len(w.Inline) > protocol.MaxInline {
		return fmt.Errorf("%w: %d bytes inline, at most %d", ErrTooLarge, len(w.Inline), protocol.MaxInline)
	}
	return nil
}

// Announce returns the announcement of t, with the payload if it is small.
func Announce(release []byte, t *Transfer) Announcement {
	a := Announcement{Descriptor: t.Descriptor, Release: release}
	if len(t.Payload) <= protocol.MaxInline {
		a.Inline = t.Payload
	}
	return a
}

// AppendBinary appends the deterministic CBOR of a.
func (a Announcement) AppendBinary(b []byte) ([]byte, error) {
	d, err := a.Descriptor.AppendBinary(nil)
	if err != nil {
		return b, err
	}
	w := wireAnnouncement{Descriptor: d, Release: a.Release, Inline: a.Inline, Extra: a.Extra}
	return appendDocument(b, "announcement", &w, protocol.MaxPayload)
}

// UnmarshalBinary decodes deterministic CBOR. It verifies no signature.
func (a *Announcement) UnmarshalBinary(b []byte) error {
	var w wireAnnouncement
	if err := decodeDocument(b, "announcement", &w, protocol.MaxPayload); err != nil {
		return err
	}
	*a = Announcement{Release: w.Release, Inline: w.Inline, Extra: w.Extra}
	return a.Descriptor.UnmarshalBinary(w.Descriptor)
}
