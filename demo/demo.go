// SPDX-License-Identifier: BSD-2-Clause

// Package demo shows the whole path on one machine, without a mail server: a small server
// with a few users, the gate in front of it, and a client that talks to the gate over the
// milter protocol as an MTA would. Every scene says what is to be seen, and fails when it
// is not.
package demo

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

	"rcptgate"
	"rcptgate/backend/sim"
	"rcptgate/config/setting"
	"rcptgate/front/milter/mta"
	"rcptgate/front/milter/wire"
)

// Options are what a show needs.
type Options struct {
	Out     io.Writer
	Once    bool   // end after the show
	Program string // how the program is called, for the commands that it suggests
	// Start begins a gate with the configuration file at path, which logs to log.
	Start func(ctx context.Context, path string, log io.Writer) (Gate, error)
}

// Gate is a running gate.
type Gate interface {
	// Address is where a front listens: "milter", "dashboard".
	Address(front string) string
	Stop()
}

const domain = "demo.example"

func users() sim.Behaviour {
	return sim.Behaviour{
		Users: []string{"ann@" + domain, "bob@" + domain, "dan@" + domain},
		Full:  []string{"carl@" + domain},
	}
}

// Run sets the stage, plays, and clears up.
func Run(ctx context.Context, o Options) error {
	dir, err := os.MkdirTemp("", "rcptgate-demo-")
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	server := sim.New(sim.Config{Name: "mail." + domain, Behaviour: users()})
	if err := server.Start(); err != nil {
		return fmt.Errorf("demo: start the mail server: %w", err)
	}
	defer server.Stop()
	quota, err := startQuotaAgent(dir)
	if err != nil {
		return fmt.Errorf("demo: start the quota agent: %w", err)
	}
	defer quota.Stop()
	path, err := writeConfig(dir, server.Backend(), quota.Source())
	if err != nil {
		return err
	}
	logFile, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600) // #nosec G304 -- our own folder
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer func() { _ = logFile.Close() }()
	gate, err := o.Start(ctx, path, logFile)
	if err != nil {
		return err
	}
	defer gate.Stop()
	page := gate.Address("dashboard")
	show := &show{out: o.Out, server: server, socket: setting.Socket{Network: "unix", Address: socketIn(dir)}}
	show.say("rcptgate demo: a mail server, the gate in front of it, and an MTA that asks the gate.\n\n")
	show.say("  mail server   %s has ann, bob and dan; carl's mailbox is full\n", server.Backend())
	show.say("  quota agent   %s knows that dan has no room left\n", quota.Source())
	show.say("  gate          milter %s, status http://%s/\n\n", show.socket, page)
	if err := show.play(ctx); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if o.Once {
		return nil
	}
	show.say("\nThe mail server is up again and all of it stays up until you press Ctrl-C. Meanwhile, elsewhere:\n\n"+
		"  open http://%[1]s/\n  %[2]s -c %[3]s check bob@%[4]s\n  %[2]s -c %[3]s status\n  %[2]s -c %[3]s cache list\n  tail -f %[5]s\n\n",
		page, o.Program, path, domain, logFile.Name())
	<-ctx.Done()
	return nil
}

func socketIn(dir string) string { return filepath.Join(dir, "milter.sock") }

// writeConfig writes the configuration as a user would, so that the command line
// can be pointed at it.
func writeConfig(dir, backend, quota string) (path string, err error) {
	text := fmt.Sprintf(`hostname = "gateway.%s"
state    = %q
enforce  = true                      # refuse; without this line the gate only rehearses

[listen]
milter = [%q]
http   = "127.0.0.1:0"

[quota]
sources = [%q]

[[domain]]
name    = %q
backend = [%q]
`, domain, dir, "unix:"+socketIn(dir), quota, domain, backend)
	path = filepath.Join(dir, "rcptgate.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("demo: %w", err)
	}
	return path, nil
}

// show plays the scenes. Each says what is to be seen, and fails when it is not:
// a show that lies is worse than none.
type show struct {
	out    io.Writer
	server *sim.Server
	socket setting.Socket
	scenes int
	client *mta.Client
}

func (s *show) say(format string, args ...any) { fmt.Fprintf(s.out, format, args...) }

func (s *show) play(ctx context.Context) error {
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
			return s.scene("No such user: refused while the sender is still connected, in the mail server's words.", "nobody", 550)
		},
		func() error { return s.scene("Ann exists: taken.", "ann", 250) },
		func() error {
			return s.scene("Ann again: answered from memory, the mail server is not asked.", "ANN", 250)
		},
		func() error {
			return s.scene("Carl's mailbox is full: the sender is told to try again later.", "carl", 452)
		},
		func() error {
			return s.scene("Dan exists, but the quota agent on the mail store says that his mailbox has no room.", "dan", 452)
		},
		s.stopServer,
		func() error {
			return s.scene("The mail server is down. Ann is known to be good: still taken.", "ann", 250)
		},
		func() error {
			return s.scene("It cannot say whether Bob exists: the sender is told to try again later.", "bob", 451)
		},
		s.server.Restart,
	} {
		if err := scene(); err != nil {
			return err
		}
	}
	return client.Quit()
}

func (s *show) stopServer() error {
	s.server.Stop()
	return nil
}

// scene asks about one recipient and shows the answer and who gave it.
func (s *show) scene(caption, local string, want int) error {
	s.scenes++
	s.say("%d. %s\n", s.scenes, caption)
	recipient := local + "@" + domain
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
		who = "the mail server could not be asked"
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

var errDemo = errors.New("the gate did not answer as it should")
