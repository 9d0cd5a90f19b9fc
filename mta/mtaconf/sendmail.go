// SPDX-License-Identifier: BSD-2-Clause

package mtaconf

import (
	"strings"

	"rcptgate/mta/sendmailcf"
	"rcptgate/table"
)

// Sendmail reads a sendmail.cf.
type Sendmail struct {
	*Source
	*sendmailcf.Config
}

// Sendmail reads a sendmail.cf.
func (s *Source) Sendmail(path string) (*Sendmail, error) {
	c, err := sendmailcf.Read(path)
	if err != nil {
		return nil, err
	}
	s.Watch(c.Path)
	return &Sendmail{s, c}, nil
}

// ReadMap takes a map (K line) for a setting: none if there is no such map. All reports
// whether it is of a type that is read.
func (s *Sendmail) ReadMap(setting, name string) (list []table.Spec, all bool) {
	m, ok := s.Map(name)
	if !ok {
		return nil, true
	}
	s.Took(setting, m.Type+":"+m.Name, s.Path, m.Line)
	return s.Tables("map "+name, []string{m.Type + ":" + m.Name}, "")
}

// ReadClass takes the domains of a class, and the files that it is read from, for a setting.
func (s *Sendmail) ReadClass(setting, name string) []string {
	k := s.Class(name)
	words := append([]string(nil), k.Words...)
	for _, f := range k.Files {
		words = append(words, f.Text)
	}
	if len(words) > 0 {
		s.Took(setting, strings.Join(words, ", "), s.Path+", class "+name, 0)
	}
	for _, o := range k.Others {
		s.Warn("class %s: %q is not read", name, o.Text)
		s.Partial = true
	}
	return s.Domains("class "+name, words)
}
