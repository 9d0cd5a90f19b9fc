// SPDX-License-Identifier: BSD-2-Clause

package report

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rcptgate/kit/exit"
	"rcptgate/kit/term"
	"rcptgate/report/arf"
	"rcptgate/report/mailbox"
	"rcptgate/view"
)

type arfFlags struct {
	recurse, strict, dedupe, raw, suppress, failOnEmpty, json bool
	format, by, since, until, verp                            string
	top                                                       int
}

func arfCommand() *cobra.Command {
	var f arfFlags
	cmd := &cobra.Command{
		Use:   "arf FILE...",
		Short: "print the complaints (abuse reports) in mailboxes",
		Long: `report arf looks for feedback reports (ARF, RFC 5965) and prints each as lines
"Name: value" with an empty line after it. Reports in older and looser forms are found
too: those of Microsoft's JMRP, failure reports in words, XARF; --strict leaves them out.

Values that a report lacks are taken from the original message where it has them, and
marked: "(derived: received)". Formats: text; arfparse, the lines and order of that
program; jsonl, one JSON object a line; csv; html, one page.

` + readingHelp + `

With --by the reports are counted instead of printed. With --suppress the recipients who
complained are printed, one a line, for a list of addresses not to write to again.

Exit codes: 0 done, 64 the command line is wrong, 65 something could not be read and was
passed over, 66 no file could be read, 1 with --fail-on-empty when there is no report.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.format, "format", "text", "`FORMAT`: "+strings.Join(arf.Formats(), ", "))
	flags.StringVar(&f.by, "by", "", "count by `KEYS`, a list with commas of "+strings.Join(arf.Keys(), ", "))
	flags.IntVar(&f.top, "top", 0, "only the `N` largest counts (default all)")
	flags.StringVar(&f.since, "since", "", "only reports of mail that arrived from `DATE` on (2026-11-28), or in the last DURATION (36h, 7d, 2w)")
	flags.StringVar(&f.until, "until", "", "only reports of mail that arrived before `DATE`")
	flags.StringVar(&f.verp, "verp", "", "find recipients in reverse-paths of this `PATTERN`: bounce-{local}={domain}@lists.example.org")
	flags.BoolVar(&f.dedupe, "dedupe", false, "each report once, also when it is there in several copies")
	flags.BoolVar(&f.strict, "strict", false, "only reports in the form of RFC 5965")
	flags.BoolVar(&f.suppress, "suppress", false, "print the recipients who complained, one a line")
	flags.BoolVar(&f.raw, "raw", false, "csv: leave cells as they are that a spreadsheet would take for a formula")
	flags.BoolVar(&f.json, "json", false, "with --by: print JSON")
	flags.BoolVarP(&f.recurse, "recurse", "r", false, "read the folders below a folder too")
	flags.BoolVar(&f.failOnEmpty, "fail-on-empty", false, "end with exit code 1 when there is no report")
	return cmd
}

// arfSink is where reports go: printed, counted or only their recipients.
type arfSink struct {
	write func(*arf.Report) error
	close func() error
}

func (f *arfFlags) run(cmd *cobra.Command, paths []string) error {
	pick, err := f.picker(time.Now())
	if err != nil {
		return exit.With(exit.Usage, err)
	}
	sink, err := f.sink(cmd)
	if err != nil {
		return exit.With(exit.Usage, err)
	}
	o := arf.Options{Strict: f.strict}
	if f.verp != "" {
		if strings.Count(f.verp, "{local}") != 1 || strings.Count(f.verp, "{domain}") != 1 {
			return exit.With(exit.Usage, fmt.Errorf("--verp: %q must have {local} and {domain}, each once", f.verp))
		}
		o.VERP = arf.ParseVERP(f.verp)
	}
	n, messages := 0, 0
	damaged, err := walk(cmd, paths, mailbox.Options{Recurse: f.recurse}, func(m *mailbox.Message) error {
		messages++
		r := arf.Find(m, o)
		if r == nil || !pick(r) {
			return nil
		}
		n++
		return sink.write(r)
	})
	if closeErr := sink.close(); err == nil {
		err = closeErr
	}
	if err == nil && n == 0 && f.forPeople() {
		fmt.Fprintf(cmd.ErrOrStderr(), "rcptgate: no matching report in %s\n", term.Count(messages, "message"))
	}
	if err == nil && n == 0 && f.failOnEmpty {
		return exit.Quietly(exit.Attention)
	}
	return errors.Join(err, finish(damaged))
}

// forPeople reports whether a person reads the output: nothing at all would leave them in doubt.
func (f *arfFlags) forPeople() bool { return f.format == "text" && f.by == "" && !f.suppress }

// picker gives what --since, --until and --dedupe leave.
func (f *arfFlags) picker(now time.Time) (func(*arf.Report) bool, error) {
	since, err := moment(f.since, now)
	if err != nil {
		return nil, fmt.Errorf("--since: %w", err)
	}
	until, err := moment(f.until, now)
	if err != nil {
		return nil, fmt.Errorf("--until: %w", err)
	}
	seen := map[[16]byte]struct{}{}
	return func(r *arf.Report) bool {
		at := r.At()
		if !since.IsZero() && at.Before(since) || !until.IsZero() && !at.Before(until) {
			return false
		}
		if f.dedupe {
			id := r.Identity()
			if _, again := seen[id]; again {
				return false
			}
			seen[id] = struct{}{}
		}
		return true
	}, nil
}

// moment reads a date, a date with a time, or how long ago.
func moment(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, time.DateTime, "2006-01-02T15:04:05", time.RFC3339} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	if d, ok := ago(s); ok {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("%q is neither a date (2026-11-28) nor a duration (36h, 7d, 2w)", s)
}

// ago reads a duration as settings have it: "36h", "7d", "1w2d".
func ago(s string) (sum time.Duration, ok bool) {
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}
	for s != "" {
		end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
		if end <= 0 || end > 6 {
			return 0, false
		}
		n, err := strconv.Atoi(s[:end])
		unit := units[s[end]]
		if err != nil || unit == 0 || n > 100_000 {
			return 0, false
		}
		sum += time.Duration(n) * unit
		s = s[end+1:]
	}
	return sum, true
}

func (f *arfFlags) sink(cmd *cobra.Command) (arfSink, error) {
	out := cmd.OutOrStdout()
	switch {
	case f.suppress && f.by != "":
		return arfSink{}, errors.New("--suppress and --by exclude each other")
	case f.suppress:
		rcpts := map[string]struct{}{}
		return arfSink{
			write: func(r *arf.Report) error { collect(rcpts, r); return nil },
			close: func() error { return printLines(out, slices.Sorted(maps.Keys(rcpts))) },
		}, nil
	case f.by != "":
		sum, err := arf.NewSummary(f.by)
		if err != nil {
			return arfSink{}, err
		}
		return arfSink{
			write: func(r *arf.Report) error { sum.Add(r); return nil },
			close: func() error { return f.printSummary(cmd, sum) },
		}, nil
	case f.json:
		return arfSink{}, errors.New("--json goes with --by; reports as JSON are --format jsonl")
	}
	w, err := arf.NewWriter(out, f.format, f.raw)
	if err != nil {
		return arfSink{}, err
	}
	return arfSink{w.Write, w.Close}, nil
}

// collect adds the recipients of a complaint that are addresses: providers hide them, and
// somebody who pressed "not spam" did not complain.
func collect(rcpts map[string]struct{}, r *arf.Report) {
	if r.Type == "not-spam" || r.Type == "auth-failure" {
		return
	}
	for _, rcpt := range r.RcptTo {
		if local, domain, ok := strings.Cut(rcpt, "@"); ok && local != "" && strings.Contains(domain, ".") && !strings.ContainsAny(rcpt, " \t<>,;") {
			rcpts[strings.ToLower(rcpt)] = struct{}{}
		}
	}
}

func (f *arfFlags) printSummary(cmd *cobra.Command, sum *arf.Summary) error {
	if n := sum.Beyond(); n > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "rcptgate: %s not counted: there are too many different values\n", term.Count(n, "incident"))
	}
	t := sum.Table(f.top)
	return printTable(cmd.OutOrStdout(), &t, f.json)
}

func printLines(w io.Writer, lines []string) error {
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, view.Clean(line)); err != nil {
			return err
		}
	}
	return nil
}
