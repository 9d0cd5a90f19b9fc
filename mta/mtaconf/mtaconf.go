// SPDX-License-Identifier: BSD-2-Clause

// Package mtaconf takes settings from the MTA's own configuration files, main.cf (package
// maincf) and sendmail.cf (package sendmailcf), so that nothing has to be written twice. A
// [Source] knows where each setting came from, what could not be taken, and whether a file
// has changed since.
//
// Limits: tables of types that package table does not read (ldap:, pcre:) and negated
// patterns ("!example.org") are left out with a warning. A file counts as changed by its
// size and its time of modification.
package mtaconf

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"rcptgate/table"
	"rcptgate/table/lists"
)

// Source is what was read of the MTA's configuration. The zero Source has read nothing. It
// is not safe for concurrent use while it reads.
type Source struct {
	// Origins says where each setting that was taken stands.
	Origins []Origin
	// Warnings name what could not be taken.
	Warnings []string
	// Partial: something could not be taken.
	Partial bool

	// Otherwise says in warnings what follows from leaving something out.
	Otherwise string

	files []stamp
	seen  []stamp // as they were when Changed was last called, if different
}

// Origin is one setting that came from the MTA's configuration.
type Origin struct {
	Setting string // as in our own configuration: "virtual_alias_maps"
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

// Watch has a change of a file count as a change of the configuration. The file need not
// exist yet.
func (s *Source) Watch(path string) { s.files = append(s.files, stampOf(path)) }

// Changed reports whether a file that was read is another one now, and has been the same
// since Changed was last called: a file that is being written may be empty for a moment.
func (s *Source) Changed() bool {
	now := make([]stamp, len(s.files))
	for i := range s.files {
		now[i] = stampOf(s.files[i].path)
	}
	if slices.Equal(now, s.files) {
		s.seen = nil
		return false
	}
	still := slices.Equal(now, s.seen)
	s.seen = now
	return still
}

// Equal reports whether two readings have the same settings, origins and warnings.
func (s *Source) Equal(o *Source) bool {
	a, b := *s, *o
	a.files, b.files, a.seen, b.seen = nil, nil, nil, nil
	return reflect.DeepEqual(a, b)
}

// Renew takes over the state of the files of a later reading that is equal to this one.
func (s *Source) Renew(later *Source) { s.files = later.files }

// Took notes where a setting came from. Line 0 is the MTA's default.
func (s *Source) Took(setting, value, file string, line int) {
	s.Origins = append(s.Origins, Origin{Setting: setting, Value: value, File: file, Line: line})
}

// Forget removes the origin of a setting that is not used after all.
func (s *Source) Forget(setting string) {
	s.Origins = slices.DeleteFunc(s.Origins, func(o Origin) bool { return o.Setting == setting })
}

// Warn notes something that was left out.
func (s *Source) Warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if s.Otherwise != "" {
		text += "; " + s.Otherwise
	}
	s.Warnings = append(s.Warnings, text)
}

// Tables reads a list of tables. Those of types that are not read are left out with a
// warning, and the Source is Partial. All reports whether none was.
func (s *Source) Tables(from string, words []string, defaultType string) (list []table.Spec, all bool) {
	all = true
	for _, w := range words {
		w = strings.TrimPrefix(w, "proxy:")
		if strings.HasPrefix(w, "unix:") { // unix:passwd.byname: users, which are no table of ours
			continue
		}
		if strings.HasPrefix(w, "/") {
			w = defaultType + ":" + w
		}
		spec, err := table.ParseSpec(w)
		if err != nil || spec.Type == table.Text || !filepath.IsAbs(spec.Name) {
			s.Warn("%s: the table %q is not of a type that is read", from, w)
			s.Partial, all = true, false
			continue
		}
		list = append(list, spec)
	}
	return list, all
}

// Domains reads a list of domains, files and tables of domains.
func (s *Source) Domains(from string, words []string) (list []string) {
	for _, w := range words {
		w = strings.TrimPrefix(w, "proxy:")
		if err := lists.CheckDomain(w, true); err != nil {
			s.Warn("%s: %q is left out: %v", from, w, err)
			s.Partial = true
			continue
		}
		list = append(list, w)
	}
	return slices.Compact(list)
}
