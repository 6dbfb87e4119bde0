package near

import "testing"

func TestMatch(t *testing.T) {
	names := []string{"turbofan", "power", "pump-1", "pump-2"}
	for _, tt := range []struct{ in, want string }{
		{"turbofn", "turbofan"},
		{"turbo-fan", "turbofan"},
		{"pwoer", ""}, // two edits in five
		{"pump-3", "pump-1"},
		{"power", "power"},
		{"boiler", ""},
		{"", ""},
	} {
		if got := Match(tt.in, names); got != tt.want {
			t.Errorf("Match(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}
