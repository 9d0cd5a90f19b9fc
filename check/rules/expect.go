// SPDX-License-Identifier: BSD-2-Clause

package rules

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/config/setting"
)

// expectation is one line of expect: a question, and what the rules must say.
type expectation struct {
	text    string
	query   rcptgate.Query
	at      time.Time // zero: now
	outcome string    // an action, or "continue"
	code    int       // 0: any
}

// expectForm ends errors about expectations.
const expectForm = `expected "SENDER [CIRCUMSTANCE...] -> RECIPIENT: ACTION [CODE]", as in "x@evil.example client=192.0.2.1 -> all@example.org: reject"`

// parseExpect reads a line of expect.
func parseExpect(text string) (*expectation, error) {
	bad := func(why string) (*expectation, error) {
		return nil, fmt.Errorf("%q: %s; %s", text, why, expectForm)
	}
	left, right, ok := strings.Cut(text, " -> ")
	colon := strings.LastIndex(right, ": ")
	words := strings.Fields(left)
	if !ok || colon < 0 || len(words) == 0 {
		return bad("not an expectation")
	}
	e := &expectation{text: text}
	e.query.Sender = strings.TrimSuffix(strings.TrimPrefix(words[0], "<"), ">")
	recipient := strings.TrimSpace(right[:colon])
	if recipient == "" || strings.ContainsAny(recipient, " \t") && recipient[0] != '"' {
		return bad("no recipient")
	}
	e.query.Recipient = address.Parse(recipient)
	e.query.Target = e.query.Recipient
	for _, w := range words[1:] {
		name, value, _ := strings.Cut(w, "=")
		if err := e.circumstance(name, value); err != nil {
			return bad(err.Error())
		}
	}
	wants := strings.Fields(right[colon+1:])
	if len(wants) == 0 || len(wants) > 2 {
		return bad("no action")
	}
	if e.outcome = wants[0]; e.outcome != "continue" {
		if _, err := ParseAction(e.outcome); err != nil {
			return bad(err.Error() + " or continue")
		}
	}
	if len(wants) == 2 {
		code, err := strconv.Atoi(wants[1])
		if err != nil || code < 400 || code > 599 {
			return bad(fmt.Sprintf("%q is not a reply code", wants[1]))
		}
		e.code = code
	}
	return e, nil
}

// circumstance reads a word such as "client=192.0.2.1".
func (e *expectation) circumstance(name, value string) (err error) {
	q := &e.query
	switch name {
	case "auth":
		if q.AuthUser = value; value == "" {
			q.AuthUser = "somebody"
		}
	case "client":
		if q.Client, err = netip.ParseAddr(value); err != nil {
			err = fmt.Errorf("%q is not an address of a client", value)
		}
	case "name":
		q.ClientName = value
	case "helo":
		q.Helo = value
	case "mailer":
		q.NextHop.Mailer = value
	case "target":
		q.Target = address.Parse(value)
	case "tls":
		q.Session = &rcptgate.Session{TLSVersion: "TLSv1.3"}
	case "size":
		q.Size, err = number(value)
	case "rcpts":
		q.Accepted, err = strconv.Atoi(value)
		q.Accepted--
	case "at":
		e.at, err = parseMoment(value)
	default:
		err = fmt.Errorf("%q is not a circumstance: expected auth, auth=USER, client=IP, name=HOST, helo=NAME, mailer=MAILER, target=ADDRESS, tls, size=OCTETS, rcpts=NUMBER or at=DAY,TIME", name)
	}
	return err
}

// parseMoment reads "2026-11-28T18:30", also with a space or as RFC 3339 has it, "Fri,18:30"
// (some Friday) or "18:30" (some day), in the machine's time zone.
func parseMoment(s string) (time.Time, error) {
	for _, layout := range []string{"2006-01-02T15:04", "2006-01-02 15:04", time.RFC3339} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t.Local(), nil
		}
	}
	name, clock, ok := strings.Cut(strings.Replace(s, " ", ",", 1), ",")
	if !ok {
		name, clock = "mon", s
	}
	at, isTime := minutes(clock)
	d := day(strings.ToLower(name))
	if !isTime || d < 0 {
		return time.Time{}, fmt.Errorf("%q is not a time: expected \"Fri,18:30\" or \"2026-11-28T18:30\"", s)
	}
	return time.Date(2023, 1, 1+d, at/60, at%60, 0, 0, time.Local), nil // the first was a Sunday
}

// errUnreadable says that an expectation could not be checked.
var errUnreadable = errors.New("cannot be checked")

// check asks the rules, as if none were rehearsed.
func (e *expectation) check(ctx context.Context, c *Check) error {
	q := c.take(&e.query)
	defer c.give(q)
	q.now, q.trial = e.at, true
	f, err := c.decide(ctx, q)
	if err != nil {
		return fmt.Errorf("%q %w: %w", e.text, errUnreadable, err)
	}
	said, by := "continue", "no rule matches"
	if f != nil {
		said, by = f.word(), fmt.Sprintf("rule %q", f.name)
	} else {
		f = &found{act: Pass}
	}
	if said != e.outcome && (e.outcome != "continue" || f.act != Pass) {
		return fmt.Errorf("%q does not hold: the rules say %s (%s)", e.text, said, by)
	}
	if e.code != 0 && e.code != f.verdict.Code {
		return fmt.Errorf("%q does not hold: the reply code is %d (%s)", e.text, f.verdict.Code, by)
	}
	return nil
}

// word is the action that was decided on: by a function, where one was called.
func (f *found) word() string {
	if f.act == Call {
		return f.verdict.Action.String()
	}
	return f.act.String()
}

// Verify checks the expectations of all rules. What depends on a table that cannot be read
// is left out unless strict: other places report the table. Errors name the line.
func (c *Check) Verify(ctx context.Context, strict bool) error {
	var errs []error
	for i, r := range c.rules {
		for n, e := range r.expect {
			if err := e.check(ctx, c); err != nil && (strict || !errors.Is(err, errUnreadable)) {
				errs = append(errs, &setting.KeyError{Key: fmt.Sprintf("rule[%d].expect[%d]", i+1, n+1), Err: err})
			}
		}
	}
	return errors.Join(errs...)
}

// expectations is how many there are.
func (c *Check) expectations() (n int) {
	for _, r := range c.rules {
		n += len(r.expect)
	}
	return n
}

// considered is what became of one table or rule when a question was put.
type considered struct {
	name, act, result string
}

// explain asks one table and one rule after the other, without the index, until one decides,
// and says of each what became of it. Nothing is counted.
func (c *Check) explain(ctx context.Context, query *rcptgate.Query, at time.Time) (list []considered, f found, err error) {
	q := c.take(query)
	defer c.give(q)
	q.now, q.report = at, &list
	said, err := c.decideTables(ctx, q)
	for i := 0; said == nil && err == nil && i < len(c.rules); i++ {
		said, err = c.rules[i].explain(ctx, q)
	}
	if said != nil {
		f = *said
	}
	return list, f, err
}

// explain reports what becomes of one rule. Nil means that the rules after it are asked.
func (r *rule) explain(ctx context.Context, q *question) (*found, error) {
	ok, failed, err := r.matches(ctx, q)
	f, result := &r.says, "matches"
	if ok && r.act == Call {
		if f, err = r.askFunction(ctx, q, false); err == nil {
			result = fmt.Sprintf("matches: %s() says %s", r.cfg.Call, f.verdict.Action)
		}
	}
	switch {
	case err != nil:
		f, result = nil, "cannot be asked: "+err.Error()
	case !ok:
		f, result = nil, fmt.Sprintf("%s does not match: %s", failed, q.value(failed))
	case r.rehearsed():
		result = "matches; rehearsed, so the next rules are asked"
	case r.act == Call && f.verdict.Action == rcptgate.Continue:
		f = nil
	}
	q.consider(r.name, r.act.String(), result)
	if r.rehearsed() {
		return nil, nil
	}
	return f, err
}

// consider adds to the report, where there is one.
func (q *question) consider(name, act, result string) {
	if q.report != nil {
		*q.report = append(*q.report, considered{name, act, result})
	}
}

// value is what a condition looked at.
func (q *question) value(c condition) string {
	switch c {
	case condAuth, condAuthUser:
		return orNone(q.AuthUser)
	case condTLS:
		return strconv.FormatBool(usesTLS(q.Query))
	case condSize:
		return strconv.FormatInt(q.Size, 10)
	case condRcpts:
		return strconv.FormatInt(recipients(q.Query), 10)
	case condAt:
		return q.now.Format("Mon 15:04")
	case condMailer:
		return orNone(q.NextHop.Mailer)
	case condClient:
		if client := q.message.client; client.IsValid() {
			return client.String()
		}
		return orNone("")
	case condHelo:
		return orNone(q.Helo)
	case condClientName:
		return orNone(q.ClientName)
	case condSender:
		return q.message.senderAddr.String()
	case condTarget:
		if q.rewritten {
			return q.targetAddr.String()
		}
		return q.recipientAddr.String()
	case condRecipient:
		return q.recipientAddr.String()
	case condNone:
	}
	return ""
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
