package protocol

// An Ack tells a device that its event (Boot, Seq) is stored durably, or, with
// Usage set, that usage report, on sp1/F/d/D/ack. Deterministic CBOR.
type Ack struct {
	Boot  uint64 `cbor:"boot"`
	Seq   uint64 `cbor:"seq"`
	Usage bool   `cbor:"usage,omitempty"`
}

// AppendBinary appends the deterministic CBOR of m.
func (m Ack) AppendBinary(b []byte) ([]byte, error) { return appendCBOR(b, "ack", &m) }

// UnmarshalBinary decodes deterministic CBOR.
func (m *Ack) UnmarshalBinary(b []byte) error {
	*m = Ack{}
	return decodeCBOR(b, "ack", m)
}

func (m *Ack) check() error { return firstError(checkUint("boot", m.Boot), checkUint("seq", m.Seq)) }
