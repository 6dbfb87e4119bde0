package agent

import (
	"errors"
	"io"
	"strings"

	"github.com/sandpiper-edge/sandpiper/agent/store"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// errTransfer: a want offers nothing that this agent can decode.
var errTransfer = errors.New("no transfer that this agent can decode")

// A purpose says which of the checks apply: what was in place comes back
// although its not_after has passed.
type purpose uint8

const (
	activating purpose = iota // before a version becomes active
	restoring                 // what was active, read again
)

// A verified is a version that passed every check.
type verified struct {
	held      held
	slot      store.Slot
	predictor *predictor.Predictor
}

// policy is what a version of model is held to. Trusted time is the largest
// time that came signed: the device's own clock may be wrong by decades.
func (a *Agent) policy(model string, p purpose) artifact.Policy {
	policy := artifact.Policy{Root: a.root, Fleet: a.cfg.Fleet, ABI: kernel.ABI, Name: model}
	if p == activating {
		s := a.snapshot.Load()
		policy.Floor, policy.Now = s.Models[model].Floor, s.Time
	}
	return policy
}

// verify does what is left when policy stands: everything from the envelope to
// the golden vectors, on this device's kernel.
func (a *Agent) verify(policy artifact.Policy, envelope []byte, t *artifact.Transfer) (verified, error) {
	r, m, err := policy.Open(envelope, t)
	if err != nil {
		return verified{}, err
	}
	p, err := predictor.Open(m)
	if err != nil {
		return verified{}, err
	}
	if err := p.Check(); err != nil {
		return verified{}, err
	}
	if t, err = kept(t, m, r); err != nil {
		return verified{}, err
	}
	descriptor, err := t.Descriptor.AppendBinary(nil)
	if err != nil {
		return verified{}, err
	}
	return verified{
		held: held{Digest: r.Digest, Number: r.Version, Floor: r.Floor},
		slot: store.Slot{
			Key:     store.Key{Model: r.Name, Digest: r.Digest},
			Release: envelope, Descriptor: descriptor, Payload: t.Payload,
		},
		predictor: p,
	}, nil
}

// verifyFile reads an artifact file. Its model is the one it names.
func (a *Agent) verifyFile(f io.Reader, p purpose) (verified, error) {
	envelope, t, err := artifact.ReadFile(f)
	if err != nil {
		return verified{}, err
	}
	r, err := a.root.OpenRelease(envelope) // for the name: the floor is one of a model
	if err != nil {
		return verified{}, err
	}
	policy := a.policy(r.Name, p)
	policy.Local = true
	return a.verify(policy, envelope, t)
}

// verifyCached checks a slot of the cache as it stands.
func (a *Agent) verifyCached(k slot, s store.Slot, p purpose) (verified, error) {
	t := artifact.Transfer{Payload: s.Payload}
	if err := t.Descriptor.UnmarshalBinary(s.Descriptor); err != nil {
		return verified{}, err
	}
	policy := a.policy(k.Model, p)
	policy.Expected = k.Digest
	return a.verify(policy, s.Release, &t)
}

// code maps an error of verification to the code in `have`.
func code(err error) string {
	for _, c := range []struct {
		err  error
		code string
	}{
		{artifact.ErrTruncated, "truncated"},
		{artifact.ErrTooLarge, "too_large"},
		{protocol.ErrTooLarge, "too_large"},
		{artifact.ErrUnsigned, "unsigned"},
		{artifact.ErrWrongKey, "wrong_key"},
		{artifact.ErrThreshold, "threshold"},
		{artifact.ErrFleet, "foreign"},
		{artifact.ErrABI, "abi"},
		{artifact.ErrDowngrade, "downgrade"},
		{artifact.ErrExpired, "not_after"},
		{artifact.ErrBase, "base"},
		{artifact.ErrDigest, "digest"},
		{artifact.ErrNonFinite, "non_finite"},
		{kernel.ErrNonFinite, "non_finite"},
		{predictor.ErrGolden, "golden"},
		{artifact.ErrUnwanted, "unwanted"},
		{artifact.ErrName, "unwanted"},
		{artifact.ErrFormat, "format"},
		{artifact.ErrInvalid, "invalid"},
		{errTransfer, "no_transfer"},
		{store.ErrQuota, "no_space"},
		{errDeadline, "deadline"},
	} {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	var slow *slowError
	if errors.As(err, &slow) {
		return "slow"
	}
	return "corrupt"
}

// clip makes s fit a message's text, in whole characters.
func clip(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= protocol.MaxText {
		return s
	}
	return strings.ToValidUTF8(s[:protocol.MaxText-3], "") + "..."
}
