// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"rcptgate/kit/neterr"
)

// tlsWait bounds STARTTLS and the handshake where they can be left out. It leaves time
// for another connection before the asker's usual deadline.
const tlsWait = 3 * time.Second

// manner is how a session is opened: what was learnt about the backend, and what the
// attempt before this one showed.
type manner struct {
	helo  bool // HELO at once
	plain bool // no STARTTLS
}

// open makes a connection ready for MAIL. Where EHLO or STARTTLS ends the connection,
// another is tried, since a server may just have been restarted, and after that one
// without. Silence after STARTTLS is not waited for twice.
func (b *Backend) open(ctx context.Context, due time.Time) (*conn, *Failure) {
	set := b.settings.Load()
	began := time.Now()
	until := began.Add(set.Timeout.Std())
	if d, ok := ctx.Deadline(); ok && d.Before(until) {
		until = d
	}
	know := b.habits.known()
	how := manner{helo: know.noEHLO, plain: know.noTLS}
	for second := false; ; {
		c, fail := b.dial(ctx, set)
		if fail != nil {
			return nil, fail
		}
		fail, lesser := b.makeReady(ctx, c, how, due, until, began)
		if fail == nil {
			c.makeshift = b.habits.learnManner(how, know)
			return c, nil
		}
		now := time.Now()
		switch {
		case lesser == how || ctx.Err() != nil || !now.Before(until):
			return nil, fail
		case !second && !errors.Is(fail, os.ErrDeadlineExceeded):
			second = true
		default:
			how, second = lesser, false
		}
		due = b.tune.judgedAt(due, now)
	}
}

// makeReady greets on c, and closes it when that fails.
func (b *Backend) makeReady(ctx context.Context, c *conn, how manner, due, until, began time.Time) (fail *Failure, lesser manner) {
	c.clock(due, until)
	c.clockSet = began
	stop, stopClose := context.AfterFunc(ctx, c.aborter), context.AfterFunc(b.life, c.aborter)
	fail, lesser = c.greet(how)
	b.pool.notLate(c)
	ended, closed := !stop(), !stopClose()
	if fail == nil && (ended || closed) {
		fail = b.failure(StageEHLO, KindCancelled, ctx.Err())
	}
	if fail != nil {
		c.close()
		return fail, lesser
	}
	c.ready, c.stage = true, StageMail
	b.stats.opened.Add(1)
	return nil, how
}

// dial connects to the first of the backend's addresses that answers.
func (b *Backend) dial(ctx context.Context, set *settings) (*conn, *Failure) {
	began := time.Now()
	b.stats.dialled.Add(1)
	connect := b.tune.dial
	if connect == nil {
		connect = (&net.Dialer{Timeout: set.Connect.Std()}).DialContext
	}
	if b.addr.Path != "" {
		nc, err := connect(ctx, "unix", b.addr.Path)
		return b.newConn(set, nc, err, began)
	}
	ips, err := b.lookup(ctx, set)
	if err != nil {
		return nil, b.connectFailure(fmt.Errorf("looking up its name: %w", neterr.Bare(err)))
	}
	var nc net.Conn
	var all []error
	for _, ip := range ips {
		if nc, err = connect(ctx, "tcp", b.addr.dialName(ip)); err == nil {
			return b.newConn(set, nc, nil, began)
		}
		all = append(all, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, b.connectFailure(b.noneOf(ips, all))
}

// noneOf joins the failures of a name's addresses, which were tried in this order.
func (b *Backend) noneOf(ips []netip.Addr, errs []error) error {
	if _, plain := b.addr.IP(); plain && len(errs) == 1 {
		return errs[0] // the backend's own name says which one
	}
	words := make([]string, len(errs))
	for i, err := range errs {
		words[i] = ips[i].String() + ": " + neterr.Bare(err).Error()
	}
	return neterr.Say(strings.Join(words, "; "), errors.Join(errs...))
}

func (b *Backend) newConn(set *settings, nc net.Conn, err error, began time.Time) (*conn, *Failure) {
	if err != nil {
		return nil, b.connectFailure(err)
	}
	sock, err := newSocket(nc)
	if err != nil {
		_ = nc.Close()
		return nil, b.connectFailure(err)
	}
	c := &conn{b: b, set: set, sock: sock, nc: sock, began: began}
	c.in.src = c
	c.aborter = c.abort
	return c, nil
}

func (b *Backend) connectFailure(err error) *Failure {
	err = neterr.Bare(err)
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return b.failure(StageConnect, KindCancelled, err)
	case errors.As(err, &timeout) && timeout.Timeout():
		return b.failure(StageConnect, KindTimeout, err)
	}
	return b.failure(StageConnect, KindNoConnection, err)
}

// greet speaks until MAIL may be sent. When it fails and could succeed with less, lesser
// differs from how.
func (c *conn) greet(how manner) (fail *Failure, lesser manner) {
	c.stage = StageBanner
	rep, err := c.in.next(true)
	switch {
	case err != nil:
		return c.failure(StageBanner, err), how
	case rep.Code != 220:
		return c.refused(StageBanner, rep), how
	case c.isUs(rep):
		return c.b.failure(StageBanner, KindLoop, fmt.Errorf("the banner has our own name %q", c.set.hostname)), how
	}
	if fail, lesser = c.hello(how); fail != nil || !c.wantsTLS(how) {
		if fail == nil && c.mustTLS() && !c.secure {
			fail = c.b.failure(StageTLS, KindTLS, errors.New("the backend does not offer STARTTLS"))
		}
		return fail, lesser
	}
	return c.startTLS(how)
}

// hello sends EHLO, HELO or LHLO and learns what the backend offers.
func (c *conn) hello(how manner) (*Failure, manner) {
	c.stage = StageEHLO
	c.pipelining, c.utf8, c.starttls, c.size, c.sizeMax = false, false, false, false, 0
	c.unheard = how.helo
	verb := "EHLO "
	switch {
	case c.b.addr.Protocol == LMTP:
		verb = "LHLO "
	case how.helo:
		verb = "HELO "
	}
	rep, err := c.command(verb + c.ourName())
	if verb == "EHLO " && err == nil && rep.Code/100 == 5 {
		c.errors++
		c.unheard = !unimplemented(rep.Code)
		verb = "HELO "
		rep, err = c.command(verb + c.ourName())
	}
	if err != nil {
		fail := c.failure(StageEHLO, err)
		if verb == "EHLO " && fail.Kind == KindDropped {
			how.helo = true
		}
		return fail, how
	}
	if rep.Code != 250 { // a 220 is a second banner, and the right reply is still to come
		return c.refused(StageEHLO, rep), how
	}
	if c.isUs(rep) {
		return c.b.failure(StageEHLO, KindLoop, fmt.Errorf("the backend calls itself %q, which is us", c.set.hostname)), how
	}
	if verb != "HELO " {
		c.offers(rep.Text)
	}
	return nil, how
}

// offers reads the keywords of an EHLO reply; the first line is the greeting.
func (c *conn) offers(text string) {
	_, text, _ = strings.Cut(text, "\n")
	for line := range strings.SplitSeq(text, "\n") {
		keyword, argument, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch strings.ToUpper(keyword) {
		case "PIPELINING":
			c.pipelining = true
		case "SMTPUTF8":
			c.utf8 = true
		case "STARTTLS":
			c.starttls = true
		case "SIZE":
			c.size = true
			c.sizeMax, _ = strconv.ParseInt(strings.TrimSpace(argument), 10, 64) // without a number: no limit
		}
	}
}

// ourName is the argument of EHLO: a name without a dot is refused by many (504 by
// Postfix), so an address literal takes its place (RFC 5321 section 4.1.3).
func (c *conn) ourName() string {
	if strings.Contains(c.set.hostname, ".") {
		return c.set.hostname
	}
	local, ok := c.sock.LocalAddr().(*net.TCPAddr)
	if !ok {
		return "[127.0.0.1]"
	}
	ip, _ := netip.AddrFromSlice(local.IP)
	if ip = ip.Unmap(); ip.Is4() {
		return "[" + ip.String() + "]"
	}
	return "[IPv6:" + ip.WithZone("").String() + "]"
}

// isUs reports whether a banner or an EHLO reply names ourselves, which would make
// two gateways ask each other for ever. An MTA and its LMTP server share one name,
// and so may two servers on one machine.
func (c *conn) isUs(rep Reply) bool {
	name := c.set.hostname
	if !strings.Contains(name, ".") || !strings.EqualFold(strings.TrimRight(firstWord(rep.Text), "."), name) {
		return false
	}
	if c.b.addr.Protocol == LMTP {
		return false
	}
	remote, ok := c.sock.RemoteAddr().(*net.TCPAddr)
	return ok && !c.b.tune.mayLoop(remote.IP)
}

func (c *conn) mustTLS() bool { return c.set.TLS == TLSRequired && c.b.addr.Path == "" }

func (c *conn) wantsTLS(how manner) bool {
	return c.starttls && !c.secure && c.b.addr.Path == "" && (c.mustTLS() || c.set.TLS == TLSOpportunistic && !how.plain)
}

// startTLS does STARTTLS and says EHLO again: nothing that was said in the clear
// counts (RFC 3207 section 4.2).
func (c *conn) startTLS(how manner) (*Failure, manner) {
	plain := how
	plain.plain = !c.mustTLS()
	c.stage = StageTLS
	if plain.plain {
		defer c.hurry(c.b.tune.tlsWait)()
	}
	rep, err := c.command("STARTTLS")
	switch {
	case err != nil:
		return c.failure(StageTLS, err), plain
	case rep.Code == 421:
		return c.refused(StageTLS, rep), how
	case rep.Code != 220 && plain.plain:
		c.errors++
		return nil, how // RFC 3207: go on without
	case rep.Code != 220:
		return c.refused(StageTLS, rep), how
	case c.in.pending(): // what was injected in the clear would count as said under TLS
		return c.b.failure(StageTLS, KindTLS, errors.New("the backend sent more than the reply to STARTTLS before the handshake")), plain
	case c.set.rootsErr != nil && c.mustTLS():
		return c.b.failure(StageTLS, KindTLS, c.set.rootsErr), how
	}
	if err := c.handshake(); err != nil {
		return c.b.failure(StageTLS, KindTLS, neterr.Bare(err)), plain
	}
	fail, _ := c.hello(how)
	return fail, plain
}

func (c *conn) handshake() error {
	until := c.until
	if soon := time.Now().Add(2 * c.b.tune.tlsWait); soon.Before(until) {
		until = soon // without a choice it may take longer
	}
	c.arm(until)
	t := tls.Client(c.sock, c.set.tlsConfig(c.b.addr))
	if err := t.HandshakeContext(context.Background()); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	c.nc, c.secure = t, true
	c.wait()
	return nil
}
