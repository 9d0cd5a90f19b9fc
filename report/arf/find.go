// SPDX-License-Identifier: BSD-2-Clause

package arf

import (
	"strings"

	"rcptgate/mail"
	"rcptgate/report/mailbox"
)

// Options are how to look for reports.
type Options struct {
	// Strict finds only what RFC 5965 describes.
	Strict bool
	// VERP finds the recipient in the original's reverse-path; nil is not to look.
	VERP *VERP
}

// limits are for one report: providers send small ones.
var limits = mail.Limits{Depth: 8, Parts: 200, Header: 1 << 20}

// maxPart bounds what is decoded of one part, in octets.
const maxPart = 1 << 20

// found are the parts of a message that make up a report.
type found struct {
	kind     Kind
	feedback *mail.Part // the machine-readable part; nil for jmrp and prose
	original *mail.Part // the header of the original, or the whole of it
}

// Find gives the report in a message, or nil if there is none.
func Find(m *mailbox.Message, o Options) *Report {
	if header, _ := mail.ParseHeader(m.Data); !mayHold(header) {
		return nil
	}
	msg := mail.Scan(m.Data, limits)
	f := o.look(msg)
	if f.kind == "" {
		return nil
	}
	r := &Report{File: m.File, Index: m.Index, Offset: m.Offset, Kind: f.kind, Incidents: 1}
	if m.Cut {
		r.problem("the message is too large: its end was not read")
	}
	if msg.Malformed != "" && msg.Malformed != "boundary" { // the last boundary is often missing
		r.problem("the message is malformed: " + msg.Malformed)
	}
	r.envelope(msg.Header)
	r.Provider = provider(msg.Header)
	header := originalHeader(f.original, m.Data)
	switch {
	case f.kind == KindXARF:
		if evidence := r.xarf(f.feedback, m.Data); f.original == nil {
			header, _ = mail.ParseHeader(evidence)
		}
	case f.feedback != nil:
		r.fields(f.feedback.Decoded(m.Data, maxPart))
	default:
		r.Type = "abuse"
		if f.kind == KindProse && isFailure(msg) {
			r.Type = "auth-failure"
		}
		r.derive("type", "form")
	}
	if f.original == nil && len(header) == 0 {
		r.problem("the original message is missing")
	}
	r.original(header)
	r.fill(header, o.VERP)
	return r
}

// isFailure reports whether a report in words is about a message that failed authentication,
// not about one that somebody complained of.
func isFailure(msg *mail.Message) bool {
	if strings.EqualFold(msg.Media.Param("report-type"), "auth-failure") {
		return true
	}
	words := strings.ToLower(msg.Header.Text("Subject"))
	for p := range msg.All() {
		if p.Media.Type == "text/plain" {
			words += " " + strings.ToLower(p.Text(msg.Data, 64<<10))
			break
		}
	}
	return strings.Contains(words, "dmarc") || strings.Contains(words, "authentication fail") || strings.Contains(words, "failed authentication")
}

// mayHold reports whether a message with this header can have a report in it: most mail has
// one part of text, and need not be taken apart.
func mayHold(h mail.Header) bool {
	value := strings.ToLower(h.Value("Content-Type"))
	return strings.HasPrefix(value, "multipart/") || strings.HasPrefix(value, "message/") || strings.Contains(value, "json")
}

// envelope reads the header of the report's message.
func (r *Report) envelope(h mail.Header) {
	r.Report = Envelope{From: h.Text("From"), Subject: h.Text("Subject"), MessageID: h.Value("Message-ID"),
		subjectRaw: h.Value("Subject"), hasSubject: h.Get("Subject") != nil}
	if date := h.Value("Date"); date != "" {
		r.Report.Date = r.date("Date of the report", date)
	}
}

// look finds the parts of a report.
func (o Options) look(msg *mail.Message) found {
	if f := formal(msg.Part); f.kind != "" || o.Strict {
		return f
	}
	for p := range msg.All() {
		if p.Media.Type == "message/feedback-report" && p.Depth <= 7 {
			return found{KindLoose, p, originalAfter(msg, p)}
		}
	}
	if p := xarfPart(msg); p != nil {
		return found{KindXARF, p, originalAfter(msg, p)}
	}
	if isJMRP(msg.Header) {
		if p := firstOriginal(msg.Part); p != nil {
			return found{KindJMRP, nil, p}
		}
	}
	return prose(msg)
}

// formal finds a report as RFC 5965 section 2 has it: a multipart/report whose report-type
// is feedback-report, with the report as second part.
func formal(p *mail.Part) found {
	if p.Media.Type != "multipart/report" || len(p.Parts) < 2 ||
		!strings.HasPrefix(strings.ToLower(p.Media.Param("report-type")), "feedback-report") ||
		p.Parts[1].Media.Type != "message/feedback-report" {
		return found{}
	}
	f := found{kind: KindARF, feedback: p.Parts[1]}
	if len(p.Parts) > 2 && isOriginal(p.Parts[2]) {
		f.original = p.Parts[2]
	}
	return f
}

// isOriginal reports whether a part has the original message, or its header. Programs write
// the singular too.
func isOriginal(p *mail.Part) bool {
	switch p.Media.Type {
	case "message/rfc822", "message/global", "text/rfc822-headers", "text/rfc822-header", "text/rfc822", "message/global-headers":
		return true
	}
	return false
}

// firstOriginal gives the first part of a message that has an original, not the message
// itself.
func firstOriginal(root *mail.Part) *mail.Part {
	for p := range root.All() {
		if isOriginal(p) {
			return p
		}
	}
	return nil
}

// originalAfter gives the original that belongs to a report part: a sibling after it, else
// any in the message.
func originalAfter(msg *mail.Message, report *mail.Part) *mail.Part {
	for p := range msg.All() {
		after := false
		for _, child := range p.Parts {
			if after && isOriginal(child) {
				return child
			}
			after = after || child == report
		}
		if after {
			return nil // what stands before it is the message that was forwarded
		}
	}
	return nil
}

// isJMRP reports whether a message is of Microsoft's Junk Mail Reporting Program as it was.
func isJMRP(h mail.Header) bool {
	return strings.Contains(strings.ToLower(h.Value("From")), "staff@hotmail.com") &&
		strings.Contains(strings.ToLower(h.Text("Subject")), "complaint about message from")
}

// prose finds a report in words: a multipart/report that is neither a delivery nor a
// disposition notification, with an original.
func prose(msg *mail.Message) found {
	if msg.Media.Type != "multipart/report" {
		return found{}
	}
	kind := strings.ToLower(msg.Media.Param("report-type"))
	if kind != "" && !strings.HasPrefix(kind, "feedback-report") && kind != "auth-failure" {
		return found{} // delivery-status, disposition-notification, tlsrpt
	}
	for p := range msg.All() {
		if t := p.Media.Type; t == "message/delivery-status" || t == "message/disposition-notification" || t == "message/global-delivery-status" {
			return found{}
		}
	}
	if p := firstOriginal(msg.Part); p != nil {
		return found{KindProse, nil, p}
	}
	return found{}
}
