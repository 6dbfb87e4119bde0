package predictor

import (
	"reflect"
	"testing"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

func TestArtifactRoundTripGivesTheSameBits(t *testing.T) {
	for name, g := range map[string]kernel.Graph{"last state": lastState(), "sequences": sequences()} {
		f := newFixture(t, g, 6, artifact.StateWindow)
		m := f.artifact(t)
		before := open(t, m)
		transfer, err := artifact.Pack(m)
		if err != nil {
			t.Fatal(err)
		}
		// No release at hand: caps that admit exactly this transfer.
		caps := &artifact.Release{Digest: transfer.Digest, MaxTransfer: transfer.Size, MaxDecoded: transfer.Decoded}
		back, err := artifact.Unpack(transfer.Descriptor, transfer.Payload, nil, caps)
		if err != nil {
			t.Fatal(err)
		}
		after := open(t, back)
		if err := after.Check(); err != nil {
			t.Errorf("%s: Check after the round trip = %v", name, err)
		}
		rows := rawRows(2, 6)
		if a, b := predict(t, before, rows), predict(t, after, rows); !reflect.DeepEqual(a, b) {
			t.Errorf("%s: %v before, %v after", name, a, b)
		}
		if got, want := after.Features(), []string{"flow", "pressure", "speed"}; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: Features() = %v, want %v", name, got, want)
		}
		if !after.Int8() || after.Window() != 6 || after.Outputs() != g.OutputLen(6) || after.Stateful() {
			t.Errorf("%s: int8 %v, window %d, outputs %d, stateful %v", name, after.Int8(), after.Window(), after.Outputs(), after.Stateful())
		}
	}
}
