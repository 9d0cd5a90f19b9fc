// SPDX-License-Identifier: BSD-2-Clause

package cases

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/config/setting"
	"rcptgate/front/milter/mta"
	"rcptgate/front/milter/wire"
	"rcptgate/test/lab"
)

// A Front is a way to the gate: an MTA, or the milter protocol alone.
type Front interface {
	// Name is "sendmail", "postfix" or "bare".
	Name() string
	// Open begins a session of a client of this front.
	Open(t testing.TB) Session
	// Tables are the map files of this front.
	Tables() Tables
}

// Tables are a front's map files and the tool that makes them.
type Tables struct {
	// Aliases is the alias database as the gate spells it, Virtual and Routes are the settings of the gate that name the
	// virtual users and the next hops.
	Aliases, Virtual, Routes string
	// Rebuild makes the alias database of a text with the MTA's own tool.
	Rebuild func(text string)
}

// A Session is one client's connection. A reply with code 0 means that it has ended.
type Session interface {
	// Mail begins a new transaction; "" is the null reverse-path.
	Mail(sender string) lab.Reply
	// Rcpt asks for one recipient.
	Rcpt(recipient string) lab.Reply
	// Close ends the session.
	Close()
}

// smtpFront is a real MTA.
type smtpFront struct {
	name, addr string
	tables     Tables
}

func (f smtpFront) Name() string { return f.name }

func (f smtpFront) Tables() Tables { return f.tables }

func (f smtpFront) Open(t testing.TB) Session {
	t.Helper()
	return &smtpSession{d: lab.MustDial(t, f.addr)}
}

type smtpSession struct{ d *lab.Dialogue }

func (s *smtpSession) Mail(sender string) lab.Reply {
	if r := s.do("RSET"); r.Code != 250 {
		return r
	}
	return s.do("MAIL FROM:<" + sender + ">")
}

func (s *smtpSession) Rcpt(recipient string) lab.Reply { return s.do("RCPT TO:<" + recipient + ">") }

func (s *smtpSession) Close() { s.d.Close() }

func (s *smtpSession) do(line string) lab.Reply {
	r, err := s.d.Cmd(line)
	if err != nil {
		return lab.Reply{Lines: []string{err.Error()}}
	}
	return r
}

// bareFront is the milter protocol without an MTA: as Postfix speaks it, with the route macros that the map gives.
type bareFront struct {
	socket string            // of the gate, as the gate writes it
	hops   map[string]string // domain: next hop in brackets
	tables Tables
}

// With gives the front map files.
func (f bareFront) With(t Tables) Front {
	f.tables = t
	return f
}

func (bareFront) Name() string { return "bare" }

func (f bareFront) Tables() Tables { return f.tables }

// Bare asks a gate without an MTA. The map names the next hops that an MTA would show, by domain; nil shows none.
func Bare(g *lab.Gate, hops map[string]string) Front { return bare(g, hops) }

func bare(g *lab.Gate, hops map[string]string) bareFront {
	return bareFront{socket: "unix:" + g.Unix, hops: hops}
}

// bareLimit bounds one exchange.
const bareLimit = time.Minute

func (f bareFront) Open(t testing.TB) Session {
	t.Helper()
	socket, err := setting.ParseSocket(f.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), bareLimit)
	defer cancel()
	c, err := mta.Dial(ctx, socket, mta.Options{Timeout: bareLimit})
	if err != nil {
		t.Fatalf("connecting to the gate: %v", err)
	}
	s := &bareSession{c: c, hops: f.hops}
	t.Cleanup(s.Close)
	macros := []wire.Macro{{Name: "j", Value: "mx.gate.test"}, {Name: "_", Value: "unknown [" + lab.ClientHost + "]"}}
	if _, err := c.Connect("["+lab.ClientHost+"]", netip.AddrPortFrom(netip.MustParseAddr(lab.ClientHost), 40000), macros...); err != nil {
		t.Fatalf("connecting to the gate: %v", err)
	}
	if _, err := c.Helo("client.test"); err != nil {
		t.Fatalf("saying HELO to the gate: %v", err)
	}
	return s
}

type bareSession struct {
	c    *mta.Client
	hops map[string]string
	mail bool
}

func (s *bareSession) Mail(sender string) lab.Reply {
	if s.mail {
		if err := s.c.Abort(); err != nil {
			return lab.Reply{Lines: []string{err.Error()}}
		}
	}
	s.mail = true
	return translate(time.Now(), "2.1.0", func() (mta.Response, error) {
		return s.c.Mail(sender, nil, wire.Macro{Name: "{mail_addr}", Value: sender})
	})
}

func (s *bareSession) Rcpt(recipient string) lab.Reply {
	domain := strings.ToLower(recipient[strings.LastIndex(recipient, "@")+1:])
	macros := []wire.Macro{{Name: "{rcpt_addr}", Value: strings.ToLower(recipient)}}
	if hop := s.hops[domain]; hop != "" {
		macros = append(macros, wire.Macro{Name: "{rcpt_mailer}", Value: "smtp"}, wire.Macro{Name: "{rcpt_host}", Value: hop})
	}
	return translate(time.Now(), "2.1.5", func() (mta.Response, error) { return s.c.Rcpt(recipient, macros...) })
}

func (s *bareSession) Close() { _ = s.c.Quit() }

// translate turns a filter's answer into the reply an MTA would give.
func translate(began time.Time, good string, ask func() (mta.Response, error)) lab.Reply {
	resp, err := ask()
	r := lab.Reply{Code: resp.Code, Enhanced: resp.Enhanced, Lines: strings.Split(resp.Text, "\n"), Elapsed: time.Since(began)}
	switch {
	case err != nil:
		return lab.Reply{Lines: []string{err.Error()}}
	case resp.Action == rcptgate.Continue || resp.Action == rcptgate.Accept || resp.Skipped:
		r.Code, r.Enhanced, r.Lines = 250, good, []string{"Ok"}
	case r.Code == 0:
		return lab.Reply{Lines: []string{fmt.Sprintf("the filter refused without a code: %v", resp.Action)}}
	}
	return r
}
