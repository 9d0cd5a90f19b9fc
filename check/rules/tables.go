// SPDX-License-Identifier: BSD-2-Clause

package rules

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"unsafe"

	"rcptgate"
	"rcptgate/pattern"
	"rcptgate/table"
)

// between stands between the two addresses of a key, in Sendmail's access map (cf/README,
// FEATURE(compat_check)) and in databases of pairs.
const between = "<@>"

// pairTable is a map file of pairs of a sender and a recipient: [rules] access or pairs.
type pairTable struct {
	table.Table
	name    string // nameAccess or namePairs
	spec    string
	literal bool // details are part of a name
	read    func(value string) outcome
	pattern.Summary
	counted [len(actionWords)]atomic.Pointer[hits] // by Action; nil: no pair has said so yet
}

// hitsOf gives the counter of an action. Only the first question that needs it takes the lock
// of all counters.
func (t *pairTable) hitsOf(all *counters, act Action) *hits {
	h := t.counted[act].Load()
	if h == nil {
		h = all.of(t.name, act)
		t.counted[act].Store(h)
	}
	return h
}

// outcome is what a pair says.
type outcome struct {
	act     Action
	verdict rcptgate.Verdict
}

// matrix says which forms of senders occur with which forms of recipients, eight bits for
// each form of a sender. So no key is looked for that is like none in the file.
type matrix uint64

func (m *matrix) add(sender, recipient pattern.Form) {
	*m |= 1 << (uint(sender)*8 + uint(recipient))
}

func (m matrix) recipients(sender pattern.Form) pattern.Forms {
	return pattern.Forms(m >> (uint(sender) * 8)) // #nosec G115 -- the low octet is meant
}

func (m matrix) senders() (forms pattern.Forms) {
	for f := pattern.Form(0); f < 8; f++ {
		if m.recipients(f) != 0 {
			forms.Add(f)
		}
	}
	return forms
}

// senderPairs is what is known of a sender in a table of pairs.
type senderPairs struct {
	digest *pattern.Digest // of the table when that was found out
	forms  pattern.Forms   // those of the sender's keys that the table may have
}

// find looks for the most exact pair: the most exact sender, and of that the most exact
// recipient. Known is kept with the message: most senders are in no pair.
func (t *pairTable) find(ctx context.Context, q *question, known *senderPairs) (value string, found bool, err error) {
	digest, err := t.Summary.Get(ctx)
	if err != nil {
		return "", false, err
	}
	m, sender := matrix(digest.Bits), &q.message.senderAddr
	if known.digest != digest {
		*known = senderPairs{digest: digest}
		digest.Keys(sender, m.senders(), t.literal, func(form pattern.Form, _ string) bool {
			known.forms.Add(form)
			return true
		})
	}
	if known.forms == 0 {
		return "", false, nil
	}
	sender.Keys(known.forms, t.literal, func(form pattern.Form, sender string) bool {
		return q.recipientAddr.Keys(m.recipients(form), t.literal, func(_ pattern.Form, recipient string) bool {
			q.key = append(append(append(q.key[:0], sender...), 0), recipient...)
			value, found, err = t.Lookup(ctx, unsafe.String(unsafe.SliceData(q.key), len(q.key))) // #nosec G103 -- a table keeps no key
			return !found && err == nil
		})
	})
	return value, found, err
}

// notes are what was noticed while the file was read.
func (t *pairTable) notes(ctx context.Context) []string {
	d, err := t.Summary.Get(ctx)
	if err != nil || d.Text == "" {
		return nil
	}
	return strings.Split(d.Text, "\n")
}

// pairFormat reads a map file as pairs. Read gives the keys and the value of one, or errNotOurs
// for one that is not ours; note is something to warn of.
type pairFormat struct {
	table.Format
	what string
	read pairReader
}

// pairReader reads one pair of a file.
type pairReader func(key, value string) (sender, recipient pattern.Key, kept, note string, err error)

// maxNotes bounds what is said of one file.
const maxNotes = 5

var errNotOurs = errors.New("another entry of the map")

// Scan implements [table.Format].
func (f pairFormat) Scan(ctx context.Context, file io.ReaderAt, size int64, each func(key, value []byte) error) error {
	var m matrix
	var notes []string
	more := 0
	return pattern.Summarised(ctx, f.Format, file, size, each, func(key, value []byte, each func(key, value []byte) error) error {
		sender, recipient, kept, note, err := f.read(trim(key), trim(value))
		if note != "" && len(notes) < maxNotes {
			notes = append(notes, strings.ReplaceAll(note, "\n", " "))
		} else if note != "" {
			more++
		}
		if errors.Is(err, errNotOurs) {
			return nil
		}
		if err != nil {
			return &table.FormatError{Format: f.what, Offset: -1, Err: err}
		}
		m.add(sender.Form, recipient.Form)
		return each([]byte(sender.Text+"\x00"+recipient.Text), []byte(kept))
	}, func() (uint64, string) {
		if more > 0 {
			notes = append(notes, fmt.Sprintf("and %d more such entries", more))
		}
		return uint64(m), strings.Join(notes, "\n")
	})
}

func trim(b []byte) string { return strings.TrimSpace(string(bytes.TrimSuffix(b, []byte{0}))) }

// readPair reads a line of pairs: the sender is the key, or the key is sender<@>recipient.
func readPair(key, value string) (sender, recipient pattern.Key, kept, note string, err error) {
	first, second, both := strings.Cut(key, between)
	if !both {
		second, value, _ = strings.Cut(value, " ")
		if rest, tab, ok := strings.Cut(second, "\t"); ok {
			second, value = rest, tab+" "+value
		}
		value = strings.TrimSpace(value)
	}
	if sender, err = pattern.ExactKey(first); err == nil {
		recipient, err = pattern.ExactKey(second)
	}
	if err == nil {
		_, err = parsePair(value)
	}
	if err != nil {
		err = fmt.Errorf("pair %q %q: %w", first, second, err)
	}
	return sender, recipient, value, "", err
}

// parsePair reads ACTION [CODE] [ENHANCED] [TEXT].
func parsePair(value string) (outcome, error) {
	word, text, _ := strings.Cut(strings.ReplaceAll(value, "\t", " "), " ")
	act, err := ParseAction(strings.ToLower(word))
	if err != nil {
		return outcome{}, err
	}
	code, enhanced, text := cutReply(strings.TrimSpace(text))
	cfg := RuleConfig{Action: act, Code: code, Enhanced: enhanced, Text: text}
	if err := cfg.Validate(); err != nil {
		return outcome{}, err
	}
	return outcome{act, verdictOf(namePairs, act, code, enhanced, text)}, nil
}

// pairValue is parsePair for a value that was read before.
func pairValue(value string) outcome {
	o, err := parsePair(value)
	if err != nil { // readPair has refused such a file
		return outcome{Tempfail, verdictOf(namePairs, Tempfail, 0, "", "")}
	}
	return o
}
