package audit

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

var day = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func chain(n int) []Entry {
	var out []Entry
	var before Hash
	for i := range n {
		e := Entry{Seq: uint64(i + 1), Received: day.Add(time.Duration(i) * time.Second), At: day, Who: "ann", Action: RolloutStart,
			Device: "pump-1", Model: "pump", Number: 2, Digest: protocol.Digest{byte(i)}, Rollout: 3, Detail: "all"}
		e.Hash = Next(before, e)
		before = e.Hash
		out = append(out, e)
	}
	return out
}

func verify(entries []Entry, known Head) (Head, error) {
	v := Verifier{Known: known}
	for _, e := range entries {
		if err := v.Check(e); err != nil {
			return Head{}, err
		}
	}
	return v.End()
}

// TestHash binds the encoding: computed by Python's hashlib from the bytes that the
// package comment describes.
func TestHash(t *testing.T) {
	e := Entry{Seq: 1, Received: time.UnixMilli(1000), At: time.UnixMilli(1000), Who: "a", Action: "b"}
	const want = "136ec7b908a278917d17cf6df7d142490cff38b30432a75b6978537b59917391"
	if got := Next(Hash{}, e).String(); got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
}

func TestVerify(t *testing.T) {
	good := chain(5)
	head, err := verify(good, Head{})
	if err != nil || head != (Head{5, good[4].Hash}) {
		t.Fatalf("verify = %v, %v", head, err)
	}
	if _, err := verify(good, Head{3, good[2].Hash}); err != nil {
		t.Errorf("with a known head: %v", err)
	}
	for name, change := range map[string]func([]Entry) []Entry{
		"received": func(e []Entry) []Entry { e[2].Received = e[2].Received.Add(time.Millisecond); return e },
		"at":       func(e []Entry) []Entry { e[2].At = e[2].At.Add(time.Millisecond); return e },
		"who":      func(e []Entry) []Entry { e[2].Who = "bob"; return e },
		"action":   func(e []Entry) []Entry { e[2].Action = RolloutRollback; return e },
		"device":   func(e []Entry) []Entry { e[2].Device, e[2].Model = "pump-1p", "ump"; return e }, // the same bytes in a row
		"number":   func(e []Entry) []Entry { e[2].Number++; return e },
		"digest":   func(e []Entry) []Entry { e[2].Digest[31] ^= 1; return e },
		"rollout":  func(e []Entry) []Entry { e[2].Rollout++; return e },
		"detail":   func(e []Entry) []Entry { e[2].Detail = ""; return e },
		"hash":     func(e []Entry) []Entry { e[2].Hash[0] ^= 1; return e },
		"removed":  func(e []Entry) []Entry { return append(e[:2], e[3:]...) },
		"swapped":  func(e []Entry) []Entry { e[2], e[3] = e[3], e[2]; return e },
		"first":    func(e []Entry) []Entry { return e[1:] },
	} {
		if _, err := verify(change(chain(5)), Head{}); !errors.Is(err, ErrBroken) {
			t.Errorf("%s changed: %v, want ErrBroken", name, err)
		}
	}
	if _, err := verify(chain(5)[:4], Head{5, good[4].Hash}); !errors.Is(err, ErrBroken) {
		t.Error("an end that is cut off is not found with the head that was kept")
	}
	other := chain(5)
	other[4].Detail = "another"
	other[4].Hash = Next(other[3].Hash, other[4])
	if _, err := verify(other, Head{5, good[4].Hash}); !errors.Is(err, ErrBroken) {
		t.Error("a chain that was written anew is not found with the head that was kept")
	}
}

func TestHead(t *testing.T) {
	h := Head{7, chain(1)[0].Hash}
	if got, err := ParseHead(h.String()); err != nil || got != h {
		t.Errorf("ParseHead(%s) = %v, %v", h, got, err)
	}
	for _, s := range []string{"", "7", "x:" + h.Hash.String(), "7:abc", "7:" + strings.Repeat("g", 64)} {
		if _, err := ParseHead(s); !errors.Is(err, ErrHead) {
			t.Errorf("ParseHead(%q) = %v, want ErrHead", s, err)
		}
	}
}

func TestHappened(t *testing.T) {
	for _, tt := range []struct{ device, want time.Time }{
		{day.Add(-time.Hour), day.Add(-time.Hour)},
		{day.Add(-40 * 24 * time.Hour), day},
		{time.UnixMilli(0), day},
		{day.Add(time.Second), day},
	} {
		if got := Happened(tt.device, day); !got.Equal(tt.want) {
			t.Errorf("Happened(%v) = %v, want %v", tt.device, got, tt.want)
		}
	}
}

func TestWho(t *testing.T) {
	if got := Who(context.Background()); got != ControlPlane {
		t.Errorf("nobody is %q", got)
	}
	if got := Who(By(context.Background(), "ann")); got != "ann" {
		t.Errorf("ann is %q", got)
	}
}
