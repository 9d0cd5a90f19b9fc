// SPDX-License-Identifier: BSD-2-Clause

package doctor

import (
	"fmt"
	"path/filepath"
	"strings"

	"rcptgate/mta/maincf"
	"rcptgate/mta/sendmailcf"
)

// milter is one filter that an MTA asks.
type milter struct {
	line   string // FILE:LINE and the setting, as written
	socket socket
	wait   int    // how long the MTA waits for an answer to a command, in seconds
	passes bool   // mail passes unchecked while the filter does not answer
	unused string // why the MTA does not ask it after all; empty if it does
}

// postfixMilters reads smtpd_milters (postconf(5), MILTER_README): sockets, or since Postfix
// 3.0 "{ inet:127.0.0.1:8890, default_action=tempfail, command_timeout=10s }".
func postfixMilters(value, line string, wait int, action string) (out []milter) {
	for _, word := range maincf.Split(value) {
		fields := maincf.Split(strings.TrimSuffix(strings.TrimPrefix(word, "{"), "}"))
		if len(fields) == 0 {
			continue
		}
		m := milter{line: line, socket: parseSocket(fields[0]), wait: wait, passes: action == "accept"}
		for _, f := range fields[1:] {
			switch name, value, _ := strings.Cut(f, "="); name {
			case "default_action":
				m.passes = value == "accept"
			case "command_timeout":
				m.wait = seconds(value, m.wait)
			}
		}
		out = append(out, m)
	}
	return out
}

// sendmailMilter reads an X line: "Xrcptgate, S=inet:8890@127.0.0.1, F=T, T=S:10s;R:10s"
// (Sendmail Installation and Operation Guide, section 5.15). The option InputMailFilters says
// which of them are asked.
func sendmailMilter(c *sendmailcf.Config, line, place string) milter {
	name, rest, _ := strings.Cut(line[1:], ",")
	name = strings.TrimSpace(name)
	m := milter{line: place + " " + line, wait: sendmailWait, passes: true}
	for field := range strings.SplitSeq(rest, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch key {
		case "S":
			m.socket = parseSocket(value)
		case "F":
			m.passes = value == ""
		case "T":
			for t := range strings.SplitSeq(value, ";") {
				if r, ok := strings.CutPrefix(strings.TrimSpace(t), "R:"); ok {
					m.wait = seconds(r, m.wait)
				}
			}
		}
	}
	asked, _ := c.Option("InputMailFilters")
	for _, word := range strings.FieldsFunc(asked.Text, func(r rune) bool { return strings.ContainsRune(", \t;", r) }) {
		if word == name {
			return m
		}
	}
	m.unused = fmt.Sprintf("O InputMailFilters does not name %s: write INPUT_MAIL_FILTER, not MAIL_FILTER, in the .mc file", name)
	return m
}

// asks gives the milter through which an MTA asks the gate, or nil, and which of the gate's
// sockets that is.
func (d *Doctor) asks(m *MTA) (*milter, socket) {
	var unused *milter
	var at socket
	for _, text := range d.Gate.Sockets {
		own := parseSocket(text)
		for i := range m.Milters {
			switch f := &m.Milters[i]; {
			case !own.isAskedAt(f.socket):
			case f.unused == "":
				return f, own
			default:
				unused, at = f, own
			}
		}
	}
	return unused, at
}

// gateMilter looks whether the MTA asks the gate at one of its sockets, and what it does when
// the gate does not answer.
func (d *Doctor) gateMilter(m *MTA) {
	f, own := d.asks(m)
	switch {
	case f == nil:
		d.gateNotAsked(m)
	case f.unused != "":
		d.add(Finding{ID: "gate-milter", Level: Fail, What: m.Name + " does not ask the gate: " + f.unused, Seen: []string{f.line}, Matters: "the gate has no effect", Do: []string{m.milterLine(d.Gate.Sockets)}})
	case !m.reaches(f.socket, own):
		d.gateChroot(m, f, own)
	default:
		d.ok("gate-milter", "", m.Name+" asks the gate: "+f.line)
		d.gateDefault(m, f)
	}
}

// gateDefault looks whether mail passes unchecked while the gate is down.
func (d *Doctor) gateDefault(m *MTA, f *milter) {
	if !f.passes {
		d.ok("gate-default", "", m.Name+" defers mail while the gate does not answer")
		return
	}
	d.add(Finding{ID: "gate-default", Level: Warn, What: m.Name + " takes mail unchecked while the gate does not answer", Seen: []string{f.line},
		Matters: "mail for unknown recipients then comes in, and bounces", Do: []string{m.milterLine(d.Gate.Sockets)}})
}

func (d *Doctor) gateNotAsked(m *MTA) {
	f := Finding{ID: "gate-milter", Level: Fail, What: m.Name + " does not ask the gate", Seen: []string{m.File}, Matters: "the gate has no effect"}
	for i := range m.Milters {
		if line := m.Milters[i].line; line != f.Seen[len(f.Seen)-1] {
			f.Seen = append(f.Seen, line)
		}
	}
	if len(d.Gate.Sockets) == 0 {
		f.What, f.Do = "the gate listens on no milter socket", []string{`[listen] milter = ["inet:8890@127.0.0.1"]`}
	} else {
		f.Do = []string{m.milterLine(d.Gate.Sockets)}
	}
	d.add(f)
}

// milterLine is the line that has the MTA ask the gate, before the milters that are there.
func (m *MTA) milterLine(sockets []string) string {
	if len(sockets) == 0 {
		return ""
	}
	if m.Name != "Postfix" {
		return fmt.Sprintf("INPUT_MAIL_FILTER(`rcptgate', `S=%s, F=T, T=S:10s;R:10s')dnl in the .mc file, then make sendmail.cf anew and restart", sendmailSocket(sockets[0]))
	}
	value := fmt.Sprintf("{ %s, default_action=tempfail, command_timeout=10s }", postfixSocket(sockets[0]))
	own := parseSocket(sockets[0])
	for _, word := range maincf.Split(m.MilterValue) {
		if fields := maincf.Split(strings.Trim(word, "{}")); len(fields) > 0 && !own.isAskedAt(parseSocket(fields[0])) {
			value += ", " + word
		}
	}
	return fmt.Sprintf("smtpd_milters = %s in %s, then postfix reload", value, m.File)
}

// seenAt is the file that smtpd opens for the path of a socket in its configuration: it looks
// in its queue directory for relative paths, and for all paths when it runs in a chroot.
func (m *MTA) seenAt(path string) string {
	if m.Name == "Postfix" && (m.Chroot || !strings.HasPrefix(path, "/")) {
		return filepath.Join(postfixQueue, path)
	}
	return path
}

// reaches reports whether a socket that the MTA's configuration names is the gate's.
func (m *MTA) reaches(named, own socket) bool {
	return own.path == "" || m.seenAt(named.path) == filepath.Clean(own.path)
}

func (d *Doctor) gateChroot(m *MTA, f *milter, own socket) {
	out := Finding{ID: "gate-chroot", Level: Fail, Seen: []string{f.line, filepath.Join(filepath.Dir(m.File), "master.cf")},
		Matters: "every recipient is deferred, or the gate is not asked (milter_default_action)"}
	where := "Postfix's smtpd runs in a chroot"
	if !m.Chroot {
		where = "Postfix's smtpd does not run in a chroot"
	}
	out.What = fmt.Sprintf("%s and looks for the gate at %s, not at %s", where, m.seenAt(f.socket.path), own.path)
	if inside, ok := strings.CutPrefix(own.path, postfixQueue); ok {
		out.Do = []string{fmt.Sprintf("smtpd_milters = { unix:%s, default_action=tempfail, command_timeout=10s } in %s, then postfix reload", inside, m.File)}
	} else {
		out.Do = []string{"a socket below /var/spool/postfix, or inet:127.0.0.1:8890; or no chroot for smtpd in master.cf"}
	}
	d.add(out)
}

// policyChroot looks for policy services whose sockets smtpd cannot see from its chroot.
func (d *Doctor) policyChroot(m *MTA) {
	for _, p := range m.Policies {
		if at := m.seenAt(p.path); m.Chroot && strings.HasPrefix(p.path, "/") && !exists(at) {
			d.add(Finding{ID: "policy-chroot", Level: Fail, What: fmt.Sprintf("Postfix's smtpd runs in a chroot and looks for the policy service unix:%s at %s, where nothing is", p.path, at),
				Seen: []string{p.line, filepath.Join(filepath.Dir(m.File), "master.cf")}, Matters: "Postfix defers every recipient with 451 4.3.5",
				Do: []string{"have the service listen below " + postfixQueue + " and write the path without " + postfixQueue + ", or use inet:127.0.0.1:PORT; or no chroot for smtpd in master.cf"}})
		}
	}
}
