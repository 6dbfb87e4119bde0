package registry

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// A Verification says what of a version was checked and held.
type Verification struct {
	Version Version         `json:"version"`
	Digest  protocol.Digest `json:"digest"` // computed from the decoded model
	Golden  int             `json:"golden"` // golden vectors that reproduced
}

// Verify holds a stored version against the root document (ErrUnsigned or
// artifact's errors), its size caps, this fleet and kernel, its digest and its
// golden vectors.
func (r *Registry) Verify(ctx context.Context, ref string) (Verification, error) {
	row, err := r.row(ctx, ref)
	if err != nil {
		return Verification{}, err
	}
	v, err := r.verify(ctx, row)
	if err != nil {
		return Verification{}, fmt.Errorf("verify %s: %w", Ref(row.Name, row.Number), err)
	}
	return v, nil
}

func (r *Registry) verify(ctx context.Context, row store.Version) (Verification, error) {
	if row.Envelope == nil {
		return Verification{}, ErrUnsigned
	}
	t, err := r.transfer(ctx, row.Hash)
	if err != nil {
		return Verification{}, err
	}
	rel, m, err := r.open(row.Envelope, t)
	if err != nil {
		return Verification{}, err
	}
	if rel.Digest != row.Digest {
		return Verification{}, fmt.Errorf("%w: the release of %s signs %s, the version is %s; import it again",
			artifact.ErrDigest, rel, rel.Digest.Short(), row.Digest.Short())
	}
	if rel.Name != row.Name || rel.Version != row.Number {
		return Verification{}, fmt.Errorf("its release is of %s: %w", Ref(rel.Name, rel.Version), store.ErrCorrupt)
	}
	digest, err := m.Digest()
	if err != nil {
		return Verification{}, err
	}
	v, err := r.version(ctx, row)
	return Verification{Version: v, Digest: digest, Golden: artifact.GoldenVectors}, err
}

// open makes the checks of a device that installs a version from a file: those
// of artifact.Policy, and the golden vectors.
func (r *Registry) open(envelope []byte, t *artifact.Transfer) (*artifact.Release, *artifact.Model, error) {
	policy := artifact.Policy{Root: r.root, Fleet: r.fleet, ABI: kernel.ABI, Local: true}
	rel, m, err := policy.Open(envelope, t)
	if err != nil {
		return nil, nil, err
	}
	if err := golden(m); err != nil {
		return nil, nil, fmt.Errorf("%s: %w; it was changed, or made by another kernel: train it again, or export it again from where it was made", rel, err)
	}
	return rel, m, nil
}

// Export writes a version as one signed file, which Import here or on another
// control plane of the fleet, and install on a device, accept. ErrUnsigned if
// it has no signature.
func (r *Registry) Export(ctx context.Context, ref string, w io.Writer) (Version, error) {
	row, err := r.row(ctx, ref)
	if err != nil {
		return Version{}, err
	}
	if row.Envelope == nil {
		return Version{}, fmt.Errorf("export %s: %w", Ref(row.Name, row.Number), ErrUnsigned)
	}
	t, err := r.transfer(ctx, row.Hash)
	if err != nil {
		return Version{}, fmt.Errorf("export %s: %w", Ref(row.Name, row.Number), err)
	}
	if err := artifact.WriteFile(w, row.Envelope, t); err != nil {
		return Version{}, fmt.Errorf("export %s: %w", Ref(row.Name, row.Number), err)
	}
	return r.version(ctx, row)
}

// Import stores the version in a file written by Export, under the name and
// number it was released with, after the checks that a device makes: signature
// against the root document, size caps, fleet, kernel ABI, digest, golden vectors.
// Importing a version that is there already returns it. A number that is taken
// by another model is ErrExists.
func (r *Registry) Import(ctx context.Context, file io.Reader) (Version, error) {
	v, err := r.importFile(ctx, file)
	if err != nil {
		return Version{}, fmt.Errorf("import: %w", err)
	}
	return v, nil
}

func (r *Registry) importFile(ctx context.Context, file io.Reader) (Version, error) {
	envelope, t, err := artifact.ReadFile(file)
	if err != nil {
		return Version{}, err
	}
	rel, m, err := r.open(envelope, t)
	if err != nil {
		return Version{}, err
	}
	payload, err := rel.AppendBinary(nil)
	if err != nil {
		return Version{}, err
	}
	r.blobs.RLock()
	defer r.blobs.RUnlock()
	transfer, err := r.putPayload(t)
	if err != nil {
		return Version{}, err
	}
	row := store.Version{
		Name: rel.Name, Number: rel.Version, Digest: rel.Digest, Task: m.Task, Created: now(),
		Payload: payload, Envelope: envelope, Hash: transfer.Hash,
	}
	err = r.store.Update(ctx, func(tx store.Tx) error {
		old, err := tx.VersionByDigest(ctx, rel.Digest)
		switch {
		case err == nil && old.Name == row.Name && old.Number == row.Number:
			if err := tx.PutTransfer(ctx, transfer.Transfer); err != nil { // if its bytes were removed
				return err
			}
			if old.Envelope == nil { // ours, signed elsewhere
				if err := tx.SignVersion(ctx, row.Name, row.Number, envelope); err != nil {
					return err
				}
				return tx.Audit(ctx, entry(audit.ModelSign, row, "imported"))
			}
			return nil
		case err == nil:
			return fmt.Errorf("the same model is %s: %w", Ref(old.Name, old.Number), ErrExists)
		case !errors.Is(err, ErrNotFound):
			return err
		}
		if _, err := tx.Version(ctx, row.Name, row.Number); err == nil {
			return fmt.Errorf("%s is another model here: %w", Ref(row.Name, row.Number), ErrExists)
		}
		if err := tx.PutTransfer(ctx, transfer.Transfer); err != nil {
			return err
		}
		if err := tx.PutVersion(ctx, row); err != nil {
			return err
		}
		return audited(ctx, tx, row, "imported")
	})
	if err != nil {
		return Version{}, err
	}
	return r.Resolve(ctx, Ref(row.Name, row.Number))
}
