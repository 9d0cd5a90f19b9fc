// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"os"
	"strconv"
	"strings"

	"rcptgate/mta/sendmailcf"
	"rcptgate/table"
)

// readSendmail takes over what sendmail.cf says: options, classes, maps, macros, and the
// rules by which FEATUREs of the .mc file are recognised (cf/README).
func (e *Effective) readSendmail() error {
	c, err := sendmailcf.Read(e.Sendmail)
	if err != nil {
		return err
	}
	e.files = append(e.files, stampOf(c.Path))
	s := sendmailReader{e: e, c: c}
	if v, ok := c.Option("AliasFile"); ok && len(e.Files) == 0 {
		e.took("files", v.Text, c.Path, v.Line)
		s.aliases(v.Text)
	}
	if e.VirtUserTable == nil {
		e.VirtUserTable = s.table("virtusertable", "virtuser")
	}
	if e.Access == nil && c.HasRule("<U:$1@> <D:$2>") { // FEATURE(`blocklist_recipients')
		e.Access = s.table("access", "access")
	}
	if e.Domains == nil {
		e.Domains = s.class("domains", "w")
	}
	if e.VirtuserDomains == nil {
		e.VirtuserDomains = append([]string{}, s.class("virtuser_domains", "VirtHost")...)
		if c.HasRule("< @ $* $={VirtHost} . >") { // FEATURE(`virtuser_entire_domain')
			for _, d := range e.VirtuserDomains {
				if !strings.Contains(d, "/") {
					e.VirtuserDomains = append(e.VirtuserDomains, "."+d)
				}
			}
		}
	}
	if e.MaxAliasRecursion == 0 {
		e.MaxAliasRecursion = sendmailRecursion
		v, _ := c.Option("MaxAliasRecursion")
		if n, err := strconv.Atoi(v.Text); err == nil && n > 0 {
			e.MaxAliasRecursion = n
		}
		e.took("max_alias_recursion", strconv.Itoa(e.MaxAliasRecursion), c.Path, v.Line)
	}
	s.users()
	return nil
}

// sendmailRecursion is Sendmail's own limit of aliases of aliases.
const sendmailRecursion = 10

type sendmailReader struct {
	e *Effective
	c *sendmailcf.Config
}

// aliases reads the option AliasFile: "/file", "class:file" or "class:-flags file", with
// commas between them.
func (s *sendmailReader) aliases(value string) {
	for _, entry := range strings.Split(value, ",") {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		kind, name, typed := strings.Cut(entry, ":")
		if !typed || strings.HasPrefix(entry, "/") {
			if kind, name = implicitType(entry), entry; kind == "" {
				s.e.warn("AliasFile: %s has not been built; it is left out until it is", entry)
				s.e.files = append(s.e.files, stampOf(entry+".db"), stampOf(entry+".cdb"))
				continue
			}
		}
		if fields := strings.Fields(name); len(fields) > 0 {
			name = fields[len(fields)-1]
		}
		list, _ := s.e.specs("AliasFile", []string{kind + ":" + name}, "")
		for _, spec := range list {
			s.e.Files = append(s.e.Files, File{spec})
		}
	}
}

// implicitType is the type of an alias file without one: what is there, as Sendmail's map
// class "implicit" looks for it; "" if nothing is.
func implicitType(name string) string {
	for _, kind := range []table.Type{table.Hash, table.CDB} {
		if _, err := os.Stat(table.Spec{Type: kind, Name: name}.Path()); err == nil {
			return string(kind)
		}
	}
	return ""
}

// table takes over a map.
func (s *sendmailReader) table(setting, name string) []table.Spec {
	m, ok := s.c.Map(name)
	if !ok {
		return nil
	}
	s.e.took(setting, m.Type+":"+m.Name, s.c.Path, m.Line)
	list, _ := s.e.specs("map "+name, []string{m.Type + ":" + m.Name}, "")
	return list
}

// class takes over the domains of a class.
func (s *sendmailReader) class(setting, name string) []string {
	k := s.c.Class(name)
	words := append([]string(nil), k.Words...)
	for _, f := range k.Files {
		words = append(words, f.Text)
	}
	if len(words) > 0 {
		s.e.took(setting, strings.Join(words, ", "), s.c.Path+", class "+name, 0)
	}
	for _, o := range k.Others {
		s.e.warn("class %s: %q is not read; names that are absent are not refused", name, o.Text)
		s.e.partial = true
	}
	return s.e.domainWords("class "+name, words)
}

// users finds out whether passwd(5) and the aliases are all that knows local names.
func (s *sendmailReader) users() {
	for _, f := range [][2]string{{"H", "MAIL_HUB"}, {"R", "LOCAL_RELAY"}, {"L", "LUSER_RELAY"}} {
		macro, feature := f[0], f[1]
		if v, ok := s.c.Set(macro); ok && s.c.Expand(v.Text) != "" {
			s.e.hub = true
			s.e.took("mail_hub", feature+" "+s.c.Expand(v.Text), s.c.Path, v.Line)
			if macro == "H" && s.c.HasRule("$: < $H > $1 < @ $2 . >") { // FEATURE(`stickyhost')
				s.e.sticky = true
			}
		}
	}
	if _, ldap := s.c.Map("ldapmra"); ldap {
		s.e.warn("FEATURE(`ldap_routing') is not followed; names that are absent are not refused")
		s.e.partial = true
	}
	if flags, ok := s.c.Mailer("local"); ok && !strings.Contains(flags, "w") { // no check of users
		s.e.hub = true
		s.e.took("mail_hub", "the mailer \"local\" has no flag \"w\"", s.c.Path, 0)
	}
}
