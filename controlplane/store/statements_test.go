package store

import "testing"

// A statement that is compiled once gives each time what its arguments select, also
// after it failed.
func TestStatementsAreUsedAgain(t *testing.T) {
	s := openStore(t, t.TempDir())
	err := s.Update(t.Context(), func(tx Tx) error {
		for _, id := range []string{"a", "b"} {
			if err := tx.PutDevice(t.Context(), Device{ID: id, Token: []byte{1}, Labels: map[string]string{"of": id}}); err != nil {
				return err
			}
		}
		if err := tx.PutDevice(t.Context(), Device{ID: "a", Token: []byte{1}}); err == nil {
			t.Error("a device was added twice")
		}
		for _, id := range []string{"b", "a", "b"} {
			if d, err := tx.Device(t.Context(), id); err != nil || d.ID != id || d.Labels["of"] != id {
				t.Errorf("Device(%q) = %v, %v", id, d, err)
			}
		}
		if n := len(tx.tx.compiled); n != 4 {
			t.Errorf("%d statements were compiled, want 4: two each to add and to read", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
