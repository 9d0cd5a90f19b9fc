// SPDX-License-Identifier: BSD-2-Clause

package doctor

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rcptgate/mta/maincf"
	"rcptgate/mta/sendmailcf"
	"rcptgate/table"
	"rcptgate/table/open"
)

// Place is where the MTA's configuration names a domain.
type Place struct {
	Domain string
	Class  string // "class w", "mydestination"
	File   string
	Line   int // 0 where lines mean nothing: a database, a value that was expanded
}

// String gives the place as editors understand it.
func (p Place) String() string {
	if p.Line > 0 {
		return fmt.Sprintf("%s:%d %q (%s)", p.File, p.Line, p.Domain, p.Class)
	}
	return fmt.Sprintf("%s %q (%s)", p.File, p.Domain, p.Class)
}

// local reports whether mail for the class's domains is delivered by this machine itself.
func (p Place) local() bool { return p.Class != "relay_domains" && p.Class != "class R" }

// MTA is one mail system on this machine, as its files describe it.
type MTA struct {
	Name   string // "Postfix", "Sendmail"
	File   string
	Places []Place
	Milter []string // its milter lines, as written
	// Timeout is how long it waits for a milter's answer to a command, in seconds.
	Timeout int
	Chroot  bool     // its smtpd runs in a chroot
	Bad     []string // what could not be read
}

// maxPlaces bounds the domains that are read of one MTA.
const maxPlaces = 100_000

// readPostfix reads what main.cf and master.cf say.
func readPostfix(ctx context.Context, path string) (*MTA, error) {
	c, err := maincf.Read(path)
	if err != nil {
		return nil, err
	}
	m := &MTA{Name: "Postfix", File: c.Path, Timeout: 30}
	if value, _ := c.Get("milter_command_timeout"); value != "" {
		m.Timeout = seconds(value, m.Timeout)
	}
	for _, name := range []string{"mydestination", "virtual_alias_domains", "virtual_mailbox_domains", "relay_domains"} {
		value, err := c.Get(name)
		if err != nil {
			m.Bad = append(m.Bad, err.Error())
		}
		set, _ := c.Set(name)
		for _, word := range maincf.Split(value) {
			m.word(ctx, name, word, c.Path, set.Line)
		}
	}
	if set, ok := c.Set("smtpd_milters"); ok {
		value, err := c.Get("smtpd_milters")
		if err != nil {
			value = set.Value
		}
		m.Milter = append(m.Milter, fmt.Sprintf("%s:%d smtpd_milters = %s", c.Path, set.Line, value))
	}
	m.Chroot = smtpdInChroot(filepath.Join(filepath.Dir(c.Path), "master.cf"))
	return m, nil
}

// smtpdInChroot reports whether master.cf(5) runs smtpd in a chroot.
func smtpdInChroot(path string) bool {
	found := false
	_ = eachLine(path, func(_ int, line string) {
		f := strings.Fields(line)
		if len(f) >= 8 && f[0] == "smtp" && f[1] == "inet" && f[7] == "smtpd" {
			found = f[4] == "y"
		}
	})
	return found
}

// readSendmail reads what sendmail.cf says.
func readSendmail(path string) (*MTA, error) {
	c, err := sendmailcf.Read(path)
	if err != nil {
		return nil, err
	}
	m := &MTA{Name: "Sendmail", File: path, Timeout: 10}
	for letter, class := range map[string]string{"w": "class w", "R": "class R"} {
		listed := c.Class(letter)
		for _, word := range listed.Words {
			m.add(Place{strings.ToLower(word), class, path, 0})
		}
		for _, file := range listed.Files {
			m.file(class, file.Text)
		}
	}
	if err := m.sendmailLines(path); err != nil {
		m.Bad = append(m.Bad, err.Error())
	}
	slices.SortStableFunc(m.Places, func(a, b Place) int { return strings.Compare(a.Class, b.Class) })
	return m, nil
}

// sendmailLines finds the lines that say where a word of a class is written, and the milters:
// "Cwexample.com", "Xrcptgate, S=inet:8890@127.0.0.1, T=S:10s;R:10s".
func (m *MTA) sendmailLines(path string) error {
	return eachLine(path, func(number int, line string) {
		switch {
		case strings.HasPrefix(line, "Cw"), strings.HasPrefix(line, "CR"):
			for _, word := range strings.Fields(line[2:]) {
				for i := range m.Places {
					if p := &m.Places[i]; p.Line == 0 && p.File == path && p.Domain == strings.ToLower(word) {
						p.Line = number
					}
				}
			}
		case strings.HasPrefix(line, "X"):
			m.Milter = append(m.Milter, fmt.Sprintf("%s:%d %s", path, number, line))
			if _, rest, ok := strings.Cut(line, "R:"); ok && strings.Contains(line, "rcptgate") {
				rest, _, _ = strings.Cut(rest, ";")
				m.Timeout = seconds(strings.TrimSpace(rest), m.Timeout)
			}
		}
	})
}

// word takes one word of a list of domains: a domain, a file of them or a table.
func (m *MTA) word(ctx context.Context, class, word, file string, line int) {
	switch {
	case strings.HasPrefix(word, "/"):
		m.file(class, word)
	case strings.HasPrefix(word, "!"):
	case strings.Contains(word, ":"):
		m.table(ctx, class, word)
	default:
		m.add(Place{strings.ToLower(word), class, file, line})
	}
}

func (m *MTA) add(p Place) {
	if len(m.Places) < maxPlaces {
		m.Places = append(m.Places, p)
	}
}

// file reads a list of domains, one a line.
func (m *MTA) file(class, path string) {
	err := eachLine(path, func(number int, line string) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line != "" {
			m.add(Place{strings.ToLower(strings.Fields(line)[0]), class, path, number})
		}
	})
	if err != nil {
		m.Bad = append(m.Bad, fmt.Sprintf("%s: %v", class, err))
	}
}

// table reads the keys of a table that are domains.
func (m *MTA) table(ctx context.Context, class, word string) {
	spec, err := table.ParseSpec(word)
	if err != nil {
		return // a type that only Postfix reads
	}
	f, err := open.Open(ctx, spec, func(error) {})
	if err == nil {
		err = f.Scan(ctx, func(key, _ []byte) error {
			if k := strings.TrimRight(strings.ToLower(string(key)), "\x00"); !strings.Contains(k, "@") && strings.Contains(k, ".") {
				m.add(Place{k, class, spec.Path(), 0})
			}
			return nil
		})
	}
	if err != nil {
		m.Bad = append(m.Bad, fmt.Sprintf("%s: %s: %v", class, word, err))
	}
}

// find gives the places that name a domain, or one above it with a leading dot.
func (m *MTA) find(domain string) (out []Place) {
	for _, p := range m.Places {
		if p.Domain == domain || strings.HasPrefix(p.Domain, ".") && strings.HasSuffix(domain, p.Domain) {
			out = append(out, p)
		}
	}
	return out
}

// eachLine reads a text file line by line, as [lines] does. Files beyond 8 MiB are cut.
func eachLine(path string, f func(number int, line string)) error {
	file, err := os.Open(path) // #nosec G304 -- named by the MTA's own configuration
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // read-only
	return lines(io.LimitReader(file, 8<<20), f)
}

// lines reads line by line. Lines beyond 64 KiB are passed over.
func lines(r io.Reader, f func(number int, line string)) error {
	in := bufio.NewReaderSize(r, 64<<10)
	for n := 1; ; n++ {
		line, more, err := in.ReadLine()
		if err != nil {
			if err == io.EOF { //nolint:errorlint // bufio gives it as it is
				return nil
			}
			return err
		}
		if !more {
			f(n, string(line))
		}
		for more && err == nil {
			_, more, err = in.ReadLine()
		}
	}
}

// seconds reads a time as both MTAs write it: "30s", "5m", "1h", "30".
func seconds(s string, fallback int) int {
	n := 0
	i := 0
	for ; i < len(s) && '0' <= s[i] && s[i] <= '9' && n < 1<<20; i++ {
		n = 10*n + int(s[i]-'0')
	}
	if i == 0 {
		return fallback
	}
	switch strings.TrimSpace(s[i:]) {
	case "m":
		return 60 * n
	case "h":
		return 3600 * n
	}
	return n
}
