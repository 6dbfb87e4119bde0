package protocol

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckIDNamesWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ id, text string }{
		{"", "empty"}, {"Pump", "'P' at position 1"}, {"a.b", "'.' at position 2"}, {"a/b", "'/'"}, {"a b", "' '"},
		{"ä", "'ä' at position 1"}, {"a\xff", "position 2"}, {"a\x00", "position 2"}, {strings.Repeat("x", 49), "49 bytes; use at most 48"},
	} {
		err := CheckID(c.id)
		if !errors.Is(err, ErrID) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("CheckID(%q) = %v, want ErrID with %q", c.id, err, c.text)
		}
	}
	for _, id := range []string{"a", "pump-3", "0_9", strings.Repeat("x", 48)} {
		if err := CheckID(id); err != nil {
			t.Error(err)
		}
	}
	if CheckFleet(strings.Repeat("x", 33)) == nil || CheckFleet(strings.Repeat("x", 32)) != nil {
		t.Error("a fleet has at most 32 bytes")
	}
}

func TestDigestText(t *testing.T) {
	d := Digest{0: 0xab, 31: 1}
	got, err := ParseDigest(d.String())
	if err != nil || got != d || len(d.String()) != 64 || d.Short() != "ab0000000000" || d.IsZero() {
		t.Errorf("ParseDigest(%s) = %v, %v", d, got, err)
	}
	for _, s := range []string{"", "ab", strings.ToUpper(d.String()), d.String() + "0", strings.Repeat("g", 64)} {
		if _, err := ParseDigest(s); !errors.Is(err, ErrDigest) {
			t.Errorf("ParseDigest(%q) = %v, want ErrDigest", s, err)
		}
	}
}
