// SPDX-License-Identifier: BSD-2-Clause

package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rcptgate/kit/exit"
	"rcptgate/kit/term"
	"rcptgate/view"
)

func (k commands) cache() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "inspect and edit the answer cache",
		Long: `cache shows and changes what the running daemon remembers. Exit code 69: the daemon cannot
be reached.`,
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
		Short: "list what is remembered, a recipient a line",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return k.withDaemon(cmd, func(ctx context.Context, c *Client) error {
				out := cmd.OutOrStdout()
				return c.List(ctx, strings.Join(args, ""), func(r Record) error {
					if asJSON {
						return term.JSON(out, r)
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
func recordLine(r *Record) string {
	parts := []string{view.Clean(r.Name())}
	for _, a := range []*Answer{r.Standing, r.Transient} {
		if a != nil {
			parts = append(parts, fmt.Sprintf("%s %d %s %s, learnt %s, ends %s", a.Class, a.Code, a.Enhanced, view.Clean(a.Backend), term.Time(a.Learnt), term.Time(a.Expire)))
		}
	}
	return strings.Join(parts, "\t")
}

func (k commands) cacheShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show RECIPIENT|@DOMAIN",
		Short: "show everything that is remembered of one recipient or about a domain",
		Long: `show prints what is remembered of one recipient; of a domain ("@example.com") how many
recipients are remembered and, for each server, whether it was found to take every name
there. Exit code 67: nothing is remembered.`,
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
	fmt.Fprintf(&b, "%s (from %s)\n", view.Clean(r.Name()), strings.TrimSpace(r.Source+" "+view.Clean(r.Server)))
	for _, a := range []*Answer{r.Standing, r.Transient} {
		if a == nil {
			continue
		}
		fmt.Fprintf(&b, "  %s\n    reply    %d %s %s\n    backend  %s\n    learnt   %s (%s ago)\n", a.Class, a.Code, a.Enhanced,
			strings.ReplaceAll(a.Text, "\n", "\n             "), view.Clean(a.Backend), term.Time(a.Learnt), time.Since(a.Learnt).Round(time.Second))
		if a.Refresh != nil {
			fmt.Fprintf(&b, "    refresh  %s\n", term.Time(*a.Refresh))
		}
		fmt.Fprintf(&b, "    ends     %s\n", term.Time(a.Expire))
	}
	if r.Doubt != nil {
		fmt.Fprintf(&b, "  doubt      said to be unknown %s since %s, last %s\n", term.Count(r.Doubt.Count, "time"), term.Time(r.Doubt.First), term.Time(r.Doubt.Last))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (k commands) cacheForget() *cobra.Command {
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
			return k.withDaemon(cmd, func(ctx context.Context, c *Client) error {
				done, err := c.Forget(ctx, args...)
				return forgotten(cmd, done, err)
			})
		},
	}
}

func (k commands) cacheFlush() *cobra.Command {
	return &cobra.Command{
		Use:   "flush",
		Short: "forget everything",
		Long: `flush forgets everything that is remembered, on all gateways that share a memory
(memcached). Exit code 75: as of cache forget.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return k.withDaemon(cmd, func(ctx context.Context, c *Client) error {
				done, err := c.Flush(ctx)
				return forgotten(cmd, done, err)
			})
		},
	}
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
		Long: `stats shows each place from the top. Hits and misses are look-ups since the start of the
daemon: a question that finds nothing in memory looks in the places below, then for what
is known of its domain at the server, and below once more before the answer is written.
Records are recipients and such findings; places hold the same ones, they do not add up.`,
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
	return fmt.Sprintf("           %s: %d hits, %d misses, %s, %s, %.2f ms; %s\n", view.Clean(s.Name), s.Hits, s.Misses,
		term.Count(int(s.Errors), "error"), term.Count(int(s.Bad), "bad value"), s.LatencyMS, view.Clean(state)) //nolint:gosec // counts of one process
}

func (k commands) cacheExport() *cobra.Command {
	return &cobra.Command{
		Use:   "export [FILE]",
		Short: "write everything that is remembered, a JSON object a line",
		Long: `export writes all records to FILE, or to standard output, in the format that import
reads (docs/cache-export.md). An export that fails leaves a FILE that was there as it was.`,
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
// none, what was written is kept. What is no regular file is written to as it is.
func replaceFile(path string, write func(io.Writer) error) error {
	info, err := os.Stat(path)
	there := err == nil
	if there && !info.Mode().IsRegular() {
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return exit.With(exit.Data, fmt.Errorf("export: %w", err))
		}
		return errors.Join(write(file), file.Close())
	}
	if there {
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return exit.With(exit.Data, fmt.Errorf("export: %w", err))
		}
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
		Long: `import reads what export wrote from FILE, or from standard input. A bad line is named,
left out, and does not stop the others. Exit code 65: there were bad lines, or the end
is missing.`,
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
	fmt.Fprintf(cmd.OutOrStdout(), "took %s, kept %d that were newer here, left out %d that have ended and %d bad\n",
		term.Count(done.Taken, "record"), done.Kept, done.Expired, done.Bad)
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
