// SPDX-License-Identifier: BSD-2-Clause

package star

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"go.starlark.net/starlark"

	"rcptgate"
	"rcptgate/check/script/keep"
	"rcptgate/pattern"
	"rcptgate/table"
)

// Env is what the words of a script work with. What is nil does not exist here.
type Env struct {
	Language *pattern.Language
	// Table opens a map file: "hash:/etc/mail/access".
	Table func(spec table.Spec) (table.Table, error)
	// Blocklist finds a list; Lists are the names there are, for the error.
	Blocklist func(name string) rcptgate.Blocklist
	// Keep has counters and memories.
	Keep *keep.Keep
	// Trusted reports whether a client is in a trusted network.
	Trusted func(client netip.Addr) bool
	// Exists asks whether the recipient of a question exists.
	Exists func(ctx context.Context, q *rcptgate.Query) rcptgate.Verdict
	// Scan looks for viruses in a message.
	Scan func(ctx context.Context, q *rcptgate.Query)
	DNS  Resolver
	Now  func() time.Time
	Log  *Log
}

// Call is one function of the script that is running, or its loading. It is used again for
// the next one, by one goroutine at a time.
type Call struct {
	Env     *Env
	Ctx     context.Context //nolint:containedctx // of the question
	Query   *rcptgate.Query // nil while nothing is asked
	Loading bool
	// Waits is called before the call waits for something; nil: it need not be known.
	Waits func()
	// Works is called while a word works, with the steps that it counts as. Its error ends the
	// word. Nil: it need not be known.
	Works func(steps int) error

	thread          *starlark.Thread
	client          Client
	mail            Mail
	rcpt            Rcpt
	msg             Msg
	asked           int    // of DNS
	noted           bool   // that nothing is kept: a person asks
	path, canonical string // the last sender
}

// callKey is the thread's local that has the Call.
const callKey = "rcptgate.call"

// NewThread makes a thread whose calls are c.
func (c *Call) NewThread(name string) *starlark.Thread {
	t := &starlark.Thread{Name: name, Print: func(t *starlark.Thread, msg string) { callOf(t).log(t, msg) }}
	t.SetLocal(callKey, c)
	c.thread = t
	c.setNow(t)
	return t
}

// Work that is counted as steps: octets that one of them makes, and values; octets of a message
// that are read or unpacked.
const (
	octetsAStep = 128
	valuesAStep = 8
	readAStep   = 1024
)

// works counts steps of a word that takes long, and lets others go first.
func (c *Call) works(steps int) error {
	if c == nil || c.Works == nil {
		return nil
	}
	return c.Works(steps)
}

// charge counts the work in making or looking at a value, if it is much.
func (c *Call) charge(v starlark.Value) {
	if c == nil || c.thread == nil {
		return
	}
	n, isText, _ := sized(v)
	if isText {
		c.thread.Steps += uint64(n / octetsAStep) // #nosec G115 -- a length
	} else {
		c.thread.Steps += uint64(n / valuesAStep) // #nosec G115 -- a length
	}
}

func callOf(t *starlark.Thread) *Call {
	c, _ := t.Local(callKey).(*Call)
	return c
}

// Begin makes c ready for a question, and gives what its function is called with.
func (c *Call) Begin(ctx context.Context, q *rcptgate.Query) starlark.Value {
	c.Ctx, c.Query, c.asked, c.noted = ctx, q, 0, false
	c.client.c, c.mail.c, c.rcpt.c, c.msg.c = c, c, c, c
	switch q.Stage {
	case rcptgate.StageConnect, rcptgate.StageHelo:
		return &c.client
	case rcptgate.StageMail:
		return &c.mail
	case rcptgate.StageRcpt:
		return &c.rcpt
	case rcptgate.StageMessage:
		c.msg.begin()
		return &c.msg
	}
	return starlark.None
}

// End forgets the question. Objects that are still held have nothing any more.
func (c *Call) End() {
	c.Ctx, c.Query = nil, nil
	c.msg.end()
}

// empty stands in for the question of a call that has ended.
var empty rcptgate.Query //nolint:gochecknoglobals // never written

func (c *Call) query() *rcptgate.Query {
	if c == nil || c.Query == nil {
		return &empty
	}
	return c.Query
}

// inquiry reports whether a person asks: what scripts keep stays as it is.
func (c *Call) inquiry() bool {
	q := c.query()
	if q.Inquiry && !c.noted {
		c.noted = true
		q.Trace.Note("the script's counters, memories and blocklists stay as they are: this question is not mail")
	}
	return q.Inquiry
}

// errOver is the error of a method of an object that is held beyond its call.
var errOver = errors.New("the call that this object belongs to has ended")

// errAtLoad is the error of words that make things which last.
var errAtLoad = errors.New("is for the top of the file: assign its result to a name there, and use that name in functions")

var errNotHere = errors.New("is not available here")

func (c *Call) now() time.Time {
	if c != nil && c.Env != nil && c.Env.Now != nil {
		return c.Env.Now()
	}
	return time.Now()
}

// text makes a string of the wire a string of Starlark.
func text(s string) starlark.Value { return starlark.String(s) }

// orNone is None instead of an empty string.
func orNone(s string) starlark.Value {
	if s == "" {
		return starlark.None
	}
	return starlark.String(s)
}
