package protocol

import (
	"math"
	"testing"
)

func TestOutputJSON(t *testing.T) {
	on := true
	m := Output{Stream: "pump-3", T: 1767225600000, Version: "turbofan:v3", Y: []float32{112.25, 0.1}, Alarm: &on}
	b, err := m.AppendJSON(nil)
	const want = `{"s":"pump-3","t":1767225600000,"version":"turbofan:v3","y":[112.25,0.1],"alarm":true}`
	if err != nil || string(b) != want {
		t.Errorf("AppendJSON = %s, %v; want %s", b, err, want)
	}
	for _, bad := range []Output{
		{Stream: "a", Version: "v"},
		{Stream: "A", Version: "v", Y: []float32{1}},
		{Stream: "a", T: -1, Y: []float32{1}},
		{Stream: "a", Y: []float32{float32(math.NaN())}},
	} {
		if b, err := bad.AppendJSON(nil); err == nil {
			t.Errorf("AppendJSON(%+v) = %s, want an error", bad, b)
		}
	}
}
