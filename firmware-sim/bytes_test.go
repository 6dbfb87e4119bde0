package firmwaresim

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// processWrites is how many bytes the calls of this process have handed to the
// system to write. (What it counts as write_bytes depends on the file system:
// ext4 makes whole folios dirty.)
func processWrites(t *testing.T) (n int64, known bool) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "wchar: "); ok {
			n, err = strconv.ParseInt(value, 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// A meter compares what a flash counts with what the system does.
type meter struct {
	t      *testing.T
	d      *Device
	flash  int64
	system int64
	known  bool
}

func newMeter(t *testing.T, d *Device) *meter {
	m := &meter{t: t, d: d, flash: d.Written()}
	m.system, m.known = processWrites(t)
	return m
}

// written returns the bytes since newMeter, and fails if the system counts
// many more.
func (m *meter) written() int64 {
	m.t.Helper()
	n := m.d.Written() - m.flash
	if now, ok := processWrites(m.t); ok && m.known {
		if system := now - m.system; system > n+n/10+64<<10 {
			m.t.Errorf("the flash counts %d bytes written, the system %d", n, system)
		}
	}
	return n
}

// TestBytesWrittenForAnInstall: the way of a version into its slot writes at
// most 1.25 bytes for each of its payload, release and descriptor.
func TestBytesWrittenForAnInstall(t *testing.T) {
	for _, c := range []cutTest{{"70 KB", 128, 10_000}, {"4 MB", 1000, 400_000}} {
		t.Run(c.name, func(t *testing.T) {
			model, err := sizedModel(50, c.units)
			if err != nil {
				t.Fatal(err)
			}
			tr, err := artifact.Pack(model)
			if err != nil {
				t.Fatal(err)
			}
			descriptor, err := tr.Descriptor.AppendBinary(nil)
			if err != nil {
				t.Fatal(err)
			}
			simulate(t, Config{
				Interval: -1, Devices: []DeviceConfig{{ID: "d", Flash: 64 << 20, Link: Link{Down: c.down}}},
			}, func(w *world, s *Sim) {
				d := s.Devices()[0]
				w.rollOut(1, "d")
				pass(time.Minute)
				w.expect(d, testName+":v1", "")
				offered := newMeter(t, d)
				w.rollOutTransfer(2, tr, "d")
				phase := func() string {
					st, _ := d.Status()
					return st.Models[testName].Phase
				}
				for phase() == protocol.PhaseIdle {
					pass(time.Millisecond)
				}
				fetched := newMeter(t, d)
				for phase() == protocol.PhaseFetching {
					pass(time.Millisecond)
				}
				slot := fetched.written()
				pass(time.Minute)
				w.expect(d, testName+":v2", "")
				all := offered.written()
				useful := float64(len(tr.Payload) + len(descriptor) + 1000) // and the release
				t.Logf("%d bytes: %.2f bytes written per byte into the slot, %.2f until it is confirmed and exported",
					tr.Size, float64(slot)/useful, float64(all)/useful)
				if f := float64(slot) / useful; f > 1.25 || f < 1 {
					t.Errorf("%d bytes written for %.0f: %.2f times, want at most 1.25", slot, useful, f)
				}
			})
		})
	}
}

// TestBytesWrittenForBookkeeping: a day of 10 requests a second writes at most
// 25 MB. SANDPIPER_DAY is the whole day, in place of ten minutes of it.
func TestBytesWrittenForBookkeeping(t *testing.T) {
	const perSecond = 10
	length := 10 * time.Minute
	if os.Getenv("SANDPIPER_DAY") != "" {
		length = 24 * time.Hour
	}
	simulate(t, Config{Interval: -1, Devices: []DeviceConfig{{ID: "d"}}}, func(w *world, s *Sim) {
		d := s.Devices()[0]
		w.rollOut(1, "d")
		pass(time.Minute)
		w.expect(d, testName+":v1", "")
		m := newMeter(t, d)
		for i := range int(length/time.Second) * perSecond {
			topic := protocol.PredictTopic(testFleet, "d", testName, "u", fmt.Sprint(i))
			if err := w.server.Publish(topic, []byte(cutRequest), false, 0); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second / perSecond)
		}
		pass(time.Minute)
		n := m.written()
		st, _ := d.Status()
		if answered := st.Models[testName].Predictions; answered != uint64(length/time.Second)*perSecond {
			t.Errorf("%d predictions, want %d", answered, int(length/time.Second)*perSecond)
		}
		perDay := float64(n) * float64(24*time.Hour) / float64(length) / 1e6
		t.Logf("%.1f MB a day at %d requests a second (%d bytes in %v)", perDay, perSecond, n, length)
		if perDay > 25 || n == 0 {
			t.Errorf("%.1f MB a day, want at most 25", perDay)
		}
	})
}
