// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"os"
	"strconv"
	"strings"

	"rcptgate/mta/mtaconf"
	"rcptgate/table"
)

// readSendmail takes over what sendmail.cf says: options, classes, maps, macros, and the
// rules by which FEATUREs of the .mc file are recognised (cf/README).
func (e *Effective) readSendmail() error {
	c, err := e.Source.Sendmail(e.Sendmail)
	if err != nil {
		return err
	}
	if v, ok := c.Option("AliasFile"); ok && len(e.Files) == 0 {
		c.Took("files", v.Text, c.Path, v.Line)
		e.readAliasFile(c, v.Text)
	}
	if e.VirtUserTable == nil {
		e.VirtUserTable, _ = c.ReadMap("virtusertable", "virtuser")
	}
	if e.Access == nil && c.HasRule("<U:$1@> <D:$2>") { // FEATURE(`blocklist_recipients')
		e.Access, _ = c.ReadMap("access", "access")
	}
	if e.Domains == nil {
		e.Domains = c.ReadClass("domains", "w")
	}
	if e.VirtuserDomains == nil {
		e.VirtuserDomains = append([]string{}, c.ReadClass("virtuser_domains", "VirtHost")...)
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
		c.Took("max_alias_recursion", strconv.Itoa(e.MaxAliasRecursion), c.Path, v.Line)
	}
	e.readUsersOfSendmail(c)
	return nil
}

// sendmailRecursion is Sendmail's own limit of aliases of aliases.
const sendmailRecursion = 10

// readAliasFile reads the option AliasFile: "/file", "class:file" or "class:-flags file", with
// commas between them.
func (e *Effective) readAliasFile(c *mtaconf.Sendmail, value string) {
	for _, entry := range strings.Split(value, ",") {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		kind, name, typed := strings.Cut(entry, ":")
		if !typed || strings.HasPrefix(entry, "/") {
			if kind, name = implicitType(entry), entry; kind == "" {
				c.Warn("AliasFile: %s has not been built; it is left out until it is", entry)
				c.Watch(entry + ".db")
				c.Watch(entry + ".cdb")
				continue
			}
		}
		if fields := strings.Fields(name); len(fields) > 0 {
			name = fields[len(fields)-1]
		}
		list, _ := c.Tables("AliasFile", []string{kind + ":" + name}, "")
		for _, spec := range list {
			e.Files = append(e.Files, File{spec})
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

// readUsersOfSendmail finds out whether passwd(5) and the aliases are all that knows local names.
func (e *Effective) readUsersOfSendmail(c *mtaconf.Sendmail) {
	for _, f := range [][2]string{{"H", "MAIL_HUB"}, {"R", "LOCAL_RELAY"}, {"L", "LUSER_RELAY"}} {
		macro, feature := f[0], f[1]
		if v, ok := c.Set(macro); ok && c.Expand(v.Text) != "" {
			e.hub = true
			c.Took("mail_hub", feature+" "+c.Expand(v.Text), c.Path, v.Line)
			if macro == "H" && c.HasRule("$: < $H > $1 < @ $2 . >") { // FEATURE(`stickyhost')
				e.sticky = true
			}
		}
	}
	if _, ldap := c.Map("ldapmra"); ldap {
		c.Warn("FEATURE(`ldap_routing') is not followed")
		c.Partial = true
	}
	if flags, ok := c.Mailer("local"); ok && !strings.Contains(flags, "w") { // no check of users
		e.hub = true
		c.Took("mail_hub", "the mailer \"local\" has no flag \"w\"", c.Path, 0)
	}
}
