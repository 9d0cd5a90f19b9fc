// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"fmt"
	"slices"
	"strings"

	"rcptgate/mta/mtaconf"
	"rcptgate/table"
)

// readPostfix takes over what main.cf says (postconf(5)).
func (e *Effective) readPostfix() error {
	p, err := e.Source.Postfix(e.Postfix)
	if err != nil {
		return err
	}
	if len(e.Files) == 0 {
		list, _ := p.ReadTables("files", "alias_maps")
		for _, spec := range list {
			e.Files = append(e.Files, File{spec})
		}
	}
	for _, m := range []struct {
		parameter string
		to        *[]table.Spec
		classes   string // the parameter must name the recipients of envelopes
	}{
		{"virtual_alias_maps", &e.VirtualAliasMaps, ""},
		{"recipient_canonical_maps", &e.RecipientCanonicalMaps, "recipient_canonical_classes"},
		{"canonical_maps", &e.CanonicalMaps, "canonical_classes"},
		{"relay_recipient_maps", &e.RelayRecipientMaps, ""},
	} {
		if *m.to == nil && (m.classes == "" || slices.Contains(p.List(m.classes), "envelope_recipient")) {
			*m.to, _ = p.ReadTables(m.parameter, m.parameter)
		}
	}
	if e.Domains == nil {
		e.Domains = p.ReadDomains("domains", "mydestination")
	}
	if e.VirtualAliasDomains == nil {
		e.VirtualAliasDomains = p.ReadDomains("virtual_alias_domains", "virtual_alias_domains")
	}
	if e.RelayDomains == nil && len(e.RelayRecipientMaps) > 0 {
		e.RelayDomains = p.ReadDomains("relay_domains", "relay_domains")
	}
	if err := e.readAddresses(p); err != nil {
		return err
	}
	e.readUsers(p)
	return p.Err
}

// readAddresses takes over what main.cf says of the parts of an address.
func (e *Effective) readAddresses(p *mtaconf.Postfix) (err error) {
	if e.MyOrigin == "" {
		e.MyOrigin = p.Value("myorigin")
		if strings.HasPrefix(e.MyOrigin, "/") { // Debian's: the name of a file
			if e.MyOrigin, err = p.FirstLine(e.MyOrigin); err != nil {
				return fmt.Errorf("myorigin: %w", err)
			}
		}
		p.Note("myorigin", "myorigin", e.MyOrigin)
	}
	if e.Propagate == nil {
		e.Propagate = append([]string{}, p.List("propagate_unmatched_extensions")...)
		p.Note("propagate_unmatched_extensions", "propagate_unmatched_extensions", strings.Join(e.Propagate, ", "))
	}
	if e.Config.Delimiter == nil {
		e.delimiter = p.Value("recipient_delimiter")
		p.Note("recipient_delimiter", "recipient_delimiter", e.delimiter)
	}
	if e.Config.RelaySubdomains == nil {
		e.subdomains = slices.Contains(p.List("parent_domain_matches_subdomains"), "relay_domains")
		p.Note("relay_subdomains", "parent_domain_matches_subdomains", fmt.Sprint(e.subdomains))
	}
	return nil
}

// readUsers finds out whether passwd(5) and the aliases are all that knows local names.
func (e *Effective) readUsers(p *mtaconf.Postfix) {
	hub := func(parameter, value string) {
		if !e.hub {
			e.hub = true
			p.Note("mail_hub", parameter, value)
		}
	}
	for _, name := range []string{"mailbox_transport", "mailbox_transport_maps", "fallback_transport", "fallback_transport_maps", "luser_relay"} {
		if value := p.Value(name); value != "" {
			hub(name, value)
		}
	}
	known, users := p.List("alias_maps"), p.List("local_recipient_maps")
	isPasswd := func(w string) bool { return strings.HasSuffix(w, "unix:passwd.byname") }
	other := func(w string) bool { return !isPasswd(w) && !slices.Contains(known, w) }
	if !slices.ContainsFunc(users, isPasswd) || slices.ContainsFunc(users, other) { // another list of users, or none
		hub("local_recipient_maps", strings.Join(users, ", "))
	}
}
