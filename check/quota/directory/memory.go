// SPDX-License-Identifier: BSD-2-Clause

package directory

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rcptgate"
	"rcptgate/kit/recent"
)

// How long what was found serves.
const (
	keep      = time.Hour        // an entry; half of it and it is asked for again in the background
	staleKeep = 24 * time.Hour   // an entry while no server can be asked
	emptyKeep = time.Minute      // that there is no entry, or more than one
	fullKeep  = 25 * time.Second // an entry that says over quota: somebody who cleans up is let in soon
	retry     = 30 * time.Second
)

const shards = 64

// key is one mailbox; both parts are in lower case.
type key struct{ local, domain string }

func keyOf(m rcptgate.Mailbox) key { return key{rcptgate.FoldCase(m.Local), m.Domain} }

func (k key) clone() key { return key{strings.Clone(k.local), strings.Clone(k.domain)} }

func (k key) mailbox() rcptgate.Mailbox { return rcptgate.Mailbox{Local: k.local, Domain: k.domain} }

// record is one remembered answer.
type record struct {
	Entry
	at  time.Time
	due atomic.Int64 // when it may be asked for again in the background, nanoseconds
}

// serves is how long the record serves without a question.
func (r *record) serves() time.Duration {
	switch {
	case r.Found != 1:
		return emptyKeep
	case r.Flags&OverQuota != 0:
		return fullKeep
	}
	return keep
}

// memory is bounded in entries. What was found and what was not have shares of their own,
// so that made-up recipients do not push out mailboxes.
type memory struct {
	seed  maphash.Seed
	found [shards]*recent.Map[key, *record]
	empty [shards]*recent.Map[key, *record]
	ended atomic.Uint64 // counts what was forgotten

	mu    sync.Mutex
	names map[string]string // hosts and domains, once each
}

func newMemory(entries int) *memory {
	m := &memory{seed: maphash.MakeSeed(), names: make(map[string]string)}
	for i := range shards {
		m.found[i] = recent.New[key, *record](max(entries/shards, 2))
		m.empty[i] = recent.New[key, *record](max(entries/shards/10, 2))
	}
	return m
}

// get finds a record that may still be of use; nil if there is none.
func (m *memory) get(k key) *record {
	i := maphash.Comparable(m.seed, k) % shards
	if r := m.found[i].Get(k); r != nil {
		return r
	}
	return m.empty[i].Get(k)
}

// put remembers an answer, unless something was forgotten since ended was read.
func (m *memory) put(k key, e Entry, at time.Time, ended uint64) {
	i := maphash.Comparable(m.seed, k) % shards
	k.domain, e.Host = m.name(k.domain), m.name(e.Host)
	r := &record{Entry: e, at: at}
	r.due.Store(at.Add(keep / 2).UnixNano())
	to, from := m.found[i], m.empty[i]
	if e.Found != 1 {
		to, from = from, to
	}
	to.Update(k, func(*record) *record { return r })
	from.Remove(k)
	if m.ended.Load() != ended {
		to.Remove(k)
	}
}

// name gives one copy of a text that many records have.
func (m *memory) name(s string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if one, ok := m.names[s]; ok {
		return one
	}
	if len(m.names) >= 4096 {
		clear(m.names)
	}
	m.names[s] = s
	return s
}

// forget drops what matches.
func (m *memory) forget(matches func(k key) bool) {
	m.ended.Add(1)
	for i := range shards {
		m.found[i].RemoveFunc(matches)
		m.empty[i].RemoveFunc(matches)
	}
}

func (m *memory) len() (found, empty int) {
	for i := range shards {
		found += m.found[i].Len()
		empty += m.empty[i].Len()
	}
	return found, empty
}
