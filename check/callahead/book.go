// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"time"

	"rcptgate"
	"rcptgate/store"
)

const (
	// proofLife is for how long a recipient that was taken proves that a backend talks
	// to us about a domain.
	proofLife = 10 * time.Minute
	// controlApart is the least time between two control questions about one shape, and
	// for how long the answer to one holds where it must not hold longer.
	controlApart = time.Minute
	// creditMost and creditEach make control questions a tenth of the questions: each
	// question earns a part of one, and so many may be saved up.
	creditMost, creditEach = 10, 0.1

	maxGoods  = 4  // recipients of a pair that are remembered as taken
	maxShapes = 12 // shapes of a pair
)

// pair is a backend and a domain.
type pair struct{ backend, domain string }

// meaning is what the refusals of one shape have turned out to mean.
type meaning uint8

const (
	unheard      meaning = iota // nothing is known of the shape
	unproven                    // no experiment was possible, or it showed nothing
	saysUnknown                 // a made-up recipient is refused so, while a known-good one is taken
	aboutMailbox                // a known-good recipient was taken right after
	aboutUs                     // a known-good recipient is refused in the same shape
	aboutSender                 // the other sender is not refused so
	aboutSession                // the same question on a fresh connection is not refused so
)

// note is what is known of one shape.
type note struct {
	id      shapeID
	text    string // for people
	means   meaning
	at      time.Time // when that was found
	fresh   bool      // seen on a connection that had carried no refusal
	control time.Time // when the last control question about it was asked
}

// knownGood is a recipient that the backend took in reply to a question of ours.
type knownGood struct {
	key     string
	mailbox rcptgate.Mailbox
	at      time.Time
}

// book is what was found out about one backend's replies to recipients of one domain.
type book struct {
	notes  []note      // the one used last comes last
	goods  []knownGood // the one taken last comes first
	credit float64
}

// inBook gives f the book of a pair. Nothing else reads or writes it meanwhile.
func (s *State) inBook(p pair, f func(b *book)) {
	s.books.Update(p, func(b *book) *book {
		if b == nil {
			b = &book{credit: creditMost / 2}
		}
		f(b)
		return b
	})
}

func (b *book) find(s *shape) *note {
	for i := range b.notes {
		if s.is(b.notes[i].id) {
			return &b.notes[i]
		}
	}
	return nil
}

// write gives the note on s, a new one if there is none, and makes it the last.
func (b *book) write(s *shape) *note {
	for i := range b.notes {
		if s.is(b.notes[i].id) {
			n := b.notes[i]
			copy(b.notes[i:], b.notes[i+1:])
			b.notes[len(b.notes)-1] = n
			return &b.notes[len(b.notes)-1]
		}
	}
	if len(b.notes) >= maxShapes {
		b.drop()
	}
	b.notes = append(b.notes, note{id: s.id, text: s.text})
	return &b.notes[len(b.notes)-1]
}

// drop makes room for a note: how a backend says unknown is kept longest.
func (b *book) drop() {
	at := 0
	for i := range b.notes {
		if b.notes[i].means != saysUnknown {
			at = i
			break
		}
	}
	b.notes = append(b.notes[:at], b.notes[at+1:]...)
}

// knownShape is what is known of a shape when a reply of it comes in.
type knownShape struct {
	note
	others    bool // other shapes have been seen
	unknownAs note // how the backend says unknown; zero if that was not found out
	anyGood   bool // another recipient was taken
}

// look gives what is known of a shape, at now, by a question about key.
func (s *State) look(p pair, sh *shape, key string, now time.Time) (k knownShape) {
	s.inBook(p, func(b *book) {
		if n := b.find(sh); n != nil {
			k.note = *n
		}
		for _, n := range b.notes {
			k.others = k.others || (n.id != k.id && n.means != aboutSender)
			if n.means == saysUnknown {
				k.unknownAs = n
			}
		}
		for i := range b.goods {
			k.anyGood = k.anyGood || b.goods[i].key != key
		}
	})
	if k.means == aboutUs && now.Sub(k.at) >= controlApart {
		k.means = unproven // it may have changed its mind
	}
	return k
}

// found notes what a shape means.
func (s *State) found(p pair, sh *shape, means meaning, now time.Time) {
	s.inBook(p, func(b *book) {
		n := b.write(sh)
		if n.means != saysUnknown || means == aboutUs || means == saysUnknown { // else it is known better
			n.means, n.at = means, now
		}
	})
}

// sawFresh notes that a shape was seen on a connection that had carried no refusal: it
// does not come from too many of them.
func (s *State) sawFresh(p pair, sh *shape) {
	s.inBook(p, func(b *book) {
		b.write(sh).fresh = true
	})
}

// mayControl reports whether a control question about a shape may be asked now, and
// counts it. Spent: there have been too many lately, about any shape.
func (s *State) mayControl(p pair, sh *shape, now time.Time) (may, spent bool) {
	s.inBook(p, func(b *book) {
		n := b.write(sh)
		spent = b.credit < 1
		if may = !spent && now.Sub(n.control) >= controlApart; may {
			b.credit--
			n.control = now
		}
	})
	return may, spent
}

// spent reports whether there have been so many control questions lately that no other
// may be asked.
func (s *State) spent(p pair) (yes bool) {
	s.inBook(p, func(b *book) { yes = b.credit < 1 })
	return yes
}

// earn adds to what may be spent on control questions: another question was answered.
func (b *book) earn() { b.credit = min(b.credit+creditEach, creditMost) }

// took remembers that the backend took a recipient.
func (s *State) took(p pair, key string, m rcptgate.Mailbox, now time.Time) {
	s.inBook(p, func(b *book) {
		b.earn()
		b.took(knownGood{key, m, now})
	})
}

func (b *book) took(g knownGood) {
	at := len(b.goods)
	for i := range b.goods {
		if b.goods[i].key == g.key {
			at = i
			break
		}
	}
	switch {
	case at < len(b.goods):
	case len(b.goods) < maxGoods:
		b.goods = append(b.goods, knownGood{})
	default:
		at--
	}
	copy(b.goods[1:at+1], b.goods[:at])
	b.goods[0] = g
}

// refusedOne counts a question that was refused.
func (s *State) refusedOne(p pair) {
	s.inBook(p, func(b *book) {
		b.earn()
	})
}

// tookAnother reports whether the backend has taken another recipient of the domain
// within the time given.
func (s *State) tookAnother(p pair, key string, within time.Duration, now time.Time) (yes bool) {
	s.inBook(p, func(b *book) {
		for i := range b.goods {
			yes = yes || (b.goods[i].key != key && now.Sub(b.goods[i].at) < within)
		}
	})
	return yes
}

// goods gives the recipients that the backend took last, except for the one under key.
func (s *State) goods(p pair, key string) (list []knownGood) {
	s.inBook(p, func(b *book) {
		for _, g := range b.goods {
			if g.key != key {
				list = append(list, g)
			}
		}
	})
	return list
}

// notGood takes a recipient from those that a control question may be about.
func (s *State) notGood(p pair, key string) {
	s.inBook(p, func(b *book) {
		for i := range b.goods {
			if b.goods[i].key == key {
				b.goods = append(b.goods[:i:i], b.goods[i+1:]...)
				break
			}
		}
	})
}

// remembers adds a recipient of which memory says that the backend took it, where none
// is known yet: after a restart, control questions need one.
func (s *State) remembers(a *store.Answer, key string, m rcptgate.Mailbox) {
	s.inBook(pair{a.Backend, m.Domain}, func(b *book) {
		if len(b.goods) == 0 {
			b.goods = append(b.goods, knownGood{key, m, a.Learnt})
		}
	})
}
