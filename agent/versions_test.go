package agent

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

func number(n uint64) (d protocol.Digest) {
	binary.BigEndian.PutUint64(d[:], n)
	return d
}

func TestVersionsUsedLastAreCounted(t *testing.T) {
	u := newUsage()
	for n := range uint64(protocol.MaxVersionCounts + 3) {
		u.ran("m", number(n), ranWell, time.Microsecond, false)
		u.ran("m", number(0), ranWell, time.Microsecond, false) // it stays in use
	}
	if len(u.versions) != protocol.MaxVersionCounts {
		t.Fatalf("%d versions, want %d", len(u.versions), protocol.MaxVersionCounts)
	}
	kept := make(map[[8]byte]uint64)
	for _, c := range u.versionCounts() {
		kept[c.Version] = c.Answered
	}
	first, second, last := number(0), number(1), number(protocol.MaxVersionCounts+2)
	if kept[[8]byte(first[:8])] != protocol.MaxVersionCounts+4 || kept[[8]byte(second[:8])] != 0 || kept[[8]byte(last[:8])] != 1 {
		t.Errorf("kept %v", kept)
	}
}

func TestVersionsAreCountedByWhatBecameOfThem(t *testing.T) {
	u := newUsage()
	d := number(1)
	for _, c := range []struct {
		v      verdict
		took   time.Duration
		judged bool
	}{
		{ranWell, 3 * time.Microsecond, true}, {ranWell, 3 * time.Microsecond, false}, {ranWell, 9 * time.Microsecond, true},
		{notFit, 0, true}, {ranBadly, 0, true}, {ranBadly, 0, false},
	} {
		u.ran("m", d, c.v, c.took, c.judged)
	}
	u.scored("m", d, 3, 6)
	u.scored("m", d, 4, -1)
	c := u.versionCounts()[0]
	if c.Answered != 3 || c.Refused != 1 || c.Failed != 2 || len(c.Latency) != 9 || c.Latency[3] != 1 || c.Latency[8] != 1 {
		t.Errorf("counted %+v", c)
	}
	if c.N != 2 || c.Sum != 7 || c.Square != 25 || c.NaiveN != 1 || c.Naive != 6 {
		t.Errorf("counted %+v", c)
	}
	const want = "MAE 3.5, RMSE 3.536 of 2 outputs; as the last value 6 (skill +42 %)"
	if got := u.quality("m", d).String(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if u.quality("m", number(2)) != nil || u.quality("n", d) != nil {
		t.Error("the quality of what was never compared")
	}
	b, err := u.record(time.UnixMilli(1))
	if err != nil || b == nil {
		t.Fatalf("record = %x, %v", b, err)
	}
	var m protocol.Usage
	if err := m.UnmarshalBinary(splitRecords(b)[0]); err != nil || len(m.Versions) != 1 || len(m.Counts) != 0 {
		t.Errorf("recorded %+v, %v", m, err)
	}
}
