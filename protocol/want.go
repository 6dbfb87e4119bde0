package protocol

import "fmt"

// Kinds of transfer.
const (
	KindFull  = "full"  // the whole model
	KindDelta = "delta" // residuals from a base
	KindHead  = "head"  // the last layer, the rest from a base
)

// A Want is the whole desired state of one device, the payload of the
// envelope on sp1/F/d/D/want, signed by the role rollout. Deterministic CBOR.
//
// A device acts on a Want only if it is newer than the last one it verified.
type Want struct {
	Format int    `cbor:"format"`
	Fleet  string `cbor:"fleet"`
	Device string `cbor:"device"`
	// Epoch and Rev order wants. A control plane that was restored from a
	// backup and sees a higher Rev than its own raises Epoch.
	Epoch  uint64               `cbor:"epoch,omitempty"`
	Rev    uint64               `cbor:"rev,omitempty"`
	Issued int64                `cbor:"issued"` // UTC ms
	Models map[string]ModelWant `cbor:"models"` // by model name
	// Judge asks for quality reports on one model.
	Judge *Judge `cbor:"judge,omitempty"`
	// JitterS spreads downloads over this many seconds.
	JitterS uint32 `cbor:"jitter_s,omitempty"`
	// Window limits activation to a part of the device's local day.
	Window *Window `cbor:"window,omitempty"`
	// NotBefore and Deadline bound activation, UTC ms, 0 for none.
	NotBefore int64 `cbor:"not_before,omitempty"`
	Deadline  int64 `cbor:"deadline,omitempty"`
	Extra     Extra `cbor:"extra,omitzero"`
}

// A ModelWant is what a device shall do about one model.
type ModelWant struct {
	Active WantedVersion  `cbor:"active"`
	Shadow *WantedVersion `cbor:"shadow,omitempty"` // run beside Active, answers unseen
}

// A WantedVersion is a version and the ways to get it.
type WantedVersion struct {
	Digest    Digest        `cbor:"digest"`
	Transfers []TransferRef `cbor:"transfers,omitempty"`
	Key       []byte        `cbor:"key,omitempty"` // content key wrapped for this device
}

// A TransferRef names one transfer. Size is that of the payload in bytes.
type TransferRef struct {
	Hash string  `cbor:"hash"`
	Kind string  `cbor:"kind"`
	Size uint32  `cbor:"size"`
	Base *Digest `cbor:"base,omitempty"` // of delta and head
}

// A Judge asks a device to compare two versions of Model and to report every
// EveryS seconds (0: 60) until Until, UTC ms: Active and Shadow, where the want
// has one, and else the version that Active replaced and Active. The sums of a
// pair go on when the shadow becomes active, as long as Stage is the same.
type Judge struct {
	Stage  uint32 `cbor:"stage"`
	Model  string `cbor:"model"`
	EveryS uint32 `cbor:"every_s"`
	Until  int64  `cbor:"until"`
}

// A Window is a part of the local day, in minutes since midnight. It spans
// midnight if To < From, and is the whole day if they are equal. Days is a bit
// mask of the days on which it begins, bit 0 Sunday; 0 means every day.
type Window struct {
	From uint16 `cbor:"from"`
	To   uint16 `cbor:"to"`
	Days uint8  `cbor:"days,omitempty"`
}

// AppendBinary appends the deterministic CBOR of w.
func (w Want) AppendBinary(b []byte) ([]byte, error) { return appendCBOR(b, "want", &w) }

// UnmarshalBinary decodes deterministic CBOR.
func (w *Want) UnmarshalBinary(b []byte) error {
	*w = Want{}
	return decodeCBOR(b, "want", w)
}

// Newer reports whether w is newer than (epoch, rev).
func (w Want) Newer(epoch, rev uint64) bool {
	return w.Epoch > epoch || w.Epoch == epoch && w.Rev > rev
}

func (w *Want) check() error {
	if err := firstError(checkFormat(w.Format), CheckFleet(w.Fleet), CheckID(w.Device),
		checkUint("epoch", w.Epoch), checkUint("rev", w.Rev), checkTime("issued", w.Issued),
		checkTime("not_before", w.NotBefore), checkTime("deadline", w.Deadline),
		checkLen("models", len(w.Models), MaxModels)); err != nil {
		return err
	}
	for name, m := range w.Models {
		if err := firstError(CheckID(name), m.Active.check()); err != nil {
			return fmt.Errorf("model %s: %w", name, err)
		}
		if m.Shadow != nil {
			if err := m.Shadow.check(); err != nil {
				return fmt.Errorf("shadow of %s: %w", name, err)
			}
		}
	}
	if j := w.Judge; j != nil {
		if err := firstError(CheckID(j.Model), checkTime("until", j.Until)); err != nil {
			return fmt.Errorf("judge: %w", err)
		}
	}
	if d := w.Window; d != nil && (d.From >= 24*60 || d.To >= 24*60 || d.Days > 127) {
		return fmt.Errorf("%w: window from %d to %d on days %#x, want minutes below 1440 and 7 bits",
			ErrInvalid, d.From, d.To, d.Days)
	}
	return nil
}

func (v *WantedVersion) check() error {
	if v.Digest.IsZero() {
		return fmt.Errorf("%w: the digest is missing", ErrInvalid)
	}
	if err := firstError(checkLen("transfers", len(v.Transfers), MaxTransfers),
		checkLen("key", len(v.Key), MaxWrappedKey)); err != nil {
		return err
	}
	for _, t := range v.Transfers {
		if err := firstError(CheckHash(t.Hash), CheckKind(t.Kind, t.Base)); err != nil {
			return err
		}
		if t.Size == 0 || t.Size > MaxTransfer {
			return fmt.Errorf("%w: transfer of %d bytes, want 1 to %d", ErrTooLarge, t.Size, MaxTransfer)
		}
	}
	return nil
}

// CheckKind reports whether kind is a kind of transfer and has a base exactly
// if it needs one.
func CheckKind(kind string, base *Digest) error {
	if err := checkOneOf("kind", kind, KindFull, KindDelta, KindHead); err != nil {
		return err
	}
	if (kind == KindFull) != (base == nil) {
		return fmt.Errorf("%w: a %s transfer has a base: %t", ErrInvalid, kind, base != nil)
	}
	return nil
}
