package protocol

import (
	"fmt"
	"slices"
)

// A Birth says what a device is, on sp1/F/d/D/birth, retained, once per
// start. JSON.
type Birth struct {
	Format    int      `json:"format"`
	Boot      uint64   `json:"boot"`   // counts starts of the agent
	Agent     string   `json:"agent"`  // version of the agent
	Kernel    string   `json:"kernel"` // tier, for example avx2
	OS        string   `json:"os"`     // GOOS
	Arch      string   `json:"arch"`   // GOARCH
	FreeBytes uint64   `json:"free_bytes"`
	Cached    []Digest `json:"cached"` // versions in its store
	T         int64    `json:"t"`
	// Findings are what the device found its broker not to do.
	Findings []Finding `json:"findings,omitempty"`
}

// Codes of findings.
const (
	FindingRetained = "retained" // no retained messages
	FindingWildcard = "wildcard" // none for subscriptions with wildcards
	FindingRefused  = "refused"  // subscriptions that are refused
	FindingPayload  = "payload"  // no messages of the size of a chunk
	FindingDelay    = "delay"    // small messages are held back
)

// A Finding is a short code for programs and a text for people: what does not
// work, what that means, and what to do.
type Finding struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// Found reports whether m has a finding of that code.
func (m *Birth) Found(code string) bool {
	return slices.ContainsFunc(m.Findings, func(f Finding) bool { return f.Code == code })
}

// AppendBinary appends the JSON of m.
func (m Birth) AppendBinary(b []byte) ([]byte, error) {
	if m.Cached == nil {
		m.Cached = []Digest{}
	}
	return appendJSON(b, "birth", &m)
}

// UnmarshalBinary decodes JSON.
func (m *Birth) UnmarshalBinary(b []byte) error {
	*m = Birth{}
	return decodeJSON(b, "birth", m)
}

func (m *Birth) check() error {
	return firstError(checkFormat(m.Format), checkUint("boot", m.Boot), checkUint("free_bytes", m.FreeBytes),
		checkTime("t", m.T), checkLen("agent", len(m.Agent), MaxName), checkLen("kernel", len(m.Kernel), MaxName),
		checkLen("os", len(m.OS), MaxName), checkLen("arch", len(m.Arch), MaxName),
		checkLen("cached", len(m.Cached), MaxCached), checkLen("findings", len(m.Findings), MaxFindings), m.checkFindings())
}

func (m *Birth) checkFindings() error {
	for _, f := range m.Findings {
		if err := firstError(CheckID(f.Code), checkLen("text", len(f.Text), MaxText)); err != nil {
			return fmt.Errorf("finding %.60q: %w", f.Code, err)
		}
	}
	return nil
}
