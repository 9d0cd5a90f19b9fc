// SPDX-License-Identifier: BSD-2-Clause

package arf

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"rcptgate/mail"
)

// xarfPart finds the report of an XARF message: a JSON part (versions 3 and 4; the mail is
// only its transport), or the text part "report.txt" in YAML that the X-ARF or X-XARF field
// announces (versions 0.1 and 0.2).
func xarfPart(msg *mail.Message) *mail.Part {
	announced := msg.Header.Get("X-XARF") != nil || msg.Header.Get("X-ARF") != nil
	for p := range msg.All() {
		switch {
		case p.Media.Type == "application/json" || p.Media.Type == "text/json" || p.Media.Type == "application/xarf+json" ||
			slices.ContainsFunc(p.Names(), func(n string) bool { return strings.HasSuffix(strings.ToLower(n), "xarf.json") }):
			if isXARF(p.Decoded(msg.Data, maxPart)) {
				return p
			}
		case announced && p.Media.Type == "text/plain" && slices.Contains(p.Names(), "report.txt"):
			return p
		}
	}
	return nil
}

// isXARF reports whether JSON is a report: it says what was seen and where it came from.
func isXARF(data []byte) bool {
	var v map[string]any
	if json.Unmarshal(data, &v) != nil {
		return false
	}
	flat := map[string]string{}
	flatten("", v, flat, 0)
	_, v4 := flat["source_identifier"]
	_, version := flat["xarf_version"]
	_, v3 := flat["Report.SourceIp"]
	return v4 || version || v3
}

// flatten gives the leaves of JSON by their path: "Report.SourceIp". It is bounded.
func flatten(path string, v any, out map[string]string, depth int) {
	if depth > 8 || len(out) > 500 {
		return
	}
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if path != "" {
				key = path + "." + key
			}
			flatten(key, value, out, depth+1)
		}
	case []any:
		for i, value := range v {
			flatten(path+"."+strconv.Itoa(i), value, out, depth+1)
		}
	case string:
		out[path] = v
	case float64:
		out[path] = strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		out[path] = strconv.FormatBool(v)
	}
}

// xarf reads an XARF report, and gives the message in its evidence. What has no place of its
// own is kept as extra, by its path.
func (r *Report) xarf(p *mail.Part, data []byte) (evidence []byte) {
	text := p.Decoded(data, maxPart)
	flat := map[string]string{}
	var v map[string]any
	if json.Unmarshal(text, &v) == nil {
		flatten("", v, flat, 0)
	} else {
		yamlLines(p.Text(data, maxPart), flat)
	}
	take := func(names ...string) string {
		for _, name := range names {
			if value, ok := flat[name]; ok {
				delete(flat, name)
				return value
			}
		}
		return ""
	}
	r.Type = strings.ToLower(take("type", "Report.ReportType", "Report-Type"))
	if category := take("category", "Report.ReportClass", "Category"); category != "" {
		r.Extra = append(r.Extra, Extra{"Category", category})
	}
	r.UserAgent = take("reporter.org", "ReporterInfo.ReporterOrg", "User-Agent")
	r.Version = take("xarf_version", "Version")
	if ip := take("source_identifier", "Report.SourceIp", "Source"); ip != "" {
		r.sourceIP("source", ip)
	}
	if port := take("source_port", "Report.SourcePort", "Port"); port != "" {
		r.number("source port", port, &r.SourcePort)
	}
	if date := take("timestamp", "Report.Date", "Date"); date != "" {
		r.arrival("timestamp", date)
	}
	r.MailFrom = take("smtp_from", "Report.SmtpMailFromAddress")
	r.RcptTo = add(r.RcptTo, take("smtp_to", "Report.SmtpRcptToAddress"))
	for name, value := range flat {
		if !strings.HasSuffix(strings.ToLower(name), "payload") { // evidence: the original
			r.Extra = append(r.Extra, Extra{name, value})
		}
	}
	evidence = evidenceOf(flat)
	slices.SortFunc(r.Extra, func(a, b Extra) int { return strings.Compare(a.Name, b.Name) })
	for _, e := range r.Extra {
		r.lines = append(r.lines, fmt.Sprintf("%s: %s", e.Name, e.Value))
	}
	return evidence
}

// evidenceOf gives the first message among the evidence: "evidence.0.payload" in base64
// (version 4), "Report.Samples.0.Payload", in base64 or as it is (version 3).
func evidenceOf(flat map[string]string) []byte {
	for i := range 20 {
		v4, v3 := "evidence."+strconv.Itoa(i)+".", "Report.Samples."+strconv.Itoa(i)+"."
		for _, e := range []struct{ kind, payload string }{{v4 + "content_type", v4 + "payload"}, {v3 + "ContentType", v3 + "Payload"}} {
			kind := strings.ToLower(flat[e.kind])
			if !strings.HasPrefix(kind, "message/rfc822") && !strings.HasPrefix(kind, "text/rfc822-headers") {
				continue
			}
			text := flat[e.payload]
			if decoded, err := base64.StdEncoding.DecodeString(text); err == nil {
				return decoded
			}
			return []byte(text)
		}
	}
	return nil
}

// yamlLines reads "Name: value" lines: XARF 0.1 and 0.2 use no more of YAML.
func yamlLines(text string, out map[string]string) {
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.TrimSpace(name), strings.Trim(strings.TrimSpace(value), `"'`)
		if ok && name != "" && !strings.HasPrefix(name, "#") && len(out) < 500 {
			out[name] = value
		}
	}
}
