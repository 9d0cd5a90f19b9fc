// SPDX-License-Identifier: BSD-2-Clause

package route

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"rcptgate/config/setting"
	"rcptgate/mta/maincf"
	"rcptgate/mta/mtaconf"
	"rcptgate/table"
	"rcptgate/table/lists"
)

// Effective is a TablesConfig together with what the MTA's own configuration says: a setting
// that the TablesConfig leaves out is taken from there. It does not change.
type Effective struct {
	Mailertable, TransportMaps []table.Spec
	Delimiter                  string
	RelayTo                    string
	RelayDomains, OwnDomains   []string
	Subdomains                 bool // a domain in RelayDomains stands for those below it
	// Source says where settings came from.
	Source *mtaconf.Source

	own TablesConfig // as it was set, to be read again
}

// Effective reads the MTA's configuration, if the TablesConfig names one. An error is a file
// that cannot be read, or has a fault; it names the setting.
func (c TablesConfig) Effective() (*Effective, error) {
	e := &Effective{
		Mailertable: c.Mailertable, TransportMaps: c.TransportMaps, Delimiter: "+", RelayDomains: c.RelayDomains, OwnDomains: c.OwnDomains,
		Subdomains: true, Source: new(mtaconf.Source), own: c,
	}
	if c.Postfix != "" {
		if err := e.readPostfix(); err != nil {
			return nil, &setting.KeyError{Key: "routes.postfix", Err: err}
		}
	}
	if c.Sendmail != "" {
		if err := e.readSendmail(); err != nil {
			return nil, &setting.KeyError{Key: "routes.sendmail", Err: err}
		}
	}
	if c.Delimiter != nil {
		e.Delimiter = *c.Delimiter
	}
	if c.RelayTo != nil {
		e.RelayTo = *c.RelayTo
	}
	return e, nil
}

// Again reads the MTA's configuration once more, and reports whether it means the same.
func (e *Effective) Again() (later *mtaconf.Source, same bool, err error) {
	next, err := e.own.Effective()
	if err != nil {
		return nil, false, err
	}
	a, b := *e, *next
	a.Source, b.Source = nil, nil
	return next.Source, reflect.DeepEqual(a, b) && e.Source.Equal(next.Source), nil
}

// Relay is the next hop of the domains that the MTA relays. Their files and tables are
// opened with file (see [lists.ClassFile]) and keyed.
func (e *Effective) Relay(file, keyed func(table.Spec) (table.Table, error)) (r Relay, err error) {
	if e.RelayTo == "" {
		return r, nil
	}
	r = Relay{To: e.RelayTo, Domains: lists.ReadDomains(e.RelayDomains, lists.WrittenOut), Own: lists.ReadDomains(e.OwnDomains, lists.WrittenOut)}
	r.Domains.Below, r.Domains.Dotted = true, !e.Subdomains
	r.Own.Below, r.Own.Dotted = true, true
	if err = r.Domains.Open(file, keyed); err == nil {
		err = r.Own.Open(file, keyed)
	}
	return r, err
}

// readPostfix takes over what main.cf says (postconf(5), trivial-rewrite(8)).
func (e *Effective) readPostfix() error {
	p, err := e.Source.Postfix(e.own.Postfix)
	if err != nil {
		return err
	}
	known := true
	if e.TransportMaps == nil {
		if e.TransportMaps, known = p.ReadTables("transport_maps", "transport_maps"); !known {
			// The entry that counts may stand in the map that is not read.
			e.TransportMaps = nil
			e.Source.Forget("transport_maps")
			p.Warn("transport_maps is not used: the next hop of a recipient may be in the table that cannot be read")
		}
	}
	if e.own.Delimiter == nil {
		e.Delimiter = p.Value("recipient_delimiter")
		p.Note("recipient_delimiter", "recipient_delimiter", e.Delimiter)
	}
	if e.own.RelayTo == nil && known {
		e.relayOfPostfix(p)
	}
	if e.RelayDomains == nil && e.relays() {
		e.RelayDomains = p.ReadDomains("relay_domains", "relay_domains")
		e.Subdomains = slices.Contains(p.List("parent_domain_matches_subdomains"), "relay_domains")
	}
	if e.OwnDomains == nil && e.relays() {
		e.OwnDomains = []string{}
		for _, name := range []string{"mydestination", "virtual_alias_domains", "virtual_mailbox_domains"} {
			e.OwnDomains = append(e.OwnDomains, p.ReadDomains("own_domains", name)...)
		}
	}
	return p.Err
}

// relays reports whether there is a next hop for relayed domains.
func (e *Effective) relays() bool {
	return e.RelayTo != "" || (e.own.RelayTo != nil && *e.own.RelayTo != "")
}

// relayOfPostfix finds the next hop of relay_domains: that of relay_transport, else
// relayhost.
func (e *Effective) relayOfPostfix(p *mtaconf.Postfix) {
	value, parameter := p.Value("relay_transport"), "relay_transport"
	transport, hop, _ := strings.Cut(value, ":")
	if strings.TrimSpace(hop) == "" {
		if sender := p.Value("sender_dependent_relayhost_maps"); sender != "" {
			p.Warn("relayhost is not used: sender_dependent_relayhost_maps may name another next hop")
			return
		}
		parameter = "relayhost"
		value = transport + ":" + strings.Join(maincf.Split(p.Value("relayhost")), ", ")
	}
	if _, ok := readValue(value); ok {
		e.RelayTo = value
		p.Note("relay_to", parameter, value)
	}
}

// readSendmail takes over what sendmail.cf says: mailertable, the classes R, w and VirtHost,
// and SMART_HOST (cf/README).
func (e *Effective) readSendmail() error {
	s, err := e.Source.Sendmail(e.own.Sendmail)
	if err != nil {
		return err
	}
	known := true
	if e.Mailertable == nil {
		if e.Mailertable, known = s.ReadMap("mailertable", "mailertable"); !known {
			e.Source.Forget("mailertable")
			s.Warn("mailertable is not used; the MTA's own next hop is used instead")
		}
	}
	if macro, ok := s.Set("S"); ok && e.own.RelayTo == nil && e.RelayTo == "" && known {
		value := s.Expand(macro.Text)
		if bracketed(value) { // a host without a mailer
			value = "relay:" + value
		}
		if _, ok := readValue(value); ok {
			e.RelayTo = value
			s.Took("relay_to", value, s.Path, macro.Line)
		}
	}
	if e.RelayDomains == nil && e.relays() {
		e.RelayDomains = s.ReadClass("relay_domains", "R")
	}
	if e.OwnDomains == nil && e.relays() {
		e.OwnDomains = append(s.ReadClass("own_domains", "w"), s.ReadClass("own_domains", "VirtHost")...)
	}
	return nil
}

// String describes the settings in a line, for tests and traces.
func (e *Effective) String() string {
	return fmt.Sprintf("mailertable %v, transport_maps %v, delimiter %q, relay to %q for %q (subdomains %v) but %q",
		e.Mailertable, e.TransportMaps, e.Delimiter, e.RelayTo, e.RelayDomains, e.Subdomains, e.OwnDomains)
}
