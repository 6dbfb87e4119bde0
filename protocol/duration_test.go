package protocol

import (
	"errors"
	"testing"
)

func TestDuration(t *testing.T) {
	for in, want := range map[string]string{
		"90s": "1m30s", "8h": "8h", "-1s": "-1s", "20m": "20m", "100h": "100h", "0s": "0s", "1h0m5s": "1h0m5s",
		"8": "", "": "", "soon": "", "8 h": "",
	} {
		var d Duration
		err := d.UnmarshalText([]byte(in))
		if want == "" {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("UnmarshalText(%q) = %v, want ErrInvalid", in, err)
			}
			continue
		}
		if b, _ := d.MarshalText(); err != nil || string(b) != want {
			t.Errorf("%q is written %q, %v; want %q", in, b, err, want)
		}
	}
}
