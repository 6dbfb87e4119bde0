package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

func claimsOfThisPage(t *testing.T) []claim {
	t.Helper()
	page, err := os.ReadFile("../../docs/claims.md")
	if err != nil {
		t.Fatal(err)
	}
	claims, err := parseClaims(string(page))
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

// A claim nobody checks is MISSING at run time; a check without a claim would
// never run at all.
func TestEveryCheckHasAClaimAndTheReverse(t *testing.T) {
	claims := claimsOfThisPage(t)
	for name := range checks {
		if !slices.ContainsFunc(claims, func(c claim) bool { return c.name == name }) {
			t.Errorf("check %q has no row in docs/claims.md", name)
		}
	}
	for _, c := range claims {
		if checks[c.name] == nil {
			t.Errorf("claim %q has no check", c.name)
		}
	}
}

func TestParseClaimsRefuses(t *testing.T) {
	for _, page := range []string{
		"",
		"| `a.b` | text | bar |\n",
		"| `ab` | text | bar | |\n",
		"| `a.b` | text | bar | |\n| `a.b` | text | bar | |\n",
	} {
		if c, err := parseClaims(page); err == nil {
			t.Errorf("parseClaims(%q) = %v, want an error", page, c)
		}
	}
}

func TestChoose(t *testing.T) {
	claims := []claim{{name: "a.quick"}, {name: "a.slow", heavy: true}, {name: "b.quick"}}
	for _, tc := range []struct{ args, want string }{
		{"", "a.quick b.quick"},
		{"a", "a.quick a.slow"},
		{"a.slow", "a.slow"},
		{"c", "error"},
	} {
		got, err := choose(claims, strings.Fields(tc.args))
		if s := strings.Join(got, " "); s != tc.want && (err == nil || tc.want != "error") {
			t.Errorf("choose(%q) = %q, %v, want %q", tc.args, s, err, tc.want)
		}
	}
}

func TestProveWordsTheOutcome(t *testing.T) {
	checks["test.pass"] = func(context.Context, *house) (string, error) { return "3", nil }
	checks["test.fail"] = func(context.Context, *house) (string, error) { return "5", errors.New("over 4") }
	checks["test.needs"] = func(context.Context, *house) (string, error) { return "", needs("a board") }
	defer func() {
		for _, name := range []string{"test.pass", "test.fail", "test.needs"} {
			delete(checks, name)
		}
	}()
	for name, want := range map[string]string{"test.pass": "PASS", "test.fail": "FAIL", "test.needs": "MISSING", "test.none": "MISSING"} {
		if word, line := prove(t.Context(), nil, claim{name: name}); word != want {
			t.Errorf("prove(%s) = %s %s, want %s", name, word, line, want)
		}
	}
}
