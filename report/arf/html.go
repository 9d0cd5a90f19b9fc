// SPDX-License-Identifier: BSD-2-Clause

package arf

import (
	"bufio"
	_ "embed"
	"html/template"

	"rcptgate/view"
)

//go:embed report.html
var page string

// htmlWriter writes one page that needs nothing else: no script, no other file.
type htmlWriter struct {
	out   *bufio.Writer
	parts *template.Template
	n     int
}

func newHTML(out *bufio.Writer) (Writer, error) {
	parts, err := template.New("page").Funcs(template.FuncMap{"clean": view.Clean}).Parse(page)
	if err != nil {
		return nil, err
	}
	w := &htmlWriter{out: out, parts: parts}
	return w, parts.ExecuteTemplate(out, "head", nil)
}

// htmlReport is what the template has of a report.
type htmlReport struct {
	*Report
	IP, Arrived string
	Pairs       []htmlPair
}

type htmlPair struct{ Name, Value, Derived string }

func (w *htmlWriter) Write(r *Report) error {
	w.n++
	out := htmlReport{Report: r, IP: addr(r), Arrived: stamp(r.Arrival)}
	for _, p := range r.pairs() {
		if p.value != "" {
			out.Pairs = append(out.Pairs, htmlPair{p.name, p.value, r.Derived[p.key]})
		}
	}
	return w.parts.ExecuteTemplate(w.out, "row", out)
}

func (w *htmlWriter) Close() error {
	if err := w.parts.ExecuteTemplate(w.out, "foot", w.n); err != nil {
		return err
	}
	return w.out.Flush()
}
