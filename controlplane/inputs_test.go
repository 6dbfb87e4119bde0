package controlplane

import (
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/drift"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

func TestDriftOfCounts(t *testing.T) {
	m := &artifact.Model{
		Schema: artifact.Schema{Features: []artifact.Column{{Name: "heat"}, {Name: "hum"}, {Name: "last"}}},
		Reference: &artifact.Reference{Features: []artifact.Histogram{
			{Edges: artifact.Floats{1, 2}, Parts: []uint16{3000, 4000, 3000}}, {Edges: artifact.Floats{5}, Parts: []uint16{5000, 5000}},
		}},
	}
	at := time.Unix(1_700_000_000, 0).UTC()
	got := driftOf(m, "wear:v2", store.Inputs{Counts: []uint64{300, 400, 300, 10, 990}, Since: at, T: at})
	if len(got) != 2 || got[0].Verdict != drift.Stable || got[0].PSI != 0 || got[1].Verdict != drift.Drifted || got[1].Feature != "hum" || got[1].Rows != 1000 {
		t.Errorf("%+v", got)
	}
	if got := driftOf(m, "wear:v2", store.Inputs{Counts: []uint64{3, 4, 3, 1, 9}}); got[0].Verdict != drift.Unknown {
		t.Errorf("of 10 rows: %+v", got[0])
	}
}
