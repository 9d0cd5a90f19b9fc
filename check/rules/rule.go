// SPDX-License-Identifier: BSD-2-Clause

package rules

import (
	"context"
	"math/bits"
	"net/netip"
	"time"

	"rcptgate"
	"rcptgate/kit/smtpcode"
	"rcptgate/pattern"
)

// Names of what stands in tables, as rules have names.
const (
	nameAccess = "access"
	namePairs  = "pairs"
)

// rule is one [[rule]], ready to be asked.
type rule struct {
	cfg  *RuleConfig
	name string

	sender, recipient, target, client, clientName, helo, authUser, mailer *pattern.Set // nil: no condition

	conds   uint16 // those that are set, a bit each
	act     Action
	says    found
	would   found // when it is rehearsed
	enforce *bool
	call    rcptgate.Check // of action "call": what decides
	hits    *hits
	expect  []*expectation
	filed   string // where the index has it
}

// rehearsed reports whether the rule is only logged.
func (r *rule) rehearsed() bool { return r.enforce != nil && !*r.enforce }

// question is a query as the rules see it. It is used again.
type question struct {
	*rcptgate.Query
	message                   message
	recipientAddr, targetAddr pattern.Address
	rewritten                 bool // the target is not the recipient
	now                       time.Time
	trial                     bool          // rehearsed rules act like the others, and nothing is counted
	report                    *[]considered // of explain; nil: nobody reads it
	key                       []byte        // of pairs
	lists                     [][]int32     // candidates, see index
}

// message is what all recipients of a message have in common. It stays in a question that is
// used again.
type message struct {
	sender, authUser string
	client           netip.Addr
	senderAddr       pattern.Address
	lists            [][]int32     // candidates, see index
	filed            bool          // lists is what the index has
	pairs            []senderPairs // of each table
}

func (q *question) set(query *rcptgate.Query, delimiters string) {
	q.Query, q.now = query, time.Time{}
	if m, client := &q.message, query.ClientAddr(); query.Sender != m.sender || client != m.client || query.AuthUser != m.authUser {
		m.sender, m.client, m.authUser, m.filed = query.Sender, client, query.AuthUser, false
		m.senderAddr.SetPath(query.Sender, delimiters)
		clear(m.pairs)
	}
	q.recipientAddr.Set(&query.Recipient, delimiters)
	if q.rewritten = query.Target.Path != query.Recipient.Path; q.rewritten {
		q.targetAddr.Set(&query.Target, delimiters)
	}
}

// count counts a hit, unless somebody only tries the rules.
func (q *question) count(h *hits) {
	if !q.trial && q.report == nil {
		h.add(q.Query)
	}
}

// condition is a condition's place: the order in which they are asked, cheap ones first.
type condition uint8

const (
	condAuth condition = iota
	condTLS
	condSize
	condRcpts
	condAt
	condMailer
	condAuthUser
	condClient
	condHelo
	condClientName
	condSender
	condRecipient
	condTarget
	condNone
)

var conditionWords = [...]string{"auth", "tls", "size", "rcpts", "at", "mailer", "auth_user", "client", "helo", "client_name", "sender", "recipient", "target", ""}

func (c condition) String() string { return conditionWords[c] }

// matches reports whether all conditions hold, and if not, which is the first that does not.
// An error means that what could be found out does not decide it.
func (r *rule) matches(ctx context.Context, q *question) (ok bool, failed condition, err error) {
	for rest := r.conds; rest != 0; rest &= rest - 1 {
		c := condition(bits.TrailingZeros16(rest)) // #nosec G115 -- few
		holds, errOne := r.holds(ctx, c, q)
		if errOne != nil {
			err = errOne
			continue
		}
		if !holds {
			return false, c, nil
		}
	}
	return err == nil, condNone, err
}

// holds asks one condition that is set.
func (r *rule) holds(ctx context.Context, c condition, q *question) (bool, error) {
	cfg := r.cfg
	switch c {
	case condAuth:
		return *cfg.Auth == (q.AuthUser != ""), nil
	case condTLS:
		return *cfg.TLS == usesTLS(q.Query), nil
	case condSize:
		return q.Size > 0 && cfg.Size.Has(q.Size), nil
	case condRcpts:
		return cfg.Rcpts.Has(recipients(q.Query)), nil
	case condAt:
		return r.isTime(q), nil
	case condMailer:
		return r.mailer.Name(ctx, q.NextHop.Mailer)
	case condAuthUser:
		return r.authUser.Name(ctx, q.AuthUser)
	case condClient:
		return r.client.Client(ctx, q.message.client)
	case condHelo:
		return r.helo.Host(ctx, q.Helo)
	case condClientName:
		return r.clientName.Host(ctx, q.ClientName)
	case condSender:
		return r.sender.Address(ctx, &q.message.senderAddr)
	case condRecipient:
		return r.recipient.Address(ctx, &q.recipientAddr)
	case condTarget:
		if !q.rewritten {
			return r.target.Address(ctx, &q.recipientAddr)
		}
		return r.target.Address(ctx, &q.targetAddr)
	case condNone:
	}
	return true, nil
}

func (r *rule) isTime(q *question) bool {
	if q.now.IsZero() {
		q.now = q.Now()
	}
	for i := range r.cfg.At {
		if r.cfg.At[i].Has(q.now) {
			return true
		}
	}
	return false
}

// Texts for the sender where a rule has none.
const (
	textReject   = "Not permitted by local policy"
	textTempfail = "Not accepted at the moment, try again later"
	textHold     = "held by rule "
)

// verdictOf is what a rule says, under its name.
func verdictOf(name string, act Action, code int, enhanced, text string) rcptgate.Verdict {
	v := rcptgate.Verdict{Code: code, Enhanced: enhanced, Text: text, Reason: rcptgate.Reason("rule:" + name), Source: source}
	switch act {
	case Reject:
		v.Action = rcptgate.Reject
		v.Fit(550, "5.7.1", textReject)
	case Tempfail:
		v.Action = rcptgate.Tempfail
		v.Fit(451, "4.7.1", textTempfail)
	case Discard:
		v.Action = rcptgate.DiscardRecipient
	case DiscardMessage:
		v.Action = rcptgate.Discard
	case Accept:
		v.Action = rcptgate.Accept
	case Hold:
		v.Action = rcptgate.Hold
		if text == "" {
			v.Text = textHold + name
		}
	case Pass, Call:
	}
	if v.Text = rcptgate.CleanText(v.Text); v.Enhanced != "" && !smtpcode.Is(v.Enhanced) {
		v.Enhanced = ""
	}
	return v
}
