// SPDX-License-Identifier: BSD-2-Clause

package arf

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"rcptgate/view"
)

// Formats are the names that [NewWriter] knows.
var formats = []string{"text", "arfparse", "jsonl", "csv", "html"}

// Formats names the formats in which reports can be written.
func Formats() []string { return slices.Clone(formats) }

// Writer writes reports in one format.
type Writer interface {
	Write(*Report) error
	Close() error // writes what ends the output
}

// NewWriter makes the writer of a format; raw leaves cells of CSV as they are that a
// spreadsheet would take for a formula. The format must be one of [Formats].
func NewWriter(w io.Writer, format string, raw bool) (Writer, error) {
	out := bufio.NewWriter(w)
	switch format {
	case "text":
		return lineWriter{out, writeText}, nil
	case "arfparse":
		return lineWriter{out, writeArfparse}, nil
	case "jsonl":
		return lineWriter{out, writeJSON}, nil
	case "csv":
		return newCSV(out, raw)
	case "html":
		return newHTML(out)
	}
	return nil, fmt.Errorf("unknown format %q; known are %s", format, strings.Join(formats, ", "))
}

// lineWriter writes each report by itself.
type lineWriter struct {
	out   *bufio.Writer
	write func(*bufio.Writer, *Report) error
}

func (w lineWriter) Write(r *Report) error { return w.write(w.out, r) }
func (w lineWriter) Close() error          { return w.out.Flush() }

func writeJSON(w *bufio.Writer, r *Report) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(r)
}

// pair is a line of the text format. Key is the field's in Derived.
type pair struct{ name, key, value string }

// pairs are the fields of a report in the order of the text format.
func (r *Report) pairs() []pair {
	out := []pair{
		{"Kind", "", string(r.Kind)}, {"Provider", "", r.Provider}, {"Feedback-Type", "type", r.Type}, {"User-Agent", "", r.UserAgent}, {"Version", "", r.Version},
		{"Source-IP", "source_ip", addr(r)}, {"Source-Port", "", number(r.SourcePort)}, {"Arrival-Date", "arrival", stamp(r.Arrival)}, {"Incidents", "", number(r.Incidents)},
		{"Original-Mail-From", "mail_from", r.MailFrom},
	}
	out = many(out, "Original-Rcpt-To", "rcpt_to", r.RcptTo)
	out = many(out, "Reported-Domain", "", r.ReportedDomain)
	out = many(out, "Reported-URI", "", r.ReportedURI)
	out = many(out, "Authentication-Results", "", r.AuthResults)
	out = append(out, pair{"Original-Envelope-Id", "", r.EnvelopeID}, pair{"Reporting-MTA", "", r.ReportingMTA})
	for _, name := range slices.Sorted(maps.Keys(r.AuthFailure)) {
		out = append(out, pair{name, "", r.AuthFailure[name]})
	}
	for _, e := range r.Extra {
		out = append(out, pair{e.Name, "", e.Value})
	}
	out = append(out, pair{"Reported-By", "", r.Report.From}, pair{"Reported-On", "", stamp(r.Report.Date)}, pair{"Report-Subject", "", r.Report.Subject}, pair{"Report-Message-ID", "", r.Report.MessageID},
		pair{"From", "", r.Original.From}, pair{"To", "", r.Original.To}, pair{"Date", "", stamp(r.Original.Date)}, pair{"Message-ID", "", r.Original.MessageID},
		pair{"Feedback-ID", "", r.Original.FeedbackID}, pair{"List-ID", "", r.Original.ListID}, pair{"List-Unsubscribe", "", r.Original.ListUnsubscribe}, pair{"Subject", "", r.Original.Subject})
	return many(out, "Problem", "", r.Problems)
}

func many(out []pair, name, key string, values []string) []pair {
	for _, v := range values {
		out = append(out, pair{name, key, v})
	}
	return out
}

func addr(r *Report) string {
	if !r.SourceIP.IsValid() {
		return ""
	}
	return r.SourceIP.String()
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// writeText writes "Name: value" lines and an empty line. Values can hold anything that a
// stranger wrote: what would reach a terminal is made visible.
func writeText(w *bufio.Writer, r *Report) error {
	fmt.Fprintf(w, "Report: %d  %s:%d\n", r.Index, view.Clean(r.File), r.Offset)
	for _, p := range r.pairs() {
		if p.value == "" {
			continue
		}
		if from := r.Derived[p.key]; from != "" {
			fmt.Fprintf(w, "%s: %s (derived: %s)\n", view.Clean(p.name), view.Clean(p.value), from)
			continue
		}
		fmt.Fprintf(w, "%s: %s\n", view.Clean(p.name), view.Clean(p.value))
	}
	_, err := fmt.Fprintln(w)
	return err
}

// arfparseFields are the fields that arfparse prints.
var arfparseFields = []string{"feedback-type", "user-agent", "version", "original-envelope-id", "original-mail-from",
	"arrival-date", "received-date", "reporting-mta", "source-ip", "incidents"}

// writeArfparse writes what arfparse writes: its ten fields as they stand in the report and
// in its order, then the subject of the original as it is encoded. Fields that are folded are
// whole, and the subject is always the original's.
func writeArfparse(w *bufio.Writer, r *Report) error {
	subject := "(null)"
	if r.Report.hasSubject {
		subject = r.Report.subjectRaw
	}
	fmt.Fprintf(w, "X-Idx: %d\nX-Subject: %s\n", r.Index, view.Clean(subject))
	for _, line := range r.lines {
		name, _, _ := strings.Cut(line, ":")
		if slices.Contains(arfparseFields, strings.ToLower(name)) {
			fmt.Fprintln(w, view.Clean(line))
		}
	}
	raw := r.Original.SubjectRaw
	if raw == "" {
		raw = r.Original.Subject
	}
	_, err := fmt.Fprintf(w, "Subject: %s\n\n", view.Clean(raw))
	return err
}

// csvColumns are the columns of CSV, and of the HTML page's table.
var csvColumns = []struct {
	name  string
	value func(*Report) string
}{
	{"file", func(r *Report) string { return r.File }},
	{"index", func(r *Report) string { return strconv.Itoa(r.Index) }},
	{"kind", func(r *Report) string { return string(r.Kind) }},
	{"provider", func(r *Report) string { return r.Provider }},
	{"type", func(r *Report) string { return r.Type }},
	{"user_agent", func(r *Report) string { return r.UserAgent }},
	{"version", func(r *Report) string { return r.Version }},
	{"source_ip", addr},
	{"source_port", func(r *Report) string { return number(r.SourcePort) }},
	{"arrival", func(r *Report) string { return stamp(r.Arrival) }},
	{"incidents", func(r *Report) string { return strconv.Itoa(r.Incidents) }},
	{"mail_from", func(r *Report) string { return r.MailFrom }},
	{"rcpt_to", func(r *Report) string { return strings.Join(r.RcptTo, " ") }},
	{"reported_domain", func(r *Report) string { return strings.Join(r.ReportedDomain, " ") }},
	{"reported_uri", func(r *Report) string { return strings.Join(r.ReportedURI, " ") }},
	{"auth_results", func(r *Report) string { return strings.Join(r.AuthResults, " ") }},
	{"envelope_id", func(r *Report) string { return r.EnvelopeID }},
	{"reporting_mta", func(r *Report) string { return r.ReportingMTA }},
	{"auth_failure", failureText},
	{"report_from", func(r *Report) string { return r.Report.From }},
	{"report_date", func(r *Report) string { return stamp(r.Report.Date) }},
	{"report_subject", func(r *Report) string { return r.Report.Subject }},
	{"report_message_id", func(r *Report) string { return r.Report.MessageID }},
	{"from", func(r *Report) string { return r.Original.From }},
	{"to", func(r *Report) string { return r.Original.To }},
	{"date", func(r *Report) string { return stamp(r.Original.Date) }},
	{"message_id", func(r *Report) string { return r.Original.MessageID }},
	{"feedback_id", func(r *Report) string { return r.Original.FeedbackID }},
	{"list_id", func(r *Report) string { return r.Original.ListID }},
	{"list_unsubscribe", func(r *Report) string { return r.Original.ListUnsubscribe }},
	{"subject", func(r *Report) string { return r.Original.Subject }},
	{"derived", derivedText},
	{"problems", func(r *Report) string { return strings.Join(r.Problems, "; ") }},
	{"extra", extraText},
}

func failureText(r *Report) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(r.AuthFailure)) {
		out = append(out, name+"="+r.AuthFailure[name])
	}
	return strings.Join(out, "; ")
}

func derivedText(r *Report) string {
	var out []string
	for _, field := range slices.Sorted(maps.Keys(r.Derived)) {
		out = append(out, field+"="+r.Derived[field])
	}
	return strings.Join(out, " ")
}

func extraText(r *Report) string {
	var out []string
	for _, e := range r.Extra {
		out = append(out, e.Name+"="+e.Value)
	}
	return strings.Join(out, "; ")
}

// csvWriter writes RFC 4180 with a line of names.
type csvWriter struct {
	out   *csv.Writer
	flush *bufio.Writer
	raw   bool
	row   []string
}

func newCSV(out *bufio.Writer, raw bool) (Writer, error) {
	w := &csvWriter{csv.NewWriter(out), out, raw, make([]string, len(csvColumns))}
	w.out.UseCRLF = true
	for i := range csvColumns {
		w.row[i] = csvColumns[i].name
	}
	return w, w.out.Write(w.row)
}

func (w *csvWriter) Write(r *Report) error {
	for i := range csvColumns {
		cell := csvColumns[i].value(r)
		if !w.raw {
			cell = view.Clean(cell)
			if cell != "" && strings.ContainsRune("=+-@", rune(cell[0])) {
				cell = "'" + cell // a spreadsheet would run it
			}
		}
		w.row[i] = cell
	}
	return w.out.Write(w.row)
}

func (w *csvWriter) Close() error {
	w.out.Flush()
	if err := w.out.Error(); err != nil {
		return err
	}
	return w.flush.Flush()
}
