// SPDX-License-Identifier: BSD-2-Clause

package web

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
	"time"

	"rcptgate/unit"
	"rcptgate/view"
)

//go:embed status.html
var statusText string

// maxRows bounds a table of the page.
const maxRows = 200

var statusPage = template.Must(template.New("status").Funcs(template.FuncMap{
	"ago": view.Ago, "clean": view.Clean, "text": view.Text, "class": class,
}).Parse(statusText))

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
	if err := statusPage.Execute(&out, d); err != nil {
		s.Log.Error("write status page", "error", err)
		plain(w, http.StatusInternalServerError, "the page could not be written; see the log")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(out.Bytes())
}

// class is how a cell is shown: numbers stand at the right.
func class(cell any) string {
	switch cell.(type) {
	case int, int64, uint64, float64, time.Time, time.Duration:
		return "n"
	}
	return ""
}
