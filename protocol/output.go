package protocol

import (
	"fmt"
	"strconv"

	"github.com/sandpiper-edge/sandpiper/protocol/internal/json"
)

// An Output is a prediction that a pipeline made by itself, on
// sp1/F/d/D/o/MODEL or on the topic that the model's pipeline names. JSON:
//
//	{"s":"pump-3","t":1767225600000,"version":"turbofan:v3","y":[112.25],"alarm":true}
//
// T is the time of the window's last row: a Truth about this prediction names
// it by s and t.
type Output struct {
	Stream  string
	T       int64 // UTC ms
	Version string
	Y       []float32 // raw units; finite
	Alarm   *bool     // nil where the pipeline has none
}

func (m *Output) check() error {
	if len(m.Y) == 0 || len(m.Y) > MaxWindowValues {
		return fmt.Errorf("%w: y has %d values, want 1 to %d", ErrInvalid, len(m.Y), MaxWindowValues)
	}
	for _, v := range m.Y {
		if !finite(v) {
			return fmt.Errorf("%w: y is not finite", ErrInvalid)
		}
	}
	return firstError(CheckID(m.Stream), checkTime("t", m.T), checkLen("version", len(m.Version), MaxID+MaxName))
}

// AppendJSON appends m as JSON.
func (m Output) AppendJSON(b []byte) ([]byte, error) {
	if err := m.check(); err != nil {
		return b, fmt.Errorf("encode output: %w", err)
	}
	b = json.AppendString(append(b, `{"s":`...), m.Stream)
	b = strconv.AppendInt(append(b, `,"t":`...), m.T, 10)
	b = json.AppendString(append(b, `,"version":`...), m.Version)
	b = append(b, `,"y":[`...)
	for i, v := range m.Y {
		if i > 0 {
			b = append(b, ',')
		}
		b = json.AppendFloat32(b, v)
	}
	b = append(b, ']')
	if m.Alarm != nil {
		b = strconv.AppendBool(append(b, `,"alarm":`...), *m.Alarm)
	}
	return append(b, '}'), nil
}
