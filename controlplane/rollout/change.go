package rollout

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// A change is one transaction on desired state: rows are loaded, decided on,
// and saved together with the want that says so.
type change struct {
	r     *Rollouts
	at    time.Time
	wants []string // devices whose want is new
	refs  map[protocol.Digest][]protocol.TransferRef
	// reference is that of the version whose rollout is looked at; nil: its drift is
	// not asked for, or cannot be told.
	reference *reference

	// Of rollbacks: who chose what devices run, and why a version is none to go back
	// to, "" if it is.
	by     map[int64]store.Rollout
	barred map[protocol.Digest]string
}

func (r *Rollouts) change(at time.Time) *change {
	return &change{
		r: r, at: at, refs: map[protocol.Digest][]protocol.TransferRef{}, by: map[int64]store.Rollout{}, barred: map[protocol.Digest]string{},
	}
}

// load returns what is known of a device: ErrNotFound if there is none.
func (c *change) load(ctx context.Context, tx store.Tx, id string) (device, error) {
	devices, err := c.loadAll(ctx, tx, []string{id})
	if err != nil {
		return device{}, err
	}
	return devices[0], nil
}

// loadAll is load for many devices, in their order.
func (c *change) loadAll(ctx context.Context, tx store.Tx, ids []string) ([]device, error) {
	haves, err := tx.Haves(ctx, ids)
	if err != nil {
		return nil, err
	}
	devices, at := make([]device, len(ids)), make(map[string]int, len(ids))
	for i, id := range ids {
		have, ok := haves[id]
		if !ok {
			return nil, fmt.Errorf("device %s: %w", id, ErrNotFound)
		}
		d := device{id: id, rows: map[string]store.Desired{}, trials: map[string]store.Trial{}}
		if have != nil {
			if err := d.have.UnmarshalBinary(have); err != nil {
				return nil, fmt.Errorf("stored have of %s: %w", id, err)
			}
		}
		d.want.Device = id
		devices[i], at[id] = d, i
	}
	rows, err := tx.DesiredIn(ctx, ids)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		devices[at[row.Device]].rows[row.Model] = row
	}
	trials, err := tx.TrialsIn(ctx, ids)
	if err != nil {
		return nil, err
	}
	for _, t := range trials {
		devices[at[t.Device]].trials[t.Model] = t
	}
	wants, err := tx.Wants(ctx, ids)
	if err != nil {
		return nil, err
	}
	for _, w := range wants {
		devices[at[w.Device]].want = w
	}
	return devices, nil
}

// loadPage is how many devices are loaded at a time.
const loadPage = 500

// each calls do with each device, until that fails. It is loaded before do was
// called with others.
func (c *change) each(ctx context.Context, tx store.Tx, ids []string, do func(device) error) error {
	for page := range slices.Chunk(ids, loadPage) {
		devices, err := c.loadAll(ctx, tx, page)
		if err != nil {
			return err
		}
		for _, d := range devices {
			if err := do(d); err != nil {
				return err
			}
		}
	}
	return nil
}

// save stores a decided row. If it names another version than before, the
// device gets a new want, and the row the number of it.
func (c *change) save(ctx context.Context, tx store.Tx, d device, next store.Desired, changed bool) error {
	next.Changed = c.at
	if changed {
		d.want.Epoch, d.want.Rev = nextRev(d.want, d.have)
		next.Epoch, next.Rev = d.want.Epoch, d.want.Rev
	}
	next = observe(next, d.have)
	d.rows[next.Model] = next
	if !changed {
		return tx.PutDesired(ctx, next)
	}
	return c.putWant(ctx, tx, d, next.Model)
}

// nextRev is the number of the next want: above our last one and, if the
// device has verified a higher one (this store was restored from a backup),
// in an epoch above that.
func nextRev(w store.Want, h protocol.Have) (epoch, rev uint64) {
	if newer(h.Epoch, h.Rev, w.Epoch, w.Rev) {
		return h.Epoch + 1, max(h.Rev, w.Rev) + 1
	}
	return w.Epoch, w.Rev + 1
}

// putWant signs and stores the want that d's rows add up to, with the row of the
// model that was decided; "": none was.
func (c *change) putWant(ctx context.Context, tx store.Tx, d device, decided string) error {
	if len(d.rows) > 0 {
		want := protocol.Want{
			Format: protocol.Format, Fleet: c.r.fleet, Device: d.id,
			Epoch: d.want.Epoch, Rev: d.want.Rev, Issued: c.at.UnixMilli(),
			Models: make(map[string]protocol.ModelWant, len(d.rows)),
		}
		for model, row := range d.rows {
			refs, update, err := c.offer(ctx, tx, d, row)
			if err != nil {
				return err
			}
			if d.has(model, row.Digest) && (model == decided || row.Offer == store.FromCache) {
				update = store.FromCache
			}
			if update != row.Offer || model == decided {
				row.Offer = update
				if err := tx.PutDesired(ctx, row); err != nil {
					return err
				}
			}
			m := protocol.ModelWant{Active: protocol.WantedVersion{Digest: row.Digest, Transfers: refs}}
			if err := c.shadow(ctx, tx, d, row, &m); err != nil {
				return err
			}
			want.Models[model] = m
		}
		if err := d.tried(&want); err != nil {
			return err
		}
		payload, err := want.AppendBinary(nil)
		if err != nil {
			return fmt.Errorf("want of %s: %w", d.id, err)
		}
		if c.r.key == nil {
			return ErrNoKey
		}
		if d.want.Envelope, err = artifact.Sign(artifact.TypeWant, payload, c.r.key).AppendBinary(nil); err != nil {
			return fmt.Errorf("want of %s: %w", d.id, err)
		}
		c.wants = append(c.wants, d.id)
	}
	return tx.PutWant(ctx, d.want)
}

// transfers returns all ways to get a version, smallest first.
func (c *change) transfers(ctx context.Context, tx store.Tx, d protocol.Digest) ([]protocol.TransferRef, error) {
	if refs, ok := c.refs[d]; ok {
		return refs, nil
	}
	rows, err := tx.Transfers(ctx, d)
	if err != nil {
		return nil, err
	}
	refs := make([]protocol.TransferRef, 0, len(rows))
	for _, row := range rows {
		ref := protocol.TransferRef{Hash: row.Hash, Kind: row.Kind, Size: uint32(row.Size)}
		if !row.Base.IsZero() {
			base := row.Base
			ref.Base = &base
		}
		refs = append(refs, ref)
	}
	c.refs[d] = refs
	return refs, nil
}
