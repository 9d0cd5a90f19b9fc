// SPDX-License-Identifier: BSD-2-Clause

package arf

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"rcptgate/mail"
)

// failureFields are those of RFC 6591 section 3 and RFC 7489 section 7.3.1.
var failureFields = []string{"Auth-Failure", "Delivery-Result", "DKIM-ADSP-DNS", "DKIM-Canonicalized-Body", "DKIM-Canonicalized-Header",
	"DKIM-Domain", "DKIM-Identity", "DKIM-Selector", "DKIM-Selector-DNS", "Identity-Alignment", "SPF-DNS"}

// fields reads the report part (RFC 5965 section 3). Some have an empty line before the
// fields or between them, so that all groups are read.
func (r *Report) fields(part []byte) {
	seen := map[string]bool{}
	for len(part) > 0 {
		header, rest := mail.ParseHeader(part)
		for i := range header {
			r.field(&header[i], seen)
		}
		if len(rest) == len(part) {
			var line []byte
			if line, rest = cutLine(part); len(line) > 0 {
				r.problem(fmt.Sprintf("not a field: %q", line))
			}
		}
		part = rest
	}
	for _, name := range []string{"Feedback-Type", "User-Agent", "Version"} {
		if !seen[strings.ToLower(name)] {
			r.problem(name + " is missing")
		}
	}
}

// cutLine parts the first line from the rest, without its line end.
func cutLine(data []byte) (line, rest []byte) {
	if i := bytes.IndexAny(data, "\r\n"); i >= 0 {
		return data[:i], data[i+1:]
	}
	return data, nil
}

// field takes one field of the report. Those that may stand once only are taken the first
// time; others like them are kept as extra.
func (r *Report) field(f *mail.Field, seen map[string]bool) {
	value := f.Text()
	name := strings.ToLower(f.Name)
	r.lines = append(r.lines, f.Name+": "+f.Value())
	switch name {
	case "authentication-results":
		r.AuthResults = add(r.AuthResults, value)
		return
	case "original-rcpt-to", "removal-recipient", "redacted-address":
		r.rcpt(f.Name, value)
		return
	case "reported-domain":
		r.ReportedDomain = add(r.ReportedDomain, value)
		return
	case "reported-uri":
		r.ReportedURI = add(r.ReportedURI, value)
		return
	}
	known := !seen[name] && r.once(name, f.Name, value)
	if !known {
		if seen[name] {
			r.problem(f.Name + " stands more than once")
		}
		r.Extra = append(r.Extra, Extra{f.Name, value})
	}
	seen[name] = seen[name] || known // fields that nobody knows may stand as often as they like
}

// add appends a value that is not empty.
func add(list []string, value string) []string {
	if value == "" || slices.Contains(list, value) {
		return list
	}
	return append(list, value)
}

// rcpt takes a recipient; AOL has its local part in one field and an empty domain in another.
func (r *Report) rcpt(name, value string) {
	if !strings.EqualFold(name, "Original-Rcpt-To") && value != "" {
		r.Extra = append(r.Extra, Extra{name, value})
	}
	if strings.Count(value, "<") < 2 {
		r.RcptTo = add(r.RcptTo, unbracket(value))
		return
	}
	for one := range strings.SplitSeq(value, ",") {
		r.RcptTo = add(r.RcptTo, unbracket(one))
	}
}

// once takes a field that may stand once. It reports whether it has a place for it.
func (r *Report) once(lower, name, value string) bool {
	switch lower {
	case "feedback-type":
		r.Type = strings.ToLower(value)
	case "user-agent":
		r.UserAgent = value
	case "version":
		if r.Version = value; value != "1" && value != "1.0" {
			r.problem(fmt.Sprintf("Version is %q", value))
		}
	case "original-envelope-id":
		r.EnvelopeID = value
	case "original-mail-from":
		r.MailFrom = unbracket(value)
	case "reporting-mta":
		r.ReportingMTA = value
	case "arrival-date":
		r.arrival(name, value)
	case "received-date": // the older name
		if r.ArrivalRaw != "" {
			return false
		}
		r.arrival(name, value)
	case "source-ip":
		r.sourceIP(name, value)
	case "source-port":
		r.number(name, value, &r.SourcePort)
	case "incidents":
		r.number(name, value, &r.Incidents)
	default:
		return r.failure(lower, name, value)
	}
	return true
}

// failure takes a field of an auth-failure report.
func (r *Report) failure(lower, name, value string) bool {
	for _, known := range failureFields {
		if strings.ToLower(known) == lower {
			if r.AuthFailure == nil {
				r.AuthFailure = map[string]string{}
			}
			r.AuthFailure[known] = value
			return true
		}
	}
	return false
}

func (r *Report) arrival(name, value string) {
	r.ArrivalRaw = value
	r.Arrival = r.date(name, value)
}

// date reads a date; one that cannot be read is a problem of the report.
func (r *Report) date(name, value string) time.Time {
	t, err := ParseDate(value)
	if err != nil {
		r.problem(name + ": " + err.Error())
	}
	return utc(t)
}

func (r *Report) number(name, value string, to *int) {
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 || n > 1<<30 {
		r.problem(fmt.Sprintf("%s is not a number: %q", name, value))
		return
	}
	*to = n
}

func (r *Report) sourceIP(name, value string) {
	ip, ok := parseIP(value)
	if !ok && value != "" {
		r.problem(fmt.Sprintf("%s is not an address: %q", name, value))
	}
	r.SourceIP = ip
	if _, comment, _ := strings.Cut(strings.TrimSpace(value), " "); ok && comment != "" {
		r.Extra = append(r.Extra, Extra{name + "-Raw", value}) // "192.0.2.1 (host.example)": the host stands nowhere else
	}
}

// parseIP reads an address as reports write it: "192.0.2.1", "[192.0.2.1]", "IPv6:2001:db8::1",
// "192.0.2.1 (host.example)".
func parseIP(value string) (netip.Addr, bool) {
	value, _, _ = strings.Cut(strings.TrimSpace(value), " ")
	value = strings.TrimSuffix(strings.TrimPrefix(value, "["), "]")
	if len(value) > 5 && strings.EqualFold(value[:5], "IPv6:") {
		value = value[5:]
	}
	ip, err := netip.ParseAddr(value)
	return ip.Unmap(), err == nil
}

// unbracket takes angle brackets and what stands around them from an address.
func unbracket(value string) string {
	if start := strings.IndexByte(value, '<'); start >= 0 {
		if end := strings.IndexByte(value[start:], '>'); end > 0 {
			return strings.TrimSpace(value[start+1 : start+end])
		}
	}
	return strings.TrimSpace(value)
}
