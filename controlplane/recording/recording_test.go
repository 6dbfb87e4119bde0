package recording

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const topic = "sp1/default/d/+/s/pump"

func open(t *testing.T, dir string) *Sets {
	t.Helper()
	s, err := Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// source gives a line a second, numbered over all recordings.
type source struct{ n int }

func (s *source) record(ctx context.Context, _ string, w io.Writer) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
		s.n++
		if _, err := fmt.Fprintf(w, "pump,device=p1 flow=%d %d\n", s.n, s.n); err != nil {
			return err
		}
	}
}

func text(t *testing.T, s *Sets, cut Cut) (string, Cut) {
	t.Helper()
	r, cut, err := s.Read("pumps", cut)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), cut
}

// run runs the sets for a while.
func run(t *testing.T, s *Sets, d time.Duration, record func(context.Context, string, io.Writer) error, meanwhile func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	done := make(chan error)
	go func() { done <- s.Run(ctx, record) }()
	if meanwhile != nil {
		meanwhile()
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestARecordingGoesOnOverRestarts(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var src source
		s := open(t, dir)
		if _, err := s.Start("pumps", topic, time.Time{}, 0); err != nil {
			t.Fatal(err)
		}
		run(t, s, 3500*time.Millisecond, src.record, nil)
		first, cut := text(t, s, Cut{})
		if strings.Count(first, "\n") != 3 {
			t.Fatalf("3.5 s gave %q", first)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		// A process that died in the middle of a line.
		f, err := os.OpenFile(filepath.Join(dir, "data", "pumps", "00000001.lp"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("pump,device=p1 fl"); err != nil {
			t.Fatal(err)
		}
		f.Close()

		s = open(t, dir)
		if got, _ := text(t, s, cut); got != first {
			t.Errorf("after a restart: %q, want %q", got, first)
		}
		run(t, s, 4700*time.Millisecond, src.record, func() {
			time.Sleep(2500 * time.Millisecond)
			one, err := s.Stop("pumps")
			if err != nil || one.State != Stopped || one.Samples != 5 {
				t.Errorf("Stop = %+v, %v", one, err)
			}
			if one, err = s.Start("pumps", topic, time.Time{}, 0); err != nil || one.State != Recording {
				t.Errorf("Start again = %+v, %v", one, err)
			}
		})
		all, _ := text(t, s, Cut{})
		if strings.Count(all, "\n") != 7 || !strings.HasPrefix(all, first) || strings.Contains(all, "fl\n") || strings.Contains(all, "flpump") {
			t.Errorf("in all: %q", all)
		}
		// What was read before is read again, whatever came since.
		if got, _ := text(t, s, cut); got != first {
			t.Errorf("the same rows again: %q, want %q", got, first)
		}
	})
}

func TestASetHasALargestSize(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := s.Start("pumps", topic, time.Time{}, MinBytes); err != nil {
		t.Fatal(err)
	}
	one := s.sets["pumps"]
	line := []byte(strings.Repeat("x", 999) + "\n")
	if _, err := one.Write(line); err != nil {
		t.Fatal(err)
	}
	_, cut := text(t, s, Cut{})
	for range 3000 {
		if _, err := one.Write(line); err != nil {
			t.Fatal(err)
		}
		if b := one.show().Bytes; b > MinBytes {
			t.Fatalf("%d bytes", b)
		}
	}
	got := one.show()
	if got.Samples+got.Dropped != 3001 || got.Bytes != 1000*got.Samples || got.Bytes < MinBytes/2 {
		t.Errorf("%+v", got)
	}
	files, _ := os.ReadDir(one.dir)
	if len(files) != len(one.segments)+1 {
		t.Errorf("%d files of %d segments", len(files), len(one.segments))
	}
	if _, _, err := s.Read("pumps", cut); !errors.Is(err, ErrGone) {
		t.Errorf("rows that gave way: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if again := open(t, dir).sets["pumps"].show(); again.Samples != got.Samples || again.Bytes != got.Bytes || again.Dropped != got.Dropped {
		t.Errorf("opened again: %+v, want %+v", again, got)
	}
}

func TestARecordingEnds(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, dir)
		if _, err := s.Start("pumps", topic, time.Now().Add(2500*time.Millisecond), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Start("brittle", topic, time.Time{}, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Start("gone", topic, time.Time{}, 0); err != nil {
			t.Fatal(err)
		}
		absent := 2 // times that there is no broker
		run(t, s, 10*time.Second, func(ctx context.Context, topic string, w io.Writer) error {
			if one := w.(*set); one.set.Name == "brittle" {
				if absent--; absent >= 0 {
					return errors.New("no broker")
				}
				os.RemoveAll(one.dir)
			}
			return (&source{}).record(ctx, topic, w)
		}, func() {
			time.Sleep(5 * time.Second)
			if err := s.Remove("gone"); err != nil {
				t.Error(err)
			}
		})
		if one, err := s.Show("pumps"); err != nil || one.State != Stopped || one.Samples != 2 {
			t.Errorf("after its time: %+v, %v", one, err)
		}
		if one, err := s.Show("brittle"); err != nil || one.State != Failed || one.Reason == "" || absent >= 0 {
			t.Errorf("on a disk that fails: %+v, %v", one, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "data", "gone")); !errors.Is(err, os.ErrNotExist) || len(s.List()) != 2 {
			t.Errorf("removed: %v, %v", err, s.List())
		}
	})
}

func TestStartRefuses(t *testing.T) {
	s := open(t, t.TempDir())
	if _, err := s.Start("pumps", topic, time.Time{}, 0); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, topic string
		bytes       int64
		want        error
	}{
		{"pumps", topic, 0, ErrState}, {"x", topic, 1000, ErrLimit},
	} {
		if _, err := s.Start(test.name, test.topic, time.Time{}, test.bytes); !errors.Is(err, test.want) {
			t.Errorf("Start(%q) = %v, want %v", test.name, err, test.want)
		}
	}
	if _, err := s.Start("Pumps!", topic, time.Time{}, 0); err == nil {
		t.Error("a name that is none")
	}
	if _, err := s.Stop("pumps"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Start("pumps", "sp1/default/d/+/s/other", time.Time{}, 0); !errors.Is(err, ErrState) {
		t.Errorf("another topic: %v", err)
	}
	if _, _, err := s.Read("pumps", Cut{}); !errors.Is(err, ErrState) {
		t.Errorf("without samples: %v", err)
	}
	if _, err := s.Show("pump"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), `did you mean "pumps"?`) {
		t.Errorf("a name that is not there: %v", err)
	}
}
