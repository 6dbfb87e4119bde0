// Sandpiper-agent is the daemon of a device: it keeps its models up to date
// over MQTT and answers prediction requests.
//
//	sandpiper-agent run --config agent.toml
//	sandpiper-agent status  [--config FILE | --data DIR] [-o json]
//	sandpiper-agent version [--config FILE | --data DIR] [-o json]
//	sandpiper-agent install FILE [--config FILE | --data DIR] [-o json]
//	sandpiper-agent pin REF | unpin MODEL | rollback MODEL [--config FILE | --data DIR] [-o json]
//	sandpiper-agent bench   [-o json]
//	sandpiper-agent token   [-o json]
//
// All but run, bench and token talk to a running agent through agent.sock in its
// data folder. Install, pin, unpin and rollback work on the folder itself when
// none runs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// version is set by -ldflags "-X main.version=…".
var version = "dev"

const usage = `sandpiper-agent keeps the models of one device up to date and answers predictions.

  sandpiper-agent run --config agent.toml    serve until SIGTERM or Ctrl-C
  sandpiper-agent status                     what runs, and what it last failed at
  sandpiper-agent version                    of this program, its kernel and protocol
  sandpiper-agent install FILE               put a signed model file in place, on trial
  sandpiper-agent pin MODEL[:vN]             keep a model on its version, or on one in the cache, whatever is wanted
  sandpiper-agent rollback MODEL             back to the version before, until a newer one is wanted
  sandpiper-agent unpin MODEL                follow the control plane again
  sandpiper-agent token                      make a token for a user of the local listener
  sandpiper-agent bench                      time predictions on this machine, beside reading their weights

  --config FILE   configuration; agent.toml, else /etc/sandpiper/agent.toml
  --data DIR      the data folder of a running agent, in place of --config
  -o json         one JSON document on standard output

Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 denied, 5 unreachable, 6 timeout,
8 refused by a check.
`

// Exit codes, those of all Sandpiper commands.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitDenied      = 4
	exitUnreachable = 5
	exitTimeout     = 6
	exitRefused     = 8
)

// memoryTarget keeps the daemon inside its PSS budget of 10 MB: the collector
// works harder before the heap goes beyond. GOMEMLIMIT overrides it.
const memoryTarget = 10 << 20

func main() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryTarget)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := dispatch(ctx, args, stdout, stderr)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage)
		return exitOK
	}
	if err != nil {
		fmt.Fprintln(stderr, "error: "+err.Error())
	}
	return exitCode(err)
}

func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return usagef("no command")
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	switch o.command {
	case "run":
		return serve(ctx, o, stderr)
	case "status":
		return status(ctx, o, stdout)
	case "version":
		return printVersion(ctx, o, stdout)
	case "install":
		return install(ctx, o, stdout, stderr)
	case "pin", "unpin", "rollback":
		return hold(ctx, o, stdout, stderr)
	case "token":
		return token(o, stdout)
	case "bench":
		return benchmark(ctx, o, stdout, stderr)
	}
	return usagef("unknown command %q; `sandpiper-agent --help` lists them", o.command)
}

// options is a command line.
type options struct {
	command string
	arg     string // the file of install, the model of pin, unpin and rollback
	config  string
	data    string
	output  string
}

func (o options) json() bool { return o.output == "json" }

// parse reads a command line; options may stand before and behind arguments.
func parse(args []string) (options, error) {
	o := options{}
	f := flag.NewFlagSet("sandpiper-agent", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&o.config, "config", "", "")
	f.StringVar(&o.data, "data", "", "")
	f.StringVar(&o.output, "o", "table", "")
	f.StringVar(&o.output, "output", "table", "")
	var words []string
	for rest := args; ; {
		if err := f.Parse(rest); errors.Is(err, flag.ErrHelp) {
			return o, err
		} else if err != nil {
			return o, &usageError{err}
		}
		if f.NArg() == 0 {
			break
		}
		words = append(words, f.Arg(0))
		rest = f.Args()[1:]
	}
	if len(words) == 0 {
		return o, usagef("no command; `sandpiper-agent --help` lists them")
	}
	o.command = words[0]
	if o.command == "help" {
		return o, flag.ErrHelp
	}
	needs := map[string]string{
		"install":  "the model file, as `sandpiper model export` writes it",
		"pin":      "the model, as MODEL or MODEL:vN",
		"unpin":    "the model",
		"rollback": "the model",
	}[o.command]
	want := 1
	if needs != "" {
		want = 2
	}
	switch {
	case len(words) > want:
		return o, usagef("%s: %q is one argument too many", o.command, words[want])
	case len(words) < want:
		return o, usagef("%s: name %s", o.command, needs)
	case want == 2:
		o.arg = words[1]
	}
	if o.output != "json" && o.output != "table" {
		return o, usagef("-o %s: write -o json or -o table", o.output)
	}
	return o, nil
}
