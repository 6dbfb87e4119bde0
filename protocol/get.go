package protocol

// A Get asks the control plane for chunks of a transfer, on sp1/F/d/D/get,
// where retained messages cannot be used. Chunk n is asked for if bit n mod 8
// of Bitmap[n/8] is set, bit 0 the lowest; an empty Bitmap asks for the
// announcement. Deterministic CBOR.
type Get struct {
	Hash   string `cbor:"hash"`
	Bitmap []byte `cbor:"bitmap"`
}

// Ask returns a Get for one chunk.
func Ask(hash string, n int) Get {
	m := Get{Hash: hash, Bitmap: make([]byte, n/8+1)}
	m.Bitmap[n/8] = 1 << (n % 8)
	return m
}

// Wants reports whether chunk n is asked for.
func (m Get) Wants(n int) bool {
	return n >= 0 && n/8 < len(m.Bitmap) && m.Bitmap[n/8]&(1<<(n%8)) != 0
}

// AppendBinary appends the deterministic CBOR of m.
func (m Get) AppendBinary(b []byte) ([]byte, error) { return appendCBOR(b, "get", &m) }

// UnmarshalBinary decodes deterministic CBOR.
func (m *Get) UnmarshalBinary(b []byte) error {
	*m = Get{}
	return decodeCBOR(b, "get", m)
}

func (m *Get) check() error {
	return firstError(CheckHash(m.Hash), checkLen("bitmap", len(m.Bitmap), MaxChunks/8))
}
