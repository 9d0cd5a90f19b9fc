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
	"rcptgate/table/lists"
)

// Config is the section [aliases].
type Config struct {
	Postfix                string       `toml:"postfix" doc:"Postfix's configuration directory, or its main.cf: every setting below that is not set here is taken from it, and changes to it take effect at once" example:"\"/etc/postfix\""`
	Sendmail               string       `toml:"sendmail" doc:"Sendmail's configuration file: every setting below that is not set here is taken from it, and changes to it take effect at once" example:"\"/etc/mail/sendmail.cf\""`
	Files                  []File       `toml:"files" doc:"the MTA's alias databases; the first that holds a name counts. They are read as they are on disk, even while the MTA rewrites them. \"memcached:\" stands for the names that other gateways publish; it never causes a refusal" example:"[\"hash:/etc/mail/aliases\"]"`
	Publish                bool         `toml:"publish" doc:"publish the names of these files in memcached, for gateways that do not have them"`
	Domains                []string     `toml:"domains" doc:"the local domains, whose local parts the alias databases hold (mydestination, class w). A name that begins with \"/\" is a file with one domain a line (Sendmail's local-host-names); TYPE:FILE is a table whose keys are domains. Names that no table holds are refused only in domains written out here" example:"[\"example.org\", \"/etc/mail/local-host-names\"]"`
	VirtUserTable          []table.Spec `toml:"virtusertable" doc:"Sendmail's virtusertable: whole addresses and @domain" example:"[\"hash:/etc/mail/virtusertable\"]"`
	VirtuserDomains        []string     `toml:"virtuser_domains" doc:"the domains of virtusertable in addition to the local ones (VIRTUSER_DOMAIN), written as in relay_domains: the table then applies only in these and in local domains, and names absent from it are refused. If not set, it applies to recipients in every domain, and no name is refused; a target that it rewrites is accepted if it exists either way" example:"[\"example.net\"]"`
	VirtualAliasMaps       []table.Spec `toml:"virtual_alias_maps" doc:"Postfix's virtual_alias_maps: whole addresses and @domain, in every domain" example:"[\"hash:/etc/postfix/virtual\"]"`
	VirtualAliasDomains    []string     `toml:"virtual_alias_domains" doc:"Postfix's virtual_alias_domains, written as in relay_domains: names absent from virtual_alias_maps are refused in these domains" example:"[\"example.net\"]"`
	RecipientCanonicalMaps []table.Spec `toml:"recipient_canonical_maps" doc:"Postfix's recipient_canonical_maps: they replace an address before it is looked up in virtual_alias_maps" example:"[\"hash:/etc/postfix/recipient_canonical\"]"`
	CanonicalMaps          []table.Spec `toml:"canonical_maps" doc:"Postfix's canonical_maps, applied after recipient_canonical_maps" example:"[\"hash:/etc/postfix/canonical\"]"`
	MyOrigin               string       `toml:"myorigin" doc:"Postfix's myorigin: the domain of names without one in virtual_alias_maps, canonical maps and aliases; with \"\" such names are local" example:"\"example.org\""`
	Propagate              []string     `toml:"propagate_unmatched_extensions" doc:"Postfix's setting of that name: the tables whose targets get the detail of a recipient that was found without it; the default is canonical and virtual" oneof:"canonical,virtual,alias,forward,include,generic"`
	RelayRecipientMaps     []table.Spec `toml:"relay_recipient_maps" doc:"Postfix's relay_recipient_maps: a listed recipient exists, and no server is asked about it; @domain is a domain without a list" example:"[\"hash:/etc/postfix/relay_recipients\"]"`
	RelayDomains           []string     `toml:"relay_domains" doc:"the domains whose recipients are all in relay_recipient_maps: others are refused. A name that begins with \"/\" is a file with one domain a line (Sendmail's relay-domains); TYPE:FILE is a table whose keys are domains; \".example.com\" is everything below example.com" example:"[\"example.com\", \"hash:/etc/postfix/relay_domains\"]"`
	RelaySubdomains        *bool        `toml:"relay_subdomains" doc:"whether a domain in relay_domains also stands for the domains below it, as in both MTAs by default; true if not set. With false it stands only for itself, and a key \".example.com\" of a table for those below (Postfix without relay_domains in parent_domain_matches_subdomains)"`
	Access                 []table.Spec `toml:"access" doc:"Sendmail's access map. Its entries for recipients are the verdict, before anything else: To:user@domain, To:user@, To:domain and the same untagged, as with FEATURE blocklist_recipients" example:"[\"hash:/etc/mail/access\"]"`
	Delimiter              *string      `toml:"recipient_delimiter" doc:"the characters that separate a user's name from a detail, as in Postfix, whose own default is none. The default here is \"+\", the only one that Sendmail has; \"\" means none" example:"\"+\""`
	MaxAliasRecursion      int          `toml:"max_alias_recursion" doc:"Sendmail's MaxAliasRecursion: aliases of aliases deeper than this are refused; with 0 Sendmail's limit does not apply, and more than 16 levels count as accepted" min:"0" max:"1000"`
	MailHub                *bool        `toml:"mail_hub" doc:"whether another server may know users that are not in this machine's passwd and aliases (Sendmail's MAIL_HUB, LOCAL_RELAY, LUSER_RELAY; Postfix's mailbox_transport, fallback_transport, luser_relay). If true, local names that no table holds are never refused. The default is false"`
	Passwd                 string       `toml:"passwd" doc:"the file of local users. They exist where the MTA delivers with its mailer \"local\", and are not refused where the MTA does not name its mailer. Users known only to LDAP or NIS are not in the file. \"\" means none"`

	// effective is what the Config means in the setup that was built of it; nil: nothing is
	// looked up.
	effective *Effective
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
		return fmt.Errorf("table %q: expected \"memcached:\" alone; the servers are set in [cache] memcached", text)
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
	return Config{Passwd: "/etc/passwd"}
}

// Active reports whether there is anything to look up.
func (c *Config) Active() bool {
	return c.Postfix != "" || c.Sendmail != "" || len(c.Files)+len(c.Domains)+len(c.VirtUserTable)+len(c.VirtualAliasMaps)+
		len(c.VirtualAliasDomains)+len(c.RecipientCanonicalMaps)+len(c.CanonicalMaps)+len(c.RelayRecipientMaps)+len(c.Access) > 0
}

// Validate reports settings that cannot be meant.
func (c Config) Validate() error {
	var errs []error
	if c.Delimiter != nil && !address.IsDelimiters(*c.Delimiter) {
		errs = append(errs, setting.Keyf("recipient_delimiter", "%q: expected up to 8 characters such as \"+\" or \"+-\"", *c.Delimiter))
	}
	for _, p := range [][2]string{{"passwd", c.Passwd}, {"postfix", c.Postfix}, {"sendmail", c.Sendmail}} {
		if p[1] != "" && !filepath.IsAbs(p[1]) {
			errs = append(errs, setting.Keyf(p[0], "%q is not an absolute path", p[1]))
		}
	}
	if c.MyOrigin != "" && lists.CheckDomain(c.MyOrigin, false) != nil {
		errs = append(errs, setting.Keyf("myorigin", "%q is not a domain such as \"example.org\"", c.MyOrigin))
	}
	fromMTA := c.Postfix != "" || c.Sendmail != ""
	if c.Publish && len(c.Real()) == 0 && !fromMTA {
		errs = append(errs, setting.Keyf("publish", "there is nothing to publish: files names no alias database of this machine"))
	}
	if len(c.RelayDomains) > 0 && len(c.RelayRecipientMaps) == 0 && c.Postfix == "" {
		errs = append(errs, setting.Keyf("relay_domains", "nothing lists the recipients of these domains: relay_recipient_maps is empty"))
	}
	if len(c.VirtualAliasDomains) > 0 && len(c.VirtualAliasMaps) == 0 && c.Postfix == "" {
		errs = append(errs, setting.Keyf("virtual_alias_domains", "nothing lists the names of these domains: virtual_alias_maps is empty"))
	}
	if len(c.VirtuserDomains) > 0 && len(c.VirtUserTable) == 0 && c.Sendmail == "" {
		errs = append(errs, setting.Keyf("virtuser_domains", "nothing lists the names of these domains: virtusertable is empty"))
	}
	return errors.Join(append(append(errs, c.validateDomains()...), c.validateMaps()...)...)
}

func (c *Config) validateDomains() (errs []error) {
	for _, list := range []struct {
		key     string
		domains []string
		below   bool
	}{
		{"domains", c.Domains, false}, {"relay_domains", c.RelayDomains, true},
		{"virtual_alias_domains", c.VirtualAliasDomains, true}, {"virtuser_domains", c.VirtuserDomains, true},
	} {
		for _, d := range list.domains {
			if err := lists.CheckDomain(d, list.below); err != nil {
				errs = append(errs, &setting.KeyError{Key: list.key, Err: err})
			}
		}
	}
	return errs
}

func (c *Config) validateMaps() (errs []error) {
	for _, list := range []struct {
		key   string
		specs []table.Spec
	}{
		{"virtusertable", c.VirtUserTable}, {"virtual_alias_maps", c.VirtualAliasMaps}, {"relay_recipient_maps", c.RelayRecipientMaps},
		{"recipient_canonical_maps", c.RecipientCanonicalMaps}, {"canonical_maps", c.CanonicalMaps}, {"access", c.Access},
	} {
		for _, s := range list.specs {
			if s.Type == table.Text {
				errs = append(errs, setting.Keyf(list.key, "%q: text: is the form of aliases; write files of addresses as texthash:%s", s, s.Name))
			}
		}
	}
	return errs
}
