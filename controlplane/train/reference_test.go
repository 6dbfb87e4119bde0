package train

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

func TestAModelCarriesHowItsFeaturesWereSpread(t *testing.T) {
	res := run1(t, forecastOptions, hours(640))
	r := res.Model.Reference
	if r == nil || len(r.Features) != 1 || len(r.Features[0].Edges) != 7 {
		t.Fatalf("reference %+v", r)
	}
	sum := 0
	for _, p := range r.Features[0].Parts {
		if sum += int(p); p < 1200 || p > 1300 {
			t.Errorf("parts %v, want 1250 of 10000 each", r.Features[0].Parts)
		}
	}
	if sum < 9990 || sum > 10010 {
		t.Errorf("the parts sum to %d", sum)
	}
	// Of the training rows alone: what comes later does not change it.
	lines := strings.SplitAfter(hours(640), "\n")
	later := strings.Join(lines[:450], "") + strings.ReplaceAll(strings.Join(lines[450:], ""), "00:00,", "00:00,9")
	if got := run1(t, forecastOptions, later).Model.Reference; fmt.Sprint(got) != fmt.Sprint(r) {
		t.Errorf("other test rows: %v, want %v", got, r)
	}
}

func TestReferenceOfManyFeatures(t *testing.T) {
	for _, n := range []int{1, 16, 24, 64, 200} {
		var b strings.Builder
		for f := range n {
			fmt.Fprintf(&b, "f%d,", f)
		}
		b.WriteString("c\n")
		for row := range 50 {
			for f := range n {
				fmt.Fprintf(&b, "%d,", row*(f+1))
			}
			b.WriteString("7\n")
		}
		table, err := dataset.Read(strings.NewReader(b.String()), dataset.Columns{})
		if err != nil {
			t.Fatal(err)
		}
		r := reference(table, table.All(), n+1)
		if r.Bins() > artifact.MaxReferenceBins || len(r.Features) != min(n+1, 64) {
			t.Errorf("%d features: %d in %d bins", n+1, len(r.Features), r.Bins())
		}
		if n < 64 {
			if h := r.Features[n]; len(h.Edges) != 0 || h.Parts[0] != 10000 {
				t.Errorf("constant: %+v", h)
			}
		}
	}
}
