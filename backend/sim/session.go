// SPDX-License-Identifier: BSD-2-Clause

package sim

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

const lineMax = 4096

// session is one connection. A method that returns false ends it.
type session struct {
	srv  *Server
	nc   net.Conn
	r    *bufio.Reader
	w    *bufio.Writer
	done chan struct{}

	said                     map[Stage]int // replies so far, for Fault.After
	held                     string        // a reply that Swap keeps back
	number                   int           // of the connection, from 1
	secure, mail             bool
	screened                 bool  // by Behaviour.Postscreen
	size                     int64 // octets, from MAIL
	probes, refusals, errors int
	junk                     int
	joined                   bool // the command at hand came together with the one before
}

func newSession(s *Server, nc net.Conn, done chan struct{}) *session {
	return &session{
		srv: s, nc: nc, done: done, said: make(map[Stage]int),
		r: bufio.NewReaderSize(nc, lineMax), w: bufio.NewWriter(nc),
	}
}

func (c *session) behaviour() *Behaviour { return c.srv.behaviour.Load() }

func (c *session) run() {
	if !c.admit() {
		return
	}
	for {
		c.joined = c.r.Buffered() > 0
		line, err := c.r.ReadSlice('\n')
		if err != nil || !c.command(strings.TrimRight(string(line), "\r\n")) {
			return
		}
		if c.behaviour().Pipelining == PipelineDiscard {
			_, _ = c.r.Discard(c.r.Buffered())
			_ = c.w.Flush()
		}
	}
}

// admit lets the connection wait or go, and sends the banner.
func (c *session) admit() bool {
	b := c.behaviour()
	c.screened = b.Postscreen && !c.srv.passed.Load()
	if !c.sleep(b.Delays[Connect]) {
		return false
	}
	open, freed := c.srv.place()
	for b.HoldConnections > 0 && open > b.HoldConnections {
		select {
		case <-freed:
		case <-c.done:
			return false
		}
		open, freed = c.srv.place()
	}
	if b.MaxConnections > 0 && open > b.MaxConnections {
		c.srv.cut.Add(1)
		c.say(Banner, "421 4.7.0 "+c.srv.cfg.Name+" too many connections")
		return false
	}
	return c.say(Banner, "220 "+c.srv.cfg.Name+" ESMTP")
}

func (c *session) command(line string) bool {
	verb, arg, _ := strings.Cut(line, " ")
	b := c.behaviour()
	if c.joined && b.Pipelining == PipelineDrop {
		c.srv.cut.Add(1)
		return false
	}
	if c.joined && b.Pipelining == PipelineRefuse {
		return c.err(Mail, "503 5.5.1 Improper use of SMTP command pipelining")
	}
	switch strings.ToUpper(verb) {
	case "EHLO", "LHLO":
		return c.ehlo(b, strings.ToUpper(verb) == "LHLO")
	case "HELO":
		return c.say(Helo, "250 "+c.srv.cfg.Name)
	case "STARTTLS":
		return c.startTLS(b)
	case "MAIL":
		return c.mailFrom(b, arg)
	case "RCPT":
		return c.rcptTo(b, arg)
	case "RSET":
		return c.rset(b)
	case "NOOP":
		return c.say(Rset, "250 2.0.0 Ok")
	case "QUIT":
		c.srv.quits.Add(1)
		c.say(Quit, "221 2.0.0 Bye")
		return false
	}
	return c.err(Mail, "502 5.5.2 Error: command not recognized")
}

func (c *session) ehlo(b *Behaviour, lhlo bool) bool {
	switch {
	case lhlo != c.srv.cfg.LMTP, b.NoEHLO:
		return c.err(Hello, "502 5.5.2 Error: command not recognized")
	case b.DropOnEHLO:
		return false
	}
	lines := []string{c.srv.cfg.Name}
	if b.Pipelining != PipelineNone && !c.screened {
		lines = append(lines, "PIPELINING")
	}
	if limit := b.sizeMax(); limit > 0 {
		lines = append(lines, fmt.Sprint("SIZE ", limit))
	}
	if b.STARTTLS != TLSNone && !c.secure {
		lines = append(lines, "STARTTLS")
	}
	lines = append(lines, "ENHANCEDSTATUSCODES", "8BITMIME")
	if b.SMTPUTF8 {
		lines = append(lines, "SMTPUTF8")
	}
	return c.say(Hello, "250 "+strings.Join(lines, "\n"))
}

func (c *session) startTLS(b *Behaviour) bool {
	switch b.STARTTLS {
	case TLSNone:
		return c.err(StartTLS, "502 5.5.1 error: command not recognized")
	case TLSRefuse:
		return c.err(StartTLS, "454 4.7.0 TLS not available due to local problem")
	}
	if b.STARTTLS == TLSInject {
		c.held = "250-evil\r\n250 PIPELINING\r\n"
	}
	if !c.say(StartTLS, "220 2.0.0 Ready to start TLS") || b.STARTTLS == TLSDrop {
		return false
	}
	switch b.STARTTLS {
	case TLSGarbage:
		_, _ = c.nc.Write([]byte("220 this is not a TLS record\r\n"))
		return c.hang()
	case TLSHang:
		return c.hang()
	}
	t := tls.Server(c.nc, c.srv.cfg.TLS)
	_ = c.nc.SetDeadline(time.Now().Add(10 * time.Second))
	if t.Handshake() != nil {
		return false
	}
	_ = c.nc.SetDeadline(time.Time{})
	c.srv.tls.Add(1)
	c.nc, c.secure = t, true
	c.r.Reset(t)
	c.w.Reset(t)
	return true
}

func (c *session) rset(b *Behaviour) bool {
	c.srv.resets.Add(1)
	c.junk++
	if b.NoRset {
		return c.err(Rset, "502 5.5.1 error: command not recognized")
	}
	c.mail = false
	if b.Postfix.JunkLimit > 0 && c.junk > b.Postfix.JunkLimit {
		c.errors++
	}
	if !c.say(Rset, "250 2.0.0 Ok") {
		return false
	}
	if b.DropAfterRset {
		c.srv.cut.Add(1)
		_ = c.w.Flush()
		return false
	}
	return true
}

// path is the address of MAIL FROM:<...> or RCPT TO:<...>.
func path(arg string) string {
	start, end := strings.IndexByte(arg, '<'), strings.LastIndexByte(arg, '>')
	if start < 0 || end < start {
		return ""
	}
	return arg[start+1 : end]
}

func (b *Behaviour) sizeMax() int64 {
	if b.SizeMax == 0 {
		return 10_240_000
	}
	return b.SizeMax
}

// sizeOf is the SIZE parameter of MAIL; ok is false when there is none.
func sizeOf(arg string) (size int64, ok bool) {
	_, params, _ := strings.Cut(arg, "> ")
	for param := range strings.FieldsSeq(params) {
		if value, found := strings.CutPrefix(strings.ToUpper(param), "SIZE="); found {
			size, err := strconv.ParseInt(value, 10, 64)
			return size, err == nil
		}
	}
	return 0, false
}

func (c *session) mailFrom(b *Behaviour, arg string) bool {
	c.srv.mails.Add(1)
	if c.mail {
		return c.err(Mail, "503 5.5.1 Error: nested MAIL command")
	}
	if reply := b.Senders[strings.ToLower(path(arg))]; reply != "" {
		if reply[0] != '2' {
			return c.err(Mail, reply)
		}
	}
	size, ok := sizeOf(arg)
	switch {
	case ok && b.SizeMax < 0:
		return c.err(Mail, "555 5.5.4 Unsupported option: SIZE")
	case size > b.sizeMax() && ok:
		return c.err(Mail, "552 5.3.4 Message size exceeds fixed limit")
	}
	c.mail, c.size = true, size
	return c.say(Mail, "250 2.1.0 Ok")
}

func (c *session) rcptTo(b *Behaviour, arg string) bool {
	if !c.mail {
		return c.err(Rcpt, "503 5.5.1 Error: need MAIL command")
	}
	recipient := path(arg)
	c.probes++
	c.srv.probe(recipient, c.probes)
	var reply string
	switch {
	case c.screened:
		reply = "450 4.3.2 Service currently unavailable"
	case b.NeedTLS && !c.secure:
		reply = "454 4.7.0 TLS is required"
	case b.RecipientsPerConnection > 0 && c.probes > b.RecipientsPerConnection:
		reply = "452 4.5.3 Too many recipients"
	default:
		reply = b.decide(recipient, c.refusals)
	}
	if room, ok := b.Room[strings.ToLower(recipient)]; ok && c.size > room {
		reply = fill(b.FullReply, defaultFull, recipient)
	}
	ok := true
	if reply[0] == '2' {
		ok = c.say(Rcpt, reply)
	} else {
		c.refusals++
		c.srv.refusals.Add(1)
		ok = c.sleep(b.RefusalDelay) && c.err(Rcpt, reply)
	}
	if b.DropAfterProbes > 0 && c.probes >= b.DropAfterProbes || b.DropAfterRefusals > 0 && c.refusals >= b.DropAfterRefusals {
		c.srv.cut.Add(1)
		_ = c.w.Flush()
		return false
	}
	return ok
}

// decide gives the reply to RCPT.
func (b *Behaviour) decide(recipient string, refusals int) string {
	if b.DecideAfter != nil {
		if reply := b.DecideAfter(recipient, refusals); reply != "" {
			return reply
		}
	}
	if b.Decide != nil {
		if reply := b.Decide(recipient); reply != "" {
			return reply
		}
	}
	if reply := b.Replies[strings.ToLower(recipient)]; reply != "" {
		return reply
	}
	if has(b.Full, recipient) {
		return fill(b.FullReply, defaultFull, recipient)
	}
	if b.AcceptAll || has(b.Users, recipient) {
		return "250 2.1.5 Ok"
	}
	return fill(b.Unknown, defaultUnknown, recipient)
}

func has(list []string, recipient string) bool {
	for _, s := range list {
		if strings.EqualFold(s, recipient) {
			return true
		}
	}
	return false
}

func fill(reply, otherwise, recipient string) string {
	if reply == "" {
		reply = otherwise
	}
	if !strings.Contains(reply, "%s") {
		return reply
	}
	return fmt.Sprintf(reply, recipient)
}

// hang says nothing more, until the client or the server ends the connection.
func (c *session) hang() bool {
	_ = c.w.Flush()
	_, _ = io.Copy(io.Discard, c.r)
	return false
}

func (c *session) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	if !c.behaviour().HoldReplies {
		_ = c.w.Flush()
	}
	select {
	case <-time.After(d):
		return true
	case <-c.done:
		return false
	}
}
