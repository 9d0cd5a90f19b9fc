// SPDX-License-Identifier: BSD-2-Clause

package web

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"rcptgate/backend"
	"rcptgate/store"
)

//go:embed status.html
var statusText string

// maxRows bounds a table of the page.
const maxRows = 200

var statusPage = template.Must(template.New("status").Funcs(template.FuncMap{
	"ago": ago, "clean": clean, "number": number, "join": strings.Join,
}).Parse(statusText))

type statusData struct {
	Hostname, Version string
	Now, Started      time.Time
	Reasons, Warnings []string
	Total             uint64
	Counts            []Count
	Backends          []backend.Health
	MoreBackends      int
	Stores            []store.Stats
	Tables            []Table
	Refusals          []Refusal
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	d := statusData{
		Version: s.Version, Now: time.Now(), Started: s.started, Reasons: s.reasons(), Warnings: s.warnings(),
	}
	if s.Hostname != nil {
		d.Hostname = s.Hostname()
	}
	if s.Counts != nil {
		d.Counts = s.Counts()
		for _, c := range d.Counts {
			d.Total += c.N
		}
		d.Counts = d.Counts[:min(len(d.Counts), maxRows)]
	}
	if s.Backends != nil {
		d.Backends = s.Backends()
		if d.MoreBackends = len(d.Backends) - maxRows; d.MoreBackends > 0 {
			d.Backends = d.Backends[:maxRows]
		}
	}
	if s.Stores != nil {
		d.Stores = s.Stores()
	}
	if s.Tables != nil {
		d.Tables = s.Tables()
		d.Tables = d.Tables[:min(len(d.Tables), maxRows)]
	}
	if s.Refusals != nil {
		d.Refusals = s.Refusals.List()
	}
	var out bytes.Buffer // so that an error is no half page
	if err := statusPage.Execute(&out, d); err != nil {
		s.Log.Error("write status page", "error", err)
		plain(w, http.StatusInternalServerError, "the page could not be written; see the log")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(out.Bytes())
}

// clean replaces what would not be seen or would turn the line around; the
// template escapes the rest.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r != ' ' && !unicode.IsGraphic(r) || r == unicode.ReplacementChar {
			return '�'
		}
		return r
	}, strings.ToValidUTF8(s, "�"))
}

// ago writes how long before now a time was, in its largest unit.
func ago(now, t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	d := now.Sub(t)
	switch {
	case d < time.Second:
		return "under 1 s"
	case d < 2*time.Minute:
		return strconv.Itoa(int(d/time.Second)) + " s"
	case d < 2*time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + " min"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + " h"
	}
	return strconv.Itoa(int(d/(24*time.Hour))) + " d"
}

// number groups digits by three.
func number(v any) string {
	var s string
	switch n := v.(type) {
	case uint64:
		s = strconv.FormatUint(n, 10)
	case int64:
		s = strconv.FormatInt(n, 10)
	case int:
		s = strconv.Itoa(n)
	}
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}
