package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// MaxApprovals is the largest number of people who must approve a version.
const MaxApprovals = 5

var (
	// ErrApprovals: a number of approvals that cannot be.
	ErrApprovals = errors.New("invalid number of approvals")
	// ErrNotApproved: too few people approved a version.
	ErrNotApproved = errors.New("not approved")
)

// Protect sets how many people must approve each version of a model before anyone
// else rolls it out; 0: nobody. The model need not exist yet. protocol.ErrID or
// ErrApprovals.
func (r *Registry) Protect(ctx context.Context, model string, approvals int) error {
	if err := protocol.CheckID(model); err != nil {
		return err
	}
	if approvals < 0 || approvals > MaxApprovals {
		return fmt.Errorf("%w: %d; use 0 to %d", ErrApprovals, approvals, MaxApprovals)
	}
	return r.store.Update(ctx, func(tx store.Tx) error {
		if err := tx.Protect(ctx, model, approvals); err != nil {
			return err
		}
		return tx.Audit(ctx, audit.Entry{Action: audit.ModelProtect, Model: model, Detail: strconv.Itoa(approvals)})
	})
}

// An Approval is who approved a version and how many must.
type Approval struct {
	Version   string   `json:"version"`
	Needed    int      `json:"needed"`    // people other than who rolls it out
	Approvers []string `json:"approvers"` // in order
}

// Approve records that the caller approves the version that ref means. Approving
// twice counts once.
func (r *Registry) Approve(ctx context.Context, ref string) (Approval, error) {
	row, err := r.row(ctx, ref)
	if err != nil {
		return Approval{}, err
	}
	out := Approval{Version: Ref(row.Name, row.Number)}
	err = r.store.Update(ctx, func(tx store.Tx) error {
		added, err := tx.Approve(ctx, row.Name, row.Number, audit.Who(ctx), now())
		if err == nil && added {
			err = tx.Audit(ctx, entry(audit.ModelApprove, row, ""))
		}
		if err != nil {
			return err
		}
		if out.Needed, err = tx.Protection(ctx, row.Name); err != nil {
			return err
		}
		out.Approvers, err = tx.Approvers(ctx, row.Name, row.Number)
		return err
	})
	if err != nil {
		return Approval{}, fmt.Errorf("approve %s: %w", ref, err)
	}
	return out, nil
}

// Approved is ErrNotApproved unless as many people as the model asks for, the
// caller not among them, approved a version.
func Approved(ctx context.Context, tx store.Tx, model string, number uint64) error {
	needed, err := tx.Protection(ctx, model)
	if err != nil || needed == 0 {
		return err
	}
	approvers, err := tx.Approvers(ctx, model, number)
	if err != nil {
		return err
	}
	who := audit.Who(ctx)
	others := slices.DeleteFunc(approvers, func(s string) bool { return s == who })
	if len(others) >= needed {
		return nil
	}
	so := "nobody did"
	if len(others) > 0 {
		so = strings.Join(others, ", ") + " did"
	}
	people := "another person"
	if needed > 1 {
		people = fmt.Sprintf("%d people other", needed)
	}
	return fmt.Errorf("%s: %w: it needs the approval of %s than %s, and %s; they run `sandpiper model approve %s`",
		Ref(model, number), ErrNotApproved, people, who, so, Ref(model, number))
}
