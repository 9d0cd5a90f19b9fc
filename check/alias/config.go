// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"rcptgate/address"
	"rcptgate/config/setting"
	"rcptgate/table"
)

// Config is the section [aliases].
type Config struct {
	Files              []File       `toml:"files" doc:"the MTA's alias databases, the first that holds a name counts; read as they are on disk, while the MTA rewrites them; \"memcached:\" is the names that other gateways publish, and refuses nobody" example:"[\"hash:/etc/mail/aliases\"]"`
	Publish            bool         `toml:"publish" doc:"puts the names of these files into memcached, for gateways that do not have them"`
	Domains            []string     `toml:"domains" doc:"the local domains, whose local parts the alias databases hold; a name that begins with \"/\" is a file with a domain a line (Sendmail's local-host-names), TYPE:FILE a table whose keys are domains (as mydestination may name); only in domains written out here are names refused that no table holds" example:"[\"example.org\", \"/etc/mail/local-host-names\"]"`
	VirtUserTable      []table.Spec `toml:"virtusertable" doc:"Sendmail's virtusertable: whole addresses and @domain, in every domain" example:"[\"hash:/etc/mail/virtusertable\"]"`
	VirtualAliasMaps   []table.Spec `toml:"virtual_alias_maps" doc:"Postfix's virtual_alias_maps: whole addresses and @domain, in every domain" example:"[\"hash:/etc/postfix/virtual\"]"`
	RelayRecipientMaps []table.Spec `toml:"relay_recipient_maps" doc:"Postfix's relay_recipient_maps: who is listed exists and no server is asked; @domain is a domain without a list" example:"[\"hash:/etc/postfix/relay_recipients\"]"`
	RelayDomains       []string     `toml:"relay_domains" doc:"the domains whose every recipient relay_recipient_maps lists: who is not listed is refused; a name that begins with \"/\" is a file with a domain a line (Sendmail's relay-domains), TYPE:FILE a table whose keys are domains; \".example.com\" is everything below it" example:"[\"example.com\", \"hash:/etc/postfix/relay_domains\"]"`
	RelaySubdomains    bool         `toml:"relay_subdomains" doc:"a domain in relay_domains stands for those below it too, as in both MTAs by default; false: for itself, and a key \".example.com\" of a table for those below (Postfix without relay_domains in parent_domain_matches_subdomains)"`
	Access             []table.Spec `toml:"access" doc:"Sendmail's access map: what it says of recipients (To:user@domain, To:user@, To:domain and the same untagged, as with FEATURE blocklist_recipients) is the verdict, before anything else" example:"[\"hash:/etc/mail/access\"]"`
	Delimiter          string       `toml:"recipient_delimiter" doc:"the characters that part a user's name from a detail, as in Postfix, whose own default is none; Sendmail's is always \"+\"; \"\": none"`
	Passwd             string       `toml:"passwd" doc:"the file of local users: they exist where the MTA delivers with its mailer \"local\", and are not refused where it does not say with what it delivers; users that only LDAP or NIS knows are not there; \"\": none"`
}

// File is one of the alias databases: a table, or the names that other gateways
// publish, whose type is table.Memcached.
type File struct{ table.Spec }

// Published reports whether these are the names that other gateways publish.
func (f File) Published() bool { return f.Type == table.Memcached }

// UnmarshalText reads TYPE:FILE or "memcached:".
func (f *File) UnmarshalText(text []byte) error {
	word, rest, _ := strings.Cut(string(text), ":")
	if table.Type(word) != table.Memcached {
		return f.Spec.UnmarshalText(text)
	}
	if rest != "" {
		return fmt.Errorf("table %q: \"memcached:\" alone is allowed: the servers stand in [cache] memcached", text)
	}
	f.Spec = table.Spec{Type: table.Memcached}
	return nil
}

// Form says what a value looks like, for the configuration's reference.
func (f File) Form() string { return f.Spec.Form() + `; or "memcached:"` }

// Real are the files that are files.
func (c *Config) Real() (specs []table.Spec) {
	for _, f := range c.Files {
		if !f.Published() {
			specs = append(specs, f.Spec)
		}
	}
	return specs
}

// Reads reports whether names that other gateways publish are looked up.
func (c *Config) Reads() bool { return slices.ContainsFunc(c.Files, File.Published) }

// DefaultConfig is what an empty [aliases] section means.
func DefaultConfig() Config {
	return Config{Delimiter: "+", Passwd: "/etc/passwd", RelaySubdomains: true}
}

// Active reports whether there is anything to look up.
func (c *Config) Active() bool {
	return len(c.Files)+len(c.Domains)+len(c.VirtUserTable)+len(c.VirtualAliasMaps)+len(c.RelayRecipientMaps)+len(c.Access) > 0
}

// Validate reports settings that cannot be meant.
func (c Config) Validate() error {
	var errs []error
	if !address.IsDelimiters(c.Delimiter) {
		errs = append(errs, setting.Keyf("recipient_delimiter", "%q: up to 8 characters such as \"+\" or \"+-\" are allowed", c.Delimiter))
	}
	if c.Passwd != "" && !filepath.IsAbs(c.Passwd) {
		errs = append(errs, setting.Keyf("passwd", "%q is no absolute path", c.Passwd))
	}
	if c.Publish && len(c.Real()) == 0 {
		errs = append(errs, setting.Keyf("publish", "there is nothing to publish: files names no alias database of this machine"))
	}
	for key, domains := range map[string][]string{"domains": c.Domains, "relay_domains": c.RelayDomains} {
		for _, d := range domains {
			if err := checkDomain(d, key == "relay_domains"); err != nil {
				errs = append(errs, &setting.KeyError{Key: key, Err: err})
			}
		}
	}
	if len(c.RelayDomains) > 0 && len(c.RelayRecipientMaps) == 0 {
		errs = append(errs, setting.Keyf("relay_domains", "nothing lists the recipients of these domains: relay_recipient_maps is empty"))
	}
	for key, specs := range map[string][]table.Spec{
		"virtusertable": c.VirtUserTable, "virtual_alias_maps": c.VirtualAliasMaps, "relay_recipient_maps": c.RelayRecipientMaps,
		"access": c.Access,
	} {
		for _, s := range specs {
			if s.Type == table.Text {
				errs = append(errs, setting.Keyf(key, "%q: text: is the form of aliases; files of addresses are written texthash:%s", s, s.Name))
			}
		}
	}
	return errors.Join(errs...)
}
