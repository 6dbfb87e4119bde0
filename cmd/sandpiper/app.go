package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sandpiper-edge/sandpiper/cmd/internal/config"
	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/near"
)

// An app is what the commands of one command line share.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer

	dir, server, token string        // flags, or their environment variables
	timeout            time.Duration // of one command; 0: none
	lockWait           time.Duration // for another process to let go of dir
	quiet              bool
	format             format
}

// defaultDir is the data folder without --dir and SANDPIPER_DIR.
const defaultDir = "sandpiper-data"

func newRootCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "sandpiper",
		Short: "Train small sequence models and run them on devices",
		Long: `Sandpiper trains small sequence models, ships signed versions of them over MQTT
to agents on devices, and asks those devices for predictions.

` + exitCodes,
		SilenceUsage:               true,
		SilenceErrors:              true,
		SuggestionsMinimumDistance: 3,
		Args:                       cobra.NoArgs,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := cmd.ValidateRequiredFlags(); err != nil {
			return usagef("%w\nusage: %s", err, cmd.UseLine())
		}
		return nil
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.dir, "dir", envOr("SANDPIPER_DIR", defaultDir), "data folder of the control plane")
	flags.StringVar(&a.server, "server", os.Getenv("SANDPIPER_SERVER"), "address of a control plane, http://host:port, instead of --dir")
	flags.StringVar(&a.token, "token", "", "token for --server; better in the variable SANDPIPER_TOKEN, where other users cannot see it")
	flags.DurationVar(&a.timeout, "timeout", 0, "longest time the command may take, such as 30s; 0: no limit")
	flags.DurationVar(&a.lockWait, "lock-wait", 10*time.Second, "how long to wait for another command that has the data folder open")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "no progress and no remarks on stderr")
	root.AddCommand(
		newInitCommand(a), newServeCommand(a), newFleetCommand(a), newUserCommand(a), newUsageCommand(a), newTokenCommand(a), newHistoryCommand(a), newAuditCommand(a),
		newDataCommand(a), newTrainCommand(a), newRunCommand(a), newTuneCommand(a), newTuningCommand(a), newEvalCommand(a), newModelCommand(a),
		newRolloutCommand(a), newPredictCommand(a), newDemoCommand(a), newBenchCommand(a), newVersionCommand(a),
	)
	explainUsage(root)
	return root
}

// explainUsage makes every mistake in a command line a usageError that says
// what to write instead.
func explainUsage(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w%s\nrun `%s --help` to see its flags", err, nearFlag(cmd, err), cmd.CommandPath())
	})
	args := cmd.Args
	group := cmd.HasSubCommands()
	cmd.Args = func(cmd *cobra.Command, given []string) error {
		switch {
		case group && len(given) > 0:
			return usagef("unknown command %q for %q%s\nrun `%s --help` to see its commands", given[0], cmd.CommandPath(), nearCommand(cmd, given[0]), cmd.CommandPath())
		case args == nil:
			return nil
		}
		if err := args(cmd, given); err != nil {
			return usagef("%w\nusage: %s", err, cmd.UseLine())
		}
		return nil
	}
	if group && cmd.RunE == nil {
		cmd.RunE = func(cmd *cobra.Command, _ []string) error {
			return usagef("%q needs a command\nrun `%s --help` to see its commands", cmd.CommandPath(), cmd.CommandPath())
		}
	}
	for _, c := range cmd.Commands() {
		explainUsage(c)
	}
}

// nearCommand suggests a command for a mistyped one.
func nearCommand(cmd *cobra.Command, typed string) string {
	var names []string
	for _, c := range cmd.Commands() {
		names = append(append(names, c.Name()), c.Aliases...)
	}
	if meant := near.Match(typed, names); meant != "" {
		return fmt.Sprintf("; did you mean %q?", meant)
	}
	return ""
}

// nearFlag suggests a flag for a mistyped one.
func nearFlag(cmd *cobra.Command, err error) string {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return ""
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if meant := near.Match(unknown.GetSpecifiedName(), names); meant != "" {
		return fmt.Sprintf("; did you mean --%s?", meant)
	}
	return ""
}

// exactArgs wants one argument for each name.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return fmt.Errorf("%s is missing", strings.Join(names[len(args):], " and "))
		case len(args) > len(names):
			return fmt.Errorf("unexpected argument %q", args[len(names)])
		}
		return nil
	}
}

// envOr returns the environment variable, or def where it is empty.
func envOr(name, def string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return def
}

// remote returns a client of the control plane named by --server.
func (a *app) remote() (*api.Client, error) {
	token := a.token
	if token == "" {
		token = os.Getenv("SANDPIPER_TOKEN")
	}
	if u, err := url.Parse(a.server); err == nil && u.Scheme == "http" && token != "" && !config.Loopback(u.Hostname()) {
		a.notef("warning: the token travels to %s unencrypted; use https://", u.Host)
	}
	c, err := api.NewClient(a.server, token)
	if err != nil {
		return nil, usagef("--server: %w", err)
	}
	return c, nil
}

// A clientFunc does the work of one command.
type clientFunc func(ctx context.Context, c *api.Client) error

// with runs f with a client of the control plane that --server or --dir names.
// On a folder that no server runs on, it opens the control plane in this
// process for as long as f takes.
func (a *app) with(ctx context.Context, f clientFunc) error {
	ctx, cancel := a.deadline(ctx)
	defer cancel()
	if a.server != "" {
		c, err := a.remote()
		if err != nil {
			return err
		}
		defer c.Close()
		return f(ctx, c)
	}
	c, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	err = f(ctx, c)
	return errors.Join(err, done())
}

// deadline applies --timeout.
func (a *app) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if a.timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, a.timeout, lateError(a.timeout))
}

// A lateError is a command that took longer than --timeout.
type lateError time.Duration

func (e lateError) Error() string { return "not done within " + time.Duration(e).String() }

func (e lateError) Is(target error) bool { return target == context.DeadlineExceeded }

// configFile is the path of the control plane's configuration.
func (a *app) configFile() string { return filepath.Join(a.dir, "sandpiper.toml") }
