// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"rcptgate"
	"rcptgate/check/alias"
	"rcptgate/front/milter"
	"rcptgate/test/lab"
	"rcptgate/unit"
)

// stages is a gate in this process whose steps are the test's own: one a stage, nil for none.
type stages struct {
	wants rcptgate.Wants
	steps [rcptgate.StageCount]rcptgate.CheckFunc
	more  []unit.Unit // that come after them

	mu   sync.Mutex
	seen []string // notes that the steps take
}

func (s *stages) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, fmt.Sprintf(format, args...))
}

func (s *stages) notes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

func (s *stages) unit() unit.Unit {
	return unit.Unit{Name: "teststeps", Open: unit.Steps(func(setup *unit.Setup) error {
		setup.Want(s.wants)
		for stage, step := range s.steps {
			if step != nil {
				setup.Step(rcptgate.Stage(stage), rcptgate.Step{Name: "test", Check: step})
			}
		}
		return nil
	})}
}

// start runs the gate with further lines of configuration and gives the port of its milter.
func (s *stages) start(t *testing.T, extra string) (port int) {
	t.Helper()
	port = lab.FreePort(t)
	units := append(append([]unit.Unit{s.unit()}, s.more...), alias.Unit(), milter.Unit())
	schema, err := unit.Compose(units)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("enforce = true\nstate = %q\n[listen]\nmilter = [\"inet:%d@127.0.0.1\"]\n%s", t.TempDir(), port, extra)
	c, err := unit.Parse(schema, "test.toml", text)
	if err != nil {
		t.Fatal(err)
	}
	h, err := unit.Open(t.Context(), units, c, unit.Options{Stderr: io.Discard, Disk: openDisk})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Stop)
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return port
}

// stagesMTA is an MTA before such a gate, with domain in.test relayed to the sink, and domain loc.test local.
type stagesMTA struct {
	name  string
	start func(t *testing.T, port int, sink *lab.Sink) (addr string, log func() string)
}

// labAliases are the local names, and discarded ones among them.
var labAliases = map[string]string{
	"team": "one@in.test, two@in.test", "other": "two@in.test, three@in.test", "nested": "team, four@in.test", "prog": `"|/bin/cat"`,
	"escaped": `\\root`, "self": "self, five@in.test", "root": "root, six@in.test", "list": ":include:/dev/null, seven@in.test",
}

var stagesMTAs = []stagesMTA{
	{"postfix", func(t *testing.T, port int, sink *lab.Sink) (string, func() string) {
		p := lab.StartPostfix(t, lab.PostfixOptions{
			Milters: []string{fmt.Sprintf("inet:127.0.0.1:%d", port)}, Relay: map[string]string{"in.test": "smtp:" + sink.Hop()}, Aliases: labAliases,
			Main: map[string]string{"mydestination": "loc.test", "local_recipient_maps": "$alias_maps"},
		})
		return p.Addr(), p.Log
	}},
	{"sendmail", func(t *testing.T, port int, sink *lab.Sink) (string, func() string) {
		s := lab.StartSendmail(t, lab.SendmailOptions{
			Milter: fmt.Sprintf("inet:%d@127.0.0.1", port), Relay: map[string]string{"in.test": "esmtp:[" + sink.Host + "]"}, Aliases: labAliases, LocalDomains: []string{"loc.test"},
		})
		return s.Addr(), s.Log
	}},
}

// TestDiscardOneRecipient sends messages of which some recipients are discarded through both MTAs, and looks at what a
// real server behind gets.
func TestDiscardOneRecipient(t *testing.T) {
	lab.Need(t, lab.PostfixKit, lab.SendmailKit)
	for _, m := range stagesMTAs {
		t.Run(m.name, func(t *testing.T) {
			var drop sync.Map
			s := &stages{wants: rcptgate.EditRecipients}
			s.steps[rcptgate.StageRcpt] = func(_ context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
				if _, found := drop.Load(q.Recipient.Path); found {
					return rcptgate.Verdict{Action: rcptgate.DiscardRecipient, Reason: "test"}, nil
				}
				return rcptgate.Verdict{}, nil
			}
			sink := lab.StartSink(t)
			addr, log := m.start(t, s.start(t, ""), sink)
			for i, tc := range []struct{ name, rcpt, drop, delivered string }{
				{"one of three", "a@in.test b@in.test c@in.test", "b@in.test", "a@in.test c@in.test"},
				{"another spelling", `a@in.test "b b"@in.test B.C@IN.test`, `"b b"@in.test B.C@IN.test`, "a@in.test"},
				{"all", "a@in.test b@in.test", "a@in.test b@in.test", ""},
				{"an alias", "a@in.test team@loc.test c@in.test", "team@loc.test", "a@in.test c@in.test"},
				{"an alias in two cases, the second discarded", "team@loc.test TEAM@loc.test", "TEAM@loc.test", "one@in.test two@in.test"},
				{"an alias of an alias", "nested@loc.test a@in.test", "nested@loc.test", "a@in.test"},
				{"a target is a recipient too", "one@in.test team@loc.test", "team@loc.test", "one@in.test"},
				{"a target is another's too", "other@loc.test team@loc.test", "team@loc.test", "three@in.test two@in.test"},
				{"the recipient is another's target", "two@in.test team@loc.test", "two@in.test", "one@in.test two@in.test"},
				{"an alias of itself", "self@loc.test a@in.test", "self@loc.test", "a@in.test"},
				{"past the aliases", "escaped@loc.test a@in.test", "escaped@loc.test", "a@in.test"},
				{"all the MTA takes", "a@in.test nobodyhere@loc.test", "a@in.test", ""},
				{"a program", "prog@loc.test", "prog@loc.test", ""},
				{"a list in a file", "a@in.test list@loc.test", "list@loc.test", "a@in.test"},
				{"a program among others", "a@in.test prog@loc.test", "prog@loc.test", "a@in.test"},
			} {
				drop.Clear()
				for _, rcpt := range split(tc.drop) {
					drop.Store(rcpt, true)
				}
				d := lab.MustDial(t, addr)
				d.Must(t, 250, d.Mail(t, "x@client.test"))
				for _, rcpt := range split(tc.rcpt) {
					r := d.Rcpt(t, rcpt)
					if want := 250 + 300*strings.Count(rcpt, "nobody"); r.Code != want {
						t.Errorf("%s: %s: %s", tc.name, rcpt, r)
					}
				}
				mark := fmt.Sprintf("discard-%s-%d", m.name, i)
				d.Must(t, 250, d.Data(t, "Subject: "+mark+"\r\n\r\nx\r\n"))
				d.Close()
				sendMarker(t, addr, mark)
				want := split(tc.delivered)
				sink.Find(t, mark+"-after", 1)
				got, _ := sink.Find(t, "Subject: "+mark+"\r\n", len(want))
				if !slices.Equal(got, want) {
					t.Errorf("%s: delivered to %q, want %q\n%s", tc.name, got, want, tail(log()))
				}
			}
			if local := regexp.MustCompile(`(?m)^.*(mailer=local|mailer=prog|relay=local.*status=sent \([^f]).*$`).FindAllString(log(), -1); local != nil {
				t.Errorf("delivered here: %q", local)
			}
		})
	}
}

func split(s string) (list []string) {
	for _, f := range strings.Fields(strings.ReplaceAll(s, `"b b"`, `"b_b"`)) {
		list = append(list, strings.ReplaceAll(f, "b_b", "b b"))
	}
	return list
}

// sendMarker sends one more message: what was before it has been delivered once it is there, or a moment later.
func sendMarker(t *testing.T, addr, mark string) {
	t.Helper()
	d := lab.MustDial(t, addr)
	defer d.Close()
	d.Must(t, 250, d.Mail(t, "x@client.test"))
	d.Must(t, 250, d.Rcpt(t, "marker@in.test"))
	d.Must(t, 250, d.Data(t, "Subject: "+mark+"-after\r\n\r\nx\r\n"))
}

func tail(log string) string {
	lines := strings.Split(log, "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}

// TestStages puts sessions through both MTAs to a gate that is asked at every stage: what the client hears, what state lives
// from one stage to the next, and what is done to the envelope.
func TestStages(t *testing.T) {
	lab.Need(t, lab.PostfixKit, lab.SendmailKit)
	for _, m := range stagesMTAs {
		t.Run(m.name, func(t *testing.T) {
			s := &stages{wants: rcptgate.WantSession | rcptgate.EditRecipients | rcptgate.EditSender | rcptgate.Quarantine}
			s.everyStage()
			sink := lab.StartSink(t)
			addr, log := m.start(t, s.start(t, ""), sink)
			d := lab.MustDial(t, addr)
			defer d.Close()
			for sender, want := range map[string]string{"no@client.test": "554 5.7.1 no mail from you", "later@client.test": "450 4.7.1 later"} {
				if r := d.Mail(t, sender); !strings.HasPrefix(r.String(), want[:9]) || !strings.HasSuffix(r.String(), want[9:]) { // Sendmail names the sender in between
					t.Errorf("MAIL FROM %s: %q, want %q", sender, r, want)
				}
			}
			for i, message := range []struct{ sender, rcpt, delivered, from string }{
				{"x@client.test", "a@in.test b@in.test", "a@in.test b@in.test", "x@client.test"},
				{"edit@client.test", "a@in.test b@in.test", "added@in.test b@in.test", "changed@client.test"},
				{"gone@client.test", "a@in.test", "", ""},
				{"hold@client.test", "a@in.test", "", ""},
				{"x@client.test", "hold@in.test", "", ""},
				{"refused@client.test", "a@in.test", "", ""},
				{"x@client.test", "a@in.test", "a@in.test", "x@client.test"},
			} {
				mark := fmt.Sprintf("stages-%s-%d", m.name, i)
				d.Must(t, 250, d.Mail(t, message.sender))
				for _, rcpt := range split(message.rcpt) {
					d.Must(t, 250, d.Rcpt(t, rcpt))
				}
				code := 250
				if strings.HasPrefix(message.sender, "refused") {
					code = 550
				}
				r := d.Data(t, mark+"\r\n")
				if d.Must(t, code, r); code == 550 && r.String() != "550 5.6.0 not this message" {
					t.Errorf("refused with %q", r)
				}
				sendMarker(t, addr, mark)
				sink.Find(t, mark+"-after", 1)
				got, found := sink.Find(t, "\n"+mark+"\r\n", len(split(message.delivered)))
				if !slices.Equal(got, split(message.delivered)) || len(found) > 0 && found[0].Sender != message.from {
					t.Errorf("%s to %s: delivered to %q: %+v", message.sender, message.rcpt, got, found)
				}
			}
			if n := strings.Count(log(), "quarantine") + strings.Count(log(), "milter-hold"); n < 2 {
				t.Errorf("%d messages were held\n%s", n, tail(log()))
			}
			mta := map[string]string{"postfix": "postfix", "sendmail": "sendmail"}[m.name]
			for _, want := range []string{
				"connect  " + mta, "mail x@client.test connect at " + mta, "rcpt a@in.test 0 connect at mail", "rcpt b@in.test 1 connect at mail", "message [a@in.test b@in.test] connect at mail",
			} {
				if !slices.Contains(s.notes(), want) {
					t.Errorf("no stage saw %q: %q", want, s.notes())
				}
			}
		})
	}
}

// everyStage notes what each stage sees.
func (s *stages) everyStage() {
	reject := func(code int, enhanced, text string) (rcptgate.Verdict, error) {
		return rcptgate.Verdict{Action: map[bool]rcptgate.Action{true: rcptgate.Reject, false: rcptgate.Tempfail}[code >= 500], Code: code, Enhanced: enhanced, Text: text}, nil
	}
	s.steps[rcptgate.StageConnect] = func(_ context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
		s.note("connect %v %v", q.Sender, q.Session.MTA)
		q.Session.Notes = map[string]any{"at": "connect"}
		return rcptgate.Verdict{}, nil
	}
	s.steps[rcptgate.StageMail] = func(_ context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
		s.note("mail %s %v at %v", q.Sender, q.Session.Notes["at"], q.Session.MTA)
		if q.Session.Mail.Notes != nil || len(q.Session.Mail.Recipients) > 0 || q.Session.Mail.Hold != "" {
			s.note("left over: %+v", q.Session.Mail)
		}
		q.Session.Mail.Notes = map[string]any{"at": "mail"}
		switch q.Sender {
		case "no@client.test":
			return reject(554, "5.7.1", "no mail from you")
		case "later@client.test":
			return reject(450, "4.7.1", "later")
		case "hold@client.test":
			return rcptgate.Verdict{Action: rcptgate.Hold, Text: "look"}, nil
		}
		return rcptgate.Verdict{}, nil
	}
	s.steps[rcptgate.StageRcpt] = func(_ context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
		s.note("rcpt %s %d %v at %v", q.Recipient.Path, q.Accepted, q.Session.Notes["at"], q.Session.Mail.Notes["at"])
		if q.Recipient.Local == "hold" {
			return rcptgate.Verdict{Action: rcptgate.Hold, Text: "look"}, nil
		}
		return rcptgate.Verdict{}, nil
	}
	s.steps[rcptgate.StageMessage] = func(_ context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
		var list []string
		for _, m := range q.Message.Recipients {
			list = append(list, m.Path)
		}
		s.note("message %v %v at %v", list, q.Session.Notes["at"], q.Session.Mail.Notes["at"])
		switch q.Sender {
		case "edit@client.test":
			return rcptgate.Verdict{}, errors.Join(q.Message.DeleteRecipient(0), q.Message.AddRecipient("added@in.test"), q.Message.ChangeSender("changed@client.test"))
		case "gone@client.test":
			return rcptgate.Verdict{Action: rcptgate.Discard}, nil
		case "refused@client.test":
			_ = q.Message.AddRecipient("added@in.test")
			return reject(550, "5.6.0", "not this message")
		}
		return rcptgate.Verdict{}, nil
	}
}

// TestRefusedClient has the gate refuse a client at connect: through both MTAs it hears why, at MAIL.
func TestRefusedClient(t *testing.T) {
	lab.Need(t, lab.PostfixKit, lab.SendmailKit)
	for _, m := range stagesMTAs {
		t.Run(m.name, func(t *testing.T) {
			s := &stages{}
			s.steps[rcptgate.StageConnect] = func(_ context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
				return rcptgate.Verdict{Action: rcptgate.Reject, Code: 554, Enhanced: "5.7.1", Text: "You have sent a virus"}, nil
			}
			addr, _ := m.start(t, s.start(t, ""), lab.StartSink(t))
			d := lab.MustDial(t, addr)
			defer d.Close()
			for range 2 {
				if r := d.Mail(t, "x@client.test"); r.String() != "554 5.7.1 You have sent a virus" {
					t.Errorf("heard %q", r)
				}
			}
		})
	}
}
