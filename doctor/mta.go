// SPDX-License-Identifier: BSD-2-Clause

package doctor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

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

// Broken is what an MTA's configuration names and cannot be read.
type Broken struct{ What, Where, Do string }

// MTA is one mail system on this machine, as its files describe it.
type MTA struct {
	Name   string // "Postfix", "Sendmail"
	File   string
	Places []Place
	// Elsewhere are domains that it sends to other servers, whatever class they are in.
	Elsewhere map[string]bool
	Milters   []milter
	// MilterValue is Postfix's smtpd_milters.
	MilterValue string
	// Timeout is how long it waits for a milter's answer to a command, in seconds.
	Timeout  int
	Chroot   bool     // its smtpd runs in a chroot
	Policies []policy // that it asks
	Bad      []Broken // what could not be read
}

// maxPlaces bounds the domains that are read of one MTA.
const maxPlaces = 100_000

// bad notes what cannot be read, once: a parameter can stand for another.
func (m *MTA) bad(b Broken) {
	if !slices.ContainsFunc(m.Bad, func(o Broken) bool {
		return o.Where == b.Where && o.Do == b.Do || strings.HasSuffix(o.What, after(b.What))
	}) {
		m.Bad = append(m.Bad, b)
	}
}

// brokenTable notes a table that cannot be read, with what makes it.
func (m *MTA) brokenTable(setting string, spec table.Spec, err error, where string) {
	b := Broken{What: fmt.Sprintf("%s: %v", setting, err), Where: where}
	source := strings.TrimSuffix(spec.Path(), filepath.Ext(spec.Path()))
	switch {
	case !errors.Is(err, fs.ErrNotExist):
		b.Do = "let the MTA and the user of doctor read " + spec.Path()
	case spec.IsText():
		b.Do = "create " + spec.Path() + ", or take it out of " + where
	case setting == "alias_maps" || setting == "AliasFile":
		b.Do = fmt.Sprintf("run newaliases, or take %s out of %s", spec, where)
	case m.Name == "Postfix":
		b.Do = fmt.Sprintf("run postmap %s:%s, or take it out of %s", spec.Type, source, where)
	default:
		b.Do = fmt.Sprintf("run makemap %s %s < %s, or take it out of %s", spec.Type, source, source, where)
	}
	m.bad(b)
}

// lineOf names a file and a line; line 0 is none.
func lineOf(path string, line int) string {
	if line == 0 {
		return path
	}
	return fmt.Sprintf("%s:%d", path, line)
}

// after gives an error's text without the setting that it begins with.
func after(what string) string {
	_, text, _ := strings.Cut(what, ": ")
	return ": " + text
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (m *MTA) sendsElsewhere(domain string) {
	if m.Elsewhere == nil {
		m.Elsewhere = map[string]bool{}
	}
	m.Elsewhere[domain] = true
}

// elsewhere reports whether the MTA sends a domain's mail to another server.
func (m *MTA) elsewhere(domain string) bool {
	if m.Elsewhere[domain] {
		return true
	}
	for i := strings.IndexByte(domain, '.'); i >= 0; {
		if m.Elsewhere[domain[i:]] {
			return true
		}
		next := strings.IndexByte(domain[i+1:], '.')
		if next < 0 {
			break
		}
		i += 1 + next
	}
	return false
}

// word takes one word of a list of domains: a domain, a file of them or a table.
func (m *MTA) word(ctx context.Context, class, word, file string, line int) {
	switch {
	case strings.HasPrefix(word, "/"):
		m.file(class, word, lineOf(file, line))
	case strings.HasPrefix(word, "!"):
	case strings.Contains(word, ":"):
		m.table(ctx, class, word, lineOf(file, line))
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
func (m *MTA) file(class, path, where string) {
	err := eachLine(path, func(number int, line string) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line != "" {
			m.add(Place{strings.ToLower(strings.Fields(line)[0]), class, path, number})
		}
	})
	if err != nil {
		m.bad(Broken{What: fmt.Sprintf("%s: %v", class, err), Where: where, Do: "create " + path + ", or remove it there"})
	}
}

// table reads the keys of a table that are domains.
func (m *MTA) table(ctx context.Context, class, word, where string) {
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
		m.brokenTable(class, spec, err, where)
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
