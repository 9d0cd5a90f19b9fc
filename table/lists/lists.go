// SPDX-License-Identifier: BSD-2-Clause

// Package lists reads lists of names: domains as the settings of both MTAs write them
// (postconf(5) "mydestination", classes of sendmail.cf), and files with one name on each
// line (Sendmail's local-host-names, passwd(5)).
//
//	example.org                  a domain
//	.example.com                 everything below it
//	/etc/mail/relay-domains      a file with a domain a line
//	hash:/etc/postfix/relaying   a table whose keys are domains
//
// Limits: no negated patterns ("!example.org") and no addresses of networks.
package lists

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"rcptgate/address"
	"rcptgate/table"
)

// Standing says where a domain stands in a list.
type Standing uint8

// The standings.
const (
	Absent     Standing = iota
	Listed              // in a file or a table
	WrittenOut          // in the configuration itself
)

// Any reports whether the domain is in the list.
func (s Standing) Any() bool { return s != Absent }

// Domains is a list of domains. It does not change once made, and is safe for concurrent
// use if its tables are. The zero Domains holds none.
type Domains struct {
	// Below: a domain stands for those below it as well.
	Below bool
	// Dotted: only entries with a leading dot do (with Below).
	Dotted bool

	written map[string]Standing
	tables  []table.Table
	files   []table.Spec // a domain a line
	maps    []table.Spec // keys are domains
}

// ReadDomains reads a list that [CheckDomain] has seen. Domains written out in it stand as
// how says. Its tables are to be opened with [Domains.Open].
func ReadDomains(list []string, how Standing) (d Domains) {
	d.Add(list, how)
	return d
}

// Add adds entries to a list that is not used yet.
func (d *Domains) Add(list []string, how Standing) {
	if d.written == nil {
		d.written = make(map[string]Standing, len(list))
	}
	for _, text := range list {
		switch spec, isTable, _ := domainTable(text); {
		case !isTable:
			d.written[writtenDomain(text)] = how
		case spec.Type == table.Text:
			d.files = append(d.files, spec)
		default:
			d.maps = append(d.maps, spec)
		}
	}
}

// Open opens the list's files, which are in [ClassFile] format, and its tables.
func (d *Domains) Open(file, keyed func(table.Spec) (table.Table, error)) error {
	for _, group := range []struct {
		specs []table.Spec
		open  func(table.Spec) (table.Table, error)
	}{{d.files, file}, {d.maps, keyed}} {
		for _, spec := range group.specs {
			t, err := group.open(spec)
			if err != nil {
				return err
			}
			d.tables = append(d.tables, t)
		}
	}
	return nil
}

// Empty reports whether there is no domain at all.
func (d *Domains) Empty() bool { return len(d.written)+len(d.tables) == 0 }

// Find looks a domain up as match_list(3) of Postfix does: the domain, then those above it.
// It does not allocate. An error is a table that could not be read.
func (d *Domains) Find(ctx context.Context, domain string) (Standing, error) {
	if how := d.written[domain]; how.Any() {
		return how, nil
	}
	found, err := d.inTables(ctx, domain)
	if found || err != nil {
		return Listed, err
	}
	if !d.Below || domain == "" || domain[0] == '[' {
		return Absent, nil
	}
	for at := strings.IndexByte(domain, '.'); at >= 0; at = strings.IndexByte(domain, '.') {
		dotted := domain[at:]
		domain = dotted[1:]
		key := domain
		if d.Dotted {
			key = dotted
		}
		if how := max(d.written[dotted], d.written[key]); how.Any() {
			return how, nil
		}
		if found, err = d.inTables(ctx, key); found || err != nil {
			return Listed, err
		}
	}
	return Absent, nil
}

func (d *Domains) inTables(ctx context.Context, key string) (found bool, err error) {
	for _, t := range d.tables {
		if _, found, err = t.Lookup(ctx, key); found || err != nil {
			return found, err
		}
	}
	return false, nil
}

// writtenDomain is a domain as it is compared, with its leading dot if it has one.
func writtenDomain(s string) string {
	if rest, dotted := strings.CutPrefix(s, "."); dotted {
		return "." + address.Domain(rest)
	}
	return address.Domain(s)
}

// domainTable reads the name of a file of domains: a path (a domain a line) or TYPE:FILE
// (keys are domains).
func domainTable(s string) (spec table.Spec, isTable bool, err error) {
	if strings.HasPrefix(s, "/") {
		if filepath.Clean(s) == "/" || strings.HasSuffix(s, "/") {
			return spec, true, fmt.Errorf("%q is the name of a directory", s)
		}
		return table.Spec{Type: table.Text, Name: s}, true, nil
	}
	if !strings.Contains(s, ":/") {
		return spec, false, nil
	}
	if spec, err = table.ParseSpec(s); err == nil && spec.Type == table.Text {
		err = fmt.Errorf("%q: text: is the form of aliases; a file with a domain a line is written %s", s, spec.Name)
	}
	return spec, true, err
}

// CheckDomain reports what cannot be an element of a list of domains. Without dotted, only
// whole domains can.
func CheckDomain(s string, dotted bool) error {
	if _, isTable, err := domainTable(s); isTable || err != nil {
		return err
	}
	d := writtenDomain(s)
	name, hasDot := strings.CutPrefix(d, ".")
	if hasDot && !dotted {
		return fmt.Errorf("%q: only whole domains can be local", s)
	}
	if name == "" || strings.ContainsAny(name, "@*/:!$ \t\r\n\x00") || name[0] == '.' {
		return fmt.Errorf("%q: expected a domain such as \"example.org\", an absolute path such as \"/etc/mail/local-host-names\", or a table such as \"hash:/etc/postfix/relay_domains\"", s)
	}
	return nil
}
