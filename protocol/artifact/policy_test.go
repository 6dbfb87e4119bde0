package artifact

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// TestPolicyOrder makes versions that fail one check after another: each is
// refused by the first one, so the order is the documented one.
func TestPolicyOrder(t *testing.T) {
	root := openRoot(t, root0())
	m := model(3, 16)
	tr := pack(t, m)
	policy := func() *Policy {
		return &Policy{Root: root, Fleet: "default", ABI: 1, Name: "turbofan", Expected: tr.Digest, Floor: 3, Now: t0}
	}
	if rel, got, err := policy().Open(seal(t, TypeRelease, releaseOf(t, tr), releaseKey), tr); err != nil || got == nil || rel.Version != 3 {
		t.Fatalf("good version: %v", err)
	}
	// From the last check to the first; each step also keeps the faults of
	// those before it.
	rel := releaseOf(t, tr)
	bad := &Transfer{Descriptor: tr.Descriptor, Payload: bytes.Clone(tr.Payload)}
	p := policy()
	signer := byte(releaseKey)
	mangle := func(b []byte) []byte { return b }
	for _, c := range []struct {
		name  string
		fault func()
		want  error
		text  string
	}{
		{"corrupt chunk", func() { bad.Payload[7] ^= 1 }, ErrCorrupt, "chunk 0"},
		{"expired", func() { rel.NotAfter = t0 - 1 }, ErrExpired, "release it again"},
		{"downgrade", func() { p.Floor = 4 }, ErrDowngrade, "below v4"},
		{"another name", func() { p.Name = "power" }, ErrName, "asked for power"},
		{"not wanted", func() { p.Expected = protocol.Digest{9} }, ErrUnwanted, "newest want"},
		{"another kernel", func() { rel.ABI = 2 }, ErrABI, "needs ABI 2"},
		{"foreign fleet", func() { rel.Fleet = "other" }, ErrFleet, `for "other", this is "default"`},
		{"over its caps", func() { rel.MaxTransfer = 100 }, ErrTooLarge, "allows 100"},
		{"wrong key", func() { signer = strangeKey }, ErrWrongKey, "role release"},
		{"not CBOR", func() { mangle = func(b []byte) []byte { return append(b, 0) } }, ErrCorrupt, "release"},
		{"oversized", func() { mangle = func(b []byte) []byte { return append(b, make([]byte, protocol.MaxRelease)...) } }, ErrTooLarge, "at most 8192"},
	} {
		c.fault()
		_, got, err := p.Open(mangle(seal(t, TypeRelease, rel, signer)), bad)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || got != nil {
			t.Errorf("%s: %v, want %v with %q", c.name, err, c.want, c.text)
		}
	}
}

func TestPolicyAllows(t *testing.T) {
	root := openRoot(t, root0())
	tr := pack(t, pinned())
	rel := releaseOf(t, tr)
	rel.NotAfter = t0
	envelope := seal(t, TypeRelease, rel, releaseKey)
	for name, p := range map[string]Policy{
		"wanted":                    {Root: root, Fleet: "default", ABI: 1, Expected: tr.Digest, Name: "turbofan", Now: t0},
		"a local file":              {Root: root, Fleet: "default", ABI: 1, Local: true, Floor: 3},
		"a device without the time": {Root: root, Fleet: "default", ABI: 1, Expected: tr.Digest, Floor: 2},
	} {
		if _, _, err := p.Open(envelope, tr); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A policy that was filled in by halves allows nothing.
	p := Policy{Root: root, Fleet: "default", ABI: 1}
	if _, _, err := p.Open(envelope, tr); !errors.Is(err, ErrUnwanted) {
		t.Errorf("nothing expected: %v, want ErrUnwanted", err)
	}
}
