package brokerproof

import "testing"

func TestDistribute(t *testing.T) {
	alone, beside, err := Distribute(t.Context(), 30)
	if err != nil {
		t.Fatal(err)
	}
	if alone.Clients != 30 || beside.Clients != 30 || beside.Last <= 0 {
		t.Errorf("alone %+v, beside %+v, want 30 devices each", alone, beside)
	}
	t.Log("alone:", alone)
	t.Log("beside:", beside)
}

func BenchmarkDistribute(b *testing.B) {
	for b.Loop() {
		alone, beside, err := Distribute(b.Context(), 1000)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(alone.Last.Seconds(), "s-alone")
		b.ReportMetric(beside.Last.Seconds(), "s-beside")
	}
}
