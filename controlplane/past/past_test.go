package past

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane"
	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/rollout"
)

func TestPastIsOneThatTheControlPlaneCanTellOf(t *testing.T) {
	f := Fleet{Devices: 60, Models: 2, Versions: 5, Looks: 3, Until: time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)}
	dir := filepath.Join(t.TempDir(), "data")
	if v := os.Getenv("SANDPIPER_PAST"); v != "" {
		f, dir = Year, v
	}
	if _, err := controlplane.Init(t.Context(), dir, ""); err != nil {
		t.Fatal(err)
	}
	if err := f.Fill(t.Context(), dir, t.Logf); err != nil {
		t.Fatal(err)
	}
	cp, err := controlplane.Open(t.Context(), controlplane.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := cp.Close(); err != nil {
			t.Error(err)
		}
	}()
	if head, err := cp.VerifyAudit(t.Context(), audit.Head{}); err != nil || head.Seq < uint64(f.Devices*f.Models*f.Versions) {
		t.Errorf("the record ends at %v, %v", head, err)
	}
	// The third of five versions, a bit after the middle of the year.
	ran, err := cp.History(t.Context(), controlplane.HistoryQuery{Device: Device(7), Model: Model(1), At: f.Until.Add(-year / 2)})
	if err != nil || len(ran) != 1 || ran[0].Version != "m1:v3" || ran[0].StartedBy != "ann" || ran[0].Until.IsZero() {
		t.Errorf("half a year ago it ran %+v, %v", ran, err)
	}
	s, err := cp.Rollout.Staged(t.Context(), Model(0))
	if err != nil || !s.State.Phase.Live() || s.Rollout.Ref != "m0:v6" {
		t.Errorf("no rollout is under way: %+v, %v", s.Rollout, err)
	}
	status, err := cp.Rollout.Status(t.Context(), Model(1), rollout.Query{})
	if err != nil || status.Total != f.Devices || status.Counts["active"] != f.Devices {
		t.Errorf("%v of %d devices run the newest version, %v", status.Counts, status.Total, err)
	}
}
