package dataset

import "testing"

func TestHeaderOfABinaryFileIsQuoted(t *testing.T) {
	for in, want := range map[string]string{
		"flow": "flow", "flöw rate": "flöw rate", "a\x1b[31m\n": `"a\x1b[31m\n"`, "\xff\x00": `"\xff\x00"`,
		"0123456789012345678901234567890123456789tail": `"0123456789012345678901234567890123456789"`,
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %s, want %s", in, got, want)
		}
	}
}
