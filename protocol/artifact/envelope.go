package artifact

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// Types of signed documents. The type is part of what is signed, so that a
// signature on one kind of document is worth nothing on another.
const (
	TypeRoot    = "root"
	TypeRelease = "release"
	TypeWant    = "want"
)

// A KeyID is the first 8 bytes of the SHA-256 of an ed25519 public key. It
// finds the key; it proves nothing.
type KeyID [8]byte

// KeyIDOf returns the id of a public key.
func KeyIDOf(key ed25519.PublicKey) KeyID {
	sum := sha256.Sum256(key)
	return KeyID(sum[:8])
}

// String returns 16 hex digits.
func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// An Envelope is a document and its signatures. Deterministic CBOR, for one
// signature 78 bytes longer than the payload and its head:
//
//	[payload bytes, [[key id (8 bytes), signature (64 bytes)], …]]
//
// A signature is ed25519 (RFC 8032) over "sp1 ", the type, a zero byte and
// the payload.
type Envelope struct {
	_ struct{} `cbor:",toarray"`

	Payload    []byte
	Signatures []Signature
}

// A Signature is one key's signature.
type Signature struct {
	_ struct{} `cbor:",toarray"`

	KeyID KeyID
	Sig   [ed25519.SignatureSize]byte
}

// message returns what is signed.
func message(typ string, payload []byte) []byte {
	m := make([]byte, 0, len(typ)+len(payload)+5)
	m = append(m, "sp1 "...)
	m = append(m, typ...)
	m = append(m, 0)
	return append(m, payload...)
}

// Sign returns payload signed by keys, in their order.
func Sign(typ string, payload []byte, keys ...ed25519.PrivateKey) Envelope {
	e := Envelope{Payload: payload, Signatures: make([]Signature, len(keys))}
	m := message(typ, payload)
	for i, k := range keys {
		e.Signatures[i] = Signature{KeyID: KeyIDOf(k.Public().(ed25519.PublicKey)), Sig: [64]byte(ed25519.Sign(k, m))}
	}
	return e
}

// AppendBinary appends the deterministic CBOR of e.
func (e Envelope) AppendBinary(b []byte) ([]byte, error) {
	if e.Signatures == nil {
		e.Signatures = []Signature{}
	}
	return appendDocument(b, "envelope", &e, MaxEnvelope)
}

// UnmarshalBinary decodes deterministic CBOR. It verifies no signature.
func (e *Envelope) UnmarshalBinary(b []byte) error {
	*e = Envelope{}
	return decodeDocument(b, "envelope", e, MaxEnvelope)
}

func (e *Envelope) check() error {
	if len(e.Payload) == 0 {
		return fmt.Errorf("%w: the envelope is empty", ErrCorrupt)
	}
	if len(e.Signatures) > MaxSignatures {
		return fmt.Errorf("%w: %d signatures, at most %d", ErrTooLarge, len(e.Signatures), MaxSignatures)
	}
	return nil
}

// verify checks that at least role.Threshold different keys of role signed
// the payload as a document of type typ.
func (e *Envelope) verify(name string, role Role, typ string) error {
	if len(e.Signatures) == 0 {
		return fmt.Errorf("%w: this %s has no signature; sign it with a key of the role %s", ErrUnsigned, typ, name)
	}
	m := message(typ, e.Payload)
	good := 0
	for _, key := range role.Keys { // each key counts once, however often it signed
		id := KeyIDOf(key)
		for i := range e.Signatures {
			s := &e.Signatures[i]
			if s.KeyID == id && ed25519.Verify(key, m, s.Sig[:]) {
				good++
				break
			}
		}
	}
	switch {
	case good >= role.Threshold && good > 0:
		return nil
	case good == 0:
		return fmt.Errorf("%w: none of the %d signatures of this %s is by a key of the role %s (first key id %s); "+
			"sign it with that role's key, or install the root document that names yours",
			ErrWrongKey, len(e.Signatures), typ, name, e.Signatures[0].KeyID)
	}
	return fmt.Errorf("%w: %d of %d keys of the role %s signed this %s; collect the missing signatures",
		ErrThreshold, good, role.Threshold, name, typ)
}

// Roles of a root document.
const (
	RoleRoot    = "root"    // offline; replaces the root document
	RoleRelease = "release" // offline; signs versions
	RoleRollout = "rollout" // online; signs what devices should run
)

// A Root is the trust anchor of a device: which keys count for which role.
// Deterministic CBOR, in an envelope of TypeRoot signed by its own root keys.
type Root struct {
	Format  int             `cbor:"format"`
	Version uint64          `cbor:"version"`
	Roles   map[string]Role `cbor:"roles"`
	Extra   protocol.Extra  `cbor:"extra,omitzero"`
}

// A Role is ed25519 public keys, 32 bytes each, and how many of them must sign.
type Role struct {
	Keys      [][]byte `cbor:"keys"`
	Threshold int      `cbor:"threshold"`
}

// AppendBinary appends the deterministic CBOR of r, to be signed.
func (r Root) AppendBinary(b []byte) ([]byte, error) {
	return appendDocument(b, "root", &r, MaxEnvelope)
}

// UnmarshalBinary decodes deterministic CBOR. It verifies no signature.
func (r *Root) UnmarshalBinary(b []byte) error {
	*r = Root{}
	return decodeDocument(b, "root", r, MaxEnvelope)
}

func (r *Root) check() error {
	if err := checkFormat(r.Format); err != nil {
		return err
	}
	if r.Version == 0 || r.Version > protocol.MaxInteger {
		return fmt.Errorf("%w: version %d of the root document", ErrCorrupt, r.Version)
	}
	if len(r.Roles) > MaxKeys {
		return fmt.Errorf("%w: %d roles", ErrTooLarge, len(r.Roles))
	}
	for _, name := range [...]string{RoleRoot, RoleRelease, RoleRollout} {
		if _, ok := r.Roles[name]; !ok {
			return fmt.Errorf("%w: the root document has no role %s", ErrCorrupt, name)
		}
	}
	for name, role := range r.Roles {
		if err := role.check(); err != nil {
			return fmt.Errorf("role %.48q: %w", name, err)
		}
	}
	return nil
}

func (r Role) check() error {
	if len(r.Keys) > MaxKeys {
		return fmt.Errorf("%w: %d keys, at most %d", ErrTooLarge, len(r.Keys), MaxKeys)
	}
	if r.Threshold < 1 || r.Threshold > len(r.Keys) {
		return fmt.Errorf("%w: threshold %d of %d keys", ErrCorrupt, r.Threshold, len(r.Keys))
	}
	for i, key := range r.Keys {
		if len(key) != ed25519.PublicKeySize {
			return fmt.Errorf("%w: key %d has %d bytes, want %d", ErrCorrupt, i, len(key), ed25519.PublicKeySize)
		}
		for _, other := range r.Keys[:i] {
			if bytes.Equal(key, other) {
				return fmt.Errorf("%w: key %s is there twice", ErrCorrupt, KeyIDOf(key))
			}
		}
	}
	return nil
}

// OpenRoot decodes a root document and verifies that its own root keys signed
// it. That makes it whole, not trusted: trust comes from how it got here.
func OpenRoot(envelope []byte) (*Root, error) {
	var e Envelope
	if err := e.UnmarshalBinary(envelope); err != nil {
		return nil, fmt.Errorf("root document: %w", err)
	}
	r := new(Root)
	if err := r.UnmarshalBinary(e.Payload); err != nil {
		return nil, err
	}
	if err := e.verify(RoleRoot, r.Roles[RoleRoot], TypeRoot); err != nil {
		return nil, err
	}
	return r, nil
}

// Next verifies the document that replaces r: signed by the root role of r
// and by its own, with the next version number.
func (r *Root) Next(envelope []byte) (*Root, error) {
	next, err := OpenRoot(envelope)
	if err != nil {
		return nil, err
	}
	if _, err := r.Verify(RoleRoot, TypeRoot, envelope); err != nil {
		return nil, err
	}
	if next.Version != r.Version+1 {
		return nil, fmt.Errorf("%w: root document %d cannot follow %d; install them one by one",
			ErrDowngrade, next.Version, r.Version)
	}
	return next, nil
}

// Verify checks that role signed envelope as a document of type typ, and
// returns its payload.
func (r *Root) Verify(role, typ string, envelope []byte) (payload []byte, err error) {
	var e Envelope
	if err := e.UnmarshalBinary(envelope); err != nil {
		return nil, fmt.Errorf("%s: %w", typ, err)
	}
	keys, ok := r.Roles[role]
	if !ok {
		return nil, fmt.Errorf("%w: the root document has no role %s", ErrWrongKey, role)
	}
	if err := e.verify(role, keys, typ); err != nil {
		return nil, err
	}
	return e.Payload, nil
}

// OpenRelease verifies a release signed by the role release.
func (r *Root) OpenRelease(envelope []byte) (*Release, error) {
	if len(envelope) > protocol.MaxRelease {
		return nil, fmt.Errorf("release: %w: %d bytes, at most %d", ErrTooLarge, len(envelope), protocol.MaxRelease)
	}
	payload, err := r.Verify(RoleRelease, TypeRelease, envelope)
	if err != nil {
		return nil, err
	}
	rel := new(Release)
	if err := rel.UnmarshalBinary(payload); err != nil {
		return nil, err
	}
	return rel, nil
}

// OpenWant verifies a want signed by the role rollout.
func (r *Root) OpenWant(envelope []byte) (*protocol.Want, error) {
	payload, err := r.Verify(RoleRollout, TypeWant, envelope)
	if err != nil {
		return nil, err
	}
	w := new(protocol.Want)
	if err := w.UnmarshalBinary(payload); err != nil {
		return nil, err
	}
	return w, nil
}
