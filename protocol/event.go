package protocol

// An Event is something that happened on a device, on sp1/F/d/D/ev. The
// device keeps it until the control plane has acknowledged (Boot, Seq) as
// stored. Deterministic CBOR.
type Event struct {
	Boot   uint64 `cbor:"boot"`
	Seq    uint64 `cbor:"seq"` // counts events of this boot
	T      int64  `cbor:"t"`
	Kind   string `cbor:"kind"` // an id, for example activated
	Model  string `cbor:"model,omitempty"`
	Digest Digest `cbor:"digest,omitzero"`
	Detail string `cbor:"detail,omitempty"`
}

// AppendBinary appends the deterministic CBOR of m.
func (m Event) AppendBinary(b []byte) ([]byte, error) { return appendCBOR(b, "event", &m) }

// UnmarshalBinary decodes deterministic CBOR.
func (m *Event) UnmarshalBinary(b []byte) error {
	*m = Event{}
	return decodeCBOR(b, "event", m)
}

func (m *Event) check() error {
	if m.Model != "" {
		if err := CheckID(m.Model); err != nil {
			return err
		}
	}
	return firstError(checkUint("boot", m.Boot), checkUint("seq", m.Seq), checkTime("t", m.T),
		CheckID(m.Kind), checkLen("detail", len(m.Detail), MaxText))
}
