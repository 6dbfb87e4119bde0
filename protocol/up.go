package protocol

import "fmt"

// Payloads of sp1/F/d/D/up: plain text, so that any dashboard can show it.
// Offline is also the device's will.
const (
	Online  = "online"
	Offline = "offline"
)

// ParseUp reads a payload of sp1/F/d/D/up.
func ParseUp(b []byte) (online bool, err error) {
	switch string(b) {
	case Online:
		return true, nil
	case Offline:
		return false, nil
	}
	return false, fmt.Errorf("%w: up is %.20q, want %q or %q", ErrMalformed, b, Online, Offline)
}
