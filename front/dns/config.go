// SPDX-License-Identifier: BSD-2-Clause

package dns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	mdns "github.com/miekg/dns"

	"rcptgate/config/setting"
)

// Config is the section [dns].
type Config struct {
	Listen []setting.Socket `toml:"listen" doc:"addresses and ports, for UDP and TCP. Nothing listens while there are no zones" example:"[\"127.0.0.1:5300\", \"192.0.2.53:53\"]" restart:"true"`
	Allow  []Allowed        `toml:"allow" doc:"clients that may ask, besides this machine itself: networks, and \"$trusted\" for those of trusted. [\"0.0.0.0/0\", \"::/0\"] publishes the zones" example:"[\"$trusted\", \"192.0.2.0/24\"]"`
	Zones  []ZoneConfig     `toml:"zones" doc:"the zones, each with a blocklist" example:"[{ name = \"virbl.example.org\", list = \"virus\", ns = [\"ns1.example.org\"] }]"`
}

// ZoneConfig is one zone.
type ZoneConfig struct {
	Name    string   `toml:"name" doc:"name of the zone" example:"\"virbl.example.org\""`
	List    string   `toml:"list" doc:"the blocklist that it shows" example:"\"virus\""`
	Value   string   `toml:"value" doc:"the A record of a listed client, an address in 127.0.0.0/8; the default is 127.0.0.2" example:"\"127.0.0.2\""`
	NS      []string `toml:"ns" doc:"names of the zone's name servers, as in its delegation; the default is hostname" example:"[\"ns1.example.org\"]"`
	Contact string   `toml:"contact" doc:"mail address of the zone's keeper; the default is hostmaster at the zone's name" example:"\"hostmaster@example.org\""`
}

// trustedWord stands for the networks of "trusted" in Config.Allow.
const trustedWord = "$trusted"

// Allowed is a network whose clients may ask, or the trusted ones.
type Allowed struct {
	Network setting.Network
	Trusted bool
}

// UnmarshalText reads a network or "$trusted".
func (a *Allowed) UnmarshalText(text []byte) error {
	if string(text) == trustedWord {
		*a = Allowed{Trusted: true}
		return nil
	}
	if strings.HasPrefix(string(text), "$") {
		return fmt.Errorf("%q is not known; expected a network or %q", text, trustedWord)
	}
	*a = Allowed{}
	return a.Network.UnmarshalText(text)
}

// MarshalText writes what UnmarshalText reads.
func (a Allowed) MarshalText() ([]byte, error) {
	if a.Trusted {
		return []byte(trustedWord), nil
	}
	return []byte(a.Network.String()), nil
}

// Form says what is allowed, for errors about values of another type.
func (Allowed) Form() string { return `a network such as "192.0.2.0/24", or "$trusted"` }

// DefaultConfig listens on loopback alone. The port is not 53, which needs a privilege and
// which a resolver mostly has, nor 5353, which is multicast DNS.
func DefaultConfig() Config {
	return Config{Listen: []setting.Socket{{Network: "tcp", Address: "127.0.0.1:5300"}}, Allow: []Allowed{{Trusted: true}}}
}

// Validate holds what tags cannot say.
func (c Config) Validate() error {
	var errs []error
	for i, socket := range c.Listen {
		key := fmt.Sprintf("listen[%d]", i+1)
		host, _, _ := net.SplitHostPort(socket.Address)
		if addr, err := netip.ParseAddr(host); err != nil || socket.Network == "unix" {
			errs = append(errs, setting.Keyf(key, "%q: DNS needs an address and a port, as in \"127.0.0.1:5300\"", socket))
		} else if addr.IsUnspecified() {
			errs = append(errs, setting.Keyf(key, "%q: name each address, because a datagram sent from a socket of all addresses may leave from another than was asked", socket))
		}
	}
	seen := map[string]bool{}
	for i, z := range c.Zones {
		at := fmt.Sprintf("zones[%d].", i+1)
		name := strings.ToLower(mdns.Fqdn(z.Name))
		if seen[name] {
			errs = append(errs, setting.Keyf(at+"name", "%q is there already", z.Name))
		}
		seen[name] = true
		errs = append(errs, z.validate(at)...)
	}
	return errors.Join(errs...)
}

// longestClient is what a client's name needs in front of a zone's: 32 nibbles.
const longestClient = 64

func (z *ZoneConfig) validate(at string) (errs []error) {
	if !isName(z.Name) {
		errs = append(errs, setting.Keyf(at+"name", "%q is not a domain name", z.Name))
	} else if len(packed(z.Name)) > maxName-longestClient {
		errs = append(errs, setting.Keyf(at+"name", "%q is too long: clients' names need %d octets in front of it", z.Name, longestClient))
	}
	if z.List == "" {
		errs = append(errs, setting.Keyf(at+"list", "a zone needs a list"))
	}
	if z.Value != "" {
		addr, err := netip.ParseAddr(z.Value)
		if err != nil || !addr.Is4() || !addr.IsLoopback() || addr == testNever {
			errs = append(errs, setting.Keyf(at+"value", "%q is not allowed: an address from 127.0.0.2 to 127.255.255.255 is", z.Value))
		}
	}
	for i, server := range z.NS {
		if !isName(server) {
			errs = append(errs, setting.Keyf(fmt.Sprintf("%sns[%d]", at, i+1), "%q is not a host name", server))
		}
	}
	if local, domain, ok := strings.Cut(z.Contact, "@"); z.Contact != "" && (!ok || local == "" || len(local) > 63 || !isName(domain)) {
		errs = append(errs, setting.Keyf(at+"contact", "%q is not a mail address", z.Contact))
	}
	return errs
}

// isName reports whether s is a domain name without anything that would have to be escaped.
func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	_, ok := mdns.IsDomainName(s)
	return ok && s != "" && s != "."
}
