package store

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
)

func TestOneChangedByteOfTheRecordIsFound(t *testing.T) {
	s := openStore(t, t.TempDir())
	for i := range 20 {
		update(t, s, func(ctx context.Context, tx Tx) error {
			return tx.Audit(ctx, audit.Entry{Action: audit.DeviceActive, Device: fmt.Sprint("d", i), Model: "m", Number: 1, Digest: digest(byte(i + 1)), Rollout: 1, Detail: "x"})
		})
	}
	head, err := s.VerifyAudit(t.Context(), audit.Head{})
	if err != nil || head.Seq != 20 {
		t.Fatalf("verify = %v, %v", head, err)
	}
	for _, n := range []uint64{0, 1, 5, 19, 20, 1000} {
		if newest, err := s.VerifyNewest(t.Context(), n); err != nil || newest != head {
			t.Errorf("the newest %d end with %v, %v, want %v", n, newest, err, head)
		}
	}
	for _, statement := range []string{`UPDATE audit SET who = 'x'`, `DELETE FROM audit`} {
		if _, err := s.w.Exec(statement); err == nil {
			t.Errorf("%s is not refused", statement)
		}
	}
	if _, err := s.w.Exec(`DROP TRIGGER audit_no_update`); err != nil { // who can write the file can do this
		t.Fatal(err)
	}
	for _, column := range []string{"received", "at", "who", "action", "device", "model", "number", "digest", "rollout", "detail", "hash"} {
		t.Run(column, func(t *testing.T) {
			var old any
			if err := s.w.QueryRow(`SELECT ` + column + ` FROM audit WHERE seq = 7`).Scan(&old); err != nil {
				t.Fatal(err)
			}
			changed := old
			switch v := old.(type) {
			case int64:
				changed = v ^ 1
			case string:
				changed = string(append([]byte{v[0] ^ 1}, v[1:]...))
			case []byte:
				changed = append([]byte{v[0] ^ 1}, v[1:]...)
			}
			for _, value := range []any{changed, old} {
				if _, err := s.w.Exec(`UPDATE audit SET `+column+` = ? WHERE seq = 7`, value); err != nil {
					t.Fatal(err)
				}
				_, err := s.VerifyAudit(t.Context(), audit.Head{})
				if broken := errors.Is(err, audit.ErrBroken); broken != (fmt.Sprint(value) != fmt.Sprint(old)) {
					t.Errorf("%s is %v: verify = %v", column, value, err)
				}
				_, err = s.VerifyNewest(t.Context(), 14) // from entry 7 on
				if broken := errors.Is(err, audit.ErrBroken); broken != (fmt.Sprint(value) != fmt.Sprint(old)) {
					t.Errorf("%s is %v: verify the newest = %v", column, value, err)
				}
			}
		})
	}
}
