package agent

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A phase is where the agent stands with one model:
//
//	  ┌──────────────── refused ───────────────┐
//	  ▼                                        │
//	idle ──wanted, installed elsewhere──▶ fetching ◀─┐ newer want,
//	│  ▲                                      │  └───┘ lost link, restart
//	│  │                                    ready
//	│  │                                      ▼
//	│  ├──────────lived: new version──────  trying ◀─┐ restart, fewer
//	│  └──broke, 3rd start: old version──────┘ ▲ └───┘ than 3
//	└──────────────install FILE────────────────┘
//
// It is stored in the same transaction as the change it describes, and as the
// bytes of the version that became ready, so a power cut at any point resumes
// in a phase drawn here. A version that is wanted while another is on trial
// waits for the end of the trial, which a timer bounds; only the version that
// the trial began from is taken back at once. A shadow is obtained in idle and
// changes no phase.
type phase string

// The phases, spelled as `have` reports them.
const (
	idle     phase = "idle"     // Active answers; nothing is under way
	fetching phase = "fetching" // Active answers; the wanted version is being obtained and verified
	trying   phase = "trying"   // Active answers and is on trial; Previous takes over when it fails
)

// trialStarts is the start of the process, counted from the activation, at
// which a version still on trial is taken for the cause of a crash loop.
const trialStarts = 3

// A held is one version kept in a slot; zero means none.
type held struct {
	Digest protocol.Digest `json:"digest"`
	Number uint64          `json:"number"` // N of NAME:vN
	Floor  uint64          `json:"floor"`  // security floor its release carries
}

func (h held) none() bool { return h.Digest.IsZero() }

// version returns NAME:vN, or "" for none.
func (h held) version(name string) string {
	if h.none() {
		return ""
	}
	return name + ":v" + strconv.FormatUint(h.Number, 10)
}

// A wanted is what the control plane, or a local install, last asked for.
type wanted struct {
	Digest    protocol.Digest        `json:"digest"`
	Epoch     uint64                 `json:"epoch"`
	Rev       uint64                 `json:"rev"`
	Transfers []protocol.TransferRef `json:"transfers,omitempty"`
	JitterS   uint32                 `json:"jitter_s,omitempty"`
	Schedule  schedule               `json:"schedule,omitzero"`
	Local     bool                   `json:"local,omitempty"` // by install FILE: stays until a newer want
}

// A failure is why a version is not in place, and the want it answered: the
// digest is not tried again before a newer one.
type failure struct {
	Digest  protocol.Digest `json:"digest"`
	Epoch   uint64          `json:"epoch"`
	Rev     uint64          `json:"rev"`
	Code    string          `json:"code"`
	Message string          `json:"message"`
}

// A rollout is the durable state of one model.
type rollout struct {
	Phase    phase    `json:"phase"`
	Want     wanted   `json:"want"`
	Active   held     `json:"active"`
	Previous held     `json:"previous"` // what Active replaced; the version a rollback needs no transfer for
	Older    held     `json:"older"`    // what Previous was before the trial, given back when it fails
	Starts   int      `json:"starts"`   // starts of the process during the trial
	Floor    uint64   `json:"floor"`    // lowest version that may be activated; raised at confirm
	Failed   *failure `json:"failed,omitempty"`
	Hold     hold     `json:"hold,omitempty"`

	Shadow       wanted   `json:"shadow,omitzero"`         // wanted beside Active; no digest: none is
	Beside       held     `json:"beside,omitzero"`         // the candidate's slot: Shadow, once it is verified
	ShadowFailed *failure `json:"shadow_failed,omitempty"` // why Shadow is not in that slot
}

// A state is all that is decided from and survives a restart.
type state struct {
	Fleet  string             `json:"fleet"` // whose state it is
	Device string             `json:"device"`
	Boot   uint64             `json:"boot"` // counts starts of the process
	Epoch  uint64             `json:"epoch"`
	Rev    uint64             `json:"rev"`  // (Epoch, Rev) of the newest verified want
	Time   int64              `json:"time"` // trusted time: the largest signed one seen, UTC ms
	Models map[string]rollout `json:"models"`
	// Judge is what the newest want says about comparing versions.
	Judge *protocol.Judge `json:"judge,omitempty"`
}

// notBefore returns s so that it takes the want of (epoch, rev) or a newer one,
// and none before: what is remembered when the database is lost. That very
// want is taken once more, because the versions it names went too.
func (s state) notBefore(epoch, rev uint64) state {
	if rev > 0 {
		rev--
	}
	if s.Epoch < epoch || s.Epoch == epoch && s.Rev < rev {
		s.Epoch, s.Rev = epoch, rev
	}
	return s
}

// with returns s with model set to r; s itself is not changed.
func (s state) with(model string, r rollout) state {
	s.Models = maps.Clone(s.Models)
	if s.Models == nil {
		s.Models = make(map[string]rollout)
	}
	s.Models[model] = r
	return s
}

// encode returns the stored form.
func (s state) encode() ([]byte, error) { return json.Marshal(s) }

// decodeState reads what encode wrote; no bytes are the empty state.
func decodeState(b []byte) (state, error) {
	var s state
	if len(b) == 0 {
		return s, nil
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return state{}, fmt.Errorf("device state: %w", err)
	}
	for name, r := range s.Models {
		if r.Phase != idle && r.Phase != fetching && r.Phase != trying {
			return state{}, fmt.Errorf("device state: model %s is in no phase: %q", name, r.Phase)
		}
		if r.Hold != holdNone && r.Hold != holdPinned && r.Hold != holdReturned {
			return state{}, fmt.Errorf("device state: model %s is held for no known reason: %q", name, r.Hold)
		}
	}
	return s, nil
}

// A slot names one cached version.
type slot struct {
	Model  string
	Digest protocol.Digest
}

// slots returns the versions that s keeps.
func (s state) slots() map[slot]bool {
	keep := make(map[slot]bool)
	for name, r := range s.Models {
		for _, h := range []held{r.Active, r.Previous, r.Older, r.Beside} {
			if !h.none() {
				keep[slot{name, h.Digest}] = true
			}
		}
	}
	return keep
}
