// SPDX-License-Identifier: BSD-2-Clause

package milter

import (
	"errors"
	"fmt"
	"log/slog"

	"rcptgate"
	"rcptgate/front/milter/wire"
)

// letter is a message as far as it has arrived, where a step wants it. Its memory is used
// again for the next message of the connection.
type letter struct {
	message *rcptgate.Message // nil until the first
	text    []byte            // names and values of the header, one after the other
	fields  []fieldSpan
	cut     bool // there are more fields
	body    spool
	bodyCut bool
	skip    bool  // no more of the body is wanted
	failed  error // why it could not be kept
	// at are the positions of message.Recipients among those of the transaction.
	at []int
}

// fieldSpan says where in a letter's text a field is.
type fieldSpan struct{ begin, colon, end int }

// reset forgets the message, and keeps memory of ordinary size.
func (l *letter) reset() {
	l.body.Reset()
	if cap(l.text) > 32<<10 {
		l.text = nil
	}
	if cap(l.fields) > 256 {
		l.fields, l.message = nil, nil
	}
	if l.message != nil {
		l.message.Begin(0)
	}
	*l = letter{message: l.message, text: l.text[:0], fields: l.fields[:0], at: l.at[:0], body: spool{all: l.body.all}}
}

// header takes CmdHeader.
func (l *letter) header(data []byte) error {
	name, rest, ok := wire.CutString(data)
	value, after, okValue := wire.CutString(rest)
	if !ok || !okValue || len(after) > 0 {
		return fmt.Errorf("%w: header field without a final NUL, or with one inside", wire.ErrFrame)
	}
	if l.cut || len(l.fields) >= rcptgate.FieldsMax || len(l.text)+len(name)+len(value) > rcptgate.HeaderMax {
		l.cut = true
		return nil
	}
	f := fieldSpan{begin: len(l.text), colon: len(l.text) + len(name)}
	l.text = append(append(l.text, name...), value...)
	f.end = len(l.text)
	l.fields = append(l.fields, f)
	return nil
}

// part takes a part of the body.
func (l *letter) part(data []byte, most int64) {
	if l.skip {
		return
	}
	if room := most - l.body.size; int64(len(data)) > room {
		data, l.bodyCut, l.skip = data[:room], true, true
	}
	if len(data) == 0 {
		return
	}
	if _, err := l.body.Write(data); err != nil {
		l.failed, l.skip = err, true
		l.body.Reset()
	}
}

// finish makes the message that steps see.
func (l *letter) finish(s *session, has rcptgate.Wants) *rcptgate.Message {
	if l.message == nil {
		l.message = rcptgate.NewMessage(has)
	}
	m := l.message
	m.Begin(has)
	text := string(l.text) // one copy for all fields
	for _, f := range l.fields {
		m.Fields = append(m.Fields, rcptgate.Field{Name: text[f.begin:f.colon], Value: text[f.colon:f.end]})
	}
	m.Body, m.Size, m.Cut, m.HeaderCut = &l.body, l.body.size, l.bodyCut, l.cut
	next := 0
	for i := range s.state.Mail.Recipients {
		if next < len(s.state.Mail.Dropped) && s.state.Mail.Dropped[next] == i {
			next++
			continue
		}
		m.Recipients, l.at = append(m.Recipients, s.state.Mail.Recipients[i]), append(l.at, i)
	}
	return m
}

// noSpace is the reply to a message that cannot be kept.
var noSpace = rcptgate.Verdict{Action: rcptgate.Tempfail, Code: 452, Enhanced: "4.3.1", Text: "Insufficient system storage", Reason: rcptgate.ReasonError}

// cannotSpool reports that a message was deferred.
func (s *Server) cannotSpool(err error) {
	s.totals.unspooled.Add(1)
	if errors.Is(err, errSpoolFull) {
		s.notices.Note(slog.LevelWarn, "milter spool", "messages are deferred: their bodies together exceed spool in [milter]", "limit", s.spools.max)
		return
	}
	s.notices.Note(slog.LevelError, "milter spool", "messages are deferred: their bodies cannot be written to disk", "directory", s.spools.dir, "error", err)
}
