// SPDX-License-Identifier: BSD-2-Clause

package route

import (
	"errors"
	"path/filepath"

	"rcptgate/address"
	"rcptgate/config/setting"
	"rcptgate/table"
	"rcptgate/table/lists"
)

// TablesConfig is the section [routes]: the MTA's own next hops.
type TablesConfig struct {
	Postfix       string       `toml:"postfix" doc:"Postfix's configuration directory, or its main.cf: transport_maps, recipient_delimiter, relay_domains, relay_to and own_domains are taken from it where they are not set here, and changes to it take effect at once" example:"\"/etc/postfix\""`
	Sendmail      string       `toml:"sendmail" doc:"Sendmail's configuration file: mailertable, relay_domains, relay_to and own_domains are taken from it where they are not set here, and changes to it take effect at once" example:"\"/etc/mail/sendmail.cf\""`
	Mailertable   []table.Spec `toml:"mailertable" doc:"Sendmail's mailertable, for domains without a section and for sections without servers; as with the MTA's own next hop, only hosts in brackets are asked" example:"[\"hash:/etc/mail/mailertable\"]"`
	TransportMaps []table.Spec `toml:"transport_maps" doc:"Postfix's transport_maps, used in the same way; list all of them, since Postfix looks for each form of the address in every map before it tries the next form" example:"[\"hash:/etc/postfix/transport\"]"`
	Delimiter     *string      `toml:"recipient_delimiter" doc:"Postfix's recipient_delimiter, for entries of transport_maps that are whole addresses: the characters that separate a user's name from a detail. The default here is \"+\"; \"\" means none" example:"\"+\""`
	RelayTo       *string      `toml:"relay_to" doc:"the next hop of relay_domains that no map names, for questions in which the MTA does not name one: Postfix's relay_transport with relayhost, Sendmail's SMART_HOST. It is written as in a map, and only hosts in brackets are asked; \"\" means none" example:"\"relay:[10.0.0.5]:25\""`
	RelayDomains  []string     `toml:"relay_domains" doc:"the domains that relay_to is for, and those below them, as in both MTAs. A name that begins with \"/\" is a file with one domain a line (Sendmail's relay-domains); TYPE:FILE is a table whose keys are domains" example:"[\"example.com\", \"hash:/etc/postfix/relay_domains\"]"`
	OwnDomains    []string     `toml:"own_domains" doc:"domains that relay_to is not for, whatever relay_domains says, because the MTA delivers or rewrites them itself: Postfix's mydestination and virtual domains, Sendmail's class w and VIRTUSER_DOMAIN. They are written in the same way" example:"[\"mail.example.com\"]"`
}

// DefaultTablesConfig is what an empty [routes] section means.
func DefaultTablesConfig() TablesConfig { return TablesConfig{} }

// Validate reports settings that cannot be meant.
func (c TablesConfig) Validate() error {
	var errs []error
	for _, list := range []struct {
		key   string
		specs []table.Spec
	}{{"mailertable", c.Mailertable}, {"transport_maps", c.TransportMaps}} {
		for _, s := range list.specs {
			if s.Type == table.Text {
				errs = append(errs, setting.Keyf(list.key, "%q: the type text: is for alias files; write a file of domains as texthash:%s", s, s.Name))
			}
		}
	}
	for _, list := range []struct {
		key     string
		domains []string
	}{{"relay_domains", c.RelayDomains}, {"own_domains", c.OwnDomains}} {
		for _, d := range list.domains {
			if err := lists.CheckDomain(d, true); err != nil {
				errs = append(errs, &setting.KeyError{Key: list.key, Err: err})
			}
		}
	}
	for _, p := range [][2]string{{"postfix", c.Postfix}, {"sendmail", c.Sendmail}} {
		if p[1] != "" && !filepath.IsAbs(p[1]) {
			errs = append(errs, setting.Keyf(p[0], "%q is not an absolute path", p[1]))
		}
	}
	if c.Delimiter != nil && !address.IsDelimiters(*c.Delimiter) {
		errs = append(errs, setting.Keyf("recipient_delimiter", "%q: expected up to 8 characters such as \"+\" or \"+-\"", *c.Delimiter))
	}
	if c.RelayTo != nil && *c.RelayTo != "" {
		if _, ok := readValue(*c.RelayTo); !ok {
			errs = append(errs, setting.Keyf("relay_to", "%q: expected a next hop in brackets, such as \"relay:[10.0.0.5]:25\"", *c.RelayTo))
		}
	}
	if c.Postfix == "" && c.Sendmail == "" && (c.RelayTo != nil && *c.RelayTo != "") != (len(c.RelayDomains) > 0) {
		errs = append(errs, setting.Keyf("relay_domains", "relay_to and relay_domains are of no use without each other"))
	}
	return errors.Join(errs...)
}
