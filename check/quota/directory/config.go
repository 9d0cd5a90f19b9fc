// SPDX-License-Identifier: BSD-2-Clause

package directory

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"rcptgate/config/setting"
)

// Config is the section [quota.ldap]. Without a URL no directory is asked.
type Config struct {
	URL          []string         `toml:"url" doc:"LDAP servers, the first that answers is asked: ldaps://HOST, ldap://HOST (see starttls), ldapi:///path/to/socket; empty: no directory" example:"[\"ldaps://ldap1.example.org\", \"ldaps://ldap2.example.org\"]"`
	StartTLS     string           `toml:"starttls" doc:"for ldap:// servers; \"off\" sends everything in the clear, the password too" oneof:"required,off"`
	CAFile       string           `toml:"ca_file" doc:"certificates (PEM) of the authorities that sign the servers' certificates; empty: the system's" example:"\"/etc/rcptgate/ldap-ca.pem\""`
	Base         string           `toml:"base" doc:"DN below which mailboxes are looked for" example:"\"ou=people,dc=example,dc=org\""`
	Bind         string           `toml:"bind" doc:"DN to bind as; empty: anonymous" example:"\"cn=rcptgate,dc=example,dc=org\""`
	PasswordFile string           `toml:"password_file" doc:"file with the password for bind; read at start and at a reload" example:"\"/etc/rcptgate/ldap.pw\""`
	Schema       string           `toml:"schema" doc:"preset for filter, attributes, unit and zero; each of these keys overrides it" oneof:",qmail,iredmail,sun,netscape,zimbra,postfix-book,univention,kopano,ad" example:"\"qmail\""`
	Filter       string           `toml:"filter" doc:"finds the entry of one mailbox; {address}, {local} and {domain} stand for parts of the address, without a detail" example:"\"(|(mail={address})(mailAlternateAddress={address}))\""`
	Attributes   AttributesConfig `toml:"attributes" doc:"what to read from the entry" example:"{ limit = \"mailQuotaSize\", host = \"mailHost\", user = \"uid\" }"`
	Unit         string           `toml:"unit" doc:"what a limit of 1 means; empty: as the preset says, otherwise 1B" example:"\"1KiB\""`
	Zero         string           `toml:"zero" doc:"what a limit of 0 means; empty: as the preset says, otherwise \"unlimited\"; \"unknown\" leaves the limit to the store" oneof:",unlimited,full,unknown" example:"\"unlimited\""`
	DefaultLimit string           `toml:"default_limit" doc:"limit of mailboxes whose entry has none, such as \"1GiB\"; empty: not known, the store decides" example:"\"1GiB\""`
	Timeout      setting.Duration `toml:"timeout" doc:"time limit for one server: connection, bind and search" min:"100ms" max:"30s"`
	Entries      int              `toml:"entries" doc:"mailboxes remembered at most, about 300 octets each" min:"1000" max:"10_000_000"`
}

// AttributesConfig names the attributes that hold what is looked for.
type AttributesConfig struct {
	Limit    string `toml:"limit" doc:"most octets, in the unit" example:"\"mailQuotaSize\""`
	Messages string `toml:"messages" doc:"most messages" example:"\"mailQuotaCount\""`
	Host     string `toml:"host" doc:"the store: {mailhost} in [quota] sources" example:"\"mailHost\""`
	User     string `toml:"user" doc:"the store's name of the mailbox: {user} in [quota] sources" example:"\"uid\""`
}

// Defaults are the values of settings that a file does not name.
func Defaults() Config {
	return Config{StartTLS: "required", Timeout: setting.Duration(time.Second), Entries: 100_000}
}

// Enabled reports whether a directory is to be asked.
func (c *Config) Enabled() bool { return len(c.URL) > 0 }

// Validate reports what does not fit together.
func (c *Config) Validate() error {
	if !c.Enabled() {
		return nil
	}
	var errs []error
	for i, u := range c.URL {
		if _, err := parseURL(u); err != nil {
			errs = append(errs, setting.Keyf(fmt.Sprintf("url[%d]", i+1), "%w", err))
		}
	}
	if c.Base == "" {
		errs = append(errs, setting.Keyf("base", "missing: name the DN below which mailboxes are"))
	}
	if (c.Bind == "") != (c.PasswordFile == "") {
		errs = append(errs, setting.Keyf("password_file", "bind and password_file belong together: set both or neither"))
	}
	for key, path := range map[string]string{"password_file": c.PasswordFile, "ca_file": c.CAFile} {
		if path != "" && !filepath.IsAbs(path) {
			errs = append(errs, setting.Keyf(key, "%q is not an absolute path", path))
		}
	}
	if _, err := newPlan(c); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// target is one parsed URL.
type target struct {
	network, address string // for net.Dial
	tls              bool   // from the first octet
	unix             bool
	host             string // for the certificate
}

// parseURL reads ldap://HOST[:PORT], ldaps://HOST[:PORT] and ldapi:///PATH or
// ldapi://%2FPATH (RFC 4516 and draft-chu-ldap-ldapi). DNs and filters in a URL are not taken.
func parseURL(text string) (target, error) {
	bad := func(why string) (target, error) {
		return target{}, fmt.Errorf("%q is not a usable LDAP URL (%s): ldap://HOST, ldaps://HOST or ldapi:///path/to/socket", text, why)
	}
	if rest, ok := strings.CutPrefix(text, "ldapi://"); ok {
		path, err := url.PathUnescape(rest)
		if err != nil || !strings.HasPrefix(path, "/") || len(path) > 107 || strings.ContainsRune(path, 0) {
			return bad("the socket's absolute path is missing")
		}
		return target{network: "unix", address: path, unix: true}, nil
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return bad("it cannot be parsed")
	case u.Scheme != "ldap" && u.Scheme != "ldaps":
		return bad("unknown scheme")
	case u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/":
		return bad("only a host and a port may follow the scheme")
	}
	port := cmp.Or(u.Port(), map[string]string{"ldap": "389", "ldaps": "636"}[u.Scheme])
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return bad("the port is not a number from 1 to 65535")
	}
	return target{network: "tcp", address: net.JoinHostPort(u.Hostname(), port), tls: u.Scheme == "ldaps", host: u.Hostname()}, nil
}

// parseSize reads "1B", "1KiB", "200MiB", "1GiB": a whole number with a unit of octets.
func parseSize(text string) (int64, error) {
	digits := strings.TrimRight(text, "BKMGTiB")
	n, err := strconv.ParseInt(digits, 10, 64)
	factor, ok := map[string]int64{"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}[text[len(digits):]]
	if err != nil || !ok || n <= 0 || n > math.MaxInt64/factor {
		return 0, fmt.Errorf("%q is not a size; expected a whole number above 0 with B, KiB, MiB, GiB or TiB, as in \"200MiB\"", text)
	}
	return n * factor, nil
}
