// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"rcptgate/config/setting"
	"rcptgate/table"
)

// Effective is a Config together with what the MTA's own configuration says: a setting that
// the Config leaves out is taken from there. It does not change.
type Effective struct {
	Config
	// Origins says where each setting that was taken over stands.
	Origins []Origin
	// Warnings name what could not be taken over: tables of types that are not read.
	Warnings []string

	own        Config // as it was set, to be read again
	delimiter  string
	subdomains bool
	hub        bool
	sticky     bool     // the hub takes addresses with a local domain before the aliases do
	loose      []string // domains that came with their users unknown: names absent there are not refused
	partial    bool     // a table is missing: that a name is absent proves nothing
	files      []stamp
}

// Origin is one setting that came from the MTA's configuration.
type Origin struct {
	Setting string // as in [aliases]: "virtual_alias_maps"
	Value   string
	File    string
	Line    int // 0: the MTA's default
}

// String says it in one line.
func (o Origin) String() string {
	if o.Line == 0 {
		return fmt.Sprintf("%s = %s (the default, not set in %s)", o.Setting, o.Value, o.File)
	}
	return fmt.Sprintf("%s = %s (%s:%d)", o.Setting, o.Value, o.File, o.Line)
}

// stamp is by what a change of a file is recognised.
type stamp struct {
	path     string
	size     int64
	modified time.Time
	err      bool
}

func stampOf(path string) stamp {
	st, err := os.Stat(path)
	if err != nil {
		return stamp{path: path, err: true}
	}
	return stamp{path: path, size: st.Size(), modified: st.ModTime()}
}

// Effective reads the MTA's configuration, if the Config names one. An error is a file that
// cannot be read, or has a fault; it names the setting.
func (c Config) Effective() (*Effective, error) {
	c.effective = nil
	e := &Effective{Config: c, own: c, delimiter: "+", subdomains: true}
	explicit := len(c.Domains) > 0
	if c.Postfix != "" {
		if err := e.readPostfix(); err != nil {
			return nil, &setting.KeyError{Key: "postfix", Err: err}
		}
	}
	if c.Sendmail != "" {
		if err := e.readSendmail(); err != nil {
			return nil, &setting.KeyError{Key: "sendmail", Err: err}
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

// Changed reports whether a file that was read is another one now.
func (e *Effective) Changed() bool {
	for _, s := range e.files {
		if now := stampOf(s.path); now != s {
			return true
		}
	}
	return false
}

// Equal reports whether two configurations mean the same.
func (e *Effective) Equal(o *Effective) bool {
	a, b := *e, *o
	a.files, b.files = nil, nil
	return reflect.DeepEqual(a, b)
}

// took notes where a setting came from.
func (e *Effective) took(name, value, file string, line int) {
	e.Origins = append(e.Origins, Origin{Setting: name, Value: value, File: file, Line: line})
}

// warn notes what was left out.
func (e *Effective) warn(format string, args ...any) {
	e.Warnings = append(e.Warnings, fmt.Sprintf(format, args...))
}

// specs reads a list of tables. Those of types that are not read are left out with a
// warning.
func (e *Effective) specs(from string, words []string, defaultType string) (list []table.Spec, all bool) {
	all = true
	for _, w := range words {
		w = strings.TrimPrefix(w, "proxy:")
		if strings.HasPrefix(w, "unix:") { // unix:passwd.byname: the setting passwd
			continue
		}
		if strings.HasPrefix(w, "/") {
			w = defaultType + ":" + w
		}
		spec, err := table.ParseSpec(w)
		if err != nil || spec.Type == table.Text || !filepath.IsAbs(spec.Name) {
			e.warn("%s: the table %q is not of a type that is read; names that are absent from the others are not refused", from, w)
			e.partial, all = true, false
			continue
		}
		list = append(list, spec)
	}
	return list, all
}

// domainWords reads a list of domains, files and tables of domains.
func (e *Effective) domainWords(from string, words []string) (list []string) {
	for _, w := range words {
		w = strings.TrimPrefix(w, "proxy:")
		if err := checkDomain(w, true); err != nil {
			e.warn("%s: %q is left out: %v", from, w, err)
			e.partial = true
			continue
		}
		list = append(list, w)
	}
	return slices.Compact(list)
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
