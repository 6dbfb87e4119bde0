package controlplane

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sandpiper-edge/sandpiper/controlplane/fleet"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

const (
	rootFile   = "root.cbor"
	keyDir     = "keys"
	rootKey    = "root.key"
	releaseKey = "release.key"
	rolloutKey = "rollout.key"
	tokenFile  = "admin.token"

	// DefaultFleet is the fleet that Init makes unless it is told another.
	DefaultFleet = "default"

	metaFleet = "fleet"
	pemType   = "PRIVATE KEY" // RFC 7468 §10, PKCS #8
)

// Info says what Init made.
type Info struct {
	Dir      string `json:"dir"`
	Fleet    string `json:"fleet"`
	RootKey  string `json:"root_key"` // key ids
	Release  string `json:"release_key"`
	Rollout  string `json:"rollout_key"`
	RootFile string `json:"root"`        // path of the signed root document
	Token    string `json:"admin_token"` // path of the HTTP API's token
	// Warnings are for the operator to read: this is development mode.
	Warnings []string `json:"warnings"`
}

// Init makes the data folder dir for a fleet ("" for DefaultFleet): keys for
// the roles root, release and rollout, the root document that names them, an
// empty store and a token for the HTTP API. It appears whole or not at all.
// ErrExists if dir is there and not empty.
func Init(ctx context.Context, dir, fleetName string) (Info, error) {
	if fleetName == "" {
		fleetName = DefaultFleet
	}
	if err := protocol.CheckFleet(fleetName); err != nil {
		return Info{}, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Info{}, err
	}
	switch left, err := os.ReadDir(dir); {
	case err == nil && len(left) > 0:
		return Info{}, fmt.Errorf("init %s: %w: it is not empty", dir, ErrExists)
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return Info{}, fmt.Errorf("init: %w", err)
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return Info{}, fmt.Errorf("init: %w", err)
	}
	tmp, err := os.MkdirTemp(parent, "."+filepath.Base(dir)+"-*") // 0700
	if err != nil {
		return Info{}, fmt.Errorf("init: %w", err)
	}
	info, err := fill(ctx, tmp, fleetName)
	if err == nil {
		err = store.Rename(tmp, dir)
	}
	if err != nil {
		return Info{}, fmt.Errorf("init %s: %w", dir, errors.Join(err, os.RemoveAll(tmp)))
	}
	info.Dir = dir
	info.RootFile, info.Token = filepath.Join(dir, rootFile), filepath.Join(dir, keyDir, tokenFile)
	info.Warnings = []string{
		"DEVELOPMENT MODE: the root, release and rollout keys are all in " + filepath.Join(dir, keyDir) +
			", one of each and not encrypted. Whoever reads them can make every device run anything.",
		"For production move " + rootKey + " and " + releaseKey + " to a machine that is offline; without " + releaseKey +
			" here, versions stay unsigned and cannot be rolled out until they are signed there.",
	}
	return info, nil
}

// fill writes what a new data folder holds.
func fill(ctx context.Context, dir, fleetName string) (Info, error) {
	if err := os.Mkdir(filepath.Join(dir, keyDir), 0o700); err != nil {
		return Info{}, err
	}
	info := Info{Fleet: fleetName}
	root := artifact.Root{Format: artifact.Format, Version: 1, Roles: map[string]artifact.Role{}}
	var signer ed25519.PrivateKey
	for _, k := range []struct {
		role, file string
		id         *string
	}{
		{artifact.RoleRoot, rootKey, &info.RootKey},
		{artifact.RoleRelease, releaseKey, &info.Release},
		{artifact.RoleRollout, rolloutKey, &info.Rollout},
	} {
		pub, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return Info{}, err
		}
		if err := writeKey(filepath.Join(dir, keyDir, k.file), key); err != nil {
			return Info{}, err
		}
		root.Roles[k.role] = artifact.Role{Keys: [][]byte{pub}, Threshold: 1}
		*k.id = artifact.KeyIDOf(pub).String()
		if k.role == artifact.RoleRoot {
			signer = key
		}
	}
	payload, err := root.AppendBinary(nil)
	if err != nil {
		return Info{}, err
	}
	document, err := artifact.Sign(artifact.TypeRoot, payload, signer).AppendBinary(nil)
	if err != nil {
		return Info{}, err
	}
	if _, err := artifact.OpenRoot(document); err != nil {
		return Info{}, err
	}
	if err := store.WriteFile(filepath.Join(dir, rootFile), document, 0o644); err != nil {
		return Info{}, err
	}
	if err := store.WriteFile(filepath.Join(dir, keyDir, tokenFile), []byte(fleet.NewToken()+"\n"), 0o600); err != nil {
		return Info{}, err
	}
	s, err := store.Open(ctx, dir)
	if err != nil {
		return Info{}, err
	}
	err = s.Update(ctx, func(tx store.Tx) error { return tx.SetMeta(ctx, metaFleet, []byte(fleetName)) })
	return info, errors.Join(err, s.Close())
}

func fleetName(ctx context.Context, s *store.Store) (name string, err error) {
	err = s.View(ctx, func(tx store.Tx) error {
		b, err := tx.Meta(ctx, metaFleet)
		name = string(b)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("name of the fleet: %w", err)
	}
	return name, nil
}

func writeKey(path string, key ed25519.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return store.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), 0o600)
}

func readKey(path string) (ed25519.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pemType {
		return nil, fmt.Errorf("%s is not a private key in PEM", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	ed, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s is not an ed25519 key", path)
	}
	return ed, nil
}

func readToken(dir string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, keyDir, tokenFile))
	return strings.TrimSpace(string(b)), err
}
