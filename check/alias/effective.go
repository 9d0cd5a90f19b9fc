// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"os"
	"reflect"
	"strings"

	"rcptgate/config/setting"
	"rcptgate/mta/mtaconf"
)

// Effective is a Config together with what the MTA's own configuration says: a setting that
// the Config leaves out is taken from there. It does not change.
type Effective struct {
	Config
	// Source says where settings came from. What it could not take makes the tables partial:
	// that a name is absent proves nothing then.
	Source *mtaconf.Source

	own        Config // as it was set, to be read again
	delimiter  string
	subdomains bool
	hub        bool
	sticky     bool     // the hub takes addresses with a local domain before the aliases do
	loose      []string // domains that came with their users unknown: names absent there are not refused
}

// Effective reads the MTA's configuration, if the Config names one. An error is a file that
// cannot be read, or has a fault; it names the setting.
func (c Config) Effective() (*Effective, error) {
	c.effective = nil
	e := &Effective{Config: c, own: c, delimiter: "+", subdomains: true}
	e.Source = &mtaconf.Source{Otherwise: "names that are absent are not refused"}
	explicit := len(c.Domains) > 0
	if c.Postfix != "" {
		if err := e.readPostfix(); err != nil {
			return nil, &setting.KeyError{Key: "aliases.postfix", Err: err}
		}
	}
	if c.Sendmail != "" {
		if err := e.readSendmail(); err != nil {
			return nil, &setting.KeyError{Key: "aliases.sendmail", Err: err}
		}
	}
	if c.Delimiter != nil {
		e.delimiter = *c.Delimiter
	}
	if c.RelaySubdomains != nil {
		e.subdomains = *c.RelaySubdomains
	}
	if c.MailHub != nil {
		e.hub = *c.MailHub
	}
	if c.Propagate == nil && e.Propagate == nil {
		e.Propagate = []string{"canonical", "virtual"}
	}
	if explicit {
		e.loose = nil
	} else if !passwdIsComplete("/etc/nsswitch.conf") || c.Passwd == "" {
		e.loose, e.Domains = e.Domains, nil
	}
	return e, nil
}

// again reads the MTA's configuration once more, and reports whether it means the same.
func (e *Effective) again() (later *mtaconf.Source, same bool, err error) {
	next, err := e.own.Effective()
	if err != nil {
		return nil, false, err
	}
	return next.Source, next.Equal(e), nil
}

// Equal reports whether two configurations mean the same.
func (e *Effective) Equal(o *Effective) bool {
	a, b := *e, *o
	a.Source, b.Source = nil, nil
	return reflect.DeepEqual(a, b) && e.Source.Equal(o.Source)
}

// passwdIsComplete reports whether the machine has no other source of users than files
// (nsswitch.conf(5)).
func passwdIsComplete(path string) bool {
	text, err := os.ReadFile(path) // #nosec G304 -- a constant
	if err != nil {
		return true // then files are the default
	}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		name, sources, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) != "passwd" {
			continue
		}
		for _, s := range strings.Fields(sources) {
			if s != "files" && s != "compat" && s != "systemd" && s != "db" && s[0] != '[' {
				return false
			}
		}
	}
	return true
}
