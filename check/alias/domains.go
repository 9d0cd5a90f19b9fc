// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"rcptgate/address"
	"rcptgate/table"
)

// domainList is domains written out, and files of them.
type domainList struct {
	written map[string]locality // a name with a leading dot is everything below it
	tables  []source
	below   bool // domains stand for those below them
	dotted  bool // only those with a leading dot do
}

// locality says how a domain is local.
type locality uint8

const (
	foreign    locality = iota
	listed              // in a file, or the MTA says so
	writtenOut          // in the configuration: absent names are refused
)

func (l locality) any() bool { return l != foreign }

// find looks a domain up as match_list(3) of Postfix does: the domain, then those above it.
func (l *domainList) find(ctx context.Context, domain string) (locality, error) {
	if how := l.written[domain]; how.any() {
		return how, nil
	}
	found, err := l.inTables(ctx, domain)
	if found || err != nil {
		return listed, err
	}
	if !l.below || domain == "" || domain[0] == '[' {
		return foreign, nil
	}
	for at := strings.IndexByte(domain, '.'); at >= 0; at = strings.IndexByte(domain, '.') {
		dotted := domain[at:]
		domain = dotted[1:]
		key := domain
		if l.dotted {
			key = dotted
		}
		if how := max(l.written[dotted], l.written[key]); how.any() {
			return how, nil
		}
		if found, err = l.inTables(ctx, key); found || err != nil {
			return listed, err
		}
	}
	return foreign, nil
}

func (l *domainList) inTables(ctx context.Context, key string) (found bool, err error) {
	for i := range l.tables {
		if _, found, err = l.tables[i].Lookup(ctx, key); found || err != nil {
			return found, err
		}
	}
	return false, nil
}

// domainNames is what a list of domains names.
type domainNames struct {
	domainList
	files []table.Spec // a domain a line
	maps  []table.Spec // keys are domains
}

// readDomains separates a list of domains from the files in it. It has been validated.
// Domains written out are local as how says.
func readDomains(list []string, how locality) (d domainNames) {
	d.written = make(map[string]locality)
	d.add(list, how)
	return d
}

func (d *domainNames) add(list []string, how locality) {
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

// empty reports whether there is no domain at all.
func (l *domainList) empty() bool { return len(l.written)+len(l.tables) == 0 }

// writtenDomain is a domain as it is compared, with its leading dot if it has one.
func writtenDomain(s string) string {
	if rest, dotted := strings.CutPrefix(s, "."); dotted {
		return "." + address.Domain(rest)
	}
	return address.Domain(s)
}

// domainTable reads the name of a file of domains: a path (a domain a line) or TYPE:FILE (keys are domains).
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

// checkDomain reports what cannot be an element of domains or relay_domains.
func checkDomain(s string, dotted bool) error {
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
