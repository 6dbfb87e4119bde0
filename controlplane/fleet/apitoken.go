package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/near"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A Role is what the holder of a token of the HTTP API may do. Each may do what
// the ones before it may.
type Role string

// The roles.
const (
	Viewer   Role = "viewer"   // look
	Releaser Role = "releaser" // train, add, sign and roll out versions, ask devices
	Admin    Role = "admin"    // devices, users, tokens, and who must approve
)

var roles = []string{string(Viewer), string(Releaser), string(Admin)}

// ErrRole: no such role.
var ErrRole = errors.New("unknown role")

// ParseRole returns the role of that name, or ErrRole with a suggestion.
func ParseRole(s string) (Role, error) {
	if slices.Contains(roles, s) {
		return Role(s), nil
	}
	hint := "use viewer, releaser or admin"
	if m := near.Match(s, roles); m != "" {
		hint = fmt.Sprintf("did you mean %q?", m)
	}
	return "", fmt.Errorf("%w %.60q; %s", ErrRole, s, hint)
}

// May reports whether r may do what needs the other role.
func (r Role) May(needed Role) bool {
	return slices.Index(roles, string(r)) >= slices.Index(roles, string(needed))
}

// An APIToken lets its holder use the HTTP API.
type APIToken struct {
	Name    string    `json:"name"`
	Role    Role      `json:"role"`
	Created time.Time `json:"created"`
}

// AddAPIToken makes a token and returns it with its secret, which is not stored and
// cannot be shown again. ErrExists, ErrRole or protocol.ErrID.
func (f *Fleet) AddAPIToken(ctx context.Context, name string, role Role) (APIToken, string, error) {
	if err := protocol.CheckID(name); err != nil {
		return APIToken{}, "", fmt.Errorf("add token: %w", err)
	}
	role, err := ParseRole(string(role))
	if err != nil {
		return APIToken{}, "", err
	}
	secret := NewToken()
	row := store.APIToken{Name: name, Role: string(role), Token: hashToken(secret), Created: now()}
	err = f.store.Update(ctx, func(tx store.Tx) error {
		if err := tx.PutAPIToken(ctx, row); err != nil {
			return err
		}
		return tx.Audit(ctx, audit.Entry{Action: audit.TokenAdd, Detail: fmt.Sprintf("%s, %s", name, role)})
	})
	if errors.Is(err, ErrExists) {
		err = fmt.Errorf("%w; remove it first, or choose another name", ErrExists)
	}
	if err != nil {
		return APIToken{}, "", fmt.Errorf("add token %s: %w", name, err)
	}
	return apiToken(row), secret, nil
}

// RemoveAPIToken makes a token worthless: ErrNotFound if there is none of that name.
func (f *Fleet) RemoveAPIToken(ctx context.Context, name string) error {
	err := f.store.Update(ctx, func(tx store.Tx) error {
		if err := tx.DropAPIToken(ctx, name); err != nil {
			return err
		}
		return tx.Audit(ctx, audit.Entry{Action: audit.TokenRemove, Detail: name})
	})
	if errors.Is(err, ErrNotFound) {
		tokens, err := f.APITokens(ctx)
		if err != nil {
			return err
		}
		var names []string
		for _, t := range tokens {
			names = append(names, t.Name)
		}
		return notFound("token", name, names)
	}
	return err
}

// APITokens returns all tokens in the order of their names.
func (f *Fleet) APITokens(ctx context.Context) ([]APIToken, error) {
	tokens := []APIToken{}
	err := f.store.View(ctx, func(tx store.Tx) error {
		rows, err := tx.APITokens(ctx)
		for _, row := range rows {
			tokens = append(tokens, apiToken(row))
		}
		return err
	})
	return tokens, err
}

// AuthenticateAPI returns the token with that secret, or ErrDenied.
func (f *Fleet) AuthenticateAPI(ctx context.Context, secret string) (APIToken, error) {
	var row store.APIToken
	// Looked up by its hash: time tells nothing about a secret of 128 bits.
	err := f.store.View(ctx, func(tx store.Tx) (err error) {
		row, err = tx.APITokenByHash(ctx, hashToken(secret))
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return APIToken{}, ErrDenied
	}
	return apiToken(row), err
}

func apiToken(row store.APIToken) APIToken {
	return APIToken{Name: row.Name, Role: Role(row.Role), Created: row.Created}
}
