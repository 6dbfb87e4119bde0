// Command sandpiper-proof checks the claims of docs/claims.md.
//
// Each row of that page names a claim and its bar; each check here is
// registered under the same name. One line is printed for each:
//
//	PASS    kernel.step-generic   17.4 µs, bar ≤ 30 µs
//	FAIL    …                     what was measured, and the bar it missed
//	MISSING …                     nothing checks it, or what the check needs is absent
//
// Without arguments every claim that is not marked heavy is checked; an
// argument is an area (the part of a name before the dot) or a whole name, and
// then heavy ones run too. The exit code is 0 only if every line says PASS.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A check measures one claim. It returns what was measured, for people; an
// error says which bar was missed. errNeeds marks what could not be measured.
type check func(ctx context.Context, h *house) (figure string, err error)

// errNeeds means that the check could not run here: a tool or data set is absent.
var errNeeds = errors.New("not checked here")

// needs reports that a check cannot run without what.
func needs(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errNeeds, fmt.Sprintf(format, args...))
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 3 && args[0] == brokerCommand {
		if err := serveBroker(ctx, args[1], args[2]); err != nil {
			fmt.Fprintln(stderr, err)
			return 1
		}
		return 0
	}
	root, err := moduleRoot()
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	page, err := os.ReadFile(root + "/docs/claims.md")
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	claims, err := parseClaims(string(page))
	if err != nil {
		fmt.Fprintf(stderr, "docs/claims.md: %v\n", err)
		return 1
	}
	if slices.Contains(args, "--list") {
		for _, c := range claims {
			fmt.Fprintf(stdout, "%-26s %s (%s)\n", c.name, c.text, c.bar)
		}
		return 0
	}
	chosen, err := choose(claims, args)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	h, err := newHouse(root, stderr)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	defer h.close()

	code, skipped := 0, 0
	for _, c := range claims {
		if !slices.Contains(chosen, c.name) {
			if c.heavy && len(args) == 0 {
				skipped++
			}
			continue
		}
		if ctx.Err() != nil {
			return 1
		}
		word, line := prove(ctx, h, c)
		if word != "PASS" {
			code = 1
		}
		fmt.Fprintf(stdout, "%-7s %-26s %s\n", word, c.name, line)
	}
	if skipped > 0 {
		fmt.Fprintf(stderr, "%d heavy claims were not asked for; name their area or themselves: sandpiper-proof --list\n", skipped)
	}
	return code
}

// prove runs the check of one claim and words its outcome.
func prove(ctx context.Context, h *house, c claim) (word, line string) {
	f := checks[c.name]
	if f == nil {
		return "MISSING", "nothing checks this claim"
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Hour)
	defer cancel()
	figure, err := f(ctx, h)
	switch {
	case errors.Is(err, errNeeds):
		return "MISSING", err.Error()
	case err != nil && figure == "":
		return "FAIL", err.Error()
	case err != nil:
		return "FAIL", figure + ": " + err.Error()
	}
	return "PASS", figure + "; bar " + c.bar
}

// choose returns the names of the claims that args ask for: none means all
// that are not heavy.
func choose(claims []claim, args []string) ([]string, error) {
	var names []string
	for _, c := range claims {
		if len(args) == 0 && !c.heavy {
			names = append(names, c.name)
		}
	}
	for _, a := range args {
		n := len(names)
		for _, c := range claims {
			area, _, _ := strings.Cut(c.name, ".")
			if a == c.name || a == area {
				names = append(names, c.name)
			}
		}
		if len(names) == n {
			return nil, fmt.Errorf("no claim or area %q in docs/claims.md; --list shows them", a)
		}
	}
	return names, nil
}
