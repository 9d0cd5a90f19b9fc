// SPDX-License-Identifier: BSD-2-Clause

package mtaconf

import (
	"strings"

	"rcptgate/kit/regular"
	"rcptgate/mta/maincf"
	"rcptgate/table"
)

// Postfix reads parameters of a main.cf and keeps the first error.
type Postfix struct {
	*Source
	*maincf.Config
	Err error

	defaultType string
}

// Postfix reads a main.cf, or that of a configuration directory.
func (s *Source) Postfix(path string) (*Postfix, error) {
	c, err := maincf.Read(path)
	if err != nil {
		return nil, err
	}
	s.Watch(c.Path)
	p := &Postfix{Source: s, Config: c}
	p.defaultType = p.Value("default_database_type")
	return p, nil
}

// Value gives a parameter, expanded.
func (p *Postfix) Value(parameter string) string {
	value, err := p.Get(parameter)
	if err != nil && p.Err == nil {
		p.Err = err
	}
	return value
}

// List gives a parameter's words.
func (p *Postfix) List(parameter string) []string { return maincf.Split(p.Value(parameter)) }

// Note notes that a setting came from a parameter.
func (p *Postfix) Note(setting, parameter, value string) {
	at, _ := p.Set(parameter)
	p.Took(setting, value, p.Path, at.Line)
}

// ReadTables takes a parameter's tables for a setting. All reports whether all of them are
// of types that are read.
func (p *Postfix) ReadTables(setting, parameter string) (list []table.Spec, all bool) {
	words := p.List(parameter)
	list, all = p.Tables(parameter, words, p.defaultType)
	if len(words) > 0 {
		p.Note(setting, parameter, strings.Join(words, ", "))
	}
	return list, all
}

// ReadDomains takes a parameter's domains for a setting.
func (p *Postfix) ReadDomains(setting, parameter string) []string {
	words := p.List(parameter)
	if len(words) > 0 {
		p.Note(setting, parameter, strings.Join(words, ", "))
	}
	return p.Domains(parameter, words)
}

// FirstLine reads the first line of a short file that a parameter names (Debian's
// /etc/mailname), and watches it.
func (s *Source) FirstLine(path string) (string, error) {
	s.Watch(path)
	text, err := regular.Read(path, 64<<10)
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(line), nil
}
