// SPDX-License-Identifier: BSD-2-Clause

package milter

import (
	"bytes"
	"net/netip"
	"strconv"
	"time"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/front/milter/wire"
)

// session is what the MTA has said so far. Its strings are copies of their own: the
// decision log and background probes keep them.
type session struct {
	query rcptgate.Query   // used again for every recipient
	state rcptgate.Session // what steps see of the connection and the transaction

	// Of the connection.
	client     netip.Addr
	clientName string
	helo       string
	atConnect  rcptgate.Verdict // on the client, where the gate is asked about it
	atHelo     rcptgate.Verdict // on the last HELO

	// Of the transaction.
	sender   string
	size     int64
	smtputf8 bool
	taken    int // recipients that were taken
	// arguments are what the MTA knows the recipients of state.Mail by.
	arguments []string
	// refused is what was said against a recipient of local mail; zero is nothing.
	refused rcptgate.Verdict

	// Macros, each set replaced by a new frame for the same command alone.
	connectAddr netip.Addr // {client_addr}
	mailID      string     // "i" at MAIL
	authUser    string     // {auth_authen} at MAIL
	rcpt        rcptMacros
}

// rcptMacros are those of the next RCPT. They are for one recipient: the next hop
// of another must never be taken for its own.
type rcptMacros struct {
	id, mailer, host string
	addr             []byte // {rcpt_addr}

	// What the MTA said last, to be compared with what it says now: it repeats itself.
	last struct {
		id, mailer, host string
		// head is the frame up to the value of {rcpt_addr}, where that came last, as it
		// does when the MTA took our list of macros.
		head []byte
	}
}

// keepMax is the longest string or buffer, in octets, that is kept from one
// transaction to the next, and the longest HELO or client name.
const keepMax = 1024

func again(last string, b []byte) string {
	if last == string(b) {
		return last
	}
	return string(b)
}

func cut(b []byte) string { return string(b[:min(len(b), keepMax)]) }

// reset forgets the client and all it said.
func (s *session) reset() {
	*s = session{query: s.query, state: rcptgate.Session{Listener: s.state.Listener, Local: s.state.Local, Mail: s.state.Mail}}
}

// endMail forgets the transaction and its macros.
func (s *session) endMail() {
	s.endTransaction()
	s.mailID, s.authUser = "", ""
	s.rcpt.clear()
	if last := &s.rcpt.last; cap(s.rcpt.addr) > keepMax || len(last.id)+len(last.mailer)+len(last.host) > keepMax {
		s.rcpt = rcptMacros{}
	}
	s.query.Reset()
}

// endTransaction forgets what MAIL and RCPT said.
func (s *session) endTransaction() {
	s.sender, s.size, s.smtputf8 = "", 0, false
	s.forgetRecipients()
}

func (r *rcptMacros) clear() {
	r.id, r.mailer, r.host, r.addr = "", "", "", r.addr[:0]
}

// macros takes a frame of macros.
func (s *session) macros(data []byte) error {
	cmd, list, err := wire.ParseMacros(data)
	if err != nil {
		return err
	}
	switch cmd {
	case wire.CmdConnect:
		s.connectAddr = netip.Addr{}
	case wire.CmdMail:
		s.mailID, s.authUser = "", ""
		s.state.TLSVersion, s.state.TLSCipher = "", ""
	case wire.CmdRcpt:
		return s.rcpt.take(data, list)
	}
	for {
		name, value, ok, err := list.Next()
		if err != nil || !ok {
			return err
		}
		switch cmd {
		case wire.CmdMail:
			s.setMailMacro(name, value)
		case wire.CmdEndOfMsg:
			if string(name) == "i" {
				s.mailID = again(s.mailID, value) // Postfix has none before the first recipient
			}
		case wire.CmdConnect:
			s.setConnectMacro(name, value)
		}
	}
}

func (s *session) setConnectMacro(name, value []byte) {
	switch string(name) {
	case "client_addr":
		s.connectAddr = wire.ParseAddr(string(value))
	case "v":
		s.state.MTA = mtaOf(value)
	}
}

// mtaOf knows an MTA by its version, the macro "v": "Postfix 3.7.11", "8.17.1.9/Debian".
func mtaOf(version []byte) rcptgate.MTA {
	switch {
	case bytes.HasPrefix(version, []byte("Postfix")):
		return rcptgate.Postfix
	case len(version) > 1 && version[0] >= '0' && version[0] <= '9' && version[1] == '.':
		return rcptgate.Sendmail
	}
	return rcptgate.UnknownMTA
}

func (s *session) setMailMacro(name, value []byte) {
	switch string(name) {
	case "i":
		s.mailID = again(s.rcpt.last.id, value)
	case "auth_authen":
		s.authUser = cut(value)
	case "tls_version":
		s.state.TLSVersion = cut(value)
	case "cipher":
		s.state.TLSCipher = cut(value)
	}
}

// take reads a frame's macros.
func (r *rcptMacros) take(data []byte, list wire.Macros) error {
	r.clear()
	if r.repeats(data) {
		return nil
	}
	r.last.head = r.last.head[:0]
	for {
		name, value, ok, err := list.Next()
		if err != nil {
			return err
		}
		if !ok {
			r.last.id, r.last.mailer, r.last.host = r.id, r.mailer, r.host
			return nil
		}
		switch string(name) {
		case "rcpt_addr":
			r.addr = append(r.addr[:0], value...)
			if head := data[:len(data)-len(value)-1]; list.Empty() && len(head) <= keepMax {
				r.last.head = append(r.last.head, head...)
			}
		case "rcpt_host":
			r.host = again(r.last.host, value)
		case "rcpt_mailer":
			r.mailer = again(r.last.mailer, value)
		case "i":
			r.id = again(r.last.id, value)
		}
	}
}

// repeats takes a frame that differs from the last one in the value of {rcpt_addr} alone.
func (r *rcptMacros) repeats(data []byte) bool {
	n := len(r.last.head)
	if n == 0 || !bytes.HasPrefix(data, r.last.head) || bytes.IndexByte(data[n:], 0) != len(data)-n-1 {
		return false
	}
	r.id, r.mailer, r.host = r.last.id, r.last.mailer, r.last.host
	r.addr = append(r.addr[:0], data[n:len(data)-1]...)
	return true
}

// unknownName is how Postfix names a client of which it knows nothing: one that has left, or that
// XCLIENT says is unavailable. It may be anybody.
const unknownName = "unknown"

// connect takes CmdConnect.
func (s *session) connect(data []byte) error {
	from, err := wire.ParseConnect(data)
	if err != nil {
		return err
	}
	s.clientName, s.client, s.helo = cut(from.Name), from.Addr(), ""
	s.atConnect, s.atHelo = rcptgate.Verdict{}, rcptgate.Verdict{}
	s.state.TLSVersion, s.state.TLSCipher = "", ""
	if !s.client.IsValid() && from.Family != wire.FamilyUnix {
		s.client = s.connectAddr
	}
	s.state.NoAddress = from.Family == wire.FamilyUnix || from.Family == wire.FamilyUnknown && !s.client.IsValid() && s.clientName != unknownName
	s.state.Connected, s.state.Port, s.state.Notes = time.Now(), from.Port, nil
	return nil
}

// hello takes CmdHelo.
func (s *session) hello(data []byte) error {
	name, _, err := wire.Strings(wire.CmdHelo, data)
	if err == nil {
		s.helo = cut(name)
	}
	return err
}

// mail takes CmdMail: reverse-path and ESMTP arguments.
func (s *session) mail(data []byte) error {
	s.endTransaction()
	path, args, err := wire.Strings(wire.CmdMail, data)
	if err != nil {
		return err
	}
	s.sender = string(stripBrackets(path))
	s.rcpt.clear()
	s.state.Mail.Args = string(bytes.TrimRight(args, "\x00"))
	for len(args) > 0 {
		var arg []byte
		arg, args, _ = wire.CutString(args)
		switch name, value, _ := bytes.Cut(arg, []byte("=")); {
		case len(name) == 4 && bytes.EqualFold(name, []byte("SIZE")):
			if n, err := strconv.ParseInt(string(value), 10, 64); err == nil && n > 0 {
				s.size = n
			}
		case len(name) == 8 && bytes.EqualFold(name, []byte("SMTPUTF8")):
			s.smtputf8 = true
		}
	}
	return nil
}

func stripBrackets(path []byte) []byte {
	if n := len(path); n >= 2 && path[0] == '<' && path[n-1] == '>' {
		return path[1 : n-1]
	}
	return path
}

// recipient takes CmdRcpt. What it says is for the question about it alone, and so are
// the macros that came with it.
func (s *session) recipient(data []byte) (q *rcptgate.Query, argument []byte, err error) {
	path, _, err := wire.Strings(wire.CmdRcpt, data)
	if err != nil {
		return nil, nil, err
	}
	q = s.question(rcptgate.StageRcpt)
	q.Recipient = address.Parse(string(path))
	q.NextHop = rcptgate.NextHop{Mailer: s.rcpt.mailer, Host: s.rcpt.host, Addr: again(q.Recipient.Path, s.rcpt.addr)}
	q.Target = address.Target(q.Recipient, q.NextHop.Addr)
	if s.rcpt.id != "" {
		q.QueueID = s.rcpt.id
	}
	s.rcpt.clear()
	return q, stripBrackets(path), nil
}

// question is what is known so far, as the gate is asked at a stage.
func (s *session) question(stage rcptgate.Stage) *rcptgate.Query {
	q := &s.query
	q.Reset()
	q.Stage = stage
	q.Sender, q.Size, q.AuthUser, q.QueueID = s.sender, s.size, s.authUser, s.mailID
	q.Client, q.ClientName, q.Helo = s.client, s.clientName, s.helo
	q.Accepted, q.Session = s.taken, &s.state
	return q
}
