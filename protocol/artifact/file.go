package artifact

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// FileMagic begins a model file: eight bytes that no text has, and a line
// feed that a text transfer would change.
const FileMagic = "\x89SP1MDL\n"

// exportAgain says how to mend a file that was cut or changed on its way.
const exportAgain = "export it again with `sandpiper model export`"

// WriteFile writes a version as one file, for export, offline installation
// and the copy a device keeps of what it confirmed. Lengths are 4 bytes
// little-endian:
//
//	offset  size  field
//	0       8     FileMagic
//	8       4     length R of the release, at most protocol.MaxRelease
//	12      4     length D of the descriptor, at most MaxDescriptor
//	16      4     length P of the payload, at most protocol.MaxTransfer
//	20      R     release envelope
//	20+R    D     descriptor
//	20+R+D  P     payload
//
// The file needs no checksum: the release is signed, and the payload has the
// descriptor's chunk digests and the signed model digest.
func WriteFile(w io.Writer, release []byte, t *Transfer) error {
	b, err := AppendFileHead(nil, release, &t.Descriptor)
	if err != nil {
		return err
	}
	if len(t.Payload) != int(t.Size) {
		return fmt.Errorf("write model file: %w: %d of %d bytes", ErrTruncated, len(t.Payload), t.Size)
	}
	_, err = w.Write(append(b, t.Payload...))
	return err
}

// AppendFileHead appends what a model file has before the payload, which may
// then be written piece by piece.
func AppendFileHead(b, release []byte, desc *Descriptor) ([]byte, error) {
	d, err := desc.AppendBinary(nil)
	if err != nil {
		return b, err
	}
	if len(release) == 0 || len(release) > protocol.MaxRelease {
		return b, fmt.Errorf("write model file: %w: a release of %d bytes, want 1 to %d",
			ErrTooLarge, len(release), protocol.MaxRelease)
	}
	b = append(b, FileMagic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(release)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(d)))
	b = binary.LittleEndian.AppendUint32(b, desc.Size)
	return append(append(b, release...), d...), nil
}

// ReadFile reads what WriteFile wrote, and nothing behind it. It checks sizes
// and chunk digests, but no signature: that is for a Policy.
func ReadFile(r io.Reader) (release []byte, t *Transfer, err error) {
	t = new(Transfer)
	if release, t.Descriptor, err = ReadFileHead(r); err != nil {
		return nil, nil, err
	}
	// A short file must not cost what a long one would.
	for len(t.Payload) < int(t.Size) {
		at := len(t.Payload)
		t.Payload = append(t.Payload, make([]byte, min(int(t.Size)-at, 1<<20))...)
		if err := readFull(r, t.Payload[at:], fileParts[2]); err != nil {
			return nil, nil, err
		}
	}
	if n, err := io.ReadFull(r, make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		return nil, nil, fmt.Errorf("model file: %w: there are bytes behind the payload; %s", ErrCorrupt, exportAgain)
	}
	if err := t.checkPayload(t.Payload); err != nil {
		return nil, nil, fmt.Errorf("model file: %w, or %s", err, exportAgain)
	}
	return release, t, nil
}

// ReadFileHead reads what AppendFileHead wrote and checks sizes, but no signature.
func ReadFileHead(r io.Reader) (release []byte, desc Descriptor, err error) {
	var head [20]byte
	if err := readFull(r, head[:], "header"); err != nil {
		return nil, desc, err
	}
	if string(head[:8]) != FileMagic {
		return nil, desc, fmt.Errorf("model file: %w: it begins with %q, want %q; give a file of `sandpiper model export`",
			ErrCorrupt, head[:8], FileMagic)
	}
	sizes := [3]uint32{}
	for i, most := range [...]uint32{protocol.MaxRelease, MaxDescriptor, protocol.MaxTransfer} {
		sizes[i] = binary.LittleEndian.Uint32(head[8+4*i:])
		if sizes[i] == 0 || sizes[i] > most {
			return nil, desc, fmt.Errorf("model file: %w: %s of %d bytes, want 1 to %d; %s",
				ErrTooLarge, fileParts[i], sizes[i], most, exportAgain)
		}
	}
	release = make([]byte, sizes[0])
	if err := readFull(r, release, fileParts[0]); err != nil {
		return nil, desc, err
	}
	d := make([]byte, sizes[1])
	if err := readFull(r, d, fileParts[1]); err != nil {
		return nil, desc, err
	}
	if err := desc.UnmarshalBinary(d); err != nil {
		if errors.Is(err, ErrFormat) { // says to update
			return nil, desc, fmt.Errorf("model file: %w", err)
		}
		return nil, desc, fmt.Errorf("model file: %w; %s", err, exportAgain)
	}
	if desc.Size != sizes[2] {
		return nil, desc, fmt.Errorf("model file: %w: a payload of %d bytes, the descriptor says %d; %s",
			ErrCorrupt, sizes[2], desc.Size, exportAgain)
	}
	return release, desc, nil
}

var fileParts = [...]string{"release", "descriptor", "payload"}

func readFull(r io.Reader, b []byte, what string) error {
	if _, err := io.ReadFull(r, b); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("model file: %w: it ends in the %s; %s", ErrTruncated, what, exportAgain)
		}
		return fmt.Errorf("model file: %w", err)
	}
	return nil
}
