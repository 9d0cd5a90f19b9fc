// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"rcptgate/kit/exit"
	"rcptgate/kit/term"
	"rcptgate/store/memcached"
	"rcptgate/table"
	"rcptgate/table/live"
	"rcptgate/table/open"
	"rcptgate/unit"
	"rcptgate/view"
)

func (p *program) table() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "table",
		Short: "read the map files of the MTAs",
		Long: `table reads map files as they are on disk, while the MTA may be rewriting them, and
changes nothing. A table is written TYPE:FILE as in the MTAs, with or without the ending
that they append:

  hash:/etc/mail/aliases       Berkeley DB (.db), also btree:
  cdb:/etc/postfix/virtual     constant database (.cdb)
  lmdb:/etc/aliases            LMDB as Postfix writes it (.lmdb)
  text:/etc/aliases            aliases(5): name: target, target
  texthash:/etc/mail/access    input of makemap and postmap: key value

"table get" also accepts "memcached:", the alias names that other gateways publish. It asks
the servers that the configuration names.

Exit code 65: the file cannot be read. Exit code 75: it is being written.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.tableGet(), newTableDump(), newTableStat())
	return cmd
}

// withTable opens the table that an argument spells for f.
func withTable(cmd *cobra.Command, spelling string, f func(ctx context.Context, file *open.File) error) error {
	if spelling == publishedTable {
		return exit.With(exit.Usage, fmt.Errorf("table %q: memcached cannot list what it holds; get asks for one name", spelling))
	}
	spec, err := table.ParseSpec(spelling)
	if err != nil {
		return exit.With(exit.Usage, err)
	}
	file, err := open.Open(cmd.Context(), spec, func(err error) {
		fmt.Fprintf(cmd.ErrOrStderr(), "rcptgate: left out: %v\n", err)
	})
	if err == nil {
		defer file.Close() //nolint:errcheck // read-only
		err = f(cmd.Context(), file)
	}
	var has *exit.Error
	switch {
	case err == nil || errors.As(err, &has):
		return err
	case errors.Is(err, live.ErrBusy):
		return exit.With(exit.Tempfail, err)
	}
	return exit.With(exit.Data, err)
}

func (p *program) tableGet() *cobra.Command {
	return &cobra.Command{
		Use:   "get TYPE:FILE KEY",
		Short: "print the value of a key",
		Long: `get prints the value of a key, as "postmap -q" does: first for the key as it is written,
then for the key in lower case. A NUL at the end of keys and values is left out. Exit code
67: the table does not hold the key.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == publishedTable {
				return p.getPublished(cmd, args[1])
			}
			return withTable(cmd, args[0], func(ctx context.Context, file *open.File) error {
				value, found, err := getFrom(ctx, file, args[1])
				if err != nil {
					return err
				}
				if !found {
					return exit.Quietly(exit.UnknownUser)
				}
				_, err = cmd.OutOrStdout().Write(append(value, '\n'))
				return outputError(err)
			})
		},
	}
}

// publishedTable is the spelling of the names that other gateways publish.
const publishedTable = string(table.Memcached) + ":"

// getPublished prints what is published of a name, asking the servers that the
// configuration names.
func (p *program) getPublished(cmd *cobra.Command, name string) error {
	c, err := p.load(cmd)
	if err != nil {
		return err
	}
	cfg := *unit.Part[memcached.Config](c)
	if !cfg.Active() {
		return exit.With(exit.Config, fmt.Errorf("%s: memcached in [cache] is empty, so there is no server to ask", c.Source()))
	}
	client, err := memcached.NewClient(cfg, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)), memcached.ClientOptions{})
	if err != nil {
		return exit.With(exit.Config, err)
	}
	defer client.Close() //nolint:errcheck // nothing is pending
	lower := strings.ToLower(name)
	found, err := memcached.NewNames(client).Find(cmd.Context(), []string{name, lower})
	for _, spelling := range []string{name, lower} {
		if n, ok := found[spelling]; ok {
			if n.Value == "" {
				n.Value = "taken (its targets are not shared)"
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), view.Clean(n.Value))
			return outputError(err)
		}
	}
	if err != nil {
		return exit.With(exit.Tempfail, fmt.Errorf("%s %w", publishedTable, err))
	}
	return exit.Quietly(exit.UnknownUser)
}

var errFound = errors.New("found")

// getFrom looks for a key, and for it in lower case, in one pass. The first wins.
func getFrom(ctx context.Context, file *open.File, key string) (value []byte, found bool, err error) {
	lower := asciiLower(key)
	err = file.Scan(ctx, func(k, v []byte) error {
		k = withoutNUL(k)
		if string(k) == key {
			value, found = append([]byte(nil), withoutNUL(v)...), true
			return errFound
		}
		if !found && string(k) == lower {
			value, found = append([]byte(nil), withoutNUL(v)...), true
		}
		return nil
	})
	if errors.Is(err, errFound) {
		err = nil
	}
	return value, found, err
}

// asciiLower makes ASCII letters lower case, as the programs that write maps do.
func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// withoutNUL takes off the NUL that ends strings in some map files.
func withoutNUL(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == 0 {
		return b[:n-1]
	}
	return b
}

// outputError is for output that cannot be written: not the table's fault.
func outputError(err error) error { return exit.With(exit.Software, err) }

func newTableDump() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "dump TYPE:FILE",
		Short: "print every entry, one on each line",
		Long: `dump prints every entry in the file's order, as "makemap -u" and "postmap -s" do: key, a
tab, value, octet for octet except for a NUL at the end. Other formats: praliases prints
key:value; json prints one object with key and value on each line (octets that are not
UTF-8 become U+FFFD there).`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			write, err := dumpFormat(format)
			if err != nil {
				return exit.With(exit.Usage, err)
			}
			return withTable(cmd, args[0], func(ctx context.Context, file *open.File) error {
				out := bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10)
				n, err := dumpTable(ctx, file, out, term.NewProgress(cmd.ErrOrStderr()), write)
				if flushed := out.Flush(); flushed != nil {
					return outputError(flushed)
				}
				if err != nil && n > 0 {
					return fmt.Errorf("%w (after %s)", err, term.Count(n, "pair"))
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&format, "format", "tab", "output format: `tab`, praliases or json")
	return cmd
}

type dumpLine func(w *bufio.Writer, key, value []byte) error

func dumpFormat(name string) (dumpLine, error) {
	switch name {
	case "tab":
		return separated('\t'), nil
	case "praliases":
		return separated(':'), nil
	case "json":
		return dumpJSON, nil
	}
	return nil, fmt.Errorf("unknown format %q: tab, praliases and json are known", name)
}

func separated(by byte) dumpLine {
	return func(w *bufio.Writer, key, value []byte) error {
		_, _ = w.Write(key) // the writer keeps its first error
		_ = w.WriteByte(by)
		_, _ = w.Write(value)
		return w.WriteByte('\n')
	}
}

func dumpJSON(w *bufio.Writer, key, value []byte) error {
	return term.JSON(w, struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	}{string(key), string(value)})
}

func dumpTable(ctx context.Context, file *open.File, out *bufio.Writer, p *term.Progress, write dumpLine) (n int, err error) {
	err = file.Scan(ctx, func(key, value []byte) error {
		if n++; n%4096 == 0 {
			p.Report(term.Count(n, "pair"))
		}
		if err := write(out, withoutNUL(key), withoutNUL(value)); err != nil {
			return outputError(err)
		}
		return nil
	})
	return n, err
}

// tableStat is what "table stat" says.
type tableStat struct {
	Table    string    `json:"table"`
	Path     string    `json:"path"`
	Type     string    `json:"type"`
	Version  string    `json:"version,omitempty"`
	Detail   string    `json:"detail,omitempty"`
	Entries  int64     `json:"entries"`
	Octets   int64     `json:"octets"`
	Pages    int64     `json:"pages,omitempty"`
	Modified time.Time `json:"modified"`
	AgeS     int64     `json:"age_s"`
	Complete bool      `json:"complete_mark"`
}

func newTableStat() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "stat TYPE:FILE",
		Short: "print type, version, entries and age of a table",
		Long: `stat reads the whole table and prints its type, how many entries it holds, and when it was
written. "complete mark" says whether it holds the entry "@", with which newaliases and
postalias end a database.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withTable(cmd, args[0], func(ctx context.Context, file *open.File) error {
				st, err := statTable(ctx, file, term.NewProgress(cmd.ErrOrStderr()))
				if err != nil {
					return err
				}
				if asJSON {
					return outputError(term.JSON(cmd.OutOrStdout(), st))
				}
				return outputError(st.print(cmd.OutOrStdout()))
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func statTable(ctx context.Context, file *open.File, p *term.Progress) (*tableStat, error) {
	info, err := file.Stat(ctx)
	if err != nil {
		return nil, err
	}
	st := &tableStat{
		Table: file.Spec.String(), Path: file.Spec.Path(), Type: info.Type, Version: info.Version, Detail: info.Detail,
		Octets: file.Size, Pages: info.Pages, Modified: file.Modified, AgeS: int64(time.Since(file.Modified).Seconds()),
	}
	err = file.Scan(ctx, func(key, value []byte) error {
		if st.Entries++; st.Entries%4096 == 0 {
			p.Report(term.Count(int(st.Entries), "pair"))
		}
		st.Complete = st.Complete || string(withoutNUL(key)) == "@" && string(withoutNUL(value)) == "@"
		return nil
	})
	return st, err
}

func (st *tableStat) print(w io.Writer) error {
	var b strings.Builder
	line := func(word, text string) {
		if text != "" {
			fmt.Fprintf(&b, "%-14s %s\n", word, text)
		}
	}
	line("file", view.Clean(st.Path))
	line("type", st.Type)
	line("version", st.Version)
	line("detail", st.Detail)
	line("entries", fmt.Sprint(st.Entries))
	line("octets", fmt.Sprint(st.Octets))
	if st.Pages > 0 {
		line("pages", fmt.Sprint(st.Pages))
	}
	line("modified", view.When(time.Now(), st.Modified))
	line("complete mark", map[bool]string{true: "yes", false: "no"}[st.Complete])
	if !utf8.ValidString(b.String()) {
		return errors.New("the description is not UTF-8")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
