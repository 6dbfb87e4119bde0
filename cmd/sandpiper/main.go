// Command sandpiper is the control plane and its command line: it trains,
// evaluates, signs and ships models, and `sandpiper serve` runs the broker,
// the HTTP API and the rollouts.
//
// Every command reads and writes its files itself and calls the handlers of
// controlplane/api: over HTTP with --server, over DIR/api.sock while a server
// runs on the same folder, and otherwise in this process.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// version is set at build time: -ldflags "-X main.version=v1.2.3".
var version = "dev"

func main() { os.Exit(mainCode()) }

// mainCode runs the program with the arguments of the process.
func mainCode() int {
	if os.Getenv("GOGC") == "" {
		// Tables of data are few and large: half as much garbage as data costs little time,
		// and a million rows of 10 columns are trained on in 150 MiB instead of 215.
		debug.SetGCPercent(50)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	return run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr}
	root := newRootCommand(a)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return report(stderr, root.ExecuteContext(ctx))
}
