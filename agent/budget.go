package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sandpiper-edge/sandpiper/agent/store"
)

// MinDailyBytes is the smallest byte budget: four chunks.
const MinDailyBytes = 128 << 10

const (
	budgetDay = 24 * time.Hour
	// budgetStep is how finely spendings are told apart.
	budgetStep = 10 * time.Minute
	// budgetSave is how often the passing of time alone is stored.
	budgetSave = time.Hour
	// maxLot is the most that is stored as spent before it is.
	maxLot = 256 << 10
)

// A budget bounds the bytes that downloads cost in any 24 hours.
//
// A device's clock may be wrong by decades and jump, so a day is 24 hours of
// the agent's running time, which only grows: time without power does not
// count, a restart does not begin a new day. What is about to be spent is
// stored first, in lots, so that a process that is killed again and again does
// not spend it again and again.
type budget struct {
	limit int64         // bytes; 0: none
	day   time.Duration // budgetDay, but for tests
	save  func(line string) error
	began time.Time // of this process; only its monotonic part is used

	mu     sync.Mutex // guards what follows
	before time.Duration
	spent  []spending // oldest first
	lot    int64      // of spent, not used yet: for the step that it was taken in
	lotAt  int64
	saved  time.Duration
	told   time.Duration // when it was said that it is used up; 0: never
}

// A spending is what was spent within one budgetStep of running time.
type spending struct {
	At    int64 `json:"at"` // in budgetSteps
	Bytes int64 `json:"bytes"`
}

// A budgetLine is the stored form.
type budgetLine struct {
	Elapsed int64      `json:"elapsed_s"` // running time
	Spent   []spending `json:"spent"`
}

// errBudget means that the bytes of the last 24 hours are used up.
type errBudget struct {
	limit int64
	wait  time.Duration
}

func (e *errBudget) Error() string {
	return fmt.Sprintf("the %d bytes for downloads of a day are used up; it goes on in %s, or with a larger limits.daily_bytes in agent.toml",
		e.limit, e.wait.Round(time.Minute))
}

func newBudget(limit int64, s *store.Store) *budget {
	b := &budget{limit: limit, day: budgetDay, began: time.Now(), save: s.SaveBudget}
	if limit == 0 {
		return b
	}
	var line budgetLine
	if json.Unmarshal([]byte(s.Budget()), &line) == nil {
		b.before, b.spent = time.Duration(line.Elapsed)*time.Second, line.Spent
		b.saved = b.before
	}
	return b
}

// elapsed is the running time since the first start.
func (b *budget) elapsed() time.Duration { return b.before + time.Since(b.began) }

// take spends n bytes, or returns *errBudget. Of a download that is larger than
// a day's budget, a part is taken each day.
func (b *budget) take(n int64) error {
	if b.limit == 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.elapsed()
	at := int64(now / budgetStep)
	if at != b.lotAt {
		b.unspend()
	}
	if b.lot >= n {
		b.lot -= n
		return nil
	}
	left := b.limit - b.used(now)
	need := n - b.lot
	if left < need {
		return &errBudget{b.limit, b.room(need-left, now)}
	}
	lot := min(left, max(need, min(maxLot, b.limit/8)))
	b.lotAt = at
	if last := len(b.spent) - 1; last >= 0 && b.spent[last].At == at {
		b.spent[last].Bytes += lot
	} else {
		b.spent = append(b.spent, spending{at, lot})
	}
	b.lot += lot - n
	return b.store(now)
}

// unspend takes the rest of the lot out of what was spent.
func (b *budget) unspend() {
	for i := len(b.spent) - 1; i >= 0 && b.lot > 0; i-- {
		n := min(b.lot, b.spent[i].Bytes)
		b.spent[i].Bytes -= n
		b.lot -= n
	}
	b.lot = 0
}

// tell reports whether it is to be said that the budget is used up: once a day.
func (b *budget) tell() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.elapsed()
	if b.told > 0 && now-b.told < b.day {
		return false
	}
	b.told = max(now, 1)
	return true
}

// used forgets what is older than a day and adds up the rest.
func (b *budget) used(now time.Duration) (sum int64) {
	b.spent = slices.DeleteFunc(b.spent, func(s spending) bool { return b.expires(s) <= now })
	for _, s := range b.spent {
		sum += s.Bytes
	}
	return sum
}

// expires is when s no longer counts: a day after the end of its step.
func (b *budget) expires(s spending) time.Duration { return time.Duration(s.At+1)*budgetStep + b.day }

// room is how long it takes until n bytes more have expired.
func (b *budget) room(n int64, now time.Duration) time.Duration {
	for _, s := range b.spent {
		if n -= s.Bytes; n <= 0 {
			return b.expires(s) - now
		}
	}
	return b.day
}

// giveBack is for bytes that were taken and did not travel.
func (b *budget) giveBack(n int64) {
	if b.limit == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lot += n
}

// pass stores the passing of time while there is something to wait for.
func (b *budget) pass() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := b.elapsed(); len(b.spent) > 0 && now-b.saved >= budgetSave {
		_ = b.store(now) // tried again in a minute; until then a kill costs time, not bytes
	}
}

// store writes the line. A disk that takes nothing is no reason to stop: what
// is downloaded cannot be stored there either.
func (b *budget) store(now time.Duration) error {
	line, err := json.Marshal(budgetLine{int64(now / time.Second), b.spent})
	if err != nil {
		return err
	}
	if err := b.save(string(line)); err != nil && !errors.Is(err, store.ErrReadOnly) && !errors.Is(err, store.ErrFull) {
		return err
	}
	b.saved = now
	return nil
}
