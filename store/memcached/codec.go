// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"rcptgate/kit/term"
	"rcptgate/store"
)

// A record is text: lines that end in LF, fields that are separated by TAB, in which TAB,
// LF and the backslash are written \t, \n and \\.
//
//	rg1       written generation tried
//	standing  class code enhanced learnt refresh expire backend text
//	passing   class code enhanced learnt refresh expire backend text
//	doubt     count first last
//
// The first line comes first; each of the others may be missing. Lines with other names
// are for later versions. Times are UNIX seconds, 0 for none; a generation is UNIX
// nanoseconds. Numbers are decimal digits without leading zeros.
const version = "rg1"

// errForm says that a value is not a record as documented.
var errForm = errors.New("not a value of the form that docs/memcached.md describes")

func formf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errForm, fmt.Sprintf(format, args...))
}

// entry is a record and when it was written, by the wall clock and by tombstones.
type entry struct {
	rec        store.Record
	written    time.Time
	generation int64 // the newest tombstone for the key that the writer knew, UNIX nanoseconds
}

// encode writes e as it is kept, without a seal.
func encode(e entry) []byte {
	rec := store.Bound(e.rec)
	b := make([]byte, 0, 256)
	b = append(b, version...)
	b = seconds(b, e.written)
	b = append(b, '\t')
	b = strconv.AppendInt(b, max(e.generation, 0), 10)
	b = seconds(b, rec.Tried)
	b = append(b, '\n')
	b = appendAnswer(b, "standing", &rec.Standing)
	b = appendAnswer(b, "passing", &rec.Transient)
	if rec.Doubt != (store.Doubt{}) {
		b = append(b, "doubt\t"...)
		b = strconv.AppendInt(b, int64(rec.Doubt.Count), 10)
		b = seconds(b, rec.Doubt.First)
		b = seconds(b, rec.Doubt.Last)
		b = append(b, '\n')
	}
	return b
}

func appendAnswer(b []byte, name string, a *store.Answer) []byte {
	if a.Class == store.None {
		return b
	}
	b = append(b, name...)
	b = append(b, '\t')
	b = append(b, a.Class.String()...)
	b = append(b, '\t')
	b = strconv.AppendInt(b, int64(a.Code), 10)
	b = escaped(b, a.Enhanced)
	b = seconds(b, a.Learnt)
	b = seconds(b, a.Refresh)
	b = seconds(b, a.Expire)
	b = escaped(b, a.Backend)
	b = escaped(b, a.Text)
	return append(b, '\n')
}

func seconds(b []byte, t time.Time) []byte {
	return strconv.AppendUint(append(b, '\t'), uint64(store.Seconds(t)), 10)
}

var escaper = strings.NewReplacer("\t", `\t`, "\n", `\n`, `\`, `\\`)

func escaped(b []byte, s string) []byte {
	b = append(b, '\t')
	if strings.ContainsAny(s, "\t\n\\") {
		s = escaper.Replace(s)
	}
	return append(b, s...)
}

// decode reads what encode writes. Everything else is errForm: a record is believed
// wholly or not at all.
func decode(value []byte) (entry, error) {
	head, rest, ok := strings.Cut(string(value), "\n")
	if !ok {
		return entry{}, formf("the first line does not end")
	}
	var e entry
	f := fields{strings.Split(head, "\t")}
	if len(f.list) != 4 || f.text() != version {
		return entry{}, formf("the first line is not %q and three numbers", version)
	}
	var bad error
	e.written, bad = f.time(bad)
	e.generation, bad = f.number(bad, math.MaxInt64)
	e.rec.Tried, bad = f.time(bad)
	seen := map[string]bool{}
	for rest != "" && bad == nil {
		var line string
		if line, rest, ok = strings.Cut(rest, "\n"); !ok {
			return entry{}, formf("the last line does not end")
		}
		f := fields{strings.Split(line, "\t")}
		name := f.text()
		if name != "standing" && name != "passing" && name != "doubt" {
			continue
		}
		if seen[name] {
			return entry{}, formf("two lines %q", name)
		}
		seen[name] = true
		bad = e.line(name, f)
	}
	if bad == nil && e.written.IsZero() {
		bad = formf("it does not say when it was written")
	}
	if bad != nil {
		return entry{}, bad
	}
	e.rec = store.Bound(e.rec)
	return e, nil
}

func (e *entry) line(name string, f fields) (bad error) {
	if name == "doubt" {
		if len(f.list) != 3 {
			return formf("line %q has %s, not 3", name, term.Count(len(f.list), "field"))
		}
		var count int64
		count, bad = f.number(bad, math.MaxInt32)
		e.rec.Doubt.Count = int(count)
		e.rec.Doubt.First, bad = f.time(bad)
		e.rec.Doubt.Last, bad = f.time(bad)
		return bad
	}
	if len(f.list) != 8 {
		return formf("line %q has %s, not 8", name, term.Count(len(f.list), "field"))
	}
	var a store.Answer
	word := f.text()
	class, ok := store.ParseClass(word)
	passes := class == store.Full || class == store.Refused || class == store.Deferred
	if !ok || class == store.None || (name == "passing" && !class.Refuses()) || (name == "standing" && passes) {
		return formf("line %q has the class %.20q", name, word)
	}
	a.Class = class
	code, bad := f.number(bad, 599)
	if bad == nil && code != 0 && code < 200 {
		bad = formf("reply code %d", code)
	}
	a.Code = int(code)
	a.Enhanced, bad = f.unescape(bad)
	a.Learnt, bad = f.time(bad)
	a.Refresh, bad = f.time(bad)
	a.Expire, bad = f.time(bad)
	a.Backend, bad = f.unescape(bad)
	a.Text, bad = f.unescape(bad)
	if name == "passing" {
		e.rec.Transient = a
	} else {
		e.rec.Standing = a
	}
	return bad
}

// fields gives the fields of a line one after the other; the callers have counted them.
type fields struct{ list []string }

func (f *fields) text() string {
	s := f.list[0]
	f.list = f.list[1:]
	return s
}

func (f *fields) number(before error, most int64) (int64, error) {
	s := f.text()
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case before != nil:
		return 0, before
	case err != nil || n < 0 || n > most || s != strconv.FormatInt(n, 10):
		return 0, formf("%.24q is not a number from 0 to %d", s, most)
	}
	return n, nil
}

func (f *fields) time(before error) (time.Time, error) {
	n, err := f.number(before, math.MaxUint32)
	return store.FromSeconds(uint32(n)), err //nolint:gosec // held by number
}

// unescape reads a text. Other control characters stay as they are: fronts and logs, which
// show it to people, have their own ways with them.
func (f *fields) unescape(before error) (string, error) {
	s := f.text()
	if before != nil {
		return "", before
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			i++
			if i == len(s) {
				return "", formf("a field ends in a backslash")
			}
			switch s[i] {
			case 'n':
				b.WriteByte('\n')
			case '\\':
				b.WriteByte('\\')
			case 't':
				b.WriteByte('\t')
			default:
				return "", formf("a backslash before %q", s[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}
