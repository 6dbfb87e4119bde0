package protocol

import "fmt"

// A Usage reports how often a device predicted, for whom and at what cost, on
// sp1/F/d/D/met. Counters are cumulative since the start Boot, so a lost
// message loses nothing, and of a start only the report with the highest Seq
// counts. The device keeps it until the control plane has acknowledged it as
// stored, by an Ack with Usage set. Deterministic CBOR.
type Usage struct {
	Format int          `cbor:"format"`
	Boot   uint64       `cbor:"boot"`
	Seq    uint64       `cbor:"seq,omitempty"` // counts reports of this boot, from 1
	T      int64        `cbor:"t"`
	Counts []UsageCount `cbor:"counts,omitempty"`
	// Versions says how each version did, the MaxVersionCounts used last. One
	// that was passed over and comes back begins anew.
	Versions []VersionCount `cbor:"versions,omitempty"`
	Inputs   []InputCount   `cbor:"inputs,omitempty"` // at most one, once an hour
}

// A UsageCount counts one user's requests to one model. User is `anonymous`
// for the simple mode.
type UsageCount struct {
	Model    string `cbor:"model"`
	User     string `cbor:"user"`
	Answered uint64 `cbor:"answered,omitempty"` // with a prediction
	Refused  uint64 `cbor:"refused,omitempty"`  // with an error, busy excepted
	Busy     uint64 `cbor:"busy,omitempty"`
	Micros   uint64 `cbor:"us,omitempty"` // spent in the kernel
}

// Anonymous is the user of the simple mode in usage reports.
const Anonymous = "anonymous"

// AppendBinary appends the deterministic CBOR of m.
func (m Usage) AppendBinary(b []byte) ([]byte, error) { return appendCBOR(b, "usage", &m) }

// UnmarshalBinary decodes deterministic CBOR.
func (m *Usage) UnmarshalBinary(b []byte) error {
	*m = Usage{}
	return decodeCBOR(b, "usage", m)
}

func (m *Usage) check() error {
	if err := firstError(checkFormat(m.Format), checkUint("boot", m.Boot), checkUint("seq", m.Seq), checkTime("t", m.T),
		checkLen("counts", len(m.Counts), MaxCounts), checkLen("versions", len(m.Versions), MaxVersionCounts), checkLen("inputs", len(m.Inputs), 1)); err != nil {
		return err
	}
	for _, c := range m.Counts {
		if err := firstError(CheckID(c.Model), CheckID(c.User), checkUint("answered", c.Answered),
			checkUint("refused", c.Refused), checkUint("busy", c.Busy), checkUint("us", c.Micros)); err != nil {
			return fmt.Errorf("usage of %.60q by %.60q: %w", c.Model, c.User, err)
		}
	}
	for _, c := range m.Inputs {
		if err := c.check(); err != nil {
			return err
		}
	}
	for _, c := range m.Versions {
		if err := c.check(); err != nil {
			return fmt.Errorf("version %x of %.60q: %w", c.Version, c.Model, err)
		}
	}
	return nil
}
