package card

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/controlplane/train"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

var version = Version{
	Ref: "boiler:v2", Digest: protocol.Digest{0xab}, Task: "forecast", Layers: "lstm(16) dense(6)",
	Created: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), Signed: true, Parent: &protocol.Digest{1}, Bytes: 3000, Smallest: 900,
}

var report = train.Report{
	Evaluated: "test", Items: 200, Seed: 4, Data: "0123", Features: []string{"a|b", "power"}, Targets: []string{"a|b", "power"}, Window: 24, State: "window", Horizon: 3,
	Metrics:      train.Pair{Int8: train.Metrics{"mse_scaled": 0.25}, Float32: train.Metrics{"mse_scaled": 0.2499}},
	Baselines:    map[string]train.Metrics{"repeat_last": {"mse_scaled": 0.5}, "linear": {"mse_scaled": 0.3}},
	Intervals:    map[string]train.Interval{"mse_scaled": {0.2, 0.3}},
	Verdict:      &train.Verdict{Worth: train.WorthYes, Text: "beats repeat-last by 50 %: worth shipping", Metric: "mse_scaled"},
	ByTarget:     []train.Part{{Target: "a|b", Metrics: train.Pair{Int8: train.Metrics{"mse_scaled": 0.1}}}},
	Warnings:     []string{"column \"x\" is\nconstant <b>"},
	Setup:        &train.Setup{Split: &dataset.Split{Rows: [3]int{100, 20, dataset.Rest}, Gap: 3}},
	Training:     &train.Training{Windows: 80, Validation: 10, Parameters: 1500, Epochs: 5, BestEpoch: 4},
	Quantization: &train.Quantization{Gate: train.Gate{Metric: "mse_scaled", Passed: true}},
	Use:          train.Use{Intended: "the boiler in the cellar", Contact: "ann"},
}

const page1 = `# Model card: boiler:v2

**Verdict**: beats repeat-last by 50 %: worth shipping.

## Use

- Intended: the boiler in the cellar
- Contact: ann

## The version

|  |  |
| --- | --- |
| task | forecast |
| digest | ` + "`ab00000000000000000000000000000000000000000000000000000000000000`" + ` |
| created | 2026-11-24 12:00:00 UTC |
| signed | yes |
| layers | lstm(16) dense(6) |
| bytes to ship | 3000 |
| smallest update | 900 |
| went on from | ` + "`0100000000000000000000000000000000000000000000000000000000000000`" + ` |

## Data and training

|  |  |
| --- | --- |
| data, SHA-256 | ` + "`0123`" + ` |
| reads | a\|b, power |
| predicts | a\|b, power |
| window | 24 rows, state window |
| rows ahead | 3 |
| training, validation, test | 100, 20, the rest, a gap of 3 rows between |
| windows | 80 of training, 10 of validation |
| parameters | 1500 |
| epochs | 5, the best was 4; seed 4 |

## Figures

Of 200 windows (test rows); 95 % intervals are those of the int8 model, which is what ships.

|  | int8 | 95 % | float32 | linear | repeat-last |
| --- | --- | --- | --- | --- | --- |
| mse_scaled | 0.25 | 0.2 to 0.3 | 0.2499 | 0.3 | 0.5 |

| mse_scaled of | int8 | float32 | linear | repeat-last |
| --- | --- | --- | --- | --- |
| a\|b | 0.1 | – | – | – |

## Warnings of the training

- column "x" is constant &lt;b>
`

func TestMarkdown(t *testing.T) {
	if diff := cmp.Diff(page1, New(version, &report).Markdown()); diff != "" {
		t.Error(diff)
	}
}

// The card as data has what the report has, and comes back the same.
func TestCardAsData(t *testing.T) {
	c := New(version, &report)
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var back Card
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c, &back); diff != "" {
		t.Error(diff)
	}
	if back.Evaluation.Intervals["mse_scaled"] != (train.Interval{0.2, 0.3}) || !back.Int8.Passed || back.Data.Split.Rows[0] != 100 {
		t.Errorf("card %+v", back)
	}
}

// A version that was imported has no report, which the card says.
func TestCardWithoutAReport(t *testing.T) {
	c := New(Version{Ref: "pump:v1", Task: "rul", Forced: "bo"}, nil)
	for _, want := range []string{"Nobody said what it is for", "without the report of its training", "| added past the check of int8 by | bo |"} {
		if got := c.Markdown(); !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestSplitInWords(t *testing.T) {
	for want, s := range map[string]dataset.Split{
		"0.7, 0.1, 0.2":                    {Fractions: [3]float64{0.7, 0.1, 0.2}},
		"0.8, 0.2, 0 by group":             {Fractions: [3]float64{0.8, 0.2}, By: dataset.ByGroup},
		"400, the rest, 100":               {Rows: [3]int{400, dataset.Rest, 100}},
		"1, 2, 3, a gap of 4 rows between": {Rows: [3]int{1, 2, 3}, Gap: 4},
	} {
		if got := splitWords(s); got != want {
			t.Errorf("splitWords(%+v) = %q, want %q", s, got, want)
		}
	}
}
