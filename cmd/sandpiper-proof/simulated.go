package main

import (
	"context"
	"fmt"
	"strings"
)

// simulated checks a claim by a test of the simulated devices, which runs in
// fake time and holds the bar; its figures are the lines that it logs. env is
// what makes the long form of it.
func simulated(test string, env ...string) check {
	return func(ctx context.Context, h *house) (string, error) {
		cmd := h.command(ctx, "go", "test", "-count=1", "-timeout=0", "-v", "-run", "^"+test+"$", "./firmware-sim")
		cmd.Env = append(cmd.Env, env...)
		out, err := output(cmd)
		var figures []string
		for line := range strings.Lines(string(out)) {
			_, text, found := strings.Cut(strings.TrimSpace(line), "_test.go:")
			if _, text, ok := strings.Cut(text, ": "); found && ok && !strings.HasPrefix(text, "time=") {
				figures = append(figures, text)
			}
		}
		figure := strings.Join(figures, "; ")
		if err == nil && !strings.Contains(string(out), "--- PASS: "+test) {
			err = fmt.Errorf("%s did not run", test)
		}
		return figure, err
	}
}
