package protocol

import "fmt"

// A State is the presence of the control plane and the protocol versions it
// speaks, on sp1/F/state, retained; with Online false it is also its will.
// JSON:
//
//	{"format":1,"online":true,"min":1,"max":1,"t":1767225600000}
type State struct {
	Format int   `json:"format"`
	Online bool  `json:"online"`
	Min    int   `json:"min"`
	Max    int   `json:"max"`
	T      int64 `json:"t"`
}

// AppendBinary appends the JSON of m.
func (m State) AppendBinary(b []byte) ([]byte, error) { return appendJSON(b, "state", &m) }

// UnmarshalBinary decodes JSON.
func (m *State) UnmarshalBinary(b []byte) error {
	*m = State{}
	return decodeJSON(b, "state", m)
}

func (m *State) check() error {
	if err := firstError(checkFormat(m.Format), checkTime("t", m.T)); err != nil {
		return err
	}
	if m.Min < 1 || m.Max < m.Min || m.Max > 1<<16 {
		return fmt.Errorf("%w: protocol range %d to %d", ErrInvalid, m.Min, m.Max)
	}
	return nil
}
