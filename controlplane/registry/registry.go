// Package registry keeps the versions of models: immutable, numbered from 1
// under a name, signed by the role release, with aliases that move and with
// the lineage of each: the data, run and parent it came from, its training
// report and its float32 weights.
//
// A version is referred to as
//
//	NAME          the latest version of a model
//	NAME:latest   the same
//	NAME:vN       version N
//	NAME:ALIAS    the version an alias stands at
//
// The digest of its model is its only identity on the wire, so one model can
// be a version once.
package registry

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

var (
	// ErrNotFound: no such model, version or alias.
	ErrNotFound = store.ErrNotFound
	// ErrExists: the number is taken by another model, or the model by another name.
	ErrExists = store.ErrExists
	// ErrUnsigned: the version has no signature of the role release.
	ErrUnsigned = errors.New("version is not signed")
	// ErrRef: text that cannot refer to a version.
	ErrRef = errors.New("invalid reference")
	// ErrAlias: text that cannot be an alias.
	ErrAlias = errors.New("invalid alias")
	// ErrKey: no release key, or one that the root document does not list.
	ErrKey = errors.New("no usable release key")
)

// Config configures a Registry.
type Config struct {
	Store *store.Store
	Fleet string
	// Root is the fleet's verified root document: what signatures are held against.
	Root *artifact.Root
	// ReleaseKey signs versions as they are added. Without it they stay
	// unsigned until Sign.
	ReleaseKey ed25519.PrivateKey
}

// A Registry is safe for concurrent use.
type Registry struct {
	store *store.Store
	fleet string
	root  *artifact.Root
	key   ed25519.PrivateKey
	// blobs is held for reading from when a blob is put until a row refers to it, so
	// that Prune does not remove what somebody is just adding.
	blobs sync.RWMutex
}

// New returns a registry on a store.
func New(cfg Config) (*Registry, error) {
	if err := protocol.CheckFleet(cfg.Fleet); err != nil {
		return nil, err
	}
	if cfg.Store == nil || cfg.Root == nil {
		return nil, errors.New("registry needs a store and a root document")
	}
	return &Registry{store: cfg.Store, fleet: cfg.Fleet, root: cfg.Root, key: cfg.ReleaseKey}, nil
}

// A Version is one immutable version of a model.
type Version struct {
	Name       string             `json:"name"`
	Number     uint64             `json:"number"`
	Digest     protocol.Digest    `json:"digest"`
	Task       string             `json:"task"`
	Created    time.Time          `json:"created"`
	Signed     bool               `json:"signed"`
	Bytes      int                `json:"bytes"`   // payload of its full transfer
	Hash       string             `json:"hash"`    // of its full transfer
	Aliases    []string           `json:"aliases"` // that stand at it, in order
	Metrics    map[string]float64 `json:"metrics,omitempty"`
	Report     json.RawMessage    `json:"report,omitempty"` // of its training; nil after an import
	Lineage    artifact.Lineage   `json:"lineage"`
	HasFloat32 bool               `json:"has_float32"`
}

// Ref returns NAME:vN.
func (v Version) Ref() string { return Ref(v.Name, v.Number) }

// Info says where a version comes from.
type Info struct {
	Report  json.RawMessage    // of its training
	Metrics map[string]float64 // of the int8 model; signed
	Data    string             // digest of the training data
	Run     string             // id of the training run
	Parent  *protocol.Digest   // the version it was trained from
	Forced  string             // who added it although a check refused it; signed
}

// Add stores m as the next version of name, with its float32 weights if w is
// not nil, and signs it if the registry has the release key. Adding a model
// that is the same to the last bit as a version of name returns that version.
func (r *Registry) Add(ctx context.Context, name string, m *artifact.Model, w *kernel.Weights, info Info) (Version, error) {
	v, err := r.add(ctx, name, m, w, info)
	if err != nil {
		return Version{}, fmt.Errorf("add a version of %.60q: %w", name, err)
	}
	return v, nil
}

func (r *Registry) add(ctx context.Context, name string, m *artifact.Model, w *kernel.Weights, info Info) (Version, error) {
	if err := protocol.CheckID(name); err != nil {
		return Version{}, err
	}
	digest, err := m.Digest()
	if err != nil {
		return Version{}, err
	}
	if err := golden(m); err != nil {
		return Version{}, err
	}
	r.blobs.RLock()
	defer r.blobs.RUnlock()
	transfer, err := r.packed(m)
	if err != nil {
		return Version{}, err
	}
	row := store.Version{Name: name, Digest: digest, Task: m.Task, Created: now(), Hash: transfer.Hash, Report: string(info.Report)}
	if w != nil {
		data, err := appendWeights(nil, w)
		if err != nil {
			return Version{}, err
		}
		if row.Weights, err = r.store.PutBlob(data); err != nil {
			return Version{}, err
		}
	}
	release := artifact.Release{
		Format: artifact.Format, Name: name, Digest: digest, Fleet: r.fleet,
		Lineage:     artifact.Lineage{Data: info.Data, Run: info.Run, Parent: info.Parent, Forced: info.Forced},
		Metrics:     info.Metrics,
		MaxTransfer: min(artifact.RawSize(transfer.desc.Decoded), protocol.MaxTransfer), MaxDecoded: transfer.desc.Decoded,
		ABI: kernel.ABI, Issued: row.Created.UnixMilli(),
	}
	err = r.store.Update(ctx, func(tx store.Tx) error {
		switch old, err := tx.VersionByDigest(ctx, digest); {
		case err == nil && old.Name == name:
			row = old
			return nil
		case err == nil:
			return fmt.Errorf("the same model is %s: %w; use that one, or train with another seed", Ref(old.Name, old.Number), ErrExists)
		case !errors.Is(err, ErrNotFound):
			return err
		}
		latest, err := tx.LatestVersion(ctx, name)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		row.Number = latest.Number + 1
		release.Version = row.Number
		if row.Payload, row.Envelope, err = r.release(release); err != nil {
			return err
		}
		if err := tx.PutTransfer(ctx, transfer.Transfer); err != nil {
			return err
		}
		if err := tx.PutVersion(ctx, row); err != nil {
			return err
		}
		return audited(ctx, tx, row, origin(info))
	})
	if err != nil {
		return Version{}, err
	}
	return r.Resolve(ctx, Ref(row.Name, row.Number))
}

// Sign adds the release signature to a version that has none. ErrKey if the
// root document does not list the key.
func (r *Registry) Sign(ctx context.Context, ref string, key ed25519.PrivateKey) (Version, error) {
	row, err := r.row(ctx, ref)
	if err != nil {
		return Version{}, err
	}
	if row.Envelope == nil {
		envelope, err := r.sign(row.Payload, key)
		if err != nil {
			return Version{}, fmt.Errorf("sign %s: %w", ref, err)
		}
		err = r.store.Update(ctx, func(tx store.Tx) error {
			if err := tx.SignVersion(ctx, row.Name, row.Number, envelope); err != nil {
				return err
			}
			return tx.Audit(ctx, entry(audit.ModelSign, row, ""))
		})
		if err != nil {
			return Version{}, fmt.Errorf("sign %s: %w", ref, err)
		}
	}
	return r.Resolve(ctx, Ref(row.Name, row.Number))
}

// Resolve returns the version that ref means, or ErrNotFound with a suggestion.
func (r *Registry) Resolve(ctx context.Context, ref string) (Version, error) {
	row, err := r.row(ctx, ref)
	if err != nil {
		return Version{}, err
	}
	return r.version(ctx, row)
}

// ByDigest returns the version whose model has this digest.
func (r *Registry) ByDigest(ctx context.Context, d protocol.Digest) (Version, error) {
	row, err := r.rowByDigest(ctx, d)
	if err != nil {
		return Version{}, err
	}
	return r.version(ctx, row)
}

func (r *Registry) rowByDigest(ctx context.Context, d protocol.Digest) (row store.Version, err error) {
	err = r.store.View(ctx, func(tx store.Tx) error {
		row, err = tx.VersionByDigest(ctx, d)
		return err
	})
	if err != nil {
		return row, fmt.Errorf("version with digest %s: %w", d, err)
	}
	return row, nil
}

func (r *Registry) version(ctx context.Context, row store.Version) (Version, error) {
	var aliases map[string]uint64
	err := r.store.View(ctx, func(tx store.Tx) (err error) {
		aliases, err = tx.Aliases(ctx, row.Name)
		return err
	})
	if err != nil {
		return Version{}, err
	}
	return fromRow(row, aliases)
}

// Lineage returns where a stored version comes from.
func Lineage(row store.Version) (artifact.Lineage, error) {
	var rel artifact.Release
	if err := rel.UnmarshalBinary(row.Payload); err != nil {
		return artifact.Lineage{}, fmt.Errorf("stored release of %s: %w", Ref(row.Name, row.Number), err)
	}
	return rel.Lineage, nil
}

func fromRow(row store.Version, aliases map[string]uint64) (Version, error) {
	var rel artifact.Release
	if err := rel.UnmarshalBinary(row.Payload); err != nil {
		return Version{}, fmt.Errorf("stored release of %s: %w", Ref(row.Name, row.Number), err)
	}
	v := Version{
		Name: row.Name, Number: row.Number, Digest: row.Digest, Task: row.Task, Created: row.Created,
		Signed: row.Envelope != nil, Bytes: int(row.Bytes), Hash: row.Hash, Aliases: []string{},
		Metrics: rel.Metrics, Lineage: rel.Lineage, HasFloat32: row.Weights != "",
	}
	if row.Report != "" {
		v.Report = json.RawMessage(row.Report)
	}
	for a, n := range aliases {
		if n == row.Number {
			v.Aliases = append(v.Aliases, a)
		}
	}
	slices.Sort(v.Aliases)
	return v, nil
}

const (
	defaultPage = 100
	maxPage     = 1000
)

// A Page is one part of a list in the order (name, number).
type Page struct {
	Versions []Version `json:"versions"`
	Next     string    `json:"next,omitempty"` // after of the next page: NAME:vN; "" at the end
}

// List returns up to limit (default 100, at most 1,000) versions of one model,
// or of all if name is "", that come after the given NAME:vN.
func (r *Registry) List(ctx context.Context, name, after string, limit int) (Page, error) {
	if limit <= 0 {
		limit = defaultPage
	}
	limit = min(limit, maxPage)
	var from reference
	if after != "" {
		var err error
		if from, err = parseRef(after); err != nil {
			return Page{}, err
		}
		if from.number == 0 {
			return Page{}, fmt.Errorf("%w %q: a page starts after NAME:vN", ErrRef, after)
		}
	}
	p := Page{Versions: []Version{}}
	err := r.store.View(ctx, func(tx store.Tx) error {
		rows, err := tx.Versions(ctx, name, from.name, from.number, limit+1)
		if err != nil {
			return err
		}
		if len(rows) > limit {
			rows = rows[:limit]
			p.Next = Ref(rows[limit-1].Name, rows[limit-1].Number)
		}
		aliases := map[string]map[string]uint64{}
		for _, row := range rows {
			if aliases[row.Name] == nil {
				if aliases[row.Name], err = tx.Aliases(ctx, row.Name); err != nil {
					return err
				}
			}
			v, err := fromRow(row, aliases[row.Name])
			if err != nil {
				return err
			}
			p.Versions = append(p.Versions, v)
		}
		return nil
	})
	if err != nil {
		return Page{}, fmt.Errorf("list versions: %w", err)
	}
	return p, nil
}

// Tag moves alias, or makes it, to the version that ref means.
func (r *Registry) Tag(ctx context.Context, ref, alias string) (Version, error) {
	if err := checkAlias(alias); err != nil {
		return Version{}, err
	}
	row, err := r.row(ctx, ref)
	if err != nil {
		return Version{}, err
	}
	err = r.store.Update(ctx, func(tx store.Tx) error {
		if err := tx.SetAlias(ctx, row.Name, alias, row.Number); err != nil {
			return err
		}
		return tx.Audit(ctx, entry(audit.ModelTag, row, alias))
	})
	if err != nil {
		return Version{}, fmt.Errorf("tag %s: %w", ref, err)
	}
	return r.version(ctx, row)
}

// entry is an audit entry about a version.
func entry(action string, row store.Version, detail string) audit.Entry {
	return audit.Entry{Action: action, Model: row.Name, Number: row.Number, Digest: row.Digest, Detail: detail}
}

// audited records that a version came into being, and its signature if it has one.
func audited(ctx context.Context, tx store.Tx, row store.Version, from string) error {
	if err := tx.Audit(ctx, entry(audit.ModelAdd, row, from)); err != nil || row.Envelope == nil {
		return err
	}
	return tx.Audit(ctx, entry(audit.ModelSign, row, ""))
}

// origin says in an audit entry where a version comes from.
func origin(info Info) string {
	var parts []string
	for _, p := range []struct{ name, value string }{{"run", info.Run}, {"data", info.Data}, {"forced by", info.Forced}} {
		if p.value != "" {
			parts = append(parts, p.name+" "+p.value)
		}
	}
	if info.Parent != nil {
		parts = append(parts, "parent "+info.Parent.String())
	}
	return strings.Join(parts, ", ")
}

// golden opens m and holds it against its golden vectors.
func golden(m *artifact.Model) error {
	p, err := predictor.Open(m)
	if err != nil {
		return err
	}
	return p.Check()
}

func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
