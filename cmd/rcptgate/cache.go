// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rcptgate/front/admin"
)

func newCacheCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "look at, forget, save and load what is remembered",
		Long: `cache speaks with the running daemon about its remembered answers. Exit code 69: the
daemon is not reachable.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCacheList(), newCacheShow(), newCacheForget(), newCacheFlush(), newCacheStats(), newCacheExport(), newCacheImport())
	return cmd
}

// withDaemon runs f with a client of the daemon that the configuration names.
func withDaemon(cmd *cobra.Command, f func(ctx context.Context, c *admin.Client) error) error {
	l, err := loadConfig(cmd)
	if err != nil {
		return err
	}
	client := admin.NewClient(l.adminSocket().Address)
	defer client.Close()
	if err := f(cmd.Context(), client); err != nil {
		return clientError(err)
	}
	return nil
}

func newCacheList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list [@DOMAIN]",
		Short: "list what is remembered, a recipient a line",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withDaemon(cmd, func(ctx context.Context, c *admin.Client) error {
				out := cmd.OutOrStdout()
				return c.List(ctx, strings.Join(args, ""), func(r admin.Record) error {
					if asJSON {
						return printJSON(out, r)
					}
					_, err := fmt.Fprintln(out, recordLine(&r))
					return err
				})
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a recipient")
	return cmd
}

// recordLine is one record in one line: the key, then its answers.
func recordLine(r *admin.Record) string {
	parts := []string{printable(r.Name())}
	for _, a := range []*admin.Answer{r.Standing, r.Transient} {
		if a != nil {
			parts = append(parts, fmt.Sprintf("%s %d %s %s, learnt %s, ends %s", a.Class, a.Code, a.Enhanced, printable(a.Backend), when(a.Learnt), when(a.Expire)))
		}
	}
	return strings.Join(parts, "\t")
}

func when(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

func newCacheShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show RECIPIENT|@DOMAIN",
		Short: "show everything that is remembered of one recipient or about a domain",
		Long: `show prints what is remembered of one recipient; of a domain ("@example.com") how many
recipients are remembered and, for each server, whether it was found to take every name
there. Exit code 67: nothing is remembered.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withDaemon(cmd, func(ctx context.Context, c *admin.Client) error {
				if domain, ok := strings.CutPrefix(args[0], "@"); ok {
					return showDomain(ctx, cmd.OutOrStdout(), c, domain, asJSON)
				}
				r, err := c.Show(ctx, args[0])
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), r)
				}
				return printRecord(cmd.OutOrStdout(), &r)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func showDomain(ctx context.Context, w io.Writer, c *admin.Client, domain string, asJSON bool) error {
	d, err := c.Domain(ctx, domain)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(w, d)
	}
	if _, err := fmt.Fprintf(w, "@%s: %s remembered, %s about servers\n", printable(d.Domain), count(d.Recipients, "recipient"), count(len(d.Findings)+d.More, "finding")); err != nil {
		return err
	}
	for i := range d.Findings {
		if err := printRecord(w, &d.Findings[i]); err != nil {
			return err
		}
	}
	return nil
}

func printRecord(w io.Writer, r *admin.Record) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (from %s)\n", printable(r.Name()), strings.TrimSpace(r.Source+" "+printable(r.Server)))
	for _, a := range []*admin.Answer{r.Standing, r.Transient} {
		if a == nil {
			continue
		}
		fmt.Fprintf(&b, "  %s\n    reply    %d %s %s\n    backend  %s\n    learnt   %s (%s ago)\n", a.Class, a.Code, a.Enhanced,
			strings.ReplaceAll(a.Text, "\n", "\n             "), printable(a.Backend), when(a.Learnt), time.Since(a.Learnt).Round(time.Second))
		if a.Refresh != nil {
			fmt.Fprintf(&b, "    refresh  %s\n", when(*a.Refresh))
		}
		fmt.Fprintf(&b, "    ends     %s\n", when(a.Expire))
	}
	if r.Doubt != nil {
		fmt.Fprintf(&b, "  doubt      said to be unknown %s since %s, last %s\n", count(r.Doubt.Count, "time"), when(r.Doubt.First), when(r.Doubt.Last))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func newCacheForget() *cobra.Command {
	return &cobra.Command{
		Use:   "forget RECIPIENT|@DOMAIN...",
		Short: "forget recipients or whole domains, so that they are asked about again",
		Long: `forget removes what is remembered of recipients ("someone@example.com") or of whole
domains ("@example.com"), findings about them included. The next question asks the mail
server again. Where gateways share a memory (memcached) the others forget within a minute.
Exit code 75: a place could not be reached and may still remember, or no memcached server
could be told: then only this gateway has forgotten so far, and the others will when one
is back.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withDaemon(cmd, func(ctx context.Context, c *admin.Client) error {
				done, err := c.Forget(ctx, args...)
				return forgotten(cmd, done, err)
			})
		},
	}
}

func newCacheFlush() *cobra.Command {
	return &cobra.Command{
		Use:   "flush",
		Short: "forget everything",
		Long: `flush forgets everything that is remembered, on all gateways that share a memory
(memcached). Exit code 75: as of cache forget.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withDaemon(cmd, func(ctx context.Context, c *admin.Client) error {
				done, err := c.Flush(ctx)
				return forgotten(cmd, done, err)
			})
		},
	}
}

func forgotten(cmd *cobra.Command, done admin.Forgotten, err error) error {
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), "forgot %s\n", count(done.Records, "record")); err != nil {
		return err
	}
	if done.Incomplete != "" {
		return exitWith(exitTempfail, fmt.Errorf("not forgotten everywhere: %s", done.Incomplete))
	}
	return nil
}

func newCacheStats() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "show how much is remembered, and how often it helped",
		Long: `stats shows each place from the top. Hits and misses are look-ups since the start of the
daemon: a question that finds nothing in memory looks in the places below, then for what
is known of its domain at the server, and below once more before the answer is written.
Records are recipients and such findings; places hold the same ones, they do not add up.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withDaemon(cmd, func(ctx context.Context, c *admin.Client) error {
				places, err := c.Stats(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), places)
				}
				return printPlaces(cmd.OutOrStdout(), places)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON list")
	return cmd
}

func printPlaces(w io.Writer, places []admin.Place) error {
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
			fmt.Fprintf(&b, "           %s\n", printable(p.Detail))
		}
		for _, s := range p.Servers {
			b.WriteString(serverLine(&s))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// serverLine is what is known of one server of a shared place.
func serverLine(s *admin.PlaceServer) string {
	state := "alive"
	if !s.Alive {
		state = "dead"
		if s.Since != nil {
			state += " since " + when(*s.Since)
		}
		state += ": " + s.Error
	}
	return fmt.Sprintf("           %s: %d hits, %d misses, %s, %s, %.2f ms; %s\n", printable(s.Name), s.Hits, s.Misses,
		count(int(s.Errors), "error"), count(int(s.Bad), "bad value"), s.LatencyMS, printable(state)) //nolint:gosec // counts of one process
}

func newCacheExport() *cobra.Command {
	return &cobra.Command{
		Use:   "export [FILE]",
		Short: "write everything that is remembered, a JSON object a line",
		Long: `export writes all records to FILE, or to standard output, in the format that import
reads (docs/cache-export.md). An export that fails leaves a FILE that was there as it was.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withDaemon(cmd, func(ctx context.Context, c *admin.Client) error {
				p := newProgress(cmd.ErrOrStderr())
				n := 0
				export := func(out io.Writer) (err error) {
					n, err = c.Export(ctx, "", out, func(records int) { p.tell(count(records, "record")) })
					return err
				}
				err := error(nil)
				if len(args) == 1 && args[0] != "-" {
					err = replaceFile(args[0], export)
				} else {
					err = export(cmd.OutOrStdout())
				}
				if err == nil {
					fmt.Fprintf(cmd.ErrOrStderr(), "exported %s\n", count(n, "record"))
				}
				return err
			})
		},
	}
}

// replaceFile has write make a file of mode 0600, which takes its name when it is
// whole. An error of write's leaves a file that was there as it was; where there was
// none, what was written is kept. What is no regular file is written to as it is.
func replaceFile(path string, write func(io.Writer) error) error {
	info, err := os.Stat(path)
	there := err == nil
	if there && !info.Mode().IsRegular() {
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return exitWith(exitData, fmt.Errorf("export: %w", err))
		}
		return errors.Join(write(file), file.Close())
	}
	if there {
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return exitWith(exitData, fmt.Errorf("export: %w", err))
		}
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".rcptgate-export-")
	if err != nil {
		return exitWith(exitData, fmt.Errorf("export: %w", err))
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
		return errors.Join(written, exitWith(exitData, fmt.Errorf("export: %w", err)), os.Remove(file.Name()))
	}
	return written
}

func newCacheImport() *cobra.Command {
	return &cobra.Command{
		Use:   "import [FILE]",
		Short: "remember what export wrote, unless something newer is known",
		Long: `import reads what export wrote from FILE, or from standard input. A bad line is named,
left out, and does not stop the others. Exit code 65: there were bad lines, or the end
is missing.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withDaemon(cmd, func(ctx context.Context, c *admin.Client) error {
				in := cmd.InOrStdin()
				if len(args) == 1 && args[0] != "-" {
					file, err := os.Open(args[0])
					if err != nil {
						return exitWith(exitData, fmt.Errorf("import: %w", err))
					}
					defer func() { _ = file.Close() }()
					in = file
				}
				p := newProgress(cmd.ErrOrStderr())
				done, err := c.Import(ctx, in, func(octets int64) { p.tell(fmt.Sprintf("%d KiB", octets>>10)) })
				if err != nil {
					return err
				}
				return imported(cmd, &done)
			})
		},
	}
}

func imported(cmd *cobra.Command, done *admin.Imported) error {
	fmt.Fprintf(cmd.OutOrStdout(), "took %s, kept %d that were newer here, left out %d that have ended and %d bad\n",
		count(done.Taken, "record"), done.Kept, done.Expired, done.Bad)
	for _, text := range done.Errors {
		fmt.Fprintln(cmd.ErrOrStderr(), printable(text))
	}
	switch {
	case done.Bad > 0:
		return exitWith(exitData, fmt.Errorf("%s bad", count(done.Bad, "line")))
	case done.Truncated:
		return exitWith(exitData, errors.New("the last line is missing: the export was cut off"))
	}
	return nil
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// progress tells, on standard error, how far a long command is: after two seconds,
// then every second.
type progress struct {
	w    io.Writer
	next time.Time
}

func newProgress(w io.Writer) *progress {
	return &progress{w: w, next: time.Now().Add(2 * time.Second)}
}

func (p *progress) tell(how string) {
	if now := time.Now(); now.After(p.next) {
		p.next = now.Add(time.Second)
		fmt.Fprintf(p.w, "%s so far\n", how)
	}
}
