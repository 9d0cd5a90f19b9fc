// SPDX-License-Identifier: BSD-2-Clause

// Command rcptgate decides, while the sending server is still connected, whether
// a recipient's mailbox will take a message. See rcptgate(1).
//
// One file holds one command; builtin.go is the list of checks and fronts and the
// shape of the configuration. Exit codes are those of sysexits.h.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes (sysexits.h) and what they mean here.
const (
	exitOK          = 0
	exitUsage       = 64 // the command line is wrong
	exitData        = 65 // a file or value given to the command is bad
	exitUnknownUser = 67 // check: the recipient is unknown
	exitUnavailable = 69 // the daemon is not reachable
	exitSoftware    = 70
	exitTempfail    = 75 // check: temporary failure; cache forget: reached only this gateway
	exitRefused     = 77 // check: refused by policy
	exitConfig      = 78 // the configuration is wrong
)

// exitError is an error that knows its exit code.
type exitError struct {
	code  int
	err   error
	quiet bool // the command has said all there is to say
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func exitWith(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code: code, err: err}
}

// exitQuietly ends the command with a code after it has printed its answer.
func exitQuietly(code int) error {
	if code == exitOK {
		return nil
	}
	return &exitError{code: code, err: fmt.Errorf("exit code %d", code), quiet: true}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main without the process, for tests.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var exit *exitError
	if !errors.As(err, &exit) {
		exit = &exitError{code: exitUsage, err: err} // cobra's own errors are about the command line
	}
	if !exit.quiet {
		fmt.Fprintf(stderr, "rcptgate: %v\n", exit.err)
	}
	return exit.code
}

const defaultConfigFile = "/etc/rcptgate/rcptgate.toml"

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "rcptgate",
		Short: "decide at RCPT time whether a mailbox will take a message",
		Long: `rcptgate is a milter that asks the mail server behind a gateway, while the sending
server is still connected, whether a recipient's mailbox will take the message. It
remembers the answers and keeps taking mail for known recipients while that server
is down.

Exit codes are those of sysexits.h: 0 good, 64 usage, 65 bad data, 67 unknown recipient,
69 the daemon is not reachable or could not listen, 70 internal error, 75 temporary
failure, 77 refused by policy, 78 configuration.`,
		Version:           versionLine(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		Args:              cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.PersistentFlags().StringP("config", "c", "", "configuration `FILE` (default "+defaultConfigFile+" if it exists, else built-in defaults)")
	root.AddCommand(
		newServeCommand(),
		newCheckCommand(),
		newCacheCommand(),
		newConfigCommand(),
		newDemoCommand(),
		newTableCommand(),
		newBenchCommand(),
		newManCommand(),
		newVersionCommand(),
	)
	return root
}
