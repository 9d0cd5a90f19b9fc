// SPDX-License-Identifier: BSD-2-Clause

package report

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"rcptgate/kit/exit"
	kitterm "rcptgate/kit/term"
	"rcptgate/report/benford"
	"rcptgate/report/mailbox"
)

type benfordFlags struct {
	what, digits, unit, size, by, svg, html string
	base, top, width                        int
	log, recurse, json, csv, ascii          bool

	which   benford.Which
	count   *benford.Count
	groups  *benford.Groups
	subject subjects
}

func benfordCommand() *cobra.Command {
	var f benfordFlags
	cmd := &cobra.Command{
		Use:   "benford FILE...",
		Short: "compare the leading digits of mail's numbers with Benford's law",
		Long: `report benford takes a number from each message, counts the leading digits and compares
them with Benford's law: a table, a graph, and a verdict by the mean absolute deviation.

The numbers are (--what):
  subject   lengths of Subject fields in characters, encoded words decoded
  message   sizes of messages in octets
  body      sizes of their bodies
  nrcpt     recipients of a message
  mailbox   sizes of the FILEs themselves: mbox files, or folders with all that is in them
  number    the numbers in the FILEs, one a line

` + readingHelp + `
Logs of Postfix and Sendmail are known by their first line (--log says that the FILEs are
logs whatever it is). Their numbers are subject (header_checks with WARN or INFO on Subject),
message and nrcpt.

With --by each domain, day or network of senders is compared by itself, and those that
deviate most come first.

Exit codes: 0 done, 64 the command line is wrong, 65 something could not be read and was
passed over, 66 no file could be read.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.what, "what", "subject", "the `NUMBERS`: subject, message, body, nrcpt, mailbox, number")
	flags.StringVar(&f.digits, "digits", "first", "`WHICH` digits: first, second, first-two")
	flags.IntVar(&f.base, "base", 10, "`BASE` of the digits, 3 to 36")
	flags.StringVar(&f.unit, "unit", "characters", "length of a subject in `UNIT`: characters, octets (of UTF-8), raw (octets before decoding)")
	flags.StringVar(&f.size, "size", "stored", "size of a message or body as `HOW`: stored (as in the file), wire (with CRLF, as SMTP has it)")
	flags.BoolVar(&f.log, "log", false, "the files are mail logs of Postfix or Sendmail")
	flags.StringVar(&f.by, "by", "", "compare each `GROUP` by itself: domain, day, sender-net")
	flags.IntVar(&f.top, "top", 20, "with --by: only the `N` groups that deviate most; 0 for all")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	flags.BoolVar(&f.csv, "csv", false, "print the table as CSV")
	flags.StringVar(&f.svg, "svg", "", "write the graph to `FILE` (SVG)")
	flags.StringVar(&f.html, "html", "", "write a page with the graph to `FILE`")
	flags.BoolVar(&f.ascii, "ascii", false, "draw the graph with ASCII characters")
	flags.IntVar(&f.width, "width", 0, "`COLUMNS` of the terminal (default: what it has, else 100)")
	flags.BoolVarP(&f.recurse, "recurse", "r", false, "read the folders below a folder too")
	return cmd
}

// titles are what the numbers are called in the output.
var titles = map[string]string{
	"subject": "Subject lengths", "message": "Message sizes", "body": "Body sizes", "nrcpt": "Recipients of a message",
	"mailbox": "Mailbox sizes", "number": "Numbers",
}

func (f *benfordFlags) run(cmd *cobra.Command, paths []string) error {
	if err := f.prepare(); err != nil {
		return exit.With(exit.Usage, err)
	}
	if err := f.findLogs(cmd, paths); err != nil {
		return exit.With(exit.Usage, err)
	}
	read := f.readMail
	switch {
	case f.what == "number":
		read = f.readNumbers
	case f.what == "mailbox":
		read = f.readSizes
	case f.log:
		read = f.readLogs
	}
	damaged, err := read(cmd, paths)
	if err != nil {
		return err
	}
	return errors.Join(f.print(cmd), finish(damaged))
}

// prepare checks what the flags say together.
func (f *benfordFlags) prepare() (err error) {
	if f.which, err = benford.ParseWhich(f.digits); err != nil {
		return fmt.Errorf("--digits: %w", err)
	}
	switch {
	case f.base < benford.MinBase || f.base > benford.MaxBase:
		return fmt.Errorf("--base: %d is not within %d and %d", f.base, benford.MinBase, benford.MaxBase)
	case titles[f.what] == "":
		return fmt.Errorf("--what: unknown numbers %q; known are subject, message, body, nrcpt, mailbox, number", f.what)
	case f.unit != "characters" && f.unit != "octets" && f.unit != "raw":
		return fmt.Errorf("--unit: unknown unit %q; known are characters, octets, raw", f.unit)
	case f.size != "stored" && f.size != "wire":
		return fmt.Errorf("--size: unknown size %q; known are stored, wire", f.size)
	case f.by != "" && f.by != "domain" && f.by != "day" && f.by != "sender-net":
		return fmt.Errorf("--by: unknown group %q; known are domain, day, sender-net", f.by)
	case f.by != "" && (f.what == "number" || f.what == "mailbox"):
		return fmt.Errorf("--by: %s have no senders", strings.ToLower(titles[f.what]))
	case f.by != "" && (f.svg != "" || f.html != "" || f.csv):
		return errors.New("--by gives a list of groups; --svg, --html and --csv are for one set of numbers")
	case f.log && (f.what == "body" || f.what == "mailbox" || f.what == "number"):
		return fmt.Errorf("--log: logs have no %s", strings.ToLower(titles[f.what]))
	case f.json && f.csv:
		return errors.New("--json and --csv exclude each other")
	}
	f.count = benford.NewCount(f.which, f.base)
	f.groups = benford.NewGroups(f.which, f.base)
	return nil
}

// add counts a number, for its group too if there are groups.
func (f *benfordFlags) add(n uint64, group func() string) {
	f.count.Add(n)
	if f.by != "" {
		f.groups.Add(group(), n)
	}
}

func (f *benfordFlags) readMail(cmd *cobra.Command, paths []string) (bool, error) {
	return walk(cmd, paths, mailbox.Options{Recurse: f.recurse, Keep: 1 << 20, Wire: f.size == "wire"}, func(m *mailbox.Message) error {
		f.message(m)
		return nil
	})
}

// print writes what was asked for.
func (f *benfordFlags) print(cmd *cobra.Command) error {
	title := titles[f.what]
	if f.what == "subject" {
		f.subject.report(cmd.ErrOrStderr())
		title += " in " + map[string]string{"characters": "characters", "octets": "octets", "raw": "octets as encoded"}[f.unit]
	}
	if f.by != "" {
		if n := f.groups.Beyond(); n > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "rcptgate: %s not counted: there are too many groups\n", kitterm.Count(n, "number"))
		}
		t := f.groups.Table(f.by, title, f.top)
		return printTable(cmd.OutOrStdout(), &t, f.json)
	}
	r := f.count.Result(title)
	if err := errors.Join(writeFile(f.svg, r.SVG), writeFile(f.html, r.HTML)); err != nil {
		return err
	}
	switch {
	case f.json:
		return kitterm.JSON(cmd.OutOrStdout(), r)
	case f.csv:
		return r.CSV(cmd.OutOrStdout())
	}
	return r.Text(cmd.OutOrStdout(), f.columns(cmd.OutOrStdout()), f.ascii)
}

// columns is the width of the terminal.
func (f *benfordFlags) columns(w io.Writer) int {
	if f.width > 0 {
		return f.width
	}
	if file, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil { // #nosec G115 -- a file descriptor
			return width
		}
	}
	return 100
}

// writeFile writes a file anew; an empty name is none.
func writeFile(name string, write func(io.Writer) error) error {
	if name == "" {
		return nil
	}
	file, err := os.Create(name) // #nosec G304 -- the file that was named
	if err != nil {
		return err
	}
	return errors.Join(write(file), file.Close())
}
