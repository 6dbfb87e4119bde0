package api

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sandpiper-edge/sandpiper/controlplane/fleet"
)

// TestRoles sends every operation with a token of every role: it is let in exactly
// if its role is enough.
func TestRoles(t *testing.T) {
	a := newTestAPI(t, nil)
	h := a.Authenticated("sesame")
	secrets := map[fleet.Role]string{}
	for _, role := range []fleet.Role{fleet.Viewer, fleet.Releaser, fleet.Admin} {
		_, secret, err := a.cp.Fleet.AddAPIToken(t.Context(), "t-"+string(role), role)
		if err != nil {
			t.Fatal(err)
		}
		secrets[role] = secret
	}
	// What a viewer may do beside looking, and what only an admin may.
	viewer := []string{"verify-model", "verify-audit"}
	admin := []string{"add-device", "remove-device", "renew-device-token", "add-user", "protect-model", "list-tokens", "add-token", "remove-token"}
	seen := map[string]bool{}
	for path, item := range a.huma.OpenAPI().Paths {
		for method, op := range map[string]*huma.Operation{
			http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodPut: item.Put, http.MethodDelete: item.Delete,
		} {
			if op == nil {
				continue
			}
			id := op.OperationID
			seen[id] = true
			for role, secret := range secrets {
				allowed := role == fleet.Admin ||
					!slices.Contains(admin, id) && (role == fleet.Releaser || method == http.MethodGet || slices.Contains(viewer, id))
				r := httptest.NewRequest(method, strings.NewReplacer("{", "x", "}", "").Replace(path), strings.NewReader("{}"))
				r.Header.Set("Authorization", "Bearer "+secret)
				r.Header.Set("Content-Type", "application/json")
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				if allowed {
					if w.Code == http.StatusForbidden {
						t.Errorf("%s as %s: %s", id, role, w.Body)
					}
					continue
				}
				p := checkProblem(t, w, http.StatusForbidden, CodeDenied)
				if !strings.Contains(p.Detail, "token t-"+string(role)) || !strings.Contains(p.Detail, id) {
					t.Errorf("%s as %s: %s", id, role, p.Detail)
				}
			}
		}
	}
	for id := range needs {
		if !seen[id] {
			t.Errorf("needs names %q, which is no operation", id)
		}
	}
}

func TestRemovedTokensAreWorthless(t *testing.T) {
	a := newTestAPI(t, nil)
	c := clients(t, a)["tcp"]
	added, err := c.AddAPIToken(t.Context(), NewAPIToken{Name: "ann", Role: fleet.Viewer})
	if err != nil {
		t.Fatal(err)
	}
	status := func() int {
		r := httptest.NewRequest(http.MethodGet, Base+"/models", nil)
		r.Header.Set("Authorization", "Bearer "+added.Secret)
		w := httptest.NewRecorder()
		a.Authenticated("sesame").ServeHTTP(w, r)
		return w.Code
	}
	if got := status(); got != http.StatusOK {
		t.Errorf("status %d with the token", got)
	}
	if err := c.RemoveAPIToken(t.Context(), "ann"); err != nil {
		t.Fatal(err)
	}
	if got := status(); got != http.StatusUnauthorized {
		t.Errorf("status %d with a removed token", got)
	}
	entries, err := c.Audit(t.Context(), "", "", 0, 10)
	if err != nil || len(entries) != 2 || entries[0].Action != "token.remove" || entries[1].Who != "admin token" {
		t.Errorf("record %+v, %v", entries, err)
	}
	for _, role := range []fleet.Role{"", "vewer", "root"} {
		if _, err := c.AddAPIToken(t.Context(), NewAPIToken{Name: "bob", Role: role}); err == nil {
			t.Errorf("a token with role %q", role)
		}
	}
	if err := c.RemoveAPIToken(t.Context(), "ann"); err == nil {
		t.Error("a token was removed twice")
	}
}
