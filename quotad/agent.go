// SPDX-License-Identifier: BSD-2-Clause

package quotad

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"rcptgate/check/quota/wire"
	"rcptgate/config/setting"
	"rcptgate/kit/recent"
)

// Agent answers how much room mailboxes have. Make one with New.
type Agent struct {
	log    *slog.Logger
	now    func() time.Time
	active atomic.Pointer[setup]
	counts counts
	rates  *recent.Map[asker, bucket]
	seen   *recent.Map[string, uint8] // signed requests, by their MAC
	logged *recent.Map[string, time.Time]
	flying chan struct{} // datagrams whose answer is not kept
}

// setup is one configuration.
type setup struct {
	config *Config
	keys   *wire.Keys // nil without a key file
	cert   *tls.Certificate
	stores []*bounded
}

const (
	maxFlying  = 256
	maxClients = 10_000
	maxSeen    = 20_000
	maxRepeats = 4 // a gateway sends a datagram three times
	logEvery   = time.Minute
)

// New makes an agent with a configuration that is active. It opens files of keys, not
// sockets.
func New(c *Config, log *slog.Logger) (*Agent, error) {
	a := &Agent{log: log, now: time.Now, rates: recent.New[asker, bucket](maxClients), seen: recent.New[string, uint8](maxSeen), logged: recent.New[string, time.Time](maxClients), flying: make(chan struct{}, maxFlying)}
	return a, a.Adopt(c)
}

// Adopt makes a configuration active, addresses to listen on aside. On an error nothing
// changes.
func (a *Agent) Adopt(c *Config) error {
	s := &setup{config: c}
	var err error
	if c.Listen.KeyFile != "" {
		if s.keys, err = wire.LoadKeys(c.Listen.KeyFile); err != nil {
			return c.File.Place(&setting.KeyError{Key: "listen.key_file", Err: err})
		}
	}
	if c.Listen.Cert != "" {
		cert, err := tls.LoadX509KeyPair(c.Listen.Cert, c.Listen.Key)
		if err != nil {
			return c.File.Place(&setting.KeyError{Key: "listen.certificate", Err: err})
		}
		s.cert = &cert
	}
	for i := range c.Stores {
		made, err := a.open(&c.Stores[i])
		if err != nil {
			return c.File.Place(&setting.KeyError{Key: fmt.Sprintf("store[%d].path", i+1), Err: err})
		}
		s.stores = append(s.stores, newBounded(&c.Stores[i], made, a.now, a.storeFailed))
	}
	a.active.Store(s)
	return nil
}

// storeFailed logs why a store could not find out, once a minute.
func (a *Agent) storeFailed(b *bounded, m mailbox, err error) {
	if a.mayLog(fmt.Sprintf("store %p", b)) {
		a.log.Error("a store could not find out how full a mailbox is", "store", b.config.Type, "user", m.user, "error", err)
	}
}

// mayLog reports whether a line of that kind is due.
func (a *Agent) mayLog(kind string) (due bool) {
	now := a.now()
	a.logged.Update(kind, func(last time.Time) time.Time {
		if due = last.IsZero() || now.Sub(last) >= logEvery; due {
			return now
		}
		return last
	})
	return due
}

// find gives the store of a mailbox; false: there is none, and it is not known.
func (s *setup) find(user string) (*bounded, mailbox, bool) {
	plain, ok := newMailbox(user, false)
	if !ok {
		return nil, mailbox{}, false
	}
	for _, b := range s.stores {
		if b.has(plain.domain) {
			m, ok := newMailbox(user, *b.config.Fold)
			return b, m, ok
		}
	}
	return nil, mailbox{}, false
}

// Ask answers whether a message of size octets fits. It returns by ctx's deadline, and after
// two seconds.
func (a *Agent) Ask(ctx context.Context, user string, size int64) wire.Answer {
	b, m, ok := a.active.Load().find(user)
	if !ok {
		return wire.NewAnswer(wire.Unknown)
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	return b.judge(b.ask(ctx, m, size), size)
}

// quick is Ask for an answer that is kept.
func (a *Agent) quick(s *setup, user string, size int64) (wire.Answer, bool) {
	b, m, ok := s.find(user)
	if !ok {
		return wire.NewAnswer(wire.Unknown), true
	}
	found, ok := b.quick(m, size)
	return b.judge(found, size), ok
}

// bucket is what is left of a client's questions.
type bucket struct {
	left float64
	at   time.Time
}

// asker is who asks. Signed questions are counted apart: nobody who has no key can use up what
// a gateway may ask, not even from its address.
type asker struct {
	client netip.Addr
	signed bool
}

// within takes one question off what a client may ask a second.
func (a *Agent) within(who asker, rate int) (ok bool) {
	now := a.now()
	a.rates.Update(who, func(b bucket) bucket {
		if b.at.IsZero() {
			b.left = float64(rate)
		} else {
			b.left = min(float64(rate), b.left+now.Sub(b.at).Seconds()*float64(rate))
		}
		b.at = now
		if ok = b.left >= 1; ok {
			b.left--
		}
		return b
	})
	return ok
}

// repeated reports whether a signed question has come more often than a gateway sends it:
// somebody who has no key plays it again.
func (a *Agent) repeated(r *wire.Request) (often bool) {
	a.seen.Update(strings.Clone(r.MAC()), func(n uint8) uint8 {
		often = n >= maxRepeats
		return min(n+1, maxRepeats)
	})
	return often
}

// mayAsk reports whether a client's address is one of those that may ask at all.
func (s *setup) mayAsk(client netip.Addr) bool {
	if client = client.Unmap(); client.IsLoopback() {
		return true
	}
	for _, n := range s.config.Listen.Clients {
		if n.Has(client) {
			return true
		}
	}
	return false
}

// plainFor reports whether a client needs no key.
func (s *setup) plainFor(client netip.Addr) bool {
	return s.config.Listen.Plain || client.Unmap().IsLoopback()
}

// admit reads and checks a question. Without a request there is nothing to find out: then
// refusal is the whole answer, or there is none.
func (a *Agent) admit(s *setup, text []byte, client netip.Addr) (r *wire.Request, refusal []byte) {
	if !s.mayAsk(client) {
		a.drop(client, dropStranger)
		return nil, nil
	}
	r, err := wire.ParseRequest(text)
	wrong := dropMalformed
	if err == nil {
		wrong, err = s.believe(r, client, a.now())
	}
	genuine := err == nil && r.Signed()
	switch {
	case genuine && a.repeated(r):
		a.drop(client, dropReplay)
		return nil, nil
	case !a.within(asker{client, genuine}, s.config.Listen.Rate):
		a.drop(client, dropRate)
		return nil, nil
	case err == nil:
		return r, nil
	case !errors.Is(err, wire.ErrClock):
		a.drop(client, wrong)
		return nil, nil
	}
	a.clockDiffers(client, r)
	failed := wire.Failed(whyClock)
	return nil, s.keys.SignReply(nil, &failed, r)
}

// believe says whether a question is to be answered, and why not.
func (s *setup) believe(r *wire.Request, client netip.Addr, now time.Time) (wrong int, err error) {
	if !r.Signed() {
		if s.plainFor(client) {
			return 0, nil
		}
		return dropUnsigned, wire.ErrNotSigned
	}
	return dropMAC, s.keys.VerifyRequest(r, now)
}

// clockDiffers counts a question whose time is wrong, and logs it once a minute.
func (a *Agent) clockDiffers(client netip.Addr, r *wire.Request) {
	a.counts.dropped[dropClock].Add(1)
	if a.mayLog("clock " + client.String()) {
		a.log.Error("a question was refused: the clocks of gateway and agent are more than a minute apart", "client", client,
			"gateway", r.Time.UTC().Format(time.RFC3339), "agent", a.now().UTC().Format(time.RFC3339))
	}
}

// drop counts a question that gets no answer, and logs it once a minute for a client.
func (a *Agent) drop(client netip.Addr, why int) {
	a.counts.dropped[why].Add(1)
	if a.mayLog(dropWords[why] + " " + client.String()) {
		a.log.Warn("a question was not answered", "client", client, "why", dropTexts[why])
	}
}

// reply writes an answer in the form of its request; nothing if there is none in that form.
func (s *setup) reply(dst []byte, r *wire.Request, answer wire.Answer) []byte {
	if r.Signed() {
		return s.keys.SignReply(dst, &answer, r)
	}
	if r.Plain {
		answer = plainly(answer)
	}
	return answer.AppendPlain(dst)
}
