package agent

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/agent/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A surrounding is a device and what may go wrong around it.
type surrounding struct {
	w   *world
	way way     // how versions come to the device
	old version // the one in place
	dir string
	off atomic.Int64                           // of the device's clock, ns
	bad atomic.Pointer[func(store.Step) error] // the disk
}

func (s *surrounding) start() *device {
	c := s.w.config(s.dir)
	c.DailyBytes, c.BackoffMax = 1<<20, 30*time.Minute // or days take too long to simulate
	c.Disk = func(step store.Step) error {
		if f := s.bad.Load(); f != nil {
			return (*f)(step)
		}
		return nil
	}
	a, err := New(c)
	if err != nil {
		s.w.t.Fatal(err)
	}
	a.budget.day = time.Hour
	a.wall = func() time.Time { return time.Now().Add(time.Duration(s.off.Load())) }
	return s.w.run(a)
}

// send offers v to the device.
func (s *surrounding) send(v version) { s.way.send(s.w, s.way.offer(s.w, v, s.old)) }

// clock sets the device's clock to a year.
func (s *surrounding) clock(year int) {
	s.off.Store(int64(time.Until(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC))))
}

// TestAdverseSurroundings: whatever is wrong around a device, and by whichever way
// a version comes, the one in place answers meanwhile; and once it is right
// again, what was wanted is there.
func TestAdverseSurroundings(t *testing.T) {
	for _, tc := range []struct {
		name string
		bad  func(s *surrounding, d *device, wanted version) *device // until it is right again
		told string                                                  // kind of an event that says so
	}{
		{"clock at 1970", func(s *surrounding, d *device, v version) *device {
			s.clock(1970)
			s.send(v)
			pass(time.Minute)
			return d
		}, ""},
		{"clock jumps by decades, both ways, at each step", func(s *surrounding, d *device, v version) *device {
			for i, year := range []int{2090, 1970, 2038, 1999} {
				s.clock(year)
				if i == 1 {
					s.send(v)
				}
				pass(7 * time.Second)
			}
			d.stop()
			return s.start()
		}, ""},
		{"clock back, with a budget that is used up", func(s *surrounding, d *device, v version) *device {
			for d.budget.take(256) == nil {
			}
			s.send(v)
			for _, year := range []int{2090, 1970} {
				s.clock(year)
				pass(time.Minute)
				d.stop()
				d = s.start()
				pass(time.Minute)
				d.expect("fetching active pump:v1 serving pump:v1")
			}
			pass(2 * time.Hour)
			return d
		}, "budget"},
		{"broker down for days", func(s *surrounding, d *device, v version) *device {
			s.w.down.Store(true)
			s.w.cut()
			s.w.server.Close()
			for range 3 {
				pass(24 * time.Hour)
				d.answers(s.w.version(1))
			}
			s.w.startBroker()
			s.send(v)
			s.w.down.Store(false)
			pass(time.Hour)
			if s.way.asked {
				s.send(v) // a want that is not retained is said again to who comes
			}
			return d
		}, ""},
		{"read-only disk", func(s *surrounding, d *device, v version) *device {
			f := func(step store.Step) error {
				if step.Op == store.OpCommitted {
					return nil
				}
				return store.ErrReadOnly
			}
			s.bad.Store(&f)
			s.send(v)
			pass(10 * time.Minute)
			d.expect("idle active pump:v1 serving pump:v1")
			s.bad.Store(nil)
			pass(2 * time.Minute)
			return d
		}, "storage"},
		{"disk that fails now and then", func(s *surrounding, d *device, v version) *device {
			var n atomic.Int64
			f := func(step store.Step) error {
				if i := n.Add(1); step.Op != store.OpCommitted && i%3 == 0 {
					return store.ErrFull
				}
				return nil
			}
			s.bad.Store(&f)
			s.send(v)
			pass(30 * time.Minute)
			s.bad.Store(nil)
			pass(6 * time.Minute)
			return d
		}, "storage"},
	} {
		for _, y := range ways {
			t.Run(tc.name+", "+y.name, func(t *testing.T) {
				within(t, func(t *testing.T, w *world) {
					v1, v2 := w.version(1), w.versionOf(2, y.model(), keepable)
					s := &surrounding{w: w, way: y, old: v1, dir: t.TempDir()}
					d := s.start()
					w.rollOut(v1)
					pass(trialTime)
					d.answers(v1)
					d = tc.bad(s, d, v2)
					if code := replyCode(t, d.Predict(t.Context(), "pump", []byte(testRequest))); code != "pump:v1" && code != "pump:v2" {
						t.Errorf("it answers %s", code)
					}
					pass(5 * time.Minute)
					d.expect("idle active pump:v2 serving pump:v2 previous pump:v1")
					d.answers(v2)
					if n := len(w.told(tc.told)); tc.told != "" && (n < 1 || n > 4) {
						t.Errorf("%q was told %d times", tc.told, n)
					}
					if s := d.Status(); s.Storage != "" {
						t.Errorf("status still says %q of the disk", s.Storage)
					}
					for _, b := range w.published(protocol.HaveTopic("f", "d1")) {
						var m protocol.Have
						if err := m.UnmarshalBinary(b); err != nil {
							t.Errorf("a report that cannot be read: %v", err)
						}
					}
				})
			})
		}
	}
}
