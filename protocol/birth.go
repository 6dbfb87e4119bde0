package protocol

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
		checkLen("cached", len(m.Cached), MaxCached))
}
