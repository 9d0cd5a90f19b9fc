// SPDX-License-Identifier: BSD-2-Clause

package web

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
	"strings"
	"time"

	"rcptgate/unit"
	"rcptgate/view"
)

//go:embed status.html
var statusText string

// maxRows bounds a table of the page.
const maxRows = 200

var statusPage = template.Must(template.New("status").Funcs(template.FuncMap{
	"ago": view.Ago, "clean": view.Clean, "text": view.Text, "class": class, "head": head,
}).Parse(statusText))

// Calm reports whether the page may be green: questions are taken, refusals are in effect
// everywhere, and nothing waits for a person.
func (d *statusData) Calm() bool {
	return len(d.NotReady) == 0 && len(d.Attention) == 0 && d.ReloadError == "" && d.Mode == "enforcing"
}

type statusData struct {
	unit.Status
	Now    time.Time
	Tables []view.Table
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	d := statusData{Status: s.describe(), Now: time.Now(), Tables: s.views()}
	for i := range d.Tables {
		d.Tables[i].Limit(maxRows)
	}
	var out bytes.Buffer // so that an error is not half a page
	if err := statusPage.Execute(&out, &d); err != nil {
		s.Log.Error("write status page", "error", err)
		plain(w, http.StatusInternalServerError, "the page could not be written; see the log")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(out.Bytes())
}

// maxWord is the length in octets up to which a word is kept on one line; a longer one, which a
// stranger may have chosen, is broken where it has to be.
const maxWord = 80

// class is how a cell is shown: numbers stand at the right, and addresses are not broken at
// their hyphens.
func class(cell any) string {
	switch cell := cell.(type) {
	case int, int64, uint64, float64, time.Time, time.Duration:
		return "n"
	case string:
		words := strings.ContainsAny(cell, " \t\n")
		switch {
		case !words && len(cell) <= maxWord:
			return "w"
		case !words:
			return "x"
		case len(cell) > wideWord:
			return "t"
		}
	}
	return ""
}

// wideWord is the length in octets from which a text gets a column that is readable on a narrow
// screen too.
const wideWord = 40

// head is how the head of a column stands: above numbers where the numbers stand.
func head(t view.Table, column int) string {
	for i := range t.Rows {
		if cells := t.Rows[i].Cells; column < len(cells) && class(cells[column]) == "n" {
			return "n"
		}
	}
	return ""
}
