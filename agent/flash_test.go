package agent

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/agent/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// big is a version whose payload has a file of its own.
func (w *world) big(n uint64) version {
	w.t.Helper()
	v := w.versionOf(n, bigModels[n-1])
	if v.transfer.Size <= store.MaxInBucket {
		w.t.Fatalf("a payload of %d bytes, want more than %d", v.transfer.Size, store.MaxInBucket)
	}
	return v
}

// sent is how many bytes of chunks the broker has sent.
func (w *world) sent() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.chunkBytes
}

// slotFile is the file of v in dir, complete or in part.
func slotFile(dir string, v version, suffix string) string {
	return filepath.Join(dir, "slot-pump-"+v.digest().String()+suffix)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestLargeDownloadGoesOnAfterARestart(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		dir, v := t.TempDir(), w.big(1)
		last := len(v.transfer.Chunks) - 1
		d := w.start(dir)
		w.publish(v)
		w.retain(protocol.ChunkTopic("f", v.hash(), last), nil) // not there yet
		want := w.want(v)
		want.JitterS = 3600
		w.ask(want)
		pass(2 * time.Hour)
		d.expect("fetching active  serving ")
		d.stop()
		if !exists(slotFile(dir, v, ".part")) {
			t.Fatal("nothing on disk of a large download")
		}
		w.unpublish(v) // what arrived is not asked for again
		w.retain(protocol.ChunkTopic("f", v.hash(), last), v.transfer.Chunk(last))
		d = w.start(dir)
		pass(time.Minute) // nor does it wait its turn again
		d.expect("idle active pump:v1 serving pump:v1")
		d.answers(v)
		if exists(slotFile(dir, v, ".part")) || !exists(slotFile(dir, v, ".bin")) {
			t.Error("the download did not become the slot")
		}
	})
}

func TestDownloadThatIsGivenUpIsRemoved(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		dir, v1, v2 := t.TempDir(), w.version(1), w.big(2)
		d := w.installed(dir, v1)
		w.publish(v2)
		w.retain(protocol.ChunkTopic("f", v2.hash(), 1), nil)
		w.ask(w.want(v2))
		pass(time.Minute)
		if !exists(slotFile(dir, v2, ".part")) {
			t.Fatal("no download on disk")
		}
		w.ask(w.want(v1))
		pass(time.Minute)
		d.expect("idle active pump:v1 serving pump:v1")
		if exists(slotFile(dir, v2, ".part")) {
			t.Error("what was given up stays on disk")
		}
	})
}

// damage changes a byte of v's payload in every copy in file.
func damage(t *testing.T, file string, v version) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0) // in place: the database is mapped
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	piece, found := string(v.transfer.Payload[:2000]), 0
	for at := 0; ; at += len(piece) {
		i := strings.Index(string(b[at:]), piece)
		if i < 0 {
			break
		}
		at += i
		found++
		if _, err := f.WriteAt([]byte{b[at+1000] ^ 4}, int64(at+1000)); err != nil {
			t.Fatal(err)
		}
	}
	if found == 0 {
		t.Fatalf("%s does not hold the payload", file)
	}
}

func TestScrubMendsWhatAnswers(t *testing.T) {
	for _, tc := range []struct {
		name   string
		big    bool
		golden bool // the exported copy is whole
	}{{"from the copy", false, true}, {"over the link", false, false}, {"file over the link", true, false}} {
		t.Run(tc.name, func(t *testing.T) {
			within(t, func(t *testing.T, w *world) {
				dir, v := t.TempDir(), w.version(1)
				file := filepath.Join(dir, "cache.db")
				if tc.big {
					v = w.big(1)
					file = slotFile(dir, v, ".bin") // and, by its other name, the copy
				}
				w.installed(dir, v).stop()
				a, err := New(w.config(dir))
				if err != nil {
					t.Fatal(err)
				}
				a.scrubEvery = time.Hour
				d := w.run(a)
				if !tc.golden && !tc.big {
					if err := os.Remove(filepath.Join(dir, "golden-pump.bin")); err != nil {
						t.Fatal(err)
					}
				}
				w.down.Store(true)
				w.cut()
				damage(t, file, v)
				pass(time.Hour + time.Minute)
				want := "fetching active pump:v1 serving pump:v1"
				if tc.golden {
					want = "idle active pump:v1 serving pump:v1"
				}
				d.expect(want)
				d.answers(v) // from memory
				w.down.Store(false)
				pass(10 * time.Minute)
				d.expect("idle active pump:v1 serving pump:v1")
				if n := len(w.told("storage")); n != 1 {
					t.Errorf("the damage was told %d times, want once", n)
				}
				d.stop()
				w.down.Store(true)
				d = w.start(dir)
				d.expect("idle active pump:v1 serving pump:v1")
				d.answers(v)
				if !exists(filepath.Join(dir, "golden-pump.bin")) {
					t.Error("no copy was exported again")
				}
			})
		})
	}
}

// unzip writes a fixture of package store as the database of dir.
func unzip(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open("store/testdata/cache-format-1.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cache.db"), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// The fixture was written by an agent before files of slots, with pump:v2 in
// place and pump:v1 before it.
func TestCacheOfAnOlderAgentAnswers(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		dir := t.TempDir()
		unzip(t, dir)
		w.down.Store(true)
		d := w.start(dir)
		d.expect("idle active pump:v2 serving pump:v2 previous pump:v1")
		if code := replyCode(t, d.Predict(t.Context(), "pump", []byte(testRequest))); code != "pump:v2" {
			t.Errorf("it answers %s", code)
		}
		w.down.Store(false)
		w.rev = 10
		v3 := w.big(3)
		w.rollOut(v3)
		pass(2 * time.Minute)
		d.expect("idle active pump:v3 serving pump:v3 previous pump:v2")
		d.answers(v3)
	})
}

func TestLargeVersionThatDoesNotFitTheQuota(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v1, v2 := w.version(1), w.big(2)
		d := w.start(t.TempDir(), func(c *Config) { c.QuotaBytes = 256 << 10 })
		w.rollOut(v1)
		pass(trialTime)
		w.rollOut(v2)
		pass(trialTime)
		d.expect("idle active pump:v1 serving pump:v1 failed no_space@2")
		if m := w.lastHave().Models["pump"].Failed.Message; !strings.Contains(m, "of 262144 bytes") || !strings.Contains(m, "quota_bytes") {
			t.Errorf("it says %q, want how much there is and what to do", m)
		}
		d.answers(v1)
	})
}

// TestDiskFullAtEachStep fails one step after another of an update, and all
// that follow: the version before answers, the device says so once, and with
// room the update goes through.
func TestDiskFullAtEachStep(t *testing.T) {
	for k := 0; ; k += 3 {
		done := false
		within(t, func(t *testing.T, w *world) {
			dir, v1, v2 := t.TempDir(), w.version(1), w.big(2)
			var armed, failed atomic.Bool
			var steps atomic.Int64
			d := w.start(dir, func(c *Config) {
				c.Disk = func(s store.Step) error {
					if !armed.Load() || s.Op == store.OpRemove || s.Op == store.OpCommitted {
						return nil
					}
					if steps.Add(1) <= int64(k) {
						return nil
					}
					failed.Store(true)
					return syscall.ENOSPC
				}
			})
			w.rollOut(v1)
			pass(trialTime)
			armed.Store(true)
			w.rollOut(v2)
			pass(10 * time.Minute)
			s := d.Status().Models["pump"]
			if s.Serving != s.Version || s.Serving != "pump:v1" && s.Serving != "pump:v2" {
				t.Errorf("full at step %d: %s", k, d.pump())
			}
			if failed.Load() && len(w.told("storage")) > 1 {
				t.Errorf("full at step %d: said so %d times", k, len(w.told("storage")))
			}
			bytes := w.sent()
			if most := int64(v1.transfer.Size + v2.transfer.Size); bytes > most {
				t.Errorf("full at step %d: %d bytes fetched, want at most %d: a full disk must not cost the link", k, bytes, most)
			}
			armed.Store(false)
			pass(20 * time.Minute)
			d.expect("idle active pump:v2 serving pump:v2 previous pump:v1")
			d.answers(v2)
			done = !failed.Load()
		})
		if done {
			if k < 15 {
				t.Errorf("an update has %d steps; does the disk see them?", k)
			}
			break
		}
	}
}
