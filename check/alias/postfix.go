// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"rcptgate/mta/maincf"
	"rcptgate/table"
)

// readPostfix takes over what main.cf says (postconf(5)).
func (e *Effective) readPostfix() error {
	c, err := maincf.Read(e.Postfix)
	if err != nil {
		return err
	}
	e.files = append(e.files, stampOf(c.Path))
	p := postfixReader{e: e, c: c}
	p.defaultType = p.get("default_database_type")
	p.maps("files", "alias_maps", func(list []table.Spec) {
		for _, spec := range list {
			e.Files = append(e.Files, File{spec})
		}
	}, len(e.Files) > 0)
	p.maps("virtual_alias_maps", "virtual_alias_maps", func(l []table.Spec) { e.VirtualAliasMaps = l }, e.VirtualAliasMaps != nil)
	p.maps("recipient_canonical_maps", "recipient_canonical_maps", func(l []table.Spec) { e.RecipientCanonicalMaps = l },
		e.RecipientCanonicalMaps != nil || !slices.Contains(p.list("recipient_canonical_classes"), "envelope_recipient"))
	p.maps("canonical_maps", "canonical_maps", func(l []table.Spec) { e.CanonicalMaps = l },
		e.CanonicalMaps != nil || !slices.Contains(p.list("canonical_classes"), "envelope_recipient"))
	p.maps("relay_recipient_maps", "relay_recipient_maps", func(l []table.Spec) { e.RelayRecipientMaps = l }, e.RelayRecipientMaps != nil)
	p.domains("domains", "mydestination", &e.Domains)
	p.domains("virtual_alias_domains", "virtual_alias_domains", &e.VirtualAliasDomains)
	if len(e.RelayRecipientMaps) > 0 {
		p.domains("relay_domains", "relay_domains", &e.RelayDomains)
	}
	if e.MyOrigin == "" {
		e.MyOrigin = p.get("myorigin")
		if strings.HasPrefix(e.MyOrigin, "/") { // Debian's: the name of a file
			e.files = append(e.files, stampOf(e.MyOrigin))
			if e.MyOrigin, err = firstLine(e.MyOrigin); err != nil {
				return fmt.Errorf("myorigin: %w", err)
			}
		}
		p.took("myorigin", "myorigin", e.MyOrigin)
	}
	if e.Propagate == nil {
		e.Propagate = append([]string{}, p.list("propagate_unmatched_extensions")...)
		p.took("propagate_unmatched_extensions", "propagate_unmatched_extensions", strings.Join(e.Propagate, ", "))
	}
	if e.Config.Delimiter == nil {
		e.delimiter = p.get("recipient_delimiter")
		p.took("recipient_delimiter", "recipient_delimiter", e.delimiter)
	}
	if e.Config.RelaySubdomains == nil {
		e.subdomains = slices.Contains(p.list("parent_domain_matches_subdomains"), "relay_domains")
		p.took("relay_subdomains", "parent_domain_matches_subdomains", fmt.Sprint(e.subdomains))
	}
	p.users()
	return p.err
}

// users finds out whether passwd(5) and the aliases are all that knows local names.
func (p *postfixReader) users() {
	for _, name := range []string{"mailbox_transport", "mailbox_transport_maps", "fallback_transport", "fallback_transport_maps", "luser_relay"} {
		if value := p.get(name); value != "" && !p.e.hub {
			p.e.hub = true
			p.took("mail_hub", name, value)
		}
	}
	known := p.list("alias_maps")
	listed := p.list("local_recipient_maps")
	if !slices.ContainsFunc(listed, func(w string) bool { return strings.HasSuffix(w, "unix:passwd.byname") }) && !p.e.hub {
		p.e.hub = true // another list of users, or none
		p.took("mail_hub", "local_recipient_maps", strings.Join(listed, ", "))
		return
	}
	for _, w := range listed {
		if !strings.HasSuffix(w, "unix:passwd.byname") && !slices.Contains(known, w) && !p.e.hub {
			p.e.hub = true
			p.took("mail_hub", "local_recipient_maps", strings.Join(listed, ", "))
		}
	}
}

// postfixReader reads parameters and keeps the first error.
type postfixReader struct {
	e           *Effective
	c           *maincf.Config
	defaultType string
	err         error
}

func (p *postfixReader) get(name string) string {
	value, err := p.c.Get(name)
	if err != nil && p.err == nil {
		p.err = err
	}
	return value
}

func (p *postfixReader) list(name string) []string { return maincf.Split(p.get(name)) }

// took notes that a setting came from a parameter.
func (p *postfixReader) took(name, parameter, value string) {
	s, _ := p.c.Set(parameter)
	p.e.took(name, value, p.c.Path, s.Line)
}

// maps takes over a list of tables, unless the configuration has its own.
func (p *postfixReader) maps(name, parameter string, put func([]table.Spec), own bool) {
	if own {
		return
	}
	words := p.list(parameter)
	list, _ := p.e.specs(parameter, words, p.defaultType)
	if len(words) > 0 {
		p.took(name, parameter, strings.Join(words, ", "))
	}
	put(list)
}

// domains takes over a list of domains, unless the configuration has its own.
func (p *postfixReader) domains(name, parameter string, to *[]string) {
	if *to != nil {
		return
	}
	words := p.list(parameter)
	if len(words) > 0 {
		p.took(name, parameter, strings.Join(words, ", "))
	}
	*to = p.e.domainWords(parameter, words)
}

// firstLine reads the first line of a short file.
func firstLine(path string) (string, error) {
	f, err := os.Open(path) // #nosec G304 -- named by the MTA's own configuration
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // read-only
	in := bufio.NewScanner(io.LimitReader(f, 4<<10))
	in.Scan()
	return strings.TrimSpace(in.Text()), in.Err()
}
