// SPDX-License-Identifier: BSD-2-Clause

package quotad

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"rcptgate/check/quota/wire"
	"rcptgate/config/setting"
	"rcptgate/kit/exit"
	"rcptgate/kit/keyfile"
	"rcptgate/kit/neterr"
	"rcptgate/unit"
	"rcptgate/view"
)

// Unit is the quota agent: commands of its own, and nothing in the gateway's daemon.
func Unit() unit.Unit {
	return unit.Unit{Name: "agent", Commands: commands, Files: []unit.File{{
		Name: "rcptgate-agent.toml", Short: "configuration of the quota agent", Parts: Parts(),
		Long: `The agent on the mail store, rcptgate-agent-quota(1), reads the file ` + DefaultFile + `. It is
TOML (toml.io), read strictly: an unknown key or a value that is not allowed is an error with its line.
At least one [[store]] is needed. Sizes are whole numbers with the units B, KB, MB, GB and TB, which
count by 1024.`,
	}}}
}

func commands(*unit.CLI) []*cobra.Command {
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "run on the mail store, or ask an agent",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(quotaCommand(), askCommand())
	return []*cobra.Command{cmd}
}

// exitCodes is what the commands' manuals say of their exit codes.
const exitCodes = `The exit code is 0 if there is room, 77 if the mailbox is full, 67 if it is not known, 75
if the agent could not find out.`

func quotaCommand() *cobra.Command {
	var once, size string
	cmd := &cobra.Command{
		Use:   "quota",
		Short: "answer how full mailboxes are",
		Long: `quota runs the agent in the foreground on a mail store. It answers gateways, over UDP,
TCP and HTTP, how much room a mailbox has. Its configuration is rcptgate-agent.toml(5), by default
` + DefaultFile + `. It writes nothing, and needs no rights except to read
the mail store. SIGHUP reads the configuration again, addresses to listen on aside; a file
with an error changes nothing.

With --once it answers for one mailbox on standard output, and ends. ` + exitCodes,
		Example: `  rcptgate agent quota -c /etc/rcptgate/agent.toml
  rcptgate agent quota --once ann@example.org --size 20MB`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := configOf(cmd)
			if err != nil {
				return exit.With(exit.Config, err)
			}
			a, err := New(c, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), logOptions())))
			if err != nil {
				return exit.With(exit.Config, err)
			}
			if once != "" {
				octets, err := setting.ParseSize(size)
				if err != nil {
					return exit.With(exit.Usage, fmt.Errorf("--size: %w", err))
				}
				answer := a.Ask(cmd.Context(), once, int64(octets))
				return printAnswer(cmd.OutOrStdout(), once, &answer)
			}
			hangups := make(chan os.Signal, 1)
			signal.Notify(hangups, syscall.SIGHUP)
			defer signal.Stop(hangups)
			return exit.With(exit.Unavailable, a.Run(cmd.Context(), func() (*Config, error) { return LoadConfig(c.Source) }, hangups))
		},
	}
	cmd.Flags().StringVar(&once, "once", "", "answer for this `MAILBOX` and end")
	cmd.Flags().StringVar(&size, "size", "0", "with --once: for a message of this `SIZE`, such as 20MB")
	return cmd
}

// configOf reads the file that the command line names.
func configOf(cmd *cobra.Command) (*Config, error) {
	name, err := cmd.Flags().GetString("config")
	if err != nil {
		return nil, err
	}
	if name == "" {
		name = DefaultFile
	}
	return LoadConfig(name)
}

// logOptions writes levels as the daemon does ("level=info"), and leaves the time out of lines
// that go to the journal, which has it.
func logOptions() *slog.HandlerOptions {
	journal := os.Getenv("JOURNAL_STREAM") != ""
	return &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		switch {
		case len(groups) > 0:
		case a.Key == slog.TimeKey && journal:
			return slog.Attr{}
		case a.Key == slog.LevelKey:
			return slog.String(a.Key, strings.ToLower(a.Value.String()))
		}
		return a
	}}
}

func askCommand() *cobra.Command {
	var plain bool
	var size, keyFile string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "ask SOURCE MAILBOX",
		Short: "ask an agent, or another quota source, how full a mailbox is",
		Long: `ask puts one question to an agent and prints its answer. SOURCE is udp:HOST:PORT,
tcp:HOST:PORT or the address of an agent's HTTP, http://HOST:PORT.

With --key-file the question is signed and the answer has numbers. Without it, and with
--plain, udp and tcp take the plain words, which say no more than whether there is room. With
--plain http is asked for the line of the CGI.

SOURCE may also be any other source of [quota] in rcptgate.toml(5), such as policy:HOST:PORT or
http://HOST/cgi-bin/quota.cgi?u={user}. It is asked for MAILBOX as it is written. For a doveadm:
source, --key-file is the file that doveadm_key_file names. ` + exitCodes,
		Example: `  rcptgate agent ask --key-file /etc/rcptgate/quota.key udp:10.0.0.5:8049 ann@example.org
  rcptgate agent ask --plain tcp:127.0.0.1:8049 ann
  rcptgate agent ask --size 20M policy:127.0.0.1:12340 ann@example.org`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			octets, err := setting.ParseSize(size)
			if err != nil {
				return exit.With(exit.Usage, fmt.Errorf("--size: %w", err))
			}
			q := inquiry{user: args[1], size: int64(octets), plain: plain}
			if err := q.readKey(keyFile, args[0]); err != nil {
				return exit.With(exit.Config, err)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			answer, err := q.ask(ctx, args[0])
			switch {
			case errors.Is(err, errSource):
				return exit.With(exit.Usage, fmt.Errorf("ask %s: %w", args[0], err))
			case err != nil:
				return exit.With(exit.Tempfail, fmt.Errorf("ask %s: %w", args[0], neterr.Bare(err)))
			}
			return printAnswer(cmd.OutOrStdout(), args[1], &answer)
		},
	}
	cmd.Flags().BoolVar(&plain, "plain", false, "use the plain words, without a key")
	cmd.Flags().StringVar(&size, "size", "0", "ask about a message of this `SIZE`, such as 20MB")
	cmd.Flags().StringVar(&keyFile, "key-file", "", "`FILE` of keys, as in [listen] key_file of rcptgate-agent.toml(5), or of a doveadm: source's key")
	cmd.Flags().DurationVar(&timeout, "timeout", 3*time.Second, "how long to wait for the answer")
	return cmd
}

// readKey reads the key for a source, if a file is named.
func (q *inquiry) readKey(file, source string) (err error) {
	switch {
	case file == "" || q.plain:
	case strings.HasPrefix(source, "doveadm:"):
		var text []byte
		text, err = keyfile.Read(file)
		q.doveadm = strings.TrimSpace(string(text))
	default:
		q.keys, err = wire.LoadKeys(file)
	}
	return err
}

// printAnswer writes an answer for people, and gives the exit code.
func printAnswer(w io.Writer, user string, a *wire.Answer) error {
	words := []string{view.Clean(user) + ":", map[wire.State]string{wire.Room: "room", wire.Full: "full", wire.Unknown: "not known", wire.Error: "could not find out: " + a.Why}[a.State]}
	add := func(name string, n int64, unlimited string) {
		switch {
		case n > 0 || (n == 0 && unlimited == ""):
			words = append(words, fmt.Sprintf("%s=%d", name, n))
		case n == 0:
			words = append(words, name+"="+unlimited)
		}
	}
	add("used", a.Used, "")
	add("limit", a.Hard, "none")
	if a.Soft > 0 {
		add("soft", a.Soft, "")
	}
	add("messages", a.Messages, "")
	add("max", a.Max, "none")
	if a.Age >= time.Second {
		words = append(words, "age="+a.Age.Round(time.Second).String())
	}
	if _, err := fmt.Fprintln(w, strings.Join(words, " ")); err != nil {
		return exit.With(exit.Software, err)
	}
	switch a.State {
	case wire.Full:
		return exit.Quietly(exit.Refused)
	case wire.Unknown:
		return exit.Quietly(exit.UnknownUser)
	case wire.Error:
		return exit.Quietly(exit.Tempfail)
	}
	return nil
}
