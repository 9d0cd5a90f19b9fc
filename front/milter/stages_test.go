// SPDX-License-Identifier: BSD-2-Clause

package milter_test

import (
	"context"
	"slices"
	"strconv"
	"testing"

	"rcptgate"
	"rcptgate/front/milter"
	"rcptgate/front/milter/mta"
	"rcptgate/front/milter/wire"
)

// stagesGate answers by stage, and notes what it was asked.
type stagesGate struct {
	asker
	wants rcptgate.Wants
	says  [rcptgate.StageCount]rcptgate.Verdict
}

func (g *stagesGate) Wants() rcptgate.Wants { return g.wants }

func (g *stagesGate) Ask(ctx context.Context, q *rcptgate.Query) rcptgate.Verdict {
	g.asker.Ask(ctx, q)
	return g.says[q.Stage]
}

func (g *stagesGate) stages() (list []rcptgate.Stage) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.queries {
		list = append(list, g.queries[i].Stage)
	}
	return list
}

const everyStage = rcptgate.WantConnect | rcptgate.WantMail | rcptgate.WantMessage

var (
	refusal  = rcptgate.Verdict{Action: rcptgate.Reject, Code: 554, Enhanced: "5.7.1", Text: "Go away"}
	laterOn  = rcptgate.Verdict{Action: rcptgate.Tempfail, Code: 451, Enhanced: "4.7.1", Text: "Later"}
	discards = rcptgate.Verdict{Action: rcptgate.Discard}
)

// TestStages plays one session for gates that want to be asked at several stages, and
// holds what is answered to MAIL, RCPT and the end of the message.
func TestStages(t *testing.T) {
	const goOn, no, later, discard = "continue", "554", "451", "discard_message"
	connect, helo, mail, rcpt, message := rcptgate.StageConnect, rcptgate.StageHelo, rcptgate.StageMail, rcptgate.StageRcpt, rcptgate.StageMessage
	for _, tc := range []struct {
		name    string
		wants   rcptgate.Wants
		says    map[rcptgate.Stage]rcptgate.Verdict
		answers []string // to MAIL, RCPT, end of message; up to the first that is not "continue"
		asked   []rcptgate.Stage
	}{
		{"recipients alone", 0, map[rcptgate.Stage]rcptgate.Verdict{connect: refusal, mail: refusal, message: refusal}, []string{"", goOn, goOn}, []rcptgate.Stage{rcpt}},
		{"all pass", everyStage, nil, []string{goOn, goOn, goOn}, []rcptgate.Stage{connect, mail, rcpt, message}},
		{"the client is refused, and hears it at MAIL", everyStage, map[rcptgate.Stage]rcptgate.Verdict{connect: refusal}, []string{no}, []rcptgate.Stage{connect}},
		{"put off at connect, MAIL is not asked about", rcptgate.WantConnect, map[rcptgate.Stage]rcptgate.Verdict{connect: laterOn}, []string{later}, []rcptgate.Stage{connect}},
		{"the HELO name is refused, and the client hears it at MAIL", everyStage | rcptgate.WantHelo, map[rcptgate.Stage]rcptgate.Verdict{helo: refusal}, []string{no}, []rcptgate.Stage{connect, helo}},
		{"a client that is refused is not asked about its name", everyStage | rcptgate.WantHelo, map[rcptgate.Stage]rcptgate.Verdict{connect: laterOn, helo: refusal}, []string{later}, []rcptgate.Stage{connect}},
		{"HELO passes", rcptgate.WantHelo, nil, []string{goOn, goOn, goOn}, []rcptgate.Stage{helo, rcpt}},
		{"mail is thrown away for its HELO", rcptgate.WantHelo, map[rcptgate.Stage]rcptgate.Verdict{helo: discards}, []string{discard}, []rcptgate.Stage{helo}},
		{"the sender is refused", rcptgate.WantMail, map[rcptgate.Stage]rcptgate.Verdict{mail: refusal}, []string{no}, []rcptgate.Stage{mail}},
		{"the sender's mail is thrown away", rcptgate.WantMail, map[rcptgate.Stage]rcptgate.Verdict{mail: discards}, []string{discard}, []rcptgate.Stage{mail}},
		{"the message is refused", rcptgate.WantMessage, map[rcptgate.Stage]rcptgate.Verdict{message: refusal}, []string{"", goOn, no}, []rcptgate.Stage{rcpt, message}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			gate := &stagesGate{wants: tc.wants}
			for stage, v := range tc.says {
				gate.says[stage] = v
			}
			c := start(t, gate, milter.Config{}, "unix").dial(t, mta.Options{})
			got := session(t, c, len(tc.answers))
			if !slices.Equal(got, tc.answers) {
				t.Errorf("answered %q, want %q", got, tc.answers)
			}
			if asked := gate.stages(); !slices.Equal(asked, tc.asked) {
				t.Errorf("asked at %v, want %v", asked, tc.asked)
			}
		})
	}
}

// session says MAIL, RCPT and the end of a message, as far as told.
func session(t *testing.T, c *mta.Client, steps int) (answers []string) {
	t.Helper()
	say := say(t)
	if r := say(c.Connect("client.example", client)); word(r) != "continue" {
		t.Errorf("connect: %+v", r)
	}
	say(c.Helo("client.example"))
	for i, step := range []func() mta.Response{
		func() mta.Response { return say(c.Mail("s@example.org", nil, macros("i", "Q1")...)) },
		func() mta.Response { return say(c.Rcpt("good@example.com")) },
		func() mta.Response { return say(c.EndOfMessage()) },
	} {
		if i < steps {
			answers = append(answers, word(step()))
		}
	}
	return answers
}

// word is the code of a refusal, else the action; "" for an event that goes without an answer.
func word(r mta.Response) string {
	switch {
	case r.Code > 0:
		return strconv.Itoa(r.Code)
	case r.Skipped:
		return ""
	}
	return r.Action.String()
}

// TestStagesSeeTheSession holds what a question holds at each stage.
func TestStagesSeeTheSession(t *testing.T) {
	gate := &stagesGate{wants: everyStage}
	session(t, start(t, gate, milter.Config{}, "unix").dial(t, mta.Options{}), 3)
	for i, q := range gate.queries {
		if q.ClientName != "client.example" || !q.Client.IsValid() {
			t.Errorf("stage %v does not know the client: %s", q.Stage, describe(q))
		}
		if i > 0 && (q.Sender != "s@example.org" || q.Helo != "client.example" || q.QueueID != "Q1") {
			t.Errorf("stage %v does not know the transaction: %s", q.Stage, describe(q))
		}
		if (q.Recipient.Path != "") != (q.Stage == rcptgate.StageRcpt) {
			t.Errorf("stage %v has recipient %q", q.Stage, q.Recipient.Path)
		}
	}
}

// A refused MAIL begins no transaction: the next one is asked about anew, with nothing of
// the first.
func TestARefusedMailBeginsNothing(t *testing.T) {
	gate := &stagesGate{wants: rcptgate.WantMail}
	gate.says[rcptgate.StageMail] = refusal
	c := start(t, gate, milter.Config{}, "unix").dial(t, mta.Options{})
	say := say(t)
	say(c.Connect("client.example", client))
	say(c.Mail("first@example.org", []string{"SIZE=5"}, macros("i", "Q1", "{auth_authen}", "bob")...))
	gate.says[rcptgate.StageMail] = rcptgate.Verdict{}
	say(c.Mail("second@example.org", nil))
	if q := gate.last(t); q.Sender != "second@example.org" || q.Size != 0 || q.AuthUser != "" || q.QueueID != "" {
		t.Errorf("asked with %s", describe(q))
	}
}

// What an MTA is asked to send follows from what the gate wants.
func TestNegotiationFollowsWants(t *testing.T) {
	for _, tc := range []struct {
		wants    rcptgate.Wants
		protocol uint32
		macros   int
	}{
		{0, wire.NoReplyMail, 3},
		{rcptgate.WantConnect, 0, 3},
		{rcptgate.WantHelo, 0, 3},
		{rcptgate.WantMail, 0, 3},
		{rcptgate.WantMessage, wire.NoReplyMail, 4},
	} {
		c := start(t, &stagesGate{wants: tc.wants}, milter.Config{}, "unix").dial(t, mta.Options{})
		agreed := c.Agreed()
		if agreed.Protocol&wire.NoReplyMail != tc.protocol || len(agreed.Macros) != tc.macros {
			t.Errorf("wants %b: agreed on %+v", tc.wants, agreed)
		}
		if agreed.Protocol&(wire.NoBody|wire.NoHeaders) != wire.NoBody|wire.NoHeaders {
			t.Errorf("wants %b: header and body are sent, and nobody reads them", tc.wants)
		}
	}
}

// A refusal of the HELO name holds for each MAIL until the client says another name.
func TestHeloIsAskedAboutAnew(t *testing.T) {
	gate := &stagesGate{wants: rcptgate.WantHelo}
	gate.says[rcptgate.StageHelo] = refusal
	c := start(t, gate, milter.Config{}, "unix").dial(t, mta.Options{})
	say := say(t)
	say(c.Connect("client.example", client))
	say(c.Helo("localhost"))
	for range 2 {
		if got := word(say(c.Mail("s@example.org", nil))); got != "554" {
			t.Errorf("after a refused HELO, MAIL is answered %s", got)
		}
	}
	gate.says[rcptgate.StageHelo] = rcptgate.Verdict{}
	say(c.Helo("client.example"))
	if got := word(say(c.Mail("s@example.org", nil))); got != "continue" {
		t.Errorf("after another HELO, MAIL is answered %s", got)
	}
	if q := gate.queries[0]; q.Helo != "localhost" || q.Sender != "" {
		t.Errorf("asked with %s", describe(q))
	}
}
