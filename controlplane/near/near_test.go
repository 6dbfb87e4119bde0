package near

import "testing"

func TestMatch(t *testing.T) {
	names := []string{"turbofan", "power", "pump-1", "pump-2", "show"}
	for _, tt := range []struct{ in, want string }{
		{"turbofn", "turbofan"},
		{"turbo-fan", "turbofan"},
		{"pwoer", "power"},
		{"shwo", "show"},
		{"pump-3", "pump-1"},
		{"power", "power"},
		{"pxwxr", ""}, // three edits in five
		{"boiler", ""},
		{"turbo", "turbofan"},
		{"tu", ""},
		{"pump", ""}, // the beginning of two, and two edits from either
		{"", ""},
	} {
		if got := Match(tt.in, names); got != tt.want {
			t.Errorf("Match(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestMatchPrefersABeginning(t *testing.T) {
	if got := Match("stat", []string{"start", "status"}); got != "status" {
		t.Errorf("Match(stat) = %q: one letter from start, and the beginning of status", got)
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "acb", 1},
		{"kitten", "sitting", 3}, {"ca", "abc", 3}, {"ab", "ba", 1},
	} {
		if got := Distance(tt.a, tt.b); got != tt.want {
			t.Errorf("Distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
