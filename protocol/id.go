package protocol

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// ErrID is returned for an id outside the alphabet or of the wrong length.
var ErrID = errors.New("invalid id")

// CheckFleet reports whether id can name a fleet: 1 to 32 characters of
// [a-z0-9_-]. The error wraps ErrID.
func CheckFleet(id string) error { return checkID("fleet", id, MaxFleetID) }

// CheckID reports whether id can name a device, model, user, stream or
// request: 1 to 48 characters of [a-z0-9_-]. The error wraps ErrID.
func CheckID(id string) error { return checkID("id", id, MaxID) }

func checkID(what, id string, most int) error {
	if id == "" {
		return fmt.Errorf("%w: the %s is empty; use 1 to %d characters of a-z, 0-9, _ and -", ErrID, what, most)
	}
	if len(id) > most {
		return fmt.Errorf("%w: the %s %.60q has %d bytes; use at most %d", ErrID, what, id, len(id), most)
	}
	for i := range len(id) {
		if !idByte(id[i]) {
			r, _ := utf8.DecodeRuneInString(id[i:])
			return fmt.Errorf("%w: the %s %q has %q at position %d; topics allow only a-z, 0-9, _ and -",
				ErrID, what, id, r, i+1)
		}
	}
	return nil
}

func idByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}
