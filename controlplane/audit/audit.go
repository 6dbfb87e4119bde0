// Package audit is the record of what was changed, by whom, and of what devices
// reported to run: entries of which each holds the digest of all before it.
//
// An entry's hash is SHA-256 over "sandpiper audit 1\0", the hash of the entry
// before it (32 zero bytes for the first) and its fields in the order of Entry:
// numbers and times (UTC milliseconds) as 8 bytes big-endian, texts and digests
// with their length before them as 4 bytes. So nothing can be changed, left out or
// moved without every later hash changing: whoever knows the last one knows whether
// what came before it is what it was (Schneier and Kelsey, "Secure Audit Logs to
// Support Computer Forensics", 1999, §4, without the keys). Entries cut off at the
// end are missed only by who has no later hash: keep one elsewhere.
package audit

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

var (
	// ErrBroken: an entry is not what it was when it was written.
	ErrBroken = errors.New("audit chain is broken")
	// ErrHead: text that is no Head.
	ErrHead = errors.New("invalid head of an audit chain")
)

// Actions.
const (
	ModelAdd        = "model.add"        // a version came into being
	ModelSign       = "model.sign"       // got its release signature
	ModelTag        = "model.tag"        // an alias points to it
	ModelProtect    = "model.protect"    // how many people must approve a version
	ModelApprove    = "model.approve"    // somebody approved a version
	ModelPrune      = "model.prune"      // its bytes were removed
	DeviceAdd       = "device.add"       //
	DeviceLabel     = "device.label"     //
	DeviceRemove    = "device.remove"    //
	DeviceToken     = "device.token"     // a new token; the old one no longer works
	DeviceActive    = "device.active"    // reported: the version that answers
	DeviceFailed    = "device.failed"    // reported: a version did not make it
	UserAdd         = "user.add"         //
	TokenAdd        = "token.add"        // of the API
	TokenRemove     = "token.remove"     //
	RunRemove       = "run.remove"       // a training run
	TuningRemove    = "tuning.remove"    // a search
	DataRecord      = "data.record"      // samples of a topic go to a data set
	DataStop        = "data.stop"        // no longer
	DataRemove      = "data.remove"      // a data set
	RolloutStart    = "rollout.start"    //
	RolloutRollback = "rollout.rollback" //
	RolloutLook     = "rollout.look"     // a look at a stage, and what it saw
	RolloutMove     = "rollout.move"     // on to another stage or phase, and why
)

// An Entry is one record. What does not apply is zero.
type Entry struct {
	Seq      uint64          `json:"seq"`      // from 1, without a gap
	Received time.Time       `json:"received"` // by this control plane's clock
	At       time.Time       `json:"at"`       // when it happened: Received, or what a device's clock says if that can be
	Who      string          `json:"who"`      // a user, a token's name, "device" or "control plane"
	Action   string          `json:"action"`
	Device   string          `json:"device,omitempty"`
	Model    string          `json:"model,omitempty"`
	Number   uint64          `json:"number,omitempty"` // of the version; 0: unknown here
	Digest   protocol.Digest `json:"digest,omitzero"`
	Rollout  int64           `json:"rollout,omitempty"`
	Detail   string          `json:"detail,omitempty"`
	Hash     Hash            `json:"hash"`
}

// A Hash is that of an entry and of all before it.
type Hash [sha256.Size]byte

// String returns 64 hex digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads 64 hex digits.
func (h *Hash) UnmarshalText(b []byte) error {
	if len(b) != 2*len(h) {
		return fmt.Errorf("%w: %d digits, want %d", ErrHead, len(b), 2*len(h))
	}
	if _, err := hex.Decode(h[:], b); err != nil {
		return fmt.Errorf("%w: %w", ErrHead, err)
	}
	return nil
}

// Next returns the hash of e behind an entry with the given hash. It does not
// read e.Hash.
func Next(before Hash, e Entry) Hash {
	b := append([]byte("sandpiper audit 1\x00"), before[:]...)
	number := func(n uint64) { b = binary.BigEndian.AppendUint64(b, n) }
	text := func(s string) { b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...) }
	number(e.Seq)
	number(uint64(e.Received.UnixMilli()))
	number(uint64(e.At.UnixMilli()))
	for _, s := range []string{e.Who, e.Action, e.Device, e.Model} {
		text(s)
	}
	number(e.Number)
	text(string(e.Digest[:]))
	number(uint64(e.Rollout))
	text(e.Detail)
	return sha256.Sum256(b)
}

// A Head is where a chain ends: the sequence number and hash of its last entry.
type Head struct {
	Seq  uint64 `json:"seq"`
	Hash Hash   `json:"hash"`
}

// String returns SEQ:HASH.
func (h Head) String() string { return fmt.Sprintf("%d:%s", h.Seq, h.Hash) }

// ParseHead is the inverse of Head.String. ErrHead.
func ParseHead(s string) (Head, error) {
	number, hash, ok := strings.Cut(s, ":")
	seq, err := strconv.ParseUint(number, 10, 63)
	if !ok || err != nil {
		return Head{}, fmt.Errorf("%w %q: want SEQ:HASH, as `audit verify` prints it", ErrHead, s)
	}
	h := Head{Seq: seq}
	return h, h.Hash.UnmarshalText([]byte(hash))
}

// A Verifier checks a chain entry by entry, from the first on.
type Verifier struct {
	// Known is a head that was kept elsewhere; zero: none.
	Known Head
	head  Head
}

// After returns a Verifier of the entries behind h, which is believed.
func After(h Head) Verifier { return Verifier{head: h} }

// Check takes the next entry. ErrBroken says which one is not what it was.
func (v *Verifier) Check(e Entry) error {
	if e.Seq != v.head.Seq+1 {
		return fmt.Errorf("%w: entry %d follows entry %d", ErrBroken, e.Seq, v.head.Seq)
	}
	if Next(v.head.Hash, e) != e.Hash {
		return fmt.Errorf("%w: entry %d of %s (%s by %s) is not what was written, or not in its place",
			ErrBroken, e.Seq, e.Received.UTC().Format(time.RFC3339), e.Action, e.Who)
	}
	if e.Seq == v.Known.Seq && e.Hash != v.Known.Hash {
		return fmt.Errorf("%w: entry %d has hash %s and not %s: this is another chain", ErrBroken, e.Seq, e.Hash, v.Known.Hash)
	}
	v.head = Head{e.Seq, e.Hash}
	return nil
}

// End returns where the chain ends: ErrBroken if that is before the known head.
func (v *Verifier) End() (Head, error) {
	if v.head.Seq < v.Known.Seq {
		return v.head, fmt.Errorf("%w: it ends with entry %d, and there was an entry %d", ErrBroken, v.head.Seq, v.Known.Seq)
	}
	return v.head, nil
}

// Who acts where nobody asked.
const (
	ControlPlane = "control plane"
	Device       = "device"
)

type whoKey struct{}

// By returns a context in which who acts.
func By(ctx context.Context, who string) context.Context {
	return context.WithValue(ctx, whoKey{}, who)
}

// Who returns who acts in ctx: ControlPlane if nobody else does.
func Who(ctx context.Context) string {
	if who, ok := ctx.Value(whoKey{}).(string); ok {
		return who
	}
	return ControlPlane
}

// maxDelay is how long a device may have been offline for its clock to be believed
// about when something happened.
const maxDelay = 31 * 24 * time.Hour

// Happened is when something happened on a device that its clock says was at t,
// and that was received at the given time: t, unless that is in the future or so
// long ago that the clock is more likely wrong (1970).
func Happened(t, received time.Time) time.Time {
	if t.After(received) || received.Sub(t) > maxDelay {
		return received
	}
	return t
}
