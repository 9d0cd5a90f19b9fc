// SPDX-License-Identifier: BSD-2-Clause

package blocklist

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"rcptgate/config/setting"
)

// Config is a section [[blocklist]].
type Config struct {
	Name       string           `toml:"name" doc:"name of the list in log, metrics, commands and other settings: letters, digits, \"-\" and \"_\"" example:"\"virus\""`
	For        setting.Duration `toml:"for" doc:"how long a client stays listed after the last evidence against it" min:"1s" max:"365d"`
	ForMax     setting.Duration `toml:"for_max" doc:"the longest that a client is listed. A client that is listed again within this time after its last listing ended is listed for twice as long as then, up to for_max. \"0\": it is always listed for the same time" max:"365d" example:"\"1d\""`
	After      int              `toml:"after" doc:"viruses from one client, within the time of for, that list it" min:"1" max:"1000"`
	Share      float64          `toml:"share" doc:"a client of which more than ten messages came within the time of for is listed only if at least this share of them had a virus: a relay of thousands passes one on now and then" min:"0" max:"1"`
	Evidence   []string         `toml:"evidence" doc:"signatures that list their sender: globs, and those with \"!\" do not. The default leaves out signatures that are guesses. []: no virus lists anybody, only commands, scripts and other checks do" example:"[\"!Heuristics.*\", \"!PUA.*\"]"`
	IPv6Prefix int              `toml:"ipv6_prefix" doc:"length of the IPv6 networks that are listed: a client has a whole network to send from" min:"32" max:"128"`
	Never      []string         `toml:"never" doc:"clients that are never listed: networks, $own, $backends, $trusted, $local (private networks). This machine, servers behind, MX hosts of own domains, trusted networks and authenticated clients are never listed, whatever is set here" example:"[\"$local\", \"198.51.100.0/24\"]"`
	NeverNames []string         `toml:"never_names" doc:"patterns of verified host names whose addresses are never listed" example:"[\".outbound.protection.outlook.com\"]"`
	NeverDNS   []string         `toml:"never_dns" doc:"lists in DNS of hosts that are never listed. They are asked in the background, and only about clients that are about to be listed" example:"[\"list.dnswl.org\"]"`
	Stage      string           `toml:"stage" doc:"when a listed client is refused: \"rcpt\" leaves the names of exempt reachable; at \"mail\" and \"connect\" nobody is. At \"connect\" Sendmail does not pass the text on" oneof:"rcpt,mail,connect"`
	Exempt     []string         `toml:"exempt" doc:"patterns of recipients that a listed client can still write to, with stage \"rcpt\": whoever is listed by mistake must be able to say so" example:"[\"postmaster@\", \"abuse@\"]"`
	Entries    int              `toml:"entries" doc:"networks that are remembered at most; those whose listing ends first make room" min:"100" max:"10000000"`
	Shared     bool             `toml:"shared" doc:"share the list with the other gateways where [cache] has memcached servers: they know of a listing as soon as the client comes to them"`
	Export     []ExportConfig   `toml:"export" doc:"files for other programs" example:"[{ format = \"cidr\", file = \"/var/lib/rcptgate/virus.cidr\" }]"`
	Code       int              `toml:"code" doc:"reply code: 5xx refuses for good, 4xx has the sender try again later" min:"400" max:"559"`
	Text       string           `toml:"text" doc:"the text for the sender" example:"\"You have sent us mail containing a virus and are blocked for an hour.\""`
	Enforce    *bool            `toml:"enforce" doc:"false: rehearse this list. Clients are listed and logged, but none is refused, and exports are empty. true: it refuses even where the gate rehearses"`
}

// SetDefaults makes c a section that sets nothing.
func (c *Config) SetDefaults() {
	*c = Config{
		For: setting.Duration(time.Hour), After: 1, Share: 0.2, Evidence: []string{"!Heuristics.*", "!PUA.*", "!*.Spam*", "!Sanesecurity.*", "!*Phishing*"}, IPv6Prefix: 64, Never: []string{"$local"}, Stage: "rcpt", Exempt: []string{"postmaster@", "abuse@"},
		Entries: 100_000, Shared: true, Code: 550, Text: "Mail from your address is refused here for the time being; write to postmaster if this is a mistake",
	}
}

// nameMax bounds a list's name, in octets: it stands in log lines, metrics and file names.
const nameMax = 32

// Validate reports what does not fit together.
func (c Config) Validate() error {
	var errs []error
	if c.Name == "" {
		errs = append(errs, errors.New("a blocklist needs a name"))
	} else if len(c.Name) > nameMax || strings.Trim(c.Name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
		errs = append(errs, setting.Keyf("name", "%q: expected up to %d letters, digits, \"-\" and \"_\"", c.Name, nameMax))
	}
	if c.ForMax != 0 && c.ForMax < c.For {
		errs = append(errs, setting.Keyf("for_max", "%s is shorter than for, %s", c.ForMax, c.For))
	}
	if c.Code == 421 || c.Code == 521 || c.Code == 556 {
		errs = append(errs, setting.Keyf("code", "%d would end the client's session", c.Code))
	}
	if c.Code/100 == 4 && c.Code%100 > 59 {
		errs = append(errs, setting.Keyf("code", "%d is not a reply code: expected 400 to 459 or 500 to 559", c.Code))
	}
	for i, x := range c.Export {
		if !filepath.IsAbs(x.File) {
			errs = append(errs, setting.Keyf(fmt.Sprintf("export[%d].file", i+1), "%q is not an absolute path", x.File))
		}
	}
	return errors.Join(errs...)
}

// longest is the longest life of a listing.
func (c *Config) longest() time.Duration { return max(c.For, c.ForMax).Std() }
