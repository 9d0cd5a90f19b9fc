// SPDX-License-Identifier: BSD-2-Clause

package cases

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rcptgate/test/lab"
)

// A World is what every case finds: a gate that each case starts afresh, MTAs in front of it, and servers behind.
//
//	pf.test   a Postfix: good, full (452 4.2.2) and many more, see startWorld
//	dc.test   a Dovecot LMTP: good, full (552 5.2.2)
//	sim.test  a scripted server that takes whatever is not called "nobody..." or longer than 12 letters
//	virt.test rewritten in front (virtusertable, virtual_alias_maps): info to good@pf.test, lost to nobody@pf.test,
//	          nobody-desk to the local user root
//	catch.test, void.test  the same, everything to good@pf.test and to nobody@pf.test
//	loc.test  local in front, with the alias database of the case
type World struct {
	Gate *lab.Gate
	Sim  *lab.Scripted
	Taps map[string]*lab.Tap

	behind *lab.Postfix
	list   string // of quotas, a file
	policy *policyService
	maps   *strings.Replacer // the names of maps that only the gate reads
}

// quotas is a list of used and allowed octets: $quotas in a configuration. Of nobody@pf.test only the list knows.
const quotas = `good@pf.test 200000000 200000000
other@pf.test 400000000 200000000
postmaster@pf.test 300000000 200000000
nobody@pf.test 300000000 200000000
good@dc.test 1000 200000000
`

// accessMap, relayRecipients and relayDomains are maps that only the gate reads: $access, $relayed and $relaydomains.
var (
	accessMap = map[string]string{
		"to:good@pf.test": "OK", "to:other@pf.test": "ERROR:5.7.1:550 Not this one", "to:other+*@pf.test": "REJECT", "to:dc.test": "ERROR:4.2.1:450 Not now", "to:good@dc.test": "SKIP",
	}
	relayRecipients = map[string]string{"listed@pf.test": "x"}
	relayDomains    = map[string]string{"pf.test": "x"}
)

// StartWorld starts the servers behind and prepares the gate.
func StartWorld(t testing.TB) *World {
	t.Helper()
	lab.Need(t, lab.PostfixKit, lab.DovecotKit)
	postfix := lab.StartPostfix(t, lab.PostfixOptions{
		Name: "behind", Hostname: "mail.behind.test",
		Mailboxes: []string{"good@pf.test", "other@pf.test", "full@pf.test", `"quo ted"@pf.test`, "postmaster@pf.test"},
		Refuse:    map[string]string{"full@pf.test": "452 4.2.2 Mailbox full"},
		Main:      map[string]string{"recipient_delimiter": "+"},
	})
	dovecot := lab.StartDovecot(t, lab.DovecotOptions{Users: []string{"good@dc.test"}, Full: []string{"full@dc.test"}})
	sim := lab.StartScripted(t)
	list, policy := filepath.Join(t.TempDir(), "quotas"), startPolicyService(t)
	return &World{
		Gate: lab.NewGate(t), Sim: sim, behind: postfix, list: list, policy: policy,
		maps: strings.NewReplacer("$access", postfix.TextHash("access", accessMap), "$relayed", postfix.TextHash("relayed", relayRecipients),
			"$relaydomains", postfix.TextHash("relaydomains", relayDomains), "$quotas", list, "$policy", policy.listener.Addr().String()),
		Taps: map[string]*lab.Tap{
			"pf": lab.NewTap(t, "tcp", postfix.Addr()), "dc": lab.NewTap(t, "tcp", dovecot.Addr()), "sim": sim.Tap,
		},
	}
}

// Postfix puts a real Postfix in front of the gate.
func (w *World) Postfix(t testing.TB) Front {
	t.Helper()
	p := lab.StartPostfix(t, lab.PostfixOptions{
		Name: "front-postfix", Milters: []string{"unix:" + w.Gate.Unix},
		Relay: map[string]string{
			"pf.test": "smtp:" + w.Taps["pf"].Hop(), "dc.test": "lmtp:" + w.Taps["dc"].Hop(), "sim.test": "smtp:" + w.Taps["sim"].Hop(),
			"nobody-silent@sim.test": "discard:silently",
		},
		VirtualAliases: virtualUsers,
		Main:           map[string]string{"virtual_alias_domains": "virt.test, catch.test, void.test", "mydestination": "loc.test"},
	})
	return smtpFront{"postfix", p.Addr(), Tables{
		Aliases: p.Table("hash", "aliases"), Virtual: fmt.Sprintf("virtual_alias_maps = [%q]", p.Table("texthash", "virtual")), Rebuild: p.Postalias,
		Routes: fmt.Sprintf("transport_maps = [%q]", p.Table("texthash", "transport")),
	}}
}

// Sendmail puts a real Sendmail in front of the gate.
func (w *World) Sendmail(t testing.TB) Front {
	t.Helper()
	relay := map[string]string{}
	for name, tap := range w.Taps {
		relay[name+".test"] = "esmtp:[" + tap.Host + "]"
	}
	s := lab.StartSendmail(t, lab.SendmailOptions{
		Name: "front-sendmail", Milter: w.Gate.SendmailMilter(), Relay: relay,
		VirtualUsers: virtualUsers, LocalDomains: []string{"loc.test"},
	})
	return smtpFront{"sendmail", s.Addr(), Tables{
		Aliases: s.Table("hash", "aliases"), Virtual: fmt.Sprintf("virtusertable = [%q]", s.Table("hash", "virtusertable")), Rebuild: s.Newaliases,
		Routes: fmt.Sprintf("mailertable = [%q]", s.Table("hash", "mailertable")),
	}}
}

// virtualUsers are what both MTAs in front rewrite.
var virtualUsers = map[string]string{
	"info@virt.test": "good@pf.test", "lost@virt.test": "nobody@pf.test", "@catch.test": "good@pf.test", "@void.test": "nobody@pf.test",
	"nobody-desk@virt.test": "root",
}

// Bare asks the gate without an MTA. Its tables are made by the Postfix behind, which does not use them.
func (w *World) Bare() Front {
	hops, transports := map[string]string{}, map[string]string{}
	for name, tap := range w.Taps {
		hops[name+".test"] = tap.Hop()
		transports[name+".test"] = "smtp:" + tap.Hop()
	}
	return bare(w.Gate, hops).With(Tables{
		Aliases: w.behind.Table("hash", "aliases"),
		Virtual: fmt.Sprintf("virtual_alias_maps = [%q]", w.behind.TextHash("virtual", virtualUsers)),
		Routes:  fmt.Sprintf("transport_maps = [%q]", w.behind.TextHash("fronts", transports)),
		Rebuild: w.behind.Postalias,
	})
}

// runner is one run of a case through a front.
type runner struct {
	t       testing.TB
	w       *World
	front   Front
	session Session
	aliases []string // lines of the alias database
	quotas  string   // the list of quotas
}

// Run runs a case. The gate starts without any memory, every server behind is up and its counts are zero.
func (w *World) Run(t testing.TB, c *Case, front Front) {
	t.Helper()
	w.Sim.Reset()
	for name, tap := range w.Taps {
		tap.Join()
		tap.Forget()
		c.Config = strings.ReplaceAll(c.Config, "$"+name, tap.Hop())
	}
	w.policy.reset()
	r := &runner{t: t, w: w, front: front, aliases: c.Aliases}
	if err := r.list(quotas); err != nil {
		t.Fatal(err)
	}
	tables := front.Tables()
	c.Config = strings.NewReplacer("$aliases", tables.Aliases, "$virtual", tables.Virtual, "$routes", tables.Routes).Replace(w.maps.Replace(c.Config))
	if c.Aliases != nil {
		r.rebuild()
	}
	w.Gate.Fresh(c.Config)
	defer r.hangUp()
	for i := range c.Steps {
		step := &c.Steps[i]
		if !step.runs(front.Name()) {
			continue
		}
		if err := r.do(step); err != nil {
			t.Errorf("%s.case:%d: %s %s: %v", c.Name, step.Line, step.Verb, strings.Join(step.Args, " "), err)
		}
	}
	if t.Failed() {
		lab.ShowLogs(t, "rcptgate", w.Gate.Dir)
	}
}

func (r *runner) hangUp() {
	if r.session != nil {
		r.session.Close()
		r.session = nil
	}
}

// open returns the session in hand, or a new one in a transaction.
func (r *runner) open() Session {
	if r.session == nil {
		r.session = r.front.Open(r.t)
		if reply := r.session.Mail("sender@client.test"); reply.Code != 250 {
			r.t.Errorf("MAIL was answered %q", reply)
		}
	}
	return r.session
}

// do runs one step.
func (r *runner) do(s *Step) error {
	switch s.Verb {
	case "rcpt":
		return s.Want.check(r.open().Rcpt(s.Args[0]))
	case "until":
		return r.until(s)
	case "mail":
		if reply := r.open().Mail(strings.Trim(s.Args[0], "<>")); reply.Code != 250 {
			return fmt.Errorf("answered %q", reply)
		}
	case "alias":
		r.alias(s.Args[0], strings.Join(s.Args[1:], " "))
	case "quota":
		return r.list(r.quotas + strings.Join(s.Args, " ") + "\n") // the last line about an address counts
	case "policy":
		r.w.policy.set(s.Args[0], strings.Join(s.Args[1:], " "))
	case "session":
		r.hangUp()
	case "restart":
		r.hangUp()
		r.w.Gate.Restart()
	case "crash":
		r.hangUp()
		r.w.Gate.Crash()
	case "run":
		return r.run(s)
	case "records":
		return r.w.Gate.Remembers(s.Args[0])
	case "logged":
		if !r.w.Gate.Logged(s.Expr.String()) {
			return fmt.Errorf("no line matches %s", s.Expr)
		}
	case "pause":
		d, err := time.ParseDuration(s.Args[0])
		if err != nil {
			return err
		}
		time.Sleep(d)
	default:
		return r.behind(s)
	}
	return nil
}

// list writes the list of quotas.
func (r *runner) list(text string) error {
	r.quotas = text
	if err := os.WriteFile(r.w.list+".new", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(r.w.list+".new", r.w.list)
}

// alias changes the alias database.
func (r *runner) alias(name, targets string) {
	r.aliases = slices.DeleteFunc(slices.Clone(r.aliases), func(line string) bool { return strings.HasPrefix(line, name+":") })
	if targets != "" {
		r.aliases = append(r.aliases, name+": "+targets)
	}
	r.rebuild()
}

func (r *runner) rebuild() { r.front.Tables().Rebuild(strings.Join(r.aliases, "\n") + "\n") }

// behind runs a step that concerns the servers behind.
func (r *runner) behind(s *Step) error {
	switch s.Verb {
	case "count":
		for _, tap := range r.w.Taps {
			tap.Forget()
		}
		return nil
	case "stage":
		r.w.Sim.Set(s.Args[0], strings.Join(s.Args[1:], " "))
		return nil
	case "usual":
		r.w.Sim.Reset()
		return nil
	}
	tap := r.w.Taps[s.Args[0]]
	if tap == nil {
		return fmt.Errorf("no server is called %q", s.Args[0])
	}
	switch s.Verb {
	case "cut":
		tap.Cut()
	case "join":
		tap.Join()
	case "asked":
		want, err := strconv.Atoi(s.Args[2])
		if err != nil {
			return err
		}
		if got := tap.Asked(s.Args[1]); got != want {
			return fmt.Errorf("asked %d times:%s", got, tap.Transcript())
		}
	case "connections":
		want, err := strconv.Atoi(s.Args[1])
		if err != nil {
			return err
		}
		if got := tap.Connections(); got > want {
			return fmt.Errorf("%d connections", got)
		}
	}
	return nil
}

// until asks in new transactions until the answer is the one wanted.
func (r *runner) until(s *Step) error {
	end := time.Now().Add(s.Until)
	for {
		err := s.Want.check(r.open().Rcpt(s.Args[0]))
		if err == nil || time.Now().After(end) {
			return err
		}
		r.hangUp()
		time.Sleep(200 * time.Millisecond)
	}
}

// run runs a command of the gate.
func (r *runner) run(s *Step) error {
	want, err := strconv.Atoi(s.Args[0])
	if err != nil {
		return err
	}
	out, errs, code := r.w.Gate.Command(s.Args[1:]...)
	if code != want {
		return fmt.Errorf("exit code %d, want %d\n%s%s", code, want, out, errs)
	}
	if s.Expr != nil && !s.Expr.MatchString(out+errs) {
		return fmt.Errorf("no %s in\n%s%s", s.Expr, out, errs)
	}
	return nil
}

// check compares a reply with what it has to be.
func (w Want) check(r lab.Reply) error {
	switch {
	case r.Code != w.Code, w.Enhanced != "" && r.Enhanced != w.Enhanced:
		return fmt.Errorf("answered %q, want %d %s", r, w.Code, w.Enhanced)
	case w.Text != nil && !w.Text.MatchString(r.Text()):
		return fmt.Errorf("answered %q, want text %s", r, w.Text)
	case w.Within > 0 && r.Elapsed > w.Within:
		return fmt.Errorf("answered %q after %v, want it within %v", r, r.Elapsed.Round(time.Millisecond), w.Within)
	}
	return nil
}
