package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/near"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
)

// ErrUsage: a query of usage that means nothing.
var ErrUsage = errors.New("invalid query of usage")

// A Usage is how often devices predicted, and for how long their kernels were at
// it; which of Day, Device, Model and User are set is what it is summed by.
type Usage struct {
	Day      string `json:"day,omitempty"` // UTC, YYYY-MM-DD, on which the control plane heard of it
	Device   string `json:"device,omitempty"`
	Model    string `json:"model,omitempty"`
	User     string `json:"user,omitempty"` // anonymous: the simple mode; local: over the device's socket
	Answered uint64 `json:"answered"`       // with a prediction
	Refused  uint64 `json:"refused"`        // with an error
	Busy     uint64 `json:"busy"`           // for want of room in a device's queue
	Micros   uint64 `json:"us"`             // in the kernel, of all answers
}

// A UsageQuery says what to sum. Days are YYYY-MM-DD, UTC, and both are included.
type UsageQuery struct {
	By                  []string // some of day, device, model and user, in the order of the rows; none: one sum
	From, To            string   // empty: no bound
	Device, Model, User string   // empty: all
	After               string   // Next of the page before
	Limit               int      // default 100, at most 1,000
}

// Usage returns a page of sums in the order of what they are summed by, and the
// UsageQuery.After of the next page, "" at the end. ErrUsage.
func (f *Fleet) Usage(ctx context.Context, q UsageQuery) (sums []Usage, next string, err error) {
	if err := q.check(); err != nil {
		return nil, "", err
	}
	limit := pageSize(q.Limit)
	s := store.UsageQuery{By: q.By, From: q.From, To: q.To, Device: q.Device, Model: q.Model, User: q.User, Limit: limit + 1}
	if q.After != "" {
		if s.After = strings.Split(q.After, "/"); len(s.After) != len(q.By) {
			return nil, "", fmt.Errorf("%w: after %.40q is of another query", ErrUsage, q.After)
		}
	}
	var rows []store.UsageRow
	err = f.store.View(ctx, func(tx store.Tx) (err error) {
		rows, err = tx.SumUsage(ctx, s)
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("usage: %w", err)
	}
	if len(rows) > limit {
		rows = rows[:limit]
		next = strings.Join(rows[limit-1].Key, "/") // ids and days have no slash
	}
	sums = make([]Usage, 0, len(rows))
	for _, r := range rows {
		u := Usage{Answered: r.Answered, Refused: r.Refused, Busy: r.Busy, Micros: r.Micros}
		for i, column := range q.By {
			*map[string]*string{"day": &u.Day, "device": &u.Device, "model": &u.Model, "user": &u.User}[column] = r.Key[i]
		}
		sums = append(sums, u)
	}
	return sums, next, nil
}

func (q UsageQuery) check() error {
	for i, column := range q.By {
		if !slices.Contains(store.UsageColumns, column) {
			meant := ""
			if m := near.Match(column, store.UsageColumns); m != "" {
				meant = fmt.Sprintf("; did you mean %q?", m)
			}
			return fmt.Errorf("%w: by %.40q; sum by some of %s%s", ErrUsage, column, strings.Join(store.UsageColumns, ", "), meant)
		}
		if slices.Contains(q.By[:i], column) {
			return fmt.Errorf("%w: by %s twice", ErrUsage, column)
		}
	}
	for _, day := range []string{q.From, q.To} {
		if _, err := time.Parse(time.DateOnly, day); day != "" && err != nil {
			return fmt.Errorf("%w: %.40q is no day; write YYYY-MM-DD, such as 2026-11-24", ErrUsage, day)
		}
	}
	if q.From != "" && q.To != "" && q.From > q.To {
		return fmt.Errorf("%w: from %s to %s is no range; the earlier day is the first", ErrUsage, q.From, q.To)
	}
	return nil
}
