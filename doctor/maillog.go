// SPDX-License-Identifier: BSD-2-Clause

package doctor

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"rcptgate/kit/term"
)

// lost are the clients that the log says gave up after RCPT.
type lost struct {
	total   int
	clients map[string]int
	domains map[string]int // of recipients that these clients had named
	named   map[string]string
	first   string // the line
	where   string
}

// maxClients bounds the clients that are told apart.
const maxClients = 10_000

// readLogs looks for clients that gave up: Sendmail's "lost input channel from X to Y after
// rcpt", Postfix's "lost connection after RCPT from X" and "timeout after RCPT from X".
func (d *Doctor) readLogs() {
	d.lost.clients, d.lost.domains, d.lost.named = map[string]int{}, map[string]int{}, map[string]string{}
	for _, path := range d.Logs {
		err := logLines(path, func(n int, line string) {
			session := sessionOf(line)
			d.lost.note(session, line)
			client := gaveUp(line)
			if client == "" {
				return
			}
			if domain := d.lost.named[session]; domain != "" && session != "" && (d.lost.domains[domain] > 0 || len(d.lost.domains) < maxClients) {
				d.lost.domains[domain]++
			}
			if d.lost.total == 0 {
				d.lost.first, d.lost.where = line, fmt.Sprintf("%s:%d", path, n)
			}
			d.lost.total++
			if _, known := d.lost.clients[client]; known || len(d.lost.clients) < maxClients {
				d.lost.clients[client]++
			}
		})
		if err != nil {
			d.add(Finding{ID: "lost-channel", Level: Unknown, What: "the log cannot be read: " + err.Error()})
		}
	}
}

// sessionOf names what lines about one transaction have in common: Postfix's "smtpd[12]", and
// Sendmail's queue id.
func sessionOf(line string) string {
	head, text, ok := strings.Cut(line, "]: ")
	if !ok {
		return ""
	}
	program := head[strings.LastIndexByte(head, ' ')+1:]
	if strings.Contains(program, "smtpd[") {
		return program
	}
	id, _, ok := strings.Cut(text, ": ")
	if !ok || strings.ContainsAny(id, " =") {
		return ""
	}
	return id
}

// note remembers the domain of the recipient that a line names: "to=<ann@example.com>", or
// Sendmail's "ruleset=check_rcpt, arg1=<ann@example.com>".
func (l *lost) note(session, line string) {
	if session == "" {
		return
	}
	if strings.Contains(line, "]: connect from ") {
		delete(l.named, session) // another client of this process
		return
	}
	for _, before := range []string{" to=<", "check_rcpt, arg1=<"} {
		_, rest, ok := strings.Cut(line, before)
		if !ok {
			continue
		}
		address, _, ok := strings.Cut(rest, ">")
		at := strings.LastIndexByte(address, '@')
		if !ok || at < 0 {
			return
		}
		if len(l.named) >= maxClients {
			clear(l.named)
		}
		l.named[session] = strings.ToLower(address[at+1:])
		return
	}
}

// logLines reads a log as long as it is, also compressed with gzip.
func logLines(path string, f func(number int, line string)) error {
	file, err := os.Open(path) // #nosec G304 -- named by the person who runs doctor
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // read-only
	in := bufio.NewReader(file)
	if magic, _ := in.Peek(2); string(magic) != "\x1f\x8b" {
		return lines(in, f)
	}
	z, err := gzip.NewReader(in)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return lines(z, f)
}

// gaveUp gives the client of a line that says it gave up after RCPT, or "".
func gaveUp(line string) string {
	for _, words := range []struct{ before, after string }{
		{"lost input channel from ", " after rcpt"}, {"lost connection after RCPT", ""}, {"timeout after RCPT", ""},
	} {
		_, rest, ok := strings.Cut(line, words.before)
		if !ok || !strings.Contains(strings.ToLower(rest), words.after) {
			continue
		}
		if _, from, ok := strings.Cut(rest, " from "); ok {
			rest = from
		}
		fields := strings.Fields(rest)
		if len(fields) == 0 {
			return ""
		}
		client := fields[0]
		if len(fields) > 1 && strings.HasPrefix(fields[1], "[") {
			client += " " + fields[1]
		}
		return strings.TrimRight(client, ",:")
	}
	return ""
}

// lostChannel says what the log had.
func (d *Doctor) lostChannel() {
	if len(d.Logs) == 0 {
		return
	}
	if d.lost.total == 0 {
		d.ok("lost-channel", "", "no client gave up after RCPT in the logs")
		return
	}
	f := Finding{ID: "lost-channel", Level: Warn, What: fmt.Sprintf("%s a client gave up after RCPT", term.Count(d.lost.total, "time")), Seen: []string{d.lost.where + " " + d.lost.first},
		Matters: "something that is asked at RCPT is slow: DNS, a policy service, a call-ahead",
		Do:      []string{"see dns-slow; Sendmail: FEATURE(`nocanonify'), Timeout.resolver.retrans=1s, Timeout.resolver.retry=2", "at once: a line in /etc/hosts for the name that is slow"}}
	f.Seen = append(f.Seen, most(d.lost.clients, "from")...)
	f.Seen = append(f.Seen, most(d.lost.domains, "after a recipient in")...)
	d.add(f)
}

// most gives the five largest counts.
func most(counts map[string]int, word string) (out []string) {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), strings.Compare(a, b))
	})
	for _, name := range names[:min(len(names), 5)] {
		out = append(out, fmt.Sprintf("%d %s %s", counts[name], word, name))
	}
	return out
}
