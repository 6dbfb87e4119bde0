package protocol

import (
	"fmt"
	"strings"
	"time"
)

// A Duration is a time.Duration in files and documents that people write; in text
// 90s, 8h or 1h30m.
type Duration time.Duration

func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what time.ParseDuration does. ErrInvalid.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%w: %q is no duration; write a number with its unit, such as 90s or 8h", ErrInvalid, b)
	}
	*d = Duration(v)
	return nil
}
