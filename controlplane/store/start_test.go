package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A counter is a device that counts, and tells of it as an agent does: of each start
// the last report, cumulative, until it is acknowledged; and all of that on a new
// connection, behind its birth and the oldest start first.
type counter struct {
	id       string
	boot     uint64
	online   bool
	now      protocol.Usage  // cumulative; Seq is that of the last report
	current  *protocol.Usage // the last report of this start
	acked    uint64
	earlier  []protocol.Usage
	sent     []told // in order: what a broker has of it
	finished []protocol.Usage
}

// told is a birth, or a report.
type told struct {
	birth uint64
	usage *protocol.Usage
}

func (c *counter) start(boots uint64) {
	if c.current != nil { // it is on flash, acknowledged or not
		c.earlier, c.finished = append(c.earlier, *c.current), append(c.finished, *c.current)
	}
	c.boot += boots
	c.online, c.current, c.acked, c.now = false, nil, 0, protocol.Usage{Boot: c.boot}
}

// count predicts as one version of a model or the other. Errors are multiples of 1/8,
// so that their sums do not depend on the order.
func (c *counter) count(rng *rand.Rand) {
	model, v := fmt.Sprintf("m%d", rng.IntN(2)), [8]byte{byte(1 + rng.IntN(3))}
	i := slices.IndexFunc(c.now.Counts, func(u protocol.UsageCount) bool { return u.Model == model })
	if i < 0 {
		i = len(c.now.Counts)
		c.now.Counts = append(c.now.Counts, protocol.UsageCount{Model: model, User: "ann"})
	}
	c.now.Counts[i].Answered++
	c.now.Counts[i].Micros += 3
	i = slices.IndexFunc(c.now.Versions, func(u protocol.VersionCount) bool { return u.Model == model && u.Version == v })
	if i < 0 {
		i = len(c.now.Versions)
		c.now.Versions = append(c.now.Versions, protocol.VersionCount{Model: model, Version: v})
	}
	n := &c.now.Versions[i]
	n.Answered, n.Failed, n.N, n.Sum = n.Answered+1, n.Failed+uint64(rng.IntN(2)), n.N+1, n.Sum+float64(rng.IntN(40))/8
	if short := 1 + rng.IntN(3) - len(n.Latency); short > 0 {
		n.Latency = append(n.Latency, make([]uint64, short)...)
	}
	n.Latency[len(n.Latency)-1]++
}

// report makes a report of what was counted.
func (c *counter) report() {
	if len(c.now.Counts) == 0 {
		return
	}
	c.now.Seq++
	u := c.now
	u.Counts, u.Versions = slices.Clone(u.Counts), slices.Clone(u.Versions)
	for i := range u.Versions {
		u.Versions[i].Latency = slices.Clone(u.Versions[i].Latency)
	}
	c.current = &u
	if c.online {
		c.sent = append(c.sent, told{usage: &u})
	}
}

func (c *counter) connect() {
	c.online = true
	c.sent = append(c.sent, told{birth: c.boot})
	for _, u := range c.earlier {
		c.sent = append(c.sent, told{usage: &u})
	}
	if c.current != nil && c.current.Seq > c.acked {
		c.sent = append(c.sent, told{usage: c.current})
	}
}

func (c *counter) acknowledge(u protocol.Usage) {
	if u.Boot == c.boot {
		c.acked = max(c.acked, u.Seq)
		return
	}
	c.earlier = slices.DeleteFunc(c.earlier, func(e protocol.Usage) bool { return e.Boot == u.Boot && e.Seq <= u.Seq })
}

// sums are what a store, or devices, have by device, model, and version or day.
type sums map[string]protocol.VersionCount

func (s sums) add(key string, c protocol.VersionCount) {
	sum := s[key]
	c.Answered, c.Failed, c.N, c.Sum = c.Answered+sum.Answered, c.Failed+sum.Failed, c.N+sum.N, c.Sum+sum.Sum
	c.Latency = addLatency(slices.Clone(c.Latency), sum.Latency)
	s[key] = protocol.VersionCount{Answered: c.Answered, Failed: c.Failed, N: c.N, Sum: c.Sum, Latency: c.Latency}
}

// stored returns what s has counted.
func stored(t *testing.T, s *Store) (versions, days sums) {
	t.Helper()
	versions, days = sums{}, sums{}
	update(t, s, func(ctx context.Context, tx Tx) error {
		type row struct {
			device string
			protocol.VersionCount
		}
		rows, err := collect(ctx, tx.tx, func(r scanner) (c row, err error) {
			c.VersionCount, err = scanVersionCount(prefixed{r, &c.device})
			return c, err
		}, `SELECT device, `+versionCountColumns+` FROM version_counts`)
		for _, c := range rows {
			versions.add(fmt.Sprintf("%s %s %x", c.device, c.Model, c.Version), c.VersionCount)
		}
		usage, err2 := tx.SumUsage(ctx, UsageQuery{By: []string{"device", "model", "day"}, Limit: 1 << 20})
		for _, u := range usage {
			days.add(fmt.Sprint(u.Key), protocol.VersionCount{Answered: u.Answered, N: u.Micros})
		}
		return errors.Join(err, err2)
	})
	return versions, days
}

// prefixed is a row whose first column is scanned too.
type prefixed struct {
	row   scanner
	first any
}

func (p prefixed) Scan(into ...any) error { return p.row.Scan(append([]any{p.first}, into...)...) }

var errAgain = errors.New("again")

// TestEachStartIsCountedOnceWhileStartsAreClosed has devices tell of many starts over
// a network that loses reports, acknowledgements and births, by a store whose
// transactions fail, and compares with what they counted.
func TestEachStartIsCountedOnceWhileStartsAreClosed(t *testing.T) {
	const seeds = 4
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { testClosing(t, rand.New(rand.NewPCG(seed, 15))) })
	}
}

func testClosing(t *testing.T, rng *rand.Rand) {
	s := openStore(t, t.TempDir())
	var devices []*counter
	update(t, s, func(ctx context.Context, tx Tx) (err error) {
		for i := range 4 {
			c := &counter{id: fmt.Sprint("d", i)}
			c.start(1)
			devices = append(devices, c)
			err = errors.Join(err, tx.PutDevice(ctx, Device{ID: c.id, Token: make([]byte, 32), Created: at}))
		}
		return err
	})
	type heard struct {
		device string
		protocol.Usage
	}
	var all []heard                       // every report that was stored, again and again
	newest := map[string]protocol.Usage{} // by device and start: the one that counts
	wantDays := sums{}
	day := at
	// deliver stores the first n messages of a device, in one transaction as an inbox
	// does. Some are lost, if any are, and all come in order.
	deliver := func(c *counter, n int, loss bool) {
		batch := slices.DeleteFunc(slices.Clone(c.sent[:n]), func(told) bool { return loss && rng.IntN(4) == 0 })
		c.sent = c.sent[n:]
		for fails := rng.IntN(4) == 0; ; fails = false {
			err := s.Update(t.Context(), func(tx Tx) error {
				for _, m := range batch {
					var err error
					if m.usage != nil {
						err = tx.PutUsage(t.Context(), c.id, *m.usage, day)
					} else {
						err = tx.SetBirth(t.Context(), c.id, Birth{Boot: m.birth, Raw: []byte("{}")})
					}
					if err != nil {
						return err
					}
				}
				if fails {
					return errAgain
				}
				return nil
			})
			if err == nil {
				break
			}
			if !errors.Is(err, errAgain) {
				t.Fatal(err)
			}
		}
		for _, m := range batch {
			if m.usage == nil {
				continue
			}
			all = append(all, heard{c.id, *m.usage})
			key := fmt.Sprint(c.id, " ", m.usage.Boot)
			if before := newest[key]; m.usage.Seq > before.Seq {
				newest[key] = *m.usage
				for _, u := range m.usage.Counts {
					i := slices.IndexFunc(before.Counts, func(b protocol.UsageCount) bool { return b.Model == u.Model })
					if i >= 0 {
						u.Answered, u.Micros = u.Answered-before.Counts[i].Answered, u.Micros-before.Counts[i].Micros
					}
					wantDays.add(fmt.Sprint([]string{c.id, u.Model, day.Format(time.DateOnly)}), protocol.VersionCount{Answered: u.Answered, N: u.Micros})
				}
			}
			if !loss || rng.IntN(3) > 0 {
				c.acknowledge(*m.usage)
			}
		}
	}
	// check compares what is stored with what was heard, and counts the rows.
	check := func(when string) {
		t.Helper()
		want := sums{}
		for key, u := range newest {
			for _, v := range u.Versions {
				want.add(fmt.Sprintf("%.2s %s %x", key, v.Model, v.Version), v)
			}
		}
		versions, days := stored(t, s)
		if diff := cmp.Diff(want, versions); diff != "" {
			t.Fatalf("%s: versions (-want +got):\n%s", when, diff)
		}
		if diff := cmp.Diff(wantDays, days); diff != "" {
			t.Fatalf("%s: days (-want +got):\n%s", when, diff)
		}
		update(t, s, func(ctx context.Context, tx Tx) error {
			var open, closed, overlapping int
			err := tx.tx.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM usage_reports), (SELECT total(last - first + 1) FROM closed_starts),
				(SELECT count(*) FROM closed_starts a JOIN closed_starts b ON a.device = b.device AND a.first < b.first AND b.first <= a.last + 1)`).Scan(&open, &closed, &overlapping)
			if open+closed != len(newest) || overlapping > 0 || open > len(devices)*(openStarts+1) {
				t.Errorf("%s: of %d starts %d are open and %d closed, in %d rows too many", when, len(newest), open, closed, overlapping)
			}
			return err
		})
	}
	for step := range 1500 {
		c := devices[rng.IntN(len(devices))]
		switch rng.IntN(8) {
		case 0, 1, 2:
			c.count(rng)
		case 3:
			c.report()
		case 4:
			if rng.IntN(2) == 0 {
				c.start(uint64(1 + rng.IntN(2)*rng.IntN(2)))
			}
		case 5:
			if !c.online || rng.IntN(4) == 0 {
				c.connect()
			}
		default:
			deliver(c, rng.IntN(len(c.sent)+1), true)
		}
		if step%300 == 299 {
			day = day.AddDate(0, 0, 1)
			check(fmt.Sprintf("after %d steps", step+1))
		}
	}
	for _, c := range devices { // whatever was lost comes at last
		c.report()
		c.start(1)
		c.connect()
		deliver(c, len(c.sent), false)
		if len(c.earlier) > 0 {
			t.Errorf("%s still has %d reports", c.id, len(c.earlier))
		}
		for _, u := range c.finished {
			if got := newest[fmt.Sprint(c.id, " ", u.Boot)]; got.Seq != u.Seq {
				t.Fatalf("of start %d of %s report %d came last, want %d", u.Boot, c.id, got.Seq, u.Seq)
			}
		}
	}
	check("in the end")
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	update(t, s, func(ctx context.Context, tx Tx) (err error) {
		for _, h := range all {
			err = errors.Join(err, tx.PutUsage(ctx, h.device, h.Usage, day))
		}
		return err
	})
	check("after all came again")
}

// starting tells of starts of one device, each with as many predictions as its report
// has answers.
type starting struct {
	t *testing.T
	s *Store
}

func newStarting(t *testing.T) starting {
	s := openStore(t, t.TempDir())
	update(t, s, func(ctx context.Context, tx Tx) error {
		return tx.PutDevice(ctx, Device{ID: "d", Token: make([]byte, 32), Created: at})
	})
	return starting{t, s}
}

func (s starting) birth(boot uint64) {
	s.t.Helper()
	update(s.t, s.s, func(ctx context.Context, tx Tx) error {
		return tx.SetBirth(ctx, "d", Birth{Boot: boot, Raw: []byte("{}")})
	})
}

func (s starting) report(boot, seq, answered uint64) {
	s.t.Helper()
	update(s.t, s.s, func(ctx context.Context, tx Tx) error {
		return tx.PutUsage(ctx, "d", protocol.Usage{
			Boot: boot, Seq: seq, Counts: []protocol.UsageCount{{Model: "m", User: "ann", Answered: answered}},
			Versions: []protocol.VersionCount{{Model: "m", Answered: answered}},
		}, at)
	})
}

func (s starting) want(when string, answered uint64, open, rows int) {
	s.t.Helper()
	versions, days := stored(s.t, s.s)
	update(s.t, s.s, func(ctx context.Context, tx Tx) error {
		var gotOpen, gotRows int
		err := tx.tx.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM usage_reports), (SELECT count(*) FROM closed_starts)`).Scan(&gotOpen, &gotRows)
		day, all := days["[d m 2023-11-14]"].Answered, versions["d m 0000000000000000"].Answered
		if day != answered || all != answered || gotOpen != open || gotRows != rows {
			s.t.Errorf("%s: %d predictions by day and %d by version, %d starts open, %d rows of closed ones, want %d, %d and %d",
				when, day, all, gotOpen, gotRows, answered, open, rows)
		}
		return err
	})
}

// TestNoMoreStartsRemainOpenThanAnAgentKeeps: nobody knows whether the last report of
// any of these starts is here.
func TestNoMoreStartsRemainOpenThanAnAgentKeeps(t *testing.T) {
	s := newStarting(t)
	for boot := range uint64(100) {
		if boot != 7 {
			s.report(boot, 5, 1)
		}
	}
	s.want("after 99 starts", 99, openStarts+1, 2)
	s.report(99, 6, 4)
	s.report(35, 6, 4)
	s.want("newer reports of open starts", 105, openStarts+1, 2)
	s.report(34, 6, 4)
	s.want("a newer report of a closed start", 105, openStarts, 2)
	s.report(7, 6, 4)
	s.want("a start that was not heard of", 109, openStarts+1, 2)
	s.report(100, 1, 1)
	s.want("the next start", 110, openStarts+1, 1)
}

// TestManyOpenStartsAreClosedAFewAtATime is of a store of the time before starts were
// closed.
func TestManyOpenStartsAreClosedAFewAtATime(t *testing.T) {
	s := newStarting(t)
	update(t, s.s, func(ctx context.Context, tx Tx) (err error) {
		for boot := range 100 {
			_, err1 := tx.tx.ExecContext(ctx, `INSERT INTO usage_reports VALUES ('d', ?, 1, 0)`, boot)
			err = errors.Join(err, err1, tx.putVersion(ctx, "d", int64(boot), protocol.VersionCount{Model: "m", Answered: 1}))
		}
		_, err1 := tx.tx.ExecContext(ctx, `INSERT INTO usage_days VALUES ('2023-11-14', 'd', 'm', 'ann', 100, 0, 0, 0)`)
		return errors.Join(err, err1)
	})
	s.report(100, 1, 1)
	s.want("after a report", 101, 99, 1)
	for seq := range uint64(20) {
		s.report(100, 2+seq, 2+seq)
	}
	s.want("after more", 121, openStarts+1, 1)
}

// TestNumbersOfStartsThatBeginAnew: a device that lost its data folder counts its
// starts from 1 again.
func TestNumbersOfStartsThatBeginAnew(t *testing.T) {
	s := newStarting(t)
	for boot := uint64(1); boot <= 5; boot++ {
		s.birth(boot)
		if boot > 1 {
			s.report(boot-1, 2, 2)
		}
		s.report(boot, 1, 1)
	}
	s.want("five starts", 9, 1, 1)
	s.report(3, 1, 1)
	s.want("an old report again", 9, 1, 1)
	s.birth(1)
	s.report(1, 1, 10)
	s.report(1, 1, 10)
	s.report(1, 2, 20)
	s.want("the first start of the second life", 29, 1, 0)
	s.birth(2)
	s.report(1, 2, 20)
	s.report(2, 1, 10)
	s.report(1, 2, 20)
	s.want("the second", 39, 1, 1)
	s.birth(1) // as a broker has it that lost the last one
	s.report(1, 2, 20)
	s.want("a birth that comes again", 39, 1, 1)
}
