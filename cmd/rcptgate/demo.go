// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rcptgate"
	"rcptgate/backend/sim"
	"rcptgate/config/setting"
	"rcptgate/front/milter/mta"
	"rcptgate/front/milter/wire"
)

func newDemoCommand() *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "show the whole path on one machine, no MTA needed",
		Long: `demo starts a small mail server with a few users, the gate in front of it, and a client
that talks to the gate over the milter protocol as an MTA would. Everything is on this
machine and in a temporary folder that is removed at the end. It then stays up, with its
status page, until it is interrupted.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDemo(cmd.Context(), cmd.OutOrStdout(), once)
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "end after the show")
	return cmd
}

const demoDomain = "demo.example"

func demoUsers() sim.Behaviour {
	return sim.Behaviour{
		Users: []string{"ann@" + demoDomain, "bob@" + demoDomain},
		Full:  []string{"carl@" + demoDomain},
	}
}

// runDemo sets the stage, plays, and clears up.
func runDemo(ctx context.Context, out io.Writer, once bool) error {
	dir, err := os.MkdirTemp("", "rcptgate-demo-")
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	server := sim.New(sim.Config{Name: "mail." + demoDomain, Behaviour: demoUsers()})
	if err := server.Start(); err != nil {
		return fmt.Errorf("demo: start the mail server: %w", err)
	}
	defer server.Stop()
	l, err := demoConfig(dir, server.Backend())
	if err != nil {
		return err
	}
	logFile, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600) // #nosec G304 -- our own folder
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer func() { _ = logFile.Close() }()

	d, err := startDaemon(ctx, l, daemonOptions{stderr: logFile})
	if err != nil {
		return err
	}
	defer d.stop()
	show := &demo{out: out, server: server, socket: l.Listen.Milter[0]}
	show.say("rcptgate demo: a mail server, the gate in front of it, and an MTA that asks the gate.\n\n")
	show.say("  mail server   %s has ann and bob; carl's mailbox is full\n", server.Backend())
	show.say("  gate          milter %s, status http://%s/\n\n", show.socket, d.httpAddress())
	if err := show.play(ctx); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if once {
		return nil
	}
	show.say("\nThe mail server is up again and all of it stays up until you press Ctrl-C. Meanwhile, elsewhere:\n\n"+
		"  open http://%s/\n  %s -c %s check bob@%s\n  %s -c %s cache list\n  tail -f %s\n\n",
		d.httpAddress(), os.Args[0], l.file.Name, demoDomain, os.Args[0], l.file.Name, logFile.Name())
	<-ctx.Done()
	return nil
}

// demoConfig writes the configuration as a user would, so that the command line
// can be pointed at it.
func demoConfig(dir, backend string) (*loaded, error) {
	text := fmt.Sprintf(`hostname = "gateway.%s"
state    = %q

[listen]
milter = [%q]
http   = "127.0.0.1:0"

[[domain]]
name    = %q
backend = [%q]
`, demoDomain, dir, "unix:"+filepath.Join(dir, "milter.sock"), demoDomain, backend)
	path := filepath.Join(dir, "rcptgate.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	return readConfig(path)
}

// demo plays the scenes. Each says what is to be seen, and fails when it is not:
// a show that lies is worse than none.
type demo struct {
	out    io.Writer
	server *sim.Server
	socket setting.Socket
	scenes int
	client *mta.Client
}

func (s *demo) say(format string, args ...any) { fmt.Fprintf(s.out, format, args...) }

func (s *demo) play(ctx context.Context) error {
	client, err := mta.Dial(ctx, s.socket, mta.Options{Timeout: 15 * time.Second})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	s.client = client
	if _, err := client.Connect("sender.example", netip.MustParseAddrPort("192.0.2.7:40000")); err != nil {
		return err
	}
	if _, err := client.Helo("sender.example"); err != nil {
		return err
	}
	if _, err := client.Mail("<someone@sender.example>", nil); err != nil {
		return err
	}
	for _, scene := range []func() error{
		func() error {
			return s.scene("Nobody of this name: refused while the sender is still connected, in the mail server's words.", "nobody", 550)
		},
		func() error { return s.scene("Ann exists: taken.", "ann", 250) },
		func() error { return s.scene("Ann once more: from memory, nobody is asked.", "ANN", 250) },
		func() error {
			return s.scene("Carl's mailbox is full: the sender shall try again later.", "carl", 452)
		},
		s.stopServer,
		func() error {
			return s.scene("The mail server is down. Ann is known to be good: still taken.", "ann", 250)
		},
		func() error {
			return s.scene("Nobody can say whether Bob exists: later, please.", "bob", 451)
		},
		s.server.Restart,
	} {
		if err := scene(); err != nil {
			return err
		}
	}
	return client.Quit()
}

func (s *demo) stopServer() error {
	s.server.Stop()
	return nil
}

// scene asks about one recipient and shows the answer and who gave it.
func (s *demo) scene(caption, local string, want int) error {
	s.scenes++
	s.say("%d. %s\n", s.scenes, caption)
	recipient := local + "@" + demoDomain
	asked := s.server.Asked(strings.ToLower(recipient))
	start := time.Now()
	r, err := s.client.Rcpt("<"+recipient+">", wire.Macro{Name: "{rcpt_addr}", Value: recipient})
	if err != nil {
		return err
	}
	took := time.Since(start)
	who := "from memory"
	switch {
	case s.server.Asked(strings.ToLower(recipient)) > asked:
		who = "asked the mail server"
	case r.Action == rcptgate.Tempfail && want == 451:
		who = "nobody could be asked"
	}
	code, reply := r.Code, fmt.Sprintf("%d %s %s", r.Code, r.Enhanced, r.Text)
	if !r.Action.Refuses() {
		code, reply = 250, "250 (taken)"
	}
	s.say("   RCPT TO:<%s>\n   %s\n   %s, %s\n\n", recipient, reply, who, took.Round(10*time.Microsecond))
	if code != want {
		return fmt.Errorf("%s: %w: %s, not %d", recipient, errDemo, reply, want)
	}
	return nil
}

var errDemo = errors.New("the gate answered otherwise than it should")
