// SPDX-License-Identifier: BSD-2-Clause

package admin

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"rcptgate/kit/exit"
	"rcptgate/kit/term"
	"rcptgate/store"
	"rcptgate/view"
)

func (k commands) cache() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "inspect and edit the answer cache",
		Long: `cache shows and changes what the running daemon remembers. Exit code 69 means that the
daemon cannot be reached.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(k.cacheList(), k.cacheShow(), k.cacheForget(), k.cacheFlush(), k.cacheStats(), k.cacheExport(), k.cacheImport())
	return cmd
}

func (k commands) cacheList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list [@DOMAIN]",
		Short: "list what is remembered",
		Long: `list prints a table of what is remembered, sorted by recipient. The answers are:

  valid       the server accepts the recipient
  unknown     it has no such mailbox
  full        the mailbox has no room
  refused     it refuses the recipient for another reason
  deferred    it said to try again later
  selective   (of a domain at a server) unknown names are refused there, so its answers count
  accept-all  (of a domain at a server) every name is accepted there, so its answers prove nothing

Of more than 100,000 records
it prints the first ones that the daemon gives. With --json it prints every record, one
object on each line, in no particular order.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return k.withDaemon(cmd, func(ctx context.Context, c *Client) error {
				out := cmd.OutOrStdout()
				if asJSON {
					return c.List(ctx, strings.Join(args, ""), func(r Record) error { return term.JSON(out, r) })
				}
				t, err := listTable(ctx, c, strings.Join(args, ""))
				if err != nil {
					return err
				}
				return t.Print(out, time.Now())
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object for each record")
	return cmd
}

// maxListed bounds the table of cache list.
const maxListed = 100_000

// listTable gathers a table of records, sorted by their keys.
func listTable(ctx context.Context, c *Client, pattern string) (*view.Table, error) {
	t := &view.Table{
		Name: "records", Title: "Remembered", Empty: "nothing is remembered",
		Columns: view.Columns("key", "Recipient", "class", "Answer", "reply", "Reply", "backend", "Server", "learnt", "Learnt", "ends_in", "Ends in"),
	}
	now := time.Now()
	err := c.List(ctx, pattern, func(r Record) error {
		for _, a := range []*Answer{r.Standing, r.Transient} {
			switch {
			case a == nil:
			case len(t.Rows) >= maxListed:
				t.More++
			default:
				t.Add("", r.Spelling(), a.Class, strings.TrimSpace(fmt.Sprintf("%d %s", a.Code, a.Enhanced)), a.Backend, a.Learnt, max(a.Expire.Sub(now), 0))
			}
		}
		return nil
	})
	slices.SortStableFunc(t.Rows, func(a, b view.Row) int { return cmp.Compare(fmt.Sprint(a.Cells[0]), fmt.Sprint(b.Cells[0])) })
	return t, err
}

func (k commands) cacheShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show RECIPIENT|@DOMAIN",
		Short: "show everything that is remembered about a recipient or a domain",
		Long: `show prints what is remembered about one recipient. For a domain ("@example.com") it prints
how many recipients are remembered and, for each server, whether it was found to accept
every name there. Exit code 67 means that nothing is remembered.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return k.withDaemon(cmd, func(ctx context.Context, c *Client) error {
				if domain, ok := strings.CutPrefix(args[0], "@"); ok {
					return showDomain(ctx, cmd.OutOrStdout(), c, domain, asJSON)
				}
				r, err := c.Show(ctx, args[0])
				if err != nil {
					return err
				}
				if asJSON {
					return term.JSON(cmd.OutOrStdout(), r)
				}
				return printRecord(cmd.OutOrStdout(), &r)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func showDomain(ctx context.Context, w io.Writer, c *Client, domain string, asJSON bool) error {
	d, err := c.Domain(ctx, domain)
	if err != nil {
		return err
	}
	if asJSON {
		return term.JSON(w, d)
	}
	if _, err := fmt.Fprintf(w, "@%s: %s remembered, %s about servers\n", view.Clean(d.Domain), term.Count(d.Recipients, "recipient"), term.Count(len(d.Findings)+d.More, "finding")); err != nil {
		return err
	}
	for i := range d.Findings {
		if err := printRecord(w, &d.Findings[i]); err != nil {
			return err
		}
	}
	return nil
}

func printRecord(w io.Writer, r *Record) error {
	var b strings.Builder
	now := time.Now()
	fmt.Fprintf(&b, "%s (from %s)\n", view.Clean(r.Spelling()), strings.TrimSpace(r.Source+" "+view.Clean(r.Server)))
	for _, a := range []*Answer{r.Standing, r.Transient} {
		if a == nil {
			continue
		}
		fmt.Fprintf(&b, "  %s\n", classWords(a.Class))
		if reply := strings.TrimSpace(fmt.Sprintf("%d %s", a.Code, a.Enhanced)); !isFinding(a.Class) { // whose text is our own note
			fmt.Fprintf(&b, "    reply    %s %s\n", view.Clean(reply), indented(a.Text, 13))
		}
		fmt.Fprintf(&b, "    backend  %s\n    learnt   %s\n", view.Clean(a.Backend), view.When(now, a.Learnt))
		if a.Refresh != nil {
			fmt.Fprintf(&b, "    refresh  %s\n", view.When(now, *a.Refresh))
		}
		fmt.Fprintf(&b, "    ends     %s\n", view.When(now, a.Expire))
	}
	if r.Doubt != nil {
		fmt.Fprintf(&b, "  doubt      said to be unknown %s since %s, last %s\n", term.Count(r.Doubt.Count, "time"), view.When(now, r.Doubt.First), view.When(now, r.Doubt.Last))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// isFinding tells the classes of what is known of a server and a domain.
func isFinding(class string) bool {
	return class == store.AcceptAll.String() || class == store.Selective.String()
}

// classWords is a class; that of a finding with what it means.
func classWords(class string) string {
	switch class {
	case store.AcceptAll.String():
		return class + ": this server accepts every name, so its answers prove nothing"
	case store.Selective.String():
		return class + ": this server refuses unknown names, so its answers count"
	}
	return view.Clean(class)
}

func (k commands) cacheForget() *cobra.Command {
	var all, yes bool
	cmd := &cobra.Command{
		Use:   "forget RECIPIENT|@DOMAIN... | --all",
		Short: "forget recipients, whole domains or everything, so that they are asked about again",
		Long: `forget removes what is remembered about recipients ("someone@example.com") or of whole
domains ("@example.com"), findings about them included. The next question asks the mail
server again. Gateways that share a memory (memcached) forget within a minute too.

--all forgets everything, on all gateways that share a memory: every recipient is asked about
again. On a terminal it asks for confirmation, unless --yes is given.

Exit code 75: a store could not be reached and may still remember, or no memcached server
could be reached. In the second case only this gateway has forgotten so far; the others
follow when a server is back.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return exit.With(exit.Usage, errors.New("forget takes recipients and domains, or --all"))
			}
			if all {
				return k.forgetAll(cmd, yes)
			}
			return k.withDaemon(cmd, func(ctx context.Context, c *Client) error {
				done, err := c.Forget(ctx, args...)
				return forgotten(cmd, done, err)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "forget everything")
	cmd.Flags().BoolVar(&yes, "yes", false, "with --all: do not ask for confirmation")
	return cmd
}

func (k commands) cacheFlush() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "flush",
		Short: "forget everything: the same as forget --all",
		Long: `flush is "cache forget --all". It has nothing to do with a mail queue: every recipient is
asked about again, on all gateways that share a memory. On a terminal it asks for
confirmation, unless --yes is given. Exit code 75 means the same as for cache forget.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return k.forgetAll(cmd, yes) },
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask for confirmation")
	return cmd
}

func (k commands) forgetAll(cmd *cobra.Command, yes bool) error {
	if !yes && !confirmed(cmd.InOrStdin(), cmd.ErrOrStderr(), isTerminal(cmd.InOrStdin())) {
		return exit.With(exit.Usage, errors.New("nothing was forgotten"))
	}
	return k.withDaemon(cmd, func(ctx context.Context, c *Client) error {
		done, err := c.Flush(ctx)
		return forgotten(cmd, done, err)
	})
}

// confirmed asks a person. A script, which has no terminal, means what it says.
func confirmed(in io.Reader, out io.Writer, terminal bool) bool {
	if !terminal {
		return true
	}
	fmt.Fprint(out, "Forget every remembered recipient, on all gateways that share this memory? [y/N] ")
	line, _ := bufio.NewReader(io.LimitReader(in, 100)).ReadString('\n')
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes"
}

func isTerminal(in io.Reader) bool {
	file, ok := in.(*os.File)
	return ok && isatty.IsTerminal(file.Fd())
}

func forgotten(cmd *cobra.Command, done Forgotten, err error) error {
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), "forgot %s\n", term.Count(done.Records, "record")); err != nil {
		return err
	}
	if done.Incomplete != "" {
		return exit.With(exit.Tempfail, fmt.Errorf("not forgotten everywhere: %s", done.Incomplete))
	}
	return nil
}

func (k commands) cacheStats() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "show how much is remembered, and how often it helped",
		Long: `stats shows each store from the top. Hits and misses are look-ups since the start of the
daemon. A question that finds nothing in memory looks in the stores below, then for what
is known about its domain at the server, and once more below before the answer is written.
Records are recipients and such findings. The stores hold the same ones, so their numbers
do not add up.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return k.withDaemon(cmd, func(ctx context.Context, c *Client) error {
				places, err := c.Stats(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					return term.JSON(cmd.OutOrStdout(), places)
				}
				return printPlaces(cmd.OutOrStdout(), places)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON list")
	return cmd
}

func printPlaces(w io.Writer, places []Place) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%-10s %12s %12s %12s %12s %12s %9s %9s\n", "place", "records", "refusals", "at most", "hits", "misses", "evicted", "errors")
	for _, p := range places {
		if p.Capacity == 0 { // a place that cannot say what it holds
			fmt.Fprintf(&b, "%-10s %12s %12s %12s", p.Name, "-", "-", "-")
		} else {
			fmt.Fprintf(&b, "%-10s %12d %12d %12d", p.Name, p.Entries, p.Refusals, p.Capacity)
		}
		fmt.Fprintf(&b, " %12d %12d %9d %9d\n", p.Hits, p.Misses, p.Evicted, p.Errors)
		if p.Detail != "" {
			fmt.Fprintf(&b, "           %s\n", view.Clean(p.Detail))
		}
		for _, s := range p.Servers {
			b.WriteString(serverLine(&s))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// serverLine is what is known of one server of a shared place.
func serverLine(s *PlaceServer) string {
	state := "alive"
	if !s.Alive {
		state = "dead"
		if s.Since != nil {
			state += " since " + term.Time(*s.Since)
		}
		state += ": " + s.Error
	}
	return fmt.Sprintf("           %s: %s, %s, %s, %s, %.2f ms; %s\n", view.Clean(s.Name), term.Count(s.Hits, "hit"), term.Count(s.Misses, "miss"),
		term.Count(int(s.Errors), "error"), term.Count(int(s.Bad), "bad value"), s.LatencyMS, view.Clean(state)) //nolint:gosec // counts of one process
}

func (k commands) cacheExport() *cobra.Command {
	return &cobra.Command{
		Use:   "export [FILE]",
		Short: "write everything that is remembered, one JSON object a line",
		Long: `export writes all records to FILE, or to standard output, in the format that import
reads (docs/cache-export.md). If an export fails, an existing FILE is left unchanged.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return k.withDaemon(cmd, func(ctx context.Context, c *Client) error {
				p := term.NewProgress(cmd.ErrOrStderr())
				n := 0
				export := func(out io.Writer) (err error) {
					n, err = c.Export(ctx, "", out, func(records int) { p.Report(term.Count(records, "record")) })
					return err
				}
				err := error(nil)
				if len(args) == 1 && args[0] != "-" {
					err = replaceFile(args[0], export)
				} else {
					err = export(cmd.OutOrStdout())
				}
				if err == nil {
					fmt.Fprintf(cmd.ErrOrStderr(), "exported %s\n", term.Count(n, "record"))
				}
				return err
			})
		},
	}
}

// replaceFile has write make a file of mode 0600, which takes its name when it is
// whole. An error of write's leaves a file that was there as it was; where there was
// none, what was written is kept. A device or a pipe is written to as it is; a symbolic link is
// refused.
func replaceFile(path string, write func(io.Writer) error) error {
	info, err := os.Lstat(path) // a link is not followed: it may lead to a file of somebody else's
	there := err == nil
	if there && info.Mode()&os.ModeSymlink != 0 {
		return exit.With(exit.Data, fmt.Errorf("export: %s is a symbolic link; name the file itself", path))
	}
	if there && !info.Mode().IsRegular() {
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return exit.With(exit.Data, fmt.Errorf("export: %w", err))
		}
		return errors.Join(write(file), file.Close())
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".rcptgate-export-")
	if err != nil {
		return exit.With(exit.Data, fmt.Errorf("export: %w", err))
	}
	written := write(file)
	size, _ := file.Seek(0, io.SeekCurrent)
	if written == nil {
		written = file.Sync()
	}
	if err := file.Close(); written == nil {
		written = err
	}
	if written != nil && (there || size == 0) {
		return errors.Join(written, os.Remove(file.Name()))
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return errors.Join(written, exit.With(exit.Data, fmt.Errorf("export: %w", err)), os.Remove(file.Name()))
	}
	return written
}

func (k commands) cacheImport() *cobra.Command {
	return &cobra.Command{
		Use:   "import [FILE]",
		Short: "remember what export wrote, unless something newer is known",
		Long: `import reads what export wrote from FILE, or from standard input. A bad line is reported
and left out; the others are imported. Exit code 65 means that there were bad lines, or that
the end is missing.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return k.withDaemon(cmd, func(ctx context.Context, c *Client) error {
				in := cmd.InOrStdin()
				if len(args) == 1 && args[0] != "-" {
					file, err := os.Open(args[0])
					if err != nil {
						return exit.With(exit.Data, fmt.Errorf("import: %w", err))
					}
					defer func() { _ = file.Close() }()
					in = file
				}
				p := term.NewProgress(cmd.ErrOrStderr())
				done, err := c.Import(ctx, in, func(octets int64) { p.Report(fmt.Sprintf("%d KiB", octets>>10)) })
				if err != nil {
					return err
				}
				return imported(cmd, &done)
			})
		},
	}
}

func imported(cmd *cobra.Command, done *Imported) error {
	fmt.Fprintf(cmd.OutOrStdout(), "imported %s; skipped %d that are older than what is known here, %d that have ended and %s\n",
		term.Count(done.Taken, "record"), done.Kept, done.Expired, term.Count(done.Bad, "bad line"))
	for _, text := range done.Errors {
		fmt.Fprintln(cmd.ErrOrStderr(), view.Clean(text))
	}
	switch {
	case done.Bad > 0:
		return exit.With(exit.Data, fmt.Errorf("%s bad", term.Count(done.Bad, "line")))
	case done.Truncated:
		return exit.With(exit.Data, errors.New("the last line is missing: the export was cut off"))
	}
	return nil
}
