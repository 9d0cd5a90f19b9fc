// SPDX-License-Identifier: BSD-2-Clause

package quotad

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"rcptgate/check/quota/wire"
	"rcptgate/config"
	"rcptgate/config/setting"
)

// DefaultFile is the agent's configuration file.
const DefaultFile = "/etc/rcptgate/agent.toml"

// ListenConfig is the section [listen] of agent.toml.
type ListenConfig struct {
	UDP     []string          `toml:"udp" doc:"addresses for questions in datagrams, HOST:PORT"`
	TCP     []string          `toml:"tcp" doc:"addresses for questions in lines, HOST:PORT; Exim's readsocket can ask there"`
	HTTP    string            `toml:"http" doc:"address of /cgi-bin/quota.cgi, /v1/quota, /metrics and /healthz, HOST:PORT; \"\" turns it off"`
	Cert    string            `toml:"certificate" doc:"file with the certificate chain (PEM) for TLS on http; it needs key" example:"\"/etc/rcptgate/agent.pem\""`
	Key     string            `toml:"key" doc:"file with the private key (PEM) of the certificate" example:"\"/etc/rcptgate/agent.key\""`
	Clients []setting.Network `toml:"clients" doc:"addresses that may ask; all others get no answer. Loopback addresses always may, and nobody else if it is left out" example:"[\"10.0.0.0/24\"]"`
	KeyFile string            `toml:"key_file" doc:"file of keys, one \"NAME HEX\" a line with 16 to 64 octets in hexadecimal, the same on gateway and agent. The first signs, all are believed. Needed if an address is not loopback, unless plain is true. Other users must not be able to read it" example:"\"/etc/rcptgate/quota.key\""`
	Plain   bool              `toml:"plain" doc:"answer questions without a key from clients that are not loopback: the plain words, and HTTP without a token"`
	Rate    int               `toml:"rate" doc:"questions a second from one address; further ones get no answer" min:"1" max:"1_000_000"`
}

// StoreConfig is one section [[store]] of agent.toml.
type StoreConfig struct {
	Domains   []string       `toml:"domains" doc:"the domains that this store has; \"*\" is every domain, and mailboxes without one, and is meant if it is left out. The first store that has the domain is asked" example:"[\"example.org\"]"`
	Type      string         `toml:"type" doc:"how to find out: mbox (size of a file), maildir (counted), maildirsize (a Maildir++ with its quota file), file (a list of mailboxes), exec (a program), doveadm (Dovecot, with numbers), policy (Dovecot's quota-status, yes or no)" oneof:"mbox,maildir,maildirsize,file,exec,doveadm,policy"`
	Root      string         `toml:"root" doc:"folder that holds all mailboxes; nothing outside is ever opened, and links that lead out are not followed. For mbox, maildir, maildirsize, file" example:"\"/var/vmail\""`
	Path      string         `toml:"path" doc:"the mailbox below root, or the list of type file. {user}, {local} and {domain} are replaced" example:"\"/var/vmail/{domain}/{local}/Maildir\""`
	Limit     *setting.Size  `toml:"limit" doc:"quota of every mailbox where the store does not say it; 0 means none. If it is left out the agent says how much is used, and the gateway may take the limit from its directory. For mbox, maildir, maildirsize" example:"\"200MB\""`
	Override  bool           `toml:"override" doc:"limit counts, not the one that the file maildirsize has"`
	Ignore    []string       `toml:"ignore" doc:"folders that do not count, as the delivering program has it. For maildir, maildirsize; \"Trash\" if it is left out" example:"[\"Trash\"]"`
	Grace     setting.Size   `toml:"grace" doc:"what the delivering program lets a mailbox exceed its limit by with one message, while it is below the limit. For all types except policy" example:"\"10MB\""`
	User      string         `toml:"user" doc:"how the store calls a mailbox: {user} is what was asked, and is meant if it is left out; {local} and {domain} are its parts. For file, exec, doveadm, policy" example:"\"{local}\""`
	Command   []string       `toml:"command" doc:"program and arguments of type exec, started without a shell, at most eight at a time; {user}, {local} and {domain} are replaced. It prints one line, \"OK USER USED LIMIT\" or \"OVERQUOTA USER USED LIMIT\" in octets, or ends with code 67 for a mailbox that is not known, within two seconds" example:"[\"/usr/local/bin/quota-of\", \"{user}\"]"`
	Address   setting.Socket `toml:"address" doc:"socket of doveadm (unix:/run/dovecot/doveadm-server) or quota-status (inet:127.0.0.1:12340)" example:"\"unix:/run/dovecot/doveadm-server\""`
	QuotaRoot string         `toml:"quota_root" doc:"name of the quota root that counts, for doveadm; the first if it is left out" example:"\"User quota\""`
	Fold      *bool          `toml:"fold" doc:"upper and lower case are one mailbox, which the store knows in lower case; true if it is left out"`
}

// Config is what agent.toml says.
type Config struct {
	Listen ListenConfig
	Stores []StoreConfig
	File   *config.File
	Source string
}

// Parts are the sections of agent.toml.
func Parts() []config.Part {
	return []config.Part{
		{Section: "listen", Doc: "where the agent listens, and who may ask", Defaults: ListenConfig{UDP: []string{"127.0.0.1:8049"}, TCP: []string{"127.0.0.1:8049"}, HTTP: "127.0.0.1:8048", Rate: 20_000}},
		{Section: "store", Doc: "one way to find out how much room a mailbox has", Repeated: true, Defaults: StoreConfig{}},
	}
}

// LoadConfig reads the file. Every mistake is reported with its line.
func LoadConfig(name string) (*Config, error) {
	schema, err := config.Compose(Parts()...)
	if err != nil {
		return nil, err
	}
	composed := schema.Defaults()
	file, err := config.LoadFile(name, composed.Any())
	if err != nil {
		return nil, err
	}
	c := &Config{Listen: *config.Get[ListenConfig](composed), Stores: config.All[StoreConfig](composed), File: file, Source: name}
	if len(c.Stores) == 0 {
		return nil, file.Place(errors.New("there is no [[store]] section, so the agent could not find any mailbox; add one"))
	}
	for i := range c.Stores {
		c.Stores[i].fill()
	}
	return c, nil
}

// fill puts in what was left out.
func (c *StoreConfig) fill() {
	if len(c.Domains) == 0 {
		c.Domains = []string{"*"}
	}
	if c.Ignore == nil {
		c.Ignore = []string{"Trash"}
	}
	if c.Fold == nil {
		yes := true
		c.Fold = &yes
	}
	c.User = cmp.Or(c.User, "{user}")
}

// endpoint is one address to listen on, and the key that names it.
type endpoint struct{ key, address, host string }

// endpoints gives all addresses to listen on; host is empty where the address cannot be used.
func (c *ListenConfig) endpoints() (list []endpoint) {
	add := func(key string, addresses ...string) {
		for _, a := range addresses {
			host, port, err := net.SplitHostPort(a)
			if _, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil {
				host = ""
			}
			list = append(list, endpoint{key, a, host})
		}
	}
	add("udp", c.UDP...)
	add("tcp", c.TCP...)
	if c.HTTP != "" {
		add("http", c.HTTP)
	}
	return list
}

// open gives the key of an address that is not loopback; "" if there is none.
func (c *ListenConfig) open() (key string) {
	for _, e := range c.endpoints() {
		if e.host != "" && !isLoopback(e.host) {
			key = e.key
		}
	}
	return key
}

// Validate checks what fits together.
func (c *ListenConfig) Validate() error {
	var errs []error
	open, all := c.open(), c.endpoints()
	for _, e := range all {
		if e.host == "" {
			errs = append(errs, setting.Keyf(e.key, "%q is not an address; expected HOST:PORT, as in \"127.0.0.1:8049\"", e.address))
		}
	}
	if len(all) == 0 {
		errs = append(errs, setting.Keyf("udp", "there is nothing to listen on: name an address for udp, tcp or http"))
	}
	if open != "" && c.KeyFile == "" && !c.Plain {
		errs = append(errs, setting.Keyf(open, "an address that is not loopback needs key_file, or plain = true to answer without a key"))
	}
	if (c.Cert == "") != (c.Key == "") {
		errs = append(errs, setting.Keyf("certificate", "certificate and key belong together"))
	}
	return errors.Join(errs...)
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// uses says which settings a type has, besides domains, type and fold.
func uses(kind string) []string {
	switch kind {
	case "mbox":
		return []string{"root", "path", "limit", "grace"}
	case "maildir":
		return []string{"root", "path", "limit", "grace", "ignore"}
	case "maildirsize":
		return []string{"root", "path", "limit", "grace", "ignore", "override"}
	case "file":
		return []string{"root", "path", "grace", "user"}
	case "exec":
		return []string{"command", "grace", "user"}
	case "doveadm":
		return []string{"address", "grace", "user", "quota_root"}
	case "policy":
		return []string{"address", "user"}
	}
	return nil
}

// limit is the configured limit in octets: 0 for none, wire.NotKnown if it was left out.
func (c *StoreConfig) limit() int64 {
	if c.Limit == nil {
		return wire.NotKnown
	}
	return int64(*c.Limit)
}

// Validate checks what fits together.
func (c *StoreConfig) Validate() error {
	if uses(c.Type) == nil {
		return nil // what is allowed has been said
	}
	var errs []error
	used := uses(c.Type)
	for _, s := range []struct {
		key string
		set bool
	}{
		{"root", c.Root != ""}, {"path", c.Path != ""}, {"limit", c.Limit != nil}, {"override", c.Override}, {"ignore", c.Ignore != nil}, {"grace", c.Grace != 0},
		{"user", c.User != ""}, {"command", len(c.Command) > 0}, {"address", !c.Address.IsZero()}, {"quota_root", c.QuotaRoot != ""},
	} {
		if s.set && !slices.Contains(used, s.key) {
			errs = append(errs, setting.Keyf(s.key, "type %q does not have it", c.Type))
		}
		if !s.set && slices.Contains([]string{"path", "command", "address"}, s.key) && slices.Contains(used, s.key) {
			errs = append(errs, setting.Keyf(s.key, "type %q needs it", c.Type))
		}
	}
	for _, d := range c.Domains {
		if d == "" || strings.ContainsAny(d, " @/") || (d != "*" && strings.Contains(d, "*")) {
			errs = append(errs, setting.Keyf("domains", "%q is not a domain, nor \"*\"", d))
		}
	}
	for key, text := range map[string]string{"path": c.Path, "user": c.User} {
		if err := checkTemplate(text); err != nil {
			errs = append(errs, setting.Keyf(key, "%w", err))
		}
	}
	for _, arg := range c.Command {
		if err := checkTemplate(arg); err != nil {
			errs = append(errs, setting.Keyf("command", "%w", err))
		}
	}
	if len(c.Command) > 0 && !path.IsAbs(c.Command[0]) {
		errs = append(errs, setting.Keyf("command", "%q is not an absolute path", c.Command[0]))
	}
	return errors.Join(append(errs, c.checkPath())...)
}

// checkPath holds that the mailboxes lie below root, whatever the names are.
func (c *StoreConfig) checkPath() error {
	if c.Path == "" {
		return nil
	}
	if c.Type == "file" {
		if strings.Contains(c.Path, "{") {
			return setting.Keyf("path", "a list is one file: {user}, {local} and {domain} are not replaced here")
		}
		if c.Root == "" && path.IsAbs(c.Path) {
			return nil
		}
	}
	if !path.IsAbs(c.Root) {
		return setting.Keyf("root", "%q is not an absolute path, but path must lie below it", c.Root)
	}
	_, err := c.place()
	return err
}

// place gives the root, and the mailboxes' path relative to it.
func (c *StoreConfig) place() (place, error) {
	root, full := path.Clean(c.Root), path.Clean(c.Path)
	if c.Root == "" {
		root = path.Dir(full)
	}
	if !path.IsAbs(full) {
		full = path.Join(root, full)
	}
	rel, ok := strings.CutPrefix(full, strings.TrimSuffix(root, "/")+"/")
	if !ok || rel == "" {
		return place{}, setting.Keyf("path", "%q does not lie below root, %q", c.Path, c.Root)
	}
	return place{root: root, rel: rel}, nil
}

// checkTemplate holds that braces are those of a word that is replaced.
func checkTemplate(s string) error {
	rest := template.Replace(s)
	if strings.ContainsAny(rest, "{}") {
		return fmt.Errorf("%q has a brace that is not part of {user}, {local} or {domain}", s)
	}
	return nil
}

var template = strings.NewReplacer("{user}", "", "{local}", "", "{domain}", "")
