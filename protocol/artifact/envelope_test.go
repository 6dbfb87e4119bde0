package artifact

import (
	"bytes"
	"encoding"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

func TestEnvelopeBytes(t *testing.T) {
	e := Sign(TypeWant, []byte("payload"), key(1))
	b, err := e.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	id := KeyIDOf(public(1))
	want := append([]byte("\x82\x47payload\x81\x82\x48"), id[:]...)
	want = append(append(want, 0x58, 64), e.Signatures[0].Sig[:]...)
	if !bytes.Equal(b, want) {
		t.Errorf("envelope %x, want %x", b, want)
	}
	if got := message(TypeWant, []byte("p")); string(got) != "sp1 want\x00p" {
		t.Errorf("signed message %q", got)
	}
}

func TestVerifyCountsKeys(t *testing.T) {
	r := root0()
	r.Roles[RoleRelease] = role(2, releaseKey, releaseKey2)
	root := openRoot(t, r)
	rel := releaseOf(t, pack(t, pinned()))
	for _, c := range []struct {
		name string
		keys []byte
		want error
	}{
		{"nobody", nil, ErrUnsigned},
		{"a stranger", []byte{strangeKey}, ErrWrongKey},
		{"another role", []byte{rolloutKey, rootKey}, ErrWrongKey},
		{"one of two", []byte{releaseKey}, ErrThreshold},
		{"one twice", []byte{releaseKey, releaseKey}, ErrThreshold},
		{"one and a stranger", []byte{strangeKey, releaseKey}, ErrThreshold},
		{"both", []byte{releaseKey, releaseKey2}, nil},
		{"both and a stranger", []byte{strangeKey, releaseKey2, releaseKey}, nil},
	} {
		_, err := root.OpenRelease(seal(t, TypeRelease, rel, c.keys...))
		if !errors.Is(err, c.want) {
			t.Errorf("signed by %s: %v, want %v", c.name, err, c.want)
		}
		if _, err := root.OpenRelease(seal(t, TypeWant, rel, c.keys...)); err == nil {
			t.Errorf("signed by %s as another type: accepted", c.name)
		}
	}
	// A signature under the id of a good key, but not by it.
	e := Sign(TypeRelease, []byte("x"), key(strangeKey), key(releaseKey))
	e.Signatures[0].KeyID = KeyIDOf(public(releaseKey2))
	b, _ := e.AppendBinary(nil)
	if _, err := root.Verify(RoleRelease, TypeRelease, b); !errors.Is(err, ErrThreshold) {
		t.Errorf("a borrowed key id: %v, want ErrThreshold", err)
	}
	// Any bit of a signed document.
	good := seal(t, TypeRelease, rel, releaseKey, releaseKey2)
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if _, err := root.OpenRelease(bad); err == nil {
			t.Fatalf("accepted with bit 0 of byte %d flipped", i)
		}
	}
}

func TestRootIsSelfSigned(t *testing.T) {
	r := root0()
	if _, err := OpenRoot(seal(t, TypeRoot, r, releaseKey)); !errors.Is(err, ErrWrongKey) {
		t.Errorf("root signed by the release key: %v, want ErrWrongKey", err)
	}
	if _, err := OpenRoot(seal(t, TypeRoot, r)); !errors.Is(err, ErrUnsigned) {
		t.Errorf("root not signed: %v, want ErrUnsigned", err)
	}
	for name, change := range map[string]func(*Root){
		"version":         func(r *Root) { r.Version = 0 },
		"no release role": func(r *Root) { delete(r.Roles, RoleRelease) },
		"threshold 0":     func(r *Root) { r.Roles[RoleRelease] = role(0, releaseKey) },
		"threshold 2":     func(r *Root) { r.Roles[RoleRelease] = role(2, releaseKey) },
		"key twice":       func(r *Root) { r.Roles[RoleRelease] = role(2, releaseKey, releaseKey) },
		"short key":       func(r *Root) { r.Roles[RoleRelease] = Role{Keys: [][]byte{{1}}, Threshold: 1} },
	} {
		r := root0()
		change(&r)
		if _, err := r.AppendBinary(nil); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
	}
	r.Format = 2
	if _, err := r.AppendBinary(nil); !errors.Is(err, ErrFormat) {
		t.Errorf("format 2: %v, want ErrFormat", err)
	}
}

func TestRootRotates(t *testing.T) {
	old := openRoot(t, root0())
	next := root0()
	next.Version = 2
	next.Roles[RoleRoot] = role(1, rootKey2)
	if _, err := old.Next(seal(t, TypeRoot, next, rootKey2)); !errors.Is(err, ErrWrongKey) {
		t.Errorf("signed by the new key only: %v, want ErrWrongKey", err)
	}
	if _, err := old.Next(seal(t, TypeRoot, next, rootKey)); !errors.Is(err, ErrWrongKey) {
		t.Errorf("signed by the old key only: %v, want ErrWrongKey", err)
	}
	r, err := old.Next(seal(t, TypeRoot, next, rootKey, rootKey2))
	if err != nil || r.Version != 2 {
		t.Fatalf("signed by both: %v", err)
	}
	if _, err := r.Next(seal(t, TypeRoot, root0(), rootKey, rootKey2)); !errors.Is(err, ErrDowngrade) {
		t.Errorf("back to version 1: %v, want ErrDowngrade", err)
	}
}

func TestOpenWant(t *testing.T) {
	root := openRoot(t, root0())
	w := protocol.Want{Format: 1, Fleet: "default", Device: "d", Epoch: 1, Rev: 2, Issued: t0,
		Models: map[string]protocol.ModelWant{"m": {Active: protocol.WantedVersion{Digest: protocol.Digest{1}}}}}
	got, err := root.OpenWant(seal(t, TypeWant, w, rolloutKey))
	if err != nil || !reflect.DeepEqual(*got, w) {
		t.Errorf("OpenWant = %+v, %v, want %+v", got, err, w)
	}
	if _, err := root.OpenWant(seal(t, TypeWant, w, releaseKey)); !errors.Is(err, ErrWrongKey) {
		t.Errorf("want signed by the release key: %v, want ErrWrongKey", err)
	}
}

func TestReleaseRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Release)
		want   error
	}{
		"format":    {func(r *Release) { r.Format = 2 }, ErrFormat},
		"name":      {func(r *Release) { r.Name = "A" }, protocol.ErrID},
		"fleet":     {func(r *Release) { r.Fleet = "" }, protocol.ErrID},
		"version":   {func(r *Release) { r.Version = 0 }, ErrCorrupt},
		"floor":     {func(r *Release) { r.Floor = 4 }, ErrCorrupt},
		"digest":    {func(r *Release) { r.Digest = protocol.Digest{} }, ErrCorrupt},
		"caps":      {func(r *Release) { r.MaxDecoded = MaxDecoded + 1 }, ErrTooLarge},
		"no caps":   {func(r *Release) { r.MaxTransfer = 0 }, ErrTooLarge},
		"abi":       {func(r *Release) { r.ABI = 0 }, ErrCorrupt},
		"not after": {func(r *Release) { r.NotAfter = -1 }, ErrCorrupt},
		"large":     {func(r *Release) { r.Lineage.Run = strings.Repeat("x", protocol.MaxRelease) }, ErrTooLarge},
	} {
		r := releaseOf(t, pack(t, pinned()))
		c.change(&r)
		if _, err := r.AppendBinary(nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	// A field of a later version is critical, unless it is under extra.
	r := releaseOf(t, pack(t, pinned()))
	b, _ := r.AppendBinary(nil)
	grown := append([]byte{b[0] + 1}, b[1:]...)    // one more pair
	at := bytes.Index(grown, []byte("\x66digest")) // the first key of six letters
	grown = append(grown[:at:at], append([]byte("\x65zebra\x01"), grown[at:]...)...)
	if err := new(Release).UnmarshalBinary(grown); !errors.Is(err, ErrCorrupt) {
		t.Errorf("unknown field: %v, want ErrCorrupt", err)
	}
	r.Extra = protocol.Extra("\xa1\x65zebra\x01")
	b, err := r.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	var got Release
	if err := got.UnmarshalBinary(b); err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("a field under extra: %+v, %v", got, err)
	}
}

// documents are the encodings with one form each.
func documents(t testing.TB) map[string]struct {
	good  []byte
	fresh func() encoding.BinaryUnmarshaler
} {
	tr := pack(t, pinned())
	rel := releaseOf(t, tr)
	r := root0()
	payload := func(m document) []byte {
		b, err := m.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	envelope := seal(t, TypeRelease, rel, releaseKey)
	return map[string]struct {
		good  []byte
		fresh func() encoding.BinaryUnmarshaler
	}{
		"envelope":     {envelope, func() encoding.BinaryUnmarshaler { return new(Envelope) }},
		"root":         {payload(r), func() encoding.BinaryUnmarshaler { return new(Root) }},
		"release":      {payload(rel), func() encoding.BinaryUnmarshaler { return new(Release) }},
		"descriptor":   {payload(tr.Descriptor), func() encoding.BinaryUnmarshaler { return new(Descriptor) }},
		"announcement": {payload(Announce(envelope, tr)), func() encoding.BinaryUnmarshaler { return new(Announcement) }},
	}
}

func TestDocumentsRefuseTruncationAndMore(t *testing.T) {
	for name, c := range documents(t) {
		for n := range c.good {
			if c.fresh().UnmarshalBinary(c.good[:n]) == nil {
				t.Errorf("%s: %d of %d bytes decode", name, n, len(c.good))
			}
		}
		if c.fresh().UnmarshalBinary(append(bytes.Clone(c.good), 0)) == nil {
			t.Errorf("%s: decodes with a byte behind the end", name)
		}
		if err := c.fresh().UnmarshalBinary(make([]byte, MaxEnvelope+1)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s of %d bytes: %v, want ErrTooLarge", name, MaxEnvelope+1, err)
		}
		m := c.fresh()
		if err := m.UnmarshalBinary(c.good); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if again, err := m.(document).AppendBinary(nil); err != nil || !bytes.Equal(again, c.good) {
			t.Errorf("%s: encoded again %x, %v, want %x", name, again, err, c.good)
		}
	}
}

func fuzzDocument(f *testing.F, name string) {
	c := documents(f)[name]
	f.Add(c.good)
	f.Fuzz(func(t *testing.T, b []byte) {
		m := c.fresh()
		if m.UnmarshalBinary(b) != nil {
			return
		}
		if again, err := m.(document).AppendBinary(nil); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("decoded %x, encoded %x, %v", b, again, err)
		}
	})
}

func FuzzEnvelope(f *testing.F)     { fuzzDocument(f, "envelope") }
func FuzzRoot(f *testing.F)         { fuzzDocument(f, "root") }
func FuzzRelease(f *testing.F)      { fuzzDocument(f, "release") }
func FuzzDescriptor(f *testing.F)   { fuzzDocument(f, "descriptor") }
func FuzzAnnouncement(f *testing.F) { fuzzDocument(f, "announcement") }
