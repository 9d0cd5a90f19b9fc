// SPDX-License-Identifier: BSD-2-Clause

// Package maillog reads the mail logs of Postfix and Sendmail, also compressed with gzip, and
// gives one entry a message: who sent it from where, its size and its number of recipients;
// and the subjects that Postfix logs where header_checks says so (WARN or INFO on Subject).
//
// Postfix's queue manager names a message again at every retry; it counts once until it is
// removed from the queue, after which its queue id may be another message's. Lines begin with
// a date as syslogd writes it (RFC 3164) or as RFC 3339 has it.
//
// Addresses, message ids, subjects and names of clients are the sender's own text, and both
// MTAs write them as they come: `from=<"a>, size=9"@example.net>`, Sendmail its first 200 octets
// with backslashes doubled. Fields are therefore taken from where the sender's text cannot reach:
// before it, or after its end.
package maillog

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// Entry is what the log says of one message.
type Entry struct {
	Day     string // as the line begins: "Nov 28" or "2026-11-28"
	QueueID string
	// Kind is which of the following values the entry has.
	Kind   Kind
	Sender string     // the reverse-path
	Unsure bool       // Sender is cut off in the log, or may be something else
	Client netip.Addr // not valid for local mail, or if the line is not in this log
	Size   uint64     // octets
	Rcpts  uint64
	// Subject is the field's value, of a [Subject] entry.
	Subject string
}

// Kind is what a line of the log is about.
type Kind uint8

// The kinds of entries.
const (
	Message Kind = iota // a message in the queue: sender, size, recipients
	Subject             // its subject
)

// maxLine is the longest line that is read, in octets; the rest is passed over.
const maxLine = 64 << 10

// maxQueue bounds the messages in the queue that are told apart, in each of two generations.
const maxQueue = 500_000

// ErrNothing is returned when none of the files could be read.
var ErrNothing = errors.New("nothing to read")

// Walk reads log files, "-" is stdin, and calls each for every entry. Problem is told which
// could not be read; they are passed over.
func Walk(ctx context.Context, paths []string, stdin io.Reader, problem func(file string, err error), each func(*Entry) error) error {
	r := &reader{each: each, most: maxQueue, clients: map[string]netip.Addr{}, seen: map[string]struct{}{}}
	opened := 0
	for _, path := range paths {
		in := stdin
		if path != "-" {
			f, err := os.Open(path) // #nosec G304 -- reading the named logs is the purpose
			if err != nil {
				problem(path, err)
				continue
			}
			defer f.Close()
			in = f
		}
		opened++
		fileErr, err := r.file(ctx, in)
		if fileErr != nil {
			problem(path, fileErr)
		}
		if err != nil {
			return err
		}
	}
	if opened == 0 {
		return ErrNothing
	}
	return nil
}

// reader keeps what is known of messages in the queue, in two generations, so that it is
// bounded.
type reader struct {
	each              func(*Entry) error
	most              int // in a generation
	entry             Entry
	clients, clients2 map[string]netip.Addr
	seen, seen2       map[string]struct{}
}

// file reads one file; fileErr is the file's, err the caller's.
func (r *reader) file(ctx context.Context, in io.Reader) (fileErr, err error) {
	lines := bufio.NewReaderSize(in, maxLine)
	if magic, err := lines.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(lines)
		if err != nil {
			return err, nil
		}
		lines = bufio.NewReaderSize(z, maxLine)
	}
	for n := 0; ; n++ {
		line, more, err := lines.ReadLine()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return err, nil
		}
		if n%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err := r.line(line); err != nil {
			return nil, err
		}
		for more && err == nil {
			_, more, err = lines.ReadLine()
		}
	}
}

// Begins reports whether text is the beginning of a mail log: a line with a date, a host and a
// program with its number. Head is cut off somewhere.
func Begins(head []byte) bool {
	line, _, _ := bytes.Cut(head, []byte{'\n'})
	return beginning.Match(line)
}

var beginning = regexp.MustCompile(`^(?:<\d+>)?(?:[A-Z][a-z]{2} [ 0-9]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[^ ]*) [^ ]+ [^ \[]+\[\d+\]: `)

// line takes one line of the log.
func (r *reader) line(line []byte) error {
	// "Nov 28 10:00:00 host postfix/qmgr[12]: 4XYZ: from=<...>, size=1, nrcpt=1 (queue active)"
	end := bytes.Index(line, []byte("]: "))
	if end < 0 {
		return nil
	}
	head, text := line[:end], line[end+3:]
	start := bytes.LastIndexByte(head, '[')
	if start < 0 {
		return nil
	}
	program := head[bytes.LastIndexByte(head[:start], ' ')+1 : start]
	id, text, ok := bytes.Cut(text, []byte(": "))
	if !ok || len(id) > 32 || len(id) < 5 || bytes.IndexByte(id, ' ') >= 0 {
		return nil
	}
	e := &r.entry
	*e = Entry{Day: day(line)}
	switch {
	case bytes.HasSuffix(program, []byte("/qmgr")):
		return r.qmgr(string(id), text)
	case bytes.HasSuffix(program, []byte("/smtpd")):
		r.smtpd(string(id), text)
	case bytes.HasSuffix(program, []byte("/cleanup")):
		return r.cleanup(string(id), text)
	case bytes.HasPrefix(text, []byte("from=")): // sendmail[1], sm-mta[1]
		return r.sendmail(string(id), string(text))
	}
	return nil
}

// day gives the day that a line begins with.
func day(line []byte) string {
	if len(line) > 10 && line[4] == '-' && line[7] == '-' {
		return string(line[:10])
	}
	return string(bytes.TrimSpace(line[:min(len(line), 6)]))
}

// qmgr takes "from=<a@b>, size=48211, nrcpt=2 (queue active)" and "removed".
func (r *reader) qmgr(id string, text []byte) error {
	if bytes.Equal(text, []byte("removed")) {
		delete(r.seen, id)
		delete(r.seen2, id)
		delete(r.clients, id)
		delete(r.clients2, id)
		return nil
	}
	if !bytes.HasPrefix(text, []byte("from=<")) {
		return nil
	}
	if _, again := r.seen[id]; again {
		return nil
	}
	if _, again := r.seen2[id]; again {
		return nil
	}
	if len(r.seen) >= r.most {
		r.seen, r.seen2 = map[string]struct{}{}, r.seen
	}
	r.seen[id] = struct{}{}
	e := &r.entry
	// The sender is all that may hold a ">, size=" of its own, and it comes before the real one.
	end := bytes.LastIndex(text, []byte(">, size="))
	if end < len("from=<") {
		return nil
	}
	e.QueueID, e.Sender, e.Client = id, string(text[len("from=<"):end]), r.client(id)
	var ok bool
	if e.Size, text, ok = value(text[end+1:], ", size="); ok {
		e.Rcpts, _, ok = value(text, ", nrcpt=")
	}
	if !ok {
		return nil
	}
	return r.each(e)
}

func (r *reader) client(id string) netip.Addr {
	if ip, ok := r.clients[id]; ok {
		return ip
	}
	return r.clients2[id]
}

// smtpd takes "client=name[192.0.2.1]".
func (r *reader) smtpd(id string, text []byte) {
	rest, ok := bytes.CutPrefix(text, []byte("client="))
	if !ok {
		return
	}
	rest, _, _ = bytes.Cut(rest, []byte(","))
	if len(r.clients) >= r.most {
		r.clients, r.clients2 = map[string]netip.Addr{}, r.clients
	}
	r.clients[id] = inBrackets(string(rest))
}

// cleanup takes "warning: header Subject: hello from host[192.0.2.1]; from=<a@b> to=<c@d>".
func (r *reader) cleanup(id string, text []byte) error {
	action, rest, ok := bytes.Cut(text, []byte(": header Subject: ")) // further on it is another field's value
	if !ok || bytes.IndexByte(action, ' ') >= 0 {
		return nil
	}
	subject := string(rest)
	if i := strings.LastIndex(subject, "; from=<"); i >= 0 {
		sure := strings.Count(subject, "; from=<") == 1 // else the subject or the address has one of its own
		r.entry.Sender, r.entry.Unsure = sender(subject[i+2:]), !sure
		subject = subject[:i]
		if j := strings.LastIndex(subject, " from "); j >= 0 {
			if sure {
				r.entry.Client = inBrackets(subject[j:])
			}
			subject = subject[:j]
		}
	}
	if ip := r.client(id); ip.IsValid() { // by the line of smtpd
		r.entry.Client = ip
	}
	r.entry.Kind, r.entry.QueueID, r.entry.Subject = Subject, id, strings.TrimSpace(subject)
	return r.each(&r.entry)
}

// sender gives the address of "from=<a@b> to=<c@d>".
func sender(text string) string {
	path := strings.TrimPrefix(text, "from=<")
	quoted := false
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == '>' && !quoted:
			return path[:i]
		}
	}
	return path
}

// value takes a key and its number from where a text begins, a negative one as 0.
func value(text []byte, key string) (v uint64, rest []byte, ok bool) {
	rest, ok = bytes.CutPrefix(text, []byte(key))
	if !ok {
		return 0, nil, false
	}
	digits, negative := bytes.CutPrefix(rest, []byte("-")) // Sendmail's class of bulk mail
	n := 0
	for n < len(digits) && '0' <= digits[n] && digits[n] <= '9' {
		n++
	}
	v, err := strconv.ParseUint(string(digits[:n]), 10, 64)
	if negative {
		v = 0
	}
	return v, digits[n:], err == nil
}

// inBrackets gives the address in "name[192.0.2.1]" or "name [IPv6:2001:db8::1]".
func inBrackets(s string) netip.Addr {
	_, s, _ = strings.Cut(s, "[")
	s, _, _ = strings.Cut(s, "]")
	if len(s) > 5 && strings.EqualFold(s[:5], "IPv6:") {
		s = s[5:]
	}
	ip, _ := netip.ParseAddr(s)
	return ip.Unmap()
}
