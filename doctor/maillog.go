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
	first   string // the line
	where   string
}

// maxClients bounds the clients that are told apart.
const maxClients = 10_000

// readLogs looks for clients that gave up: Sendmail's "lost input channel from X to Y after
// rcpt", Postfix's "lost connection after RCPT from X" and "timeout after RCPT from X".
func (d *Doctor) readLogs() {
	d.lost.clients = map[string]int{}
	for _, path := range d.Logs {
		err := logLines(path, func(n int, line string) {
			client := gaveUp(line)
			if client == "" {
				return
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
	worst := slices.SortedFunc(maps.Keys(d.lost.clients), func(a, b string) int {
		return cmp.Or(cmp.Compare(d.lost.clients[b], d.lost.clients[a]), strings.Compare(a, b))
	})
	f := Finding{ID: "lost-channel", Level: Warn, What: fmt.Sprintf("%s a client gave up after RCPT", term.Count(d.lost.total, "time")), Seen: []string{d.lost.where + " " + d.lost.first},
		Matters: "something that is asked at RCPT is slow: DNS, a policy service, a call-ahead",
		Do:      []string{"see dns-slow; Sendmail: FEATURE(`nocanonify'), Timeout.resolver.retrans=1s, Timeout.resolver.retry=2", "at once: a line in /etc/hosts for the name that is slow"}}
	for _, c := range worst[:min(len(worst), 5)] {
		f.Seen = append(f.Seen, fmt.Sprintf("%d from %s", d.lost.clients[c], c))
	}
	d.add(f)
}
