package protocol

import "fmt"

// Phases of a model on a device.
const (
	PhaseIdle     = "idle"     // nothing in progress
	PhaseFetching = "fetching" // a candidate is on its way
	PhaseTrying   = "trying"   // the new version is active and on trial

	// Phases of a shadow, beside PhaseFetching.
	PhaseReady  = "ready"  // verified and in its slot, ready to be judged or activated
	PhaseFailed = "failed" // it did not make it
)

// Holds: why a device's owner keeps a version. Each is the code of a Failure too, of
// the version that is wanted meanwhile.
const (
	HoldPinned   = "pinned"      // until it is unpinned
	HoldReturned = "rolled_back" // until it is unpinned, or a newer want comes
)

// A Have is the reported state of a device, on sp1/F/d/D/have, retained,
// published when it changes. JSON.
type Have struct {
	Format int    `json:"format"`
	Boot   uint64 `json:"boot"` // counts starts of the agent
	// Epoch and Rev are of the newest want that the device verified.
	Epoch  uint64               `json:"epoch"`
	Rev    uint64               `json:"rev"`
	T      int64                `json:"t"`
	Models map[string]ModelHave `json:"models"` // by model name
}

// A ModelHave is the state of one model: the digests of its slots and what it
// is doing.
type ModelHave struct {
	Version   string   `json:"version"` // of Active, NAME:vN, or empty
	Active    Digest   `json:"active,omitzero"`
	Previous  Digest   `json:"previous,omitzero"`
	Candidate Digest   `json:"candidate,omitzero"`
	Phase     string   `json:"phase"`
	Failed    *Failure `json:"failed,omitempty"` // the last version that did not make it
	Hold      string   `json:"hold,omitempty"`   // an id: why the device's owner keeps Active, whatever is wanted
	// Shadow is the version that is wanted beside Active; nil: none is.
	Shadow *ShadowHave `json:"shadow,omitempty"`
}

// A ShadowHave is the state of a version that is wanted beside the active one.
// It waits in PhaseFetching while the wanted active version is not in place.
type ShadowHave struct {
	Version string   `json:"version"` // NAME:vN, or empty while it is not ready
	Digest  Digest   `json:"digest"`
	Phase   string   `json:"phase"`
	Failed  *Failure `json:"failed,omitempty"` // in PhaseFailed: why
}

// A Failure says why a version is not in use: a short code for programs and
// a message for people. The digest is not tried again before a rev above Rev.
type Failure struct {
	Digest  Digest `json:"digest"`
	Epoch   uint64 `json:"epoch"`
	Rev     uint64 `json:"rev"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// AppendBinary appends the JSON of m.
func (m Have) AppendBinary(b []byte) ([]byte, error) { return appendJSON(b, "have", &m) }

// UnmarshalBinary decodes JSON.
func (m *Have) UnmarshalBinary(b []byte) error {
	*m = Have{}
	return decodeJSON(b, "have", m)
}

func (m *Have) check() error {
	if err := firstError(checkFormat(m.Format), checkUint("boot", m.Boot), checkUint("epoch", m.Epoch),
		checkUint("rev", m.Rev), checkTime("t", m.T), checkLen("models", len(m.Models), MaxModels)); err != nil {
		return err
	}
	for name, h := range m.Models {
		if err := firstError(CheckID(name), checkOneOf("phase", h.Phase, PhaseIdle, PhaseFetching, PhaseTrying),
			checkLen("version", len(h.Version), MaxName+MaxID)); err != nil {
			return fmt.Errorf("model %.60q: %w", name, err)
		}
		if h.Hold != "" {
			if err := CheckID(h.Hold); err != nil {
				return fmt.Errorf("hold of %s: %w", name, err)
			}
		}
		if err := h.Failed.check(); err != nil {
			return fmt.Errorf("failure of %s: %w", name, err)
		}
		if w := h.Shadow; w != nil {
			if err := firstError(checkOneOf("phase", w.Phase, PhaseFetching, PhaseReady, PhaseFailed),
				checkLen("version", len(w.Version), MaxName+MaxID), w.Failed.check()); err != nil {
				return fmt.Errorf("shadow of %s: %w", name, err)
			}
		}
	}
	return nil
}

func (f *Failure) check() error {
	if f == nil {
		return nil
	}
	return firstError(checkUint("rev", f.Rev), checkUint("epoch", f.Epoch), CheckID(f.Code), checkLen("message", len(f.Message), MaxText))
}
