// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"rcptgate/check/alias"
	"rcptgate/check/callahead"
	"rcptgate/config/setting"
	"rcptgate/front/milter"
	"rcptgate/route"
	"rcptgate/store/memcached"
	"rcptgate/store/tiers"
	"rcptgate/telemetry"
)

// Config is the configuration file (rcptgate.toml(5)). Each section's struct lives
// in its unit's own folder; a new check or front is named here and in setup.go.
type Config struct {
	Hostname  string             `toml:"hostname" doc:"the gateway's own name: the EHLO name of probes, and how a call-ahead that comes back is recognised; the default is the machine's name" example:"\"mx1.example.org\""`
	State     string             `toml:"state" doc:"folder of the disk store and, by default, of the admin socket; a change needs a restart"`
	Enforce   bool               `toml:"enforce" doc:"false: rehearse; ask, remember and log everything, refuse nothing; a [[domain]] section may set its own"`
	Deadline  setting.Duration   `toml:"deadline" doc:"for one answer to the MTA; below the MTA's own time-out, which is 10s for Sendmail" min:"100ms" max:"5m"`
	FollowMTA bool               `toml:"follow_mta" doc:"ask the MTA's own bracketed next hop for domains without a section of their own"`
	Trusted   []setting.Network  `toml:"trusted" doc:"client networks whose recipients are not checked" example:"[\"192.0.2.0/24\"]"`
	Listen    ListenConfig       `toml:"listen" doc:"where the gate listens; a change needs a restart"`
	Log       telemetry.Config   `toml:"log" doc:"the log; one line a decision"`
	Cache     CacheConfig        `toml:"cache" doc:"what is remembered, and for how long"`
	Callahead callahead.Config   `toml:"callahead" doc:"how servers behind the gateway are asked"`
	Routes    route.TablesConfig `toml:"routes" doc:"who is responsible, by the MTA's own maps; a [[domain]] section with servers comes first, the next hop that the MTA tells last"`
	Aliases   alias.Config       `toml:"aliases" doc:"local names: the MTA's own tables, read as they are on disk"`
	Domain    []DomainConfig     `toml:"domain" doc:"one section a relayed domain; the most specific name holds"`
}

// ListenConfig is the section [listen].
type ListenConfig struct {
	Milter     []setting.Socket `toml:"milter" doc:"milter sockets, in Sendmail's or Postfix's spelling" example:"[\"unix:/run/rcptgate/milter.sock\"]"`
	Admin      setting.Socket   `toml:"admin" doc:"the command line's way into the daemon; the default is admin.sock in state" example:"\"unix:/run/rcptgate/admin.sock\""`
	AdminGroup string           `toml:"admin_group" doc:"group of the admin socket, whose mode is 0660" example:"\"adm\""`
	HTTP       setting.Socket   `toml:"http" doc:"metrics, health and status page; \"\" is off" example:"\"127.0.0.1:8891\""`
	// HideAddresses is for sites where whoever may see the status page may not see who
	// writes to whom.
	HideAddresses bool `toml:"hide_addresses" doc:"the status page shows the last refusals without local parts"`
	milter.Config
}

// CacheConfig is the section [cache].
type CacheConfig struct {
	tiers.Config
	MemcachedConfig
	callahead.Lives
}

// MemcachedConfig is the part of [cache] that names the shared memory.
type MemcachedConfig = memcached.Config

// DomainConfig is one [[domain]] section: what each unit wants to know of a domain.
type DomainConfig struct {
	RouteDomain
	CallaheadDomain
}

// The units' parts of a [[domain]] section, under names that differ.
type (
	RouteDomain     = route.DomainConfig
	CallaheadDomain = callahead.DomainConfig
)

// defaults is the configuration without a file.
func defaults() Config {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "localhost"
	}
	return Config{
		Hostname:  hostname,
		State:     "/var/lib/rcptgate",
		Enforce:   true,
		Deadline:  setting.Duration(8 * time.Second),
		FollowMTA: true,
		Listen: ListenConfig{
			Milter: []setting.Socket{{Network: "tcp", Address: "127.0.0.1:8890"}},
			HTTP:   setting.Socket{Network: "tcp", Address: "127.0.0.1:8891"},
			Config: milter.DefaultConfig(),
		},
		Log:       telemetry.Defaults(),
		Cache:     CacheConfig{Config: tiers.DefaultConfig(), MemcachedConfig: memcached.DefaultConfig(), Lives: callahead.DefaultLives()},
		Callahead: callahead.DefaultConfig(),
		Routes:    route.DefaultTablesConfig(),
		Aliases:   alias.DefaultConfig(),
	}
}

// Validate holds what one field alone cannot say.
func (c Config) Validate() error {
	var errs []error
	if !filepath.IsAbs(c.State) {
		errs = append(errs, setting.Keyf("state", "%q is no absolute path", c.State))
	}
	if !isHostname(c.Hostname) {
		errs = append(errs, setting.Keyf("hostname", "%q is no host name: letters, digits, \"-\", \"_\" and dots are allowed, as in \"mx1.example.org\"", c.Hostname))
	}
	if a := c.Listen.Admin; !a.IsZero() && a.Network != "unix" {
		errs = append(errs, setting.Keyf("listen.admin", "%q is no unix socket: \"unix:/path\" is allowed, since its mode says who may use it", a))
	}
	errs = append(errs, c.validateNames())
	return errors.Join(errs...)
}

// isHostname reports whether s can be said in EHLO. What a machine calls itself is
// not always a domain: underscores and single labels occur.
func isHostname(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// adminSocket is where the daemon and the command line meet.
func (c *Config) adminSocket() setting.Socket {
	if !c.Listen.Admin.IsZero() {
		return c.Listen.Admin
	}
	return setting.Socket{Network: "unix", Address: filepath.Join(c.State, "admin.sock")}
}

// domainParts gives the sections as the units that read them want them.
func (c *Config) domainParts() (routes []route.DomainConfig, asks []callahead.DomainConfig) {
	for i := range c.Domain {
		routes = append(routes, c.Domain[i].RouteDomain)
		asks = append(asks, c.Domain[i].CallaheadDomain)
	}
	return routes, asks
}
