package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/sandpiper-edge/sandpiper/controlplane/near"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// latest is the alias that always means the highest number.
const latest = "latest"

// Ref returns NAME:vN.
func Ref(name string, number uint64) string { return name + ":v" + strconv.FormatUint(number, 10) }

// A reference is a parsed ref: number or alias, or neither for the latest.
type reference struct {
	name   string
	number uint64
	alias  string
}

func parseRef(s string) (reference, error) {
	name, rest, has := strings.Cut(s, ":")
	r := reference{name: name}
	if err := protocol.CheckID(name); err != nil {
		return r, fmt.Errorf("%w %.120q: want NAME, NAME:vN or NAME:ALIAS: %w", ErrRef, s, err)
	}
	if !has || rest == latest {
		return r, nil
	}
	if n, ok := versionNumber(rest); ok {
		if n == 0 {
			return r, fmt.Errorf("%w %.120q: versions are numbered from 1", ErrRef, s)
		}
		r.number = n
		return r, nil
	}
	if err := protocol.CheckID(rest); err != nil {
		return r, fmt.Errorf("%w %.120q: want NAME, NAME:vN or NAME:ALIAS: %w", ErrRef, s, err)
	}
	r.alias = rest
	return r, nil
}

// versionNumber reads vN; ok means that it looks like one.
func versionNumber(s string) (n uint64, ok bool) {
	digits, ok := strings.CutPrefix(s, "v")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 53)
	return n, err == nil
}

func checkAlias(alias string) error {
	if err := protocol.CheckID(alias); err != nil {
		return fmt.Errorf("%w: %w", ErrAlias, err)
	}
	if _, ok := versionNumber(alias); ok || alias == latest {
		return fmt.Errorf("%w %q: it means a version already", ErrAlias, alias)
	}
	return nil
}

func (r *Registry) row(ctx context.Context, ref string) (row store.Version, err error) {
	p, err := parseRef(ref)
	if err != nil {
		return row, err
	}
	err = r.store.View(ctx, func(tx store.Tx) error {
		switch {
		case p.number != 0:
			row, err = tx.Version(ctx, p.name, p.number)
		case p.alias != "":
			row, err = tx.VersionByAlias(ctx, p.name, p.alias)
		default:
			row, err = tx.LatestVersion(ctx, p.name)
		}
		if errors.Is(err, ErrNotFound) {
			return missing(ctx, tx, p)
		}
		return err
	})
	return row, err
}

// missing says what of a reference is not there, and what is.
func missing(ctx context.Context, tx store.Tx, p reference) error {
	last, err := tx.LatestVersion(ctx, p.name)
	if errors.Is(err, ErrNotFound) {
		names, err := tx.ModelNames(ctx)
		if err != nil {
			return err
		}
		return notFound("model", p.name, names, "there are no models yet", "the models are ")
	}
	if err != nil {
		return err
	}
	if p.number != 0 {
		return fmt.Errorf("version %s: %w; the latest is %s", Ref(p.name, p.number), ErrNotFound, Ref(last.Name, last.Number))
	}
	aliases, err := tx.Aliases(ctx, p.name)
	if err != nil {
		return err
	}
	return notFound("alias "+p.name+":", p.alias, slices.Sorted(maps.Keys(aliases)), "it has no aliases yet", "its aliases are ")
}

func notFound(what, name string, names []string, none, some string) error {
	const most = 8
	hint := none
	switch s := near.Match(name, names); {
	case s != "":
		hint = fmt.Sprintf("did you mean %q?", s)
	case len(names) > most:
		hint = some + strings.Join(names[:most], ", ") + " and more"
	case len(names) > 0:
		hint = some + strings.Join(names, ", ")
	}
	return fmt.Errorf("%s %q: %w; %s", what, name, ErrNotFound, hint)
}
