package controlplane

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/fleet"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry"
	"github.com/sandpiper-edge/sandpiper/controlplane/rollout"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// TestHistory: which version ran when, by whose decision.
func TestHistory(t *testing.T) {
	c := open(t, Config{Dir: initDir(t)})
	ctx := audit.By(t.Context(), "ann")
	v1, v2 := addModel(t, c, 1), addModel(t, c, 2)
	if _, _, err := c.AddDevice(ctx, "pump-1", nil); err != nil {
		t.Fatal(err)
	}
	start := func(who string, v registry.Version) {
		t.Helper()
		if _, err := c.Rollout.Start(audit.By(t.Context(), who), v.Ref(), rollout.Target{All: true}); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now().UTC().Truncate(time.Second).Add(-time.Hour)
	var boot uint64
	have := func(at time.Time, m protocol.ModelHave) {
		t.Helper()
		boot++
		m.Phase = protocol.PhaseIdle
		b, err := protocol.Have{Format: 1, Boot: boot, T: at.UnixMilli(), Models: map[string]protocol.ModelHave{"wear": m}}.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // told again: recorded once
			if err := c.Rollout.Handle(t.Context(), rollout.Report{Device: "pump-1", Kind: protocol.TopicHave, Payload: b}); err != nil {
				t.Fatal(err)
			}
		}
	}
	start("ann", v1)
	have(began, protocol.ModelHave{Version: "wear:v1", Active: v1.Digest})
	start("bob", v2)
	have(began.Add(10*time.Minute), protocol.ModelHave{Version: "wear:v2", Active: v2.Digest, Previous: v1.Digest})
	have(began.Add(20*time.Minute), protocol.ModelHave{Version: "wear:v1", Active: v1.Digest,
		Failed: &protocol.Failure{Digest: v2.Digest, Code: "crash", Message: "3 starts"}})
	have(time.UnixMilli(5), protocol.ModelHave{Version: "other:v9", Active: protocol.Digest{9}, // a clock that starts in 1970
		Failed: &protocol.Failure{Digest: v2.Digest, Code: "crash", Message: "3 starts"}})

	history := func(at time.Time) []string {
		t.Helper()
		rows, err := c.History(t.Context(), HistoryQuery{Device: "pump-1", At: at})
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, r := range rows {
			until := "now"
			if !r.Until.IsZero() {
				until = r.Until.Sub(began).Truncate(time.Minute).String()
			}
			out = append(out, fmt.Sprintf("%s %s %v-%s %d %s %s", r.Model, r.Version, r.From.Sub(began).Truncate(time.Minute), until, r.Rollout, r.StartedBy, r.ReleasedBy))
		}
		return out
	}
	// addModel added both as the control plane itself.
	rows := []string{
		"wear other:v9 1h0m0s-now 0  ",
		"wear wear:v1 20m0s-1h0m0s 0  control plane",
		"wear wear:v2 10m0s-20m0s 2 bob control plane",
		"wear wear:v1 0s-10m0s 1 ann control plane",
	}
	for at, want := range map[time.Duration][]string{
		-time.Minute: nil, time.Minute: rows[3:4], 10 * time.Minute: rows[2:3], 30 * time.Minute: rows[1:2], 2 * time.Hour: rows[:1],
	} {
		if got := history(began.Add(at)); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("at %v ran %q, want %q", at, got, want)
		}
	}
	if got := history(time.Time{}); fmt.Sprint(got) != fmt.Sprint(rows) {
		t.Errorf("history %q, want %q", got, rows)
	}
	if _, err := c.History(t.Context(), HistoryQuery{Device: "pump-2"}); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("history of an unknown device: %v", err)
	}

	head, err := c.VerifyAudit(t.Context(), audit.Head{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	entries, err := c.Audit(t.Context(), "", "", 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		got = append(got, fmt.Sprintf("%d %s %s", e.Seq, e.Who, e.Action))
	}
	want := []string{"12 device device.active", "11 device device.failed", "10 device device.active", "9 device device.active",
		"8 bob rollout.start", "7 device device.active", "6 ann rollout.start", "5 ann device.add", "4 control plane model.sign",
		"3 control plane model.add", "2 control plane model.sign", "1 control plane model.add"}
	if fmt.Sprint(got) != fmt.Sprint(want) || head.Seq != 12 {
		t.Errorf("record %q, head %d, want %q", got, head.Seq, want)
	}
}

// TestRecordIsCheckedByTheServer: as it starts, and once a day, also against the end
// that it had the day before.
func TestRecordIsCheckedByTheServer(t *testing.T) {
	log := new(page)
	dir := initDir(t)
	c := open(t, Config{Dir: dir, Log: slog.New(slog.NewTextHandler(log, nil))})
	for _, id := range []string{"a", "b", "c"} {
		if _, _, err := c.AddDevice(t.Context(), id, nil); err != nil {
			t.Fatal(err)
		}
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "control.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	change := func(statement string) {
		t.Helper()
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	tick, check := make(chan time.Time), func(ticks <-chan time.Time) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan bool)
		go func() { c.checkRecord(ctx, ticks); close(done) }()
		return func() { cancel(); <-done }
	}
	broken := func() int { return strings.Count(log.String(), "audit chain is broken") }
	stop := check(tick)
	tick <- time.Time{}
	tick <- time.Time{} // the first is through
	if broken() != 0 {
		t.Fatalf("a good record: %s", log)
	}
	change(`DROP TRIGGER audit_no_update; DROP TRIGGER audit_no_delete`)
	change(`DELETE FROM audit WHERE device = 'c'`) // what is left is a chain
	tick <- time.Time{}
	tick <- time.Time{}
	if broken() == 0 {
		t.Error("an entry that was cut off is not missed")
	}
	stop()
	before := broken()
	change(`UPDATE audit SET device = 'x' WHERE device = 'b'`)
	stop = check(nil)
	until(t, "the start says what is wrong", func() bool { return broken() == before+1 && strings.Contains(log.String(), "level=ERROR") })
	stop()
	serve(t, c) // and it serves all the same
	until(t, "the server says it", func() bool { return broken() == before+2 })
}

// TestRolloutsNeedApproval: of others than who starts them, where the model asks for it.
func TestRolloutsNeedApproval(t *testing.T) {
	c := open(t, Config{Dir: initDir(t)})
	v := addModel(t, c, 1)
	ann, bob, cid := audit.By(t.Context(), "ann"), audit.By(t.Context(), "bob"), audit.By(t.Context(), "cid")
	if _, _, err := c.AddDevice(ann, "pump-1", nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Registry.Protect(ann, "wear", 2); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{-1, 6} {
		if err := c.Registry.Protect(ann, "wear", n); !errors.Is(err, registry.ErrApprovals) {
			t.Errorf("Protect(%d) = %v", n, err)
		}
	}
	start := func() error {
		_, err := c.Rollout.Start(ann, v.Ref(), rollout.Target{All: true})
		return err
	}
	for _, who := range []string{"", "ann", "bob", "bob"} { // not one's own, and each once
		if who != "" {
			if _, err := c.Registry.Approve(audit.By(t.Context(), who), v.Ref()); err != nil {
				t.Fatal(err)
			}
		}
		if err := start(); !errors.Is(err, registry.ErrNotApproved) {
			t.Errorf("start after the approval of %q = %v, want ErrNotApproved", who, err)
		}
	}
	a, err := c.Registry.Approve(cid, v.Ref())
	if err != nil || a.Needed != 2 || fmt.Sprint(a.Approvers) != "[ann bob cid]" {
		t.Errorf("approval %+v, %v", a, err)
	}
	if err := start(); err != nil {
		t.Errorf("start of an approved version: %v", err)
	}
	if err := c.Registry.Protect(bob, "wear", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Rollout.Start(bob, addModel(t, c, 2).Ref(), rollout.Target{All: true}); err != nil {
		t.Errorf("start without protection: %v", err)
	}
}
