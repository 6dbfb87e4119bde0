package store

import (
	"context"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A Transfer is one encoding of a model.
type Transfer struct {
	Hash       string
	Digest     protocol.Digest
	Kind       string
	Base       protocol.Digest // zero unless it needs one
	Size       int64           // bytes of the payload
	Descriptor []byte
	Payload    string // blob
}

const transferColumns = `hash, digest, kind, base, size, descriptor, payload`

func scanTransfer(row scanner) (Transfer, error) {
	var tr Transfer
	var digest, base []byte
	err := row.Scan(&tr.Hash, &digest, &tr.Kind, &base, &tr.Size, &tr.Descriptor, &tr.Payload)
	if err != nil {
		return tr, mapError(err)
	}
	if tr.Digest, err = scanDigest(digest); err != nil {
		return tr, err
	}
	tr.Base, err = scanDigest(base)
	return tr, err
}

// PutTransfer adds a transfer, or the payload to one that was pruned, or does nothing
// if it is there: its hash names all of it.
func (t Tx) PutTransfer(ctx context.Context, tr Transfer) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO transfers VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (hash) DO UPDATE SET payload = excluded.payload WHERE payload = ''`,
		tr.Hash, tr.Digest[:], tr.Kind, digestArg(tr.Base), tr.Size, tr.Descriptor, tr.Payload)
	return mapError(err)
}

// Transfer returns the transfer named hash.
func (t Tx) Transfer(ctx context.Context, hash string) (Transfer, error) {
	return scanTransfer(t.tx.QueryRowContext(ctx, `SELECT `+transferColumns+` FROM transfers WHERE hash = ?`, hash))
}

// Transfers returns every transfer of a model, smallest first.
func (t Tx) Transfers(ctx context.Context, d protocol.Digest) ([]Transfer, error) {
	return collect(ctx, t.tx, scanTransfer, `SELECT `+transferColumns+` FROM transfers WHERE digest = ? ORDER BY size, hash`, d[:])
}
