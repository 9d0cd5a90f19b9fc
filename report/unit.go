// SPDX-License-Identifier: BSD-2-Clause

// Package report has the commands that read mail that is already there and say something
// about it: complaints (report arf) and the digits of its numbers (report benford). They need
// neither the daemon nor its configuration.
package report

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"rcptgate/kit/exit"
	"rcptgate/kit/term"
	"rcptgate/report/mailbox"
	"rcptgate/unit"
	"rcptgate/view"
)

// Unit describes the reports.
func Unit() unit.Unit {
	return unit.Unit{Name: "report", Commands: func(*unit.CLI) []*cobra.Command { return []*cobra.Command{command()} }}
}

func command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "report",
		Short: "read mailboxes and say what is in them",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(arfCommand(), benfordCommand())
	return cmd
}

// readingHelp says what the commands read; it is part of their help texts.
const readingHelp = `Each FILE is an mbox file, a Maildir, an MH folder, a single message, or "-" for standard
input; files may be compressed with gzip. Folders below a folder are read with -r.`

// walk reads mailboxes for a command. What cannot be read is reported on standard error;
// then the command ends with exit code 65 after it has read the rest.
func walk(cmd *cobra.Command, paths []string, o mailbox.Options, each func(*mailbox.Message) error) (damaged bool, err error) {
	progress := term.NewProgress(cmd.ErrOrStderr())
	o.Stdin = cmd.InOrStdin()
	problems := 0
	o.Problem = func(file string, offset int64, err error) {
		if problems++; problems > maxProblems {
			return
		}
		if offset >= 0 {
			file = fmt.Sprintf("%s, at octet %d", file, offset)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "rcptgate: %s: %s\n", view.Clean(file), view.Clean(err.Error()))
	}
	o.Progress = func(_ string, octets int64) { progress.Report(fmt.Sprintf("%d MB read", octets/1_000_000)) }
	err = mailbox.Walk(cmd.Context(), paths, o, each)
	if problems > maxProblems {
		fmt.Fprintf(cmd.ErrOrStderr(), "rcptgate: %d more problems\n", problems-maxProblems)
	}
	return problems > 0, readError(err)
}

// maxProblems is how many problems are reported one by one.
const maxProblems = 100

// finish gives a command's error from what was damaged.
func finish(damaged bool) error {
	if damaged {
		return exit.Quietly(exit.Data)
	}
	return nil
}

// printTable prints a table for people or for programs.
func printTable(w io.Writer, t *view.Table, asJSON bool) error {
	if asJSON {
		return term.JSON(w, t)
	}
	return t.Print(w, time.Now())
}
