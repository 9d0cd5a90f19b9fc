// SPDX-License-Identifier: BSD-2-Clause

package ram

import (
	"strings"
	"unique"

	"rcptgate/store"
)

// packed is a record in 32 octets: times as seconds, and what the backend said as a
// handle that all equal sayings share. What few records have lies behind more.
type packed struct {
	times times
	seen  uint32 // the caller's stamp, in what alignment would leave empty
	said  unique.Handle[saying]
	more  *more
}

type times struct{ learnt, refresh, expire uint32 }

// saying is the part of an answer that many recipients share. The table behind the
// handles holds a saying only as long as an entry does, so that texts nobody else
// gets go away with their entry.
type saying struct {
	class    store.Class
	code     uint16
	enhanced string
	text     string // with the recipient as NUL, so that texts which repeat it are shared
	backend  string
}

// more is what only records in trouble have.
type more struct {
	times       times // of the passing answer
	said        unique.Handle[saying]
	count       uint32 // of the doubt
	first, last uint32
	tried       uint32
}

func pack(key string, rec *store.Record) packed {
	p := packed{times: packTimes(&rec.Standing), said: packSaying(key, &rec.Standing)}
	if rec.Transient.Class == store.None && rec.Doubt == (store.Doubt{}) && rec.Tried.IsZero() {
		return p
	}
	p.more = &more{
		times: packTimes(&rec.Transient),
		said:  packSaying(key, &rec.Transient),
		count: uint32(rec.Doubt.Count), //nolint:gosec // store.Bound holds it
		first: store.Seconds(rec.Doubt.First),
		last:  store.Seconds(rec.Doubt.Last),
		tried: store.Seconds(rec.Tried),
	}
	return p
}

func packTimes(a *store.Answer) times {
	return times{store.Seconds(a.Learnt), store.Seconds(a.Refresh), store.Seconds(a.Expire)}
}

func packSaying(key string, a *store.Answer) unique.Handle[saying] {
	text := a.Text
	if len(key) >= 3 {
		text = strings.ReplaceAll(text, key, "\x00")
	}
	return unique.Make(saying{
		class: a.Class, code: uint16(a.Code), //nolint:gosec // store.Bound holds it
		enhanced: a.Enhanced, text: text, backend: a.Backend,
	})
}

func (p *packed) unpack(key string) (rec store.Record) {
	p.unpackTo(&rec, key)
	return rec
}

// unpackTo writes the record into rec, which is zero: a record is large, and each copy of
// it costs as much as the look-up's hash.
func (p *packed) unpackTo(rec *store.Record, key string) {
	unpackAnswer(&rec.Standing, key, p.times, p.said)
	if m := p.more; m != nil {
		unpackAnswer(&rec.Transient, key, m.times, m.said)
		rec.Doubt = store.Doubt{
			Count: int(m.count), First: store.FromSeconds(m.first), Last: store.FromSeconds(m.last),
		}
		rec.Tried = store.FromSeconds(m.tried)
	}
}

func unpackAnswer(a *store.Answer, key string, t times, h unique.Handle[saying]) {
	said := h.Value()
	a.Text = said.text
	if strings.IndexByte(a.Text, 0) >= 0 {
		a.Text = strings.ReplaceAll(a.Text, "\x00", key)
	}
	a.Class, a.Code, a.Enhanced, a.Backend = said.class, int(said.code), said.enhanced, said.backend
	a.Learnt, a.Refresh, a.Expire = store.FromSeconds(t.learnt), store.FromSeconds(t.refresh), store.FromSeconds(t.expire)
}

// expire is the second at which the last of the record's answers ends.
func (p *packed) expire() uint32 {
	if p.more != nil {
		return max(p.times.expire, p.more.times.expire)
	}
	return p.times.expire
}
