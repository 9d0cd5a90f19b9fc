// SPDX-License-Identifier: BSD-2-Clause

package arf

import (
	"regexp"
	"strings"

	"rcptgate/mail"
)

// originalHeader reads the header of the original message from its part. Some programs part
// it in two with an empty line, as the example of RFC 5965 (B.2) is: where the first part has
// no Subject and the second has, both are the header.
func originalHeader(p *mail.Part, data []byte) mail.Header {
	if p == nil {
		return nil
	}
	text := p.Decoded(data, maxPart)
	h, rest := mail.ParseHeader(text)
	if len(p.Parts) == 1 { // message/rfc822, taken apart already
		h = p.Parts[0].Header
	}
	if len(h) > 0 && h.Get("Subject") == nil && h.Get("Message-ID") == nil {
		if more, _ := mail.ParseHeader(rest); more.Get("Subject") != nil && (more.Get("From") != nil || more.Get("To") != nil || more.Get("Date") != nil) {
			h = append(h[:len(h):len(h)], more...)
		}
	}
	return h
}

// original reads what the original message says of itself.
func (r *Report) original(h mail.Header) {
	if len(h) == 0 {
		return
	}
	r.Original = Original{From: h.Text("From"), To: h.Text("To"), Subject: h.Text("Subject"), MessageID: h.Value("Message-ID"),
		FeedbackID: h.Value("Feedback-ID"), ListID: h.Text("List-ID"), ListUnsubscribe: h.Value("List-Unsubscribe")}
	if raw := h.Value("Subject"); raw != r.Original.Subject {
		r.Original.SubjectRaw = raw
	}
	if date := h.Value("Date"); date != "" {
		r.Original.Date = r.date("Date of the original", date)
	}
}

// fill takes what the report lacks from the original message.
func (r *Report) fill(h mail.Header, verp *VERP) {
	if !r.SourceIP.IsValid() {
		r.fillIP(h)
	}
	if r.MailFrom == "" {
		if v := unbracket(h.Value("Return-Path")); v != "" {
			r.MailFrom = v
			r.derive("mail_from", "return-path")
		}
	}
	if len(r.RcptTo) == 0 {
		r.fillRcpt(h, verp)
	}
	if r.Arrival.IsZero() {
		r.fillArrival(h)
	}
}

var clientIP = regexp.MustCompile(`(?i)\bclient-ip=\[?([0-9a-f.:]+)`)

// fillIP looks for the address that the original came from: what a provider or its SPF check
// noted, else the first public one of the Received fields, newest first.
func (r *Report) fillIP(h mail.Header) {
	if ip, ok := parseIP(h.Value("X-Originating-IP")); ok {
		r.SourceIP = ip
		r.derive("source_ip", "x-originating-ip")
		return
	}
	for _, name := range []string{"Received-SPF", "Authentication-Results"} {
		for _, value := range h.Values(name) {
			if m := clientIP.FindStringSubmatch(value); m != nil {
				if ip, ok := parseIP(m[1]); ok {
					r.SourceIP = ip
					r.derive("source_ip", strings.ToLower(name))
					return
				}
			}
		}
	}
	if ip := h.SourceIP(); ip.IsValid() {
		r.SourceIP = ip
		r.derive("source_ip", "received")
	}
}

func (r *Report) fillRcpt(h mail.Header, verp *VERP) {
	for _, name := range []string{"X-HmXmrOriginalRecipient", "X-Original-To", "Delivered-To"} {
		if v := unbracket(h.Value(name)); v != "" {
			r.RcptTo = []string{v}
			r.derive("rcpt_to", strings.ToLower(name))
			return
		}
	}
	if rcpt := verp.recipient(r.MailFrom); rcpt != "" {
		r.RcptTo = []string{rcpt}
		r.derive("rcpt_to", "verp")
		return
	}
	if v := unbracket(h.Value("To")); strings.Contains(v, "@") && !strings.Contains(v, ",") {
		r.RcptTo = []string{v}
		r.derive("rcpt_to", "to")
	}
}

// fillArrival takes the date of the newest Received field, else of the message.
func (r *Report) fillArrival(h mail.Header) {
	if received := h.Value("Received"); received != "" {
		if i := strings.LastIndexByte(received, ';'); i >= 0 {
			if t, err := ParseDate(received[i+1:]); err == nil {
				r.Arrival = utc(t)
				r.derive("arrival", "received")
				return
			}
		}
	}
	if !r.Original.Date.IsZero() {
		r.Arrival = r.Original.Date
		r.derive("arrival", "date")
	}
}

// VERP is a pattern of reverse-paths that name the recipient.
type VERP struct{ re *regexp.Regexp }

// ParseVERP reads a pattern: "bounce-{local}={domain}@lists.example.org". What is not in
// braces stands for itself; "*" stands for anything.
func ParseVERP(pattern string) *VERP {
	re := regexp.QuoteMeta(strings.ToValidUTF8(pattern, "\uFFFD"))
	re = strings.Replace(re, `\{local\}`, `(?P<local>.+)`, 1)
	re = strings.Replace(re, `\{domain\}`, `(?P<domain>[^=@]+)`, 1)
	re = strings.ReplaceAll(re, `\*`, `.*`)
	return &VERP{regexp.MustCompile(`(?i)^` + re + `$`)} // it cannot fail: everything is quoted, and valid UTF-8
}

// recipient gives the recipient that a reverse-path names, or "".
func (v *VERP) recipient(mailFrom string) string {
	if v == nil {
		return ""
	}
	m := v.re.FindStringSubmatch(mailFrom)
	local, domain := v.re.SubexpIndex("local"), v.re.SubexpIndex("domain")
	if m == nil || local < 0 || domain < 0 {
		return ""
	}
	return m[local] + "@" + m[domain]
}
