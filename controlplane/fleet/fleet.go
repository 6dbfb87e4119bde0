// Package fleet knows the devices and the users: who they are, what they are
// labelled, what they last reported, and whether a name and token belong
// together.
//
// Identities, which are MQTT user names and client ids too:
//
//	d.ID  a device
//	u.ID  a user, who may ask devices for predictions
//	c.F   the control plane of fleet F, which acts as user "cp"
package fleet

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/near"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

var (
	// ErrNotFound: no such device or user.
	ErrNotFound = store.ErrNotFound
	// ErrExists: the id is taken.
	ErrExists = store.ErrExists
	// ErrReserved: the id means something else.
	ErrReserved = errors.New("reserved id")
	// ErrLabel: a label, or a label filter, that is not key=value.
	ErrLabel = errors.New("invalid label")
	// ErrDenied: no such identity, or not its token.
	ErrDenied = errors.New("wrong name or token")
)

const (
	// ControlUser is the user that the control plane asks as; nobody else may have it.
	ControlUser = "cp"
	// AllDevices is what a rollout to everything is called, so no device may be.
	AllDevices = "all"

	// MaxLabels is the largest number of labels of a device.
	MaxLabels = 32
	// MaxLabelValue is the longest value of a label, in bytes.
	MaxLabelValue = 64

	defaultPage = 100
	maxPage     = 1000
	// suggestFrom bounds how many ids are compared for a suggestion.
	suggestFrom = 10_000
)

// A Fleet is safe for concurrent use.
type Fleet struct {
	name    string
	store   *store.Store
	control [sha256.Size]byte // hash of the control plane's own token
}

// New returns the fleet called name. controlToken is what the control plane
// itself connects with.
func New(s *store.Store, name, controlToken string) (*Fleet, error) {
	if err := protocol.CheckFleet(name); err != nil {
		return nil, err
	}
	if controlToken == "" {
		return nil, errors.New("fleet needs a token for the control plane")
	}
	return &Fleet{name: name, store: s, control: sha256.Sum256([]byte(controlToken))}, nil
}

// Name returns the fleet's name.
func (f *Fleet) Name() string { return f.name }

// NewToken returns 128 random bits as 32 hex digits.
func NewToken() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

func hashToken(token string) []byte {
	// No salt, no stretching: a token is 128 random bits, not a password.
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// ParseLabel splits key=value: the key in the alphabet of ids, the value 1 to
// MaxLabelValue printable ASCII characters without comma, equals sign or space.
func ParseLabel(s string) (key, value string, err error) {
	key, value, ok := strings.Cut(s, "=")
	if !ok {
		return "", "", fmt.Errorf("%w %q: want key=value, such as site=oslo", ErrLabel, s)
	}
	return key, value, checkLabel(key, value)
}

func checkLabel(key, value string) error {
	if err := protocol.CheckID(key); err != nil {
		return fmt.Errorf("%w: key: %w", ErrLabel, err)
	}
	if value == "" || len(value) > MaxLabelValue {
		return fmt.Errorf("%w %s: the value has %d bytes; use 1 to %d", ErrLabel, key, len(value), MaxLabelValue)
	}
	for i := range len(value) {
		if c := value[i]; c <= ' ' || c > '~' || c == ',' || c == '=' {
			return fmt.Errorf("%w %s=%q: character %d; use printable ASCII without comma, equals sign or space", ErrLabel, key, value, i+1)
		}
	}
	return nil
}

func checkLabels(labels map[string]string) error {
	if len(labels) > MaxLabels {
		return fmt.Errorf("%w: %d labels; use at most %d", ErrLabel, len(labels), MaxLabels)
	}
	for k, v := range labels {
		if err := checkLabel(k, v); err != nil {
			return err
		}
	}
	return nil
}

// labelText is key=value, in order, with commas between.
func labelText(labels map[string]string) string {
	parts := make([]string, 0, len(labels))
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, k+"="+labels[k])
	}
	return strings.Join(parts, ",")
}

// pageSize applies the default and the bound of a page.
func pageSize(limit int) int {
	if limit <= 0 {
		return defaultPage
	}
	return min(limit, maxPage)
}

// notFound names what is missing and the nearest thing that is there.
func notFound(what, id string, ids []string) error {
	if s := near.Match(id, ids); s != "" {
		return fmt.Errorf("%s %q: %w; did you mean %q?", what, id, ErrNotFound, s)
	}
	return fmt.Errorf("%s %q: %w", what, id, ErrNotFound)
}

// An Identity is who a connection belongs to.
type Identity struct {
	Kind byte   // 'd', 'u' or 'c'
	ID   string // device, user, or the fleet of a control plane
}

// String returns the MQTT user name and client id, such as d.pump-07.
func (i Identity) String() string { return string(i.Kind) + "." + i.ID }

// Authenticate returns who username is if token is theirs, and ErrDenied
// otherwise, whichever of the two is wrong.
func (f *Fleet) Authenticate(ctx context.Context, username, token string) (Identity, error) {
	kind, id, ok := strings.Cut(username, ".")
	if !ok || len(kind) != 1 {
		return Identity{}, ErrDenied
	}
	want, err := f.tokenHash(ctx, kind[0], id)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Identity{}, err
	}
	known := err == nil
	if !known {
		want = make([]byte, sha256.Size)
	}
	// Compared in either case, so that time does not tell which names exist.
	if subtle.ConstantTimeCompare(want, hashToken(token)) != 1 || !known {
		return Identity{}, ErrDenied
	}
	return Identity{Kind: kind[0], ID: id}, nil
}

func (f *Fleet) tokenHash(ctx context.Context, kind byte, id string) (hash []byte, err error) {
	if kind == 'c' {
		if id != f.name {
			return nil, ErrNotFound
		}
		return f.control[:], nil
	}
	err = f.store.View(ctx, func(tx store.Tx) error {
		switch kind {
		case 'd':
			hash, err = tx.DeviceToken(ctx, id)
			return err
		case 'u':
			u, err := tx.User(ctx, id)
			hash = u.Token
			return err
		}
		return ErrNotFound
	})
	return hash, err
}

func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
