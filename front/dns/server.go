// SPDX-License-Identifier: BSD-2-Clause

package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"rcptgate/front/listen"
	"rcptgate/kit/guard"
)

const (
	maxMessage = 1232            // octets of a question; a legal one has far fewer
	tcpConns   = 64              // one more takes the place of the one that has asked nothing for the longest time
	tcpTime    = 5 * time.Second // for a question over TCP, and between two
)

// zones are what one configuration serves, and whom.
type zones struct {
	list    []zone
	allow   []Allowed
	trusted func(client netip.Addr) bool
}

// allows reports whether a client may ask: this machine always may.
func (z *zones) allows(client netip.Addr) bool {
	if client = client.Unmap(); client.IsLoopback() {
		return true
	}
	for i := range z.allow {
		if a := &z.allow[i]; a.Trusted && z.trusted != nil && z.trusted(client) || !a.Trusted && a.Network.Has(client) {
			return true
		}
	}
	return false
}

// server answers on sockets.
type server struct {
	active atomic.Pointer[zones]
	log    *slog.Logger
	counts [kindCount]atomic.Uint64
	tcp    listen.Exchange
}

func newServer(log *slog.Logger, broken func(client net.Addr, err error)) *server {
	s := &server{log: log}
	s.active.Store(&zones{})
	s.tcp = listen.Exchange{
		Name: "dns", Most: tcpConns, Yield: true, Idle: tcpTime, Frame: tcpTime, Drain: tcpTime, Size: maxMessage + 2,
		Split: split, Answer: s.stream, Broken: broken, Log: log,
	}
	return s
}

// sockets are one address.
type sockets struct {
	udp *net.UDPConn
	tcp net.Listener
}

func (s sockets) close() {
	_ = s.udp.Close()
	_ = s.tcp.Close()
}

// openSockets listens for datagrams and connections on the same port.
func openSockets(ctx context.Context, address string) (s sockets, err error) {
	var lc net.ListenConfig
	for range 20 { // port 0 is any that is free for both
		conn, err := lc.ListenPacket(ctx, "udp", address)
		if err != nil {
			return s, err
		}
		udp, ok := conn.(*net.UDPConn)
		if !ok {
			return s, fmt.Errorf("listen on %s: not a UDP socket", address)
		}
		s.udp = udp
		if s.tcp, err = lc.Listen(ctx, "tcp", udp.LocalAddr().String()); err == nil {
			_ = udp.SetReadBuffer(1 << 20) // bursts; the system may allow less
			return s, nil
		}
		_ = udp.Close()
		if _, port, _ := net.SplitHostPort(address); port != "0" {
			return s, err
		}
	}
	return s, errors.New("no port is free for UDP and TCP")
}

// serve answers until ctx ends, and closes the sockets.
func (s *server) serve(ctx context.Context, list []sockets) error {
	var all sync.WaitGroup
	var tcp []net.Listener
	for _, one := range list {
		stop := context.AfterFunc(ctx, func() { _ = one.udp.Close() })
		defer stop()
		for range min(runtime.GOMAXPROCS(0), 4) {
			all.Go(func() { s.datagrams(one.udp) })
		}
		tcp = append(tcp, one.tcp)
	}
	err := s.tcp.Serve(ctx, tcp...)
	if err != nil { // then nothing is served: the daemon ends
		for _, one := range list {
			_ = one.udp.Close()
		}
	}
	all.Wait()
	return err
}

// reader is what one goroutine needs for all of its datagrams.
type reader struct {
	in  [maxMessage]byte
	out [maxUDP]byte
	q   question
}

// datagrams answers them until the socket is closed.
func (s *server) datagrams(conn *net.UDPConn) {
	r := new(reader)
	for {
		err := s.datagram(conn, r)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // want of memory, an answer that could not leave: neither lasts
			time.Sleep(time.Millisecond)
		}
	}
}

// datagram answers one.
func (s *server) datagram(conn *net.UDPConn, r *reader) error {
	defer guard.Log(s.log, "a DNS question was dropped after a panic")
	n, from, err := conn.ReadFromUDPAddrPort(r.in[:])
	if err != nil {
		return err
	}
	if from.Port() == 0 { // nobody can be there
		s.counts[kindDropped].Add(1)
		return nil
	}
	z := s.active.Load()
	out, k := respond(z.list, r.out[:0], r.in[:n], &r.q, z.allows(from.Addr()), true, time.Now())
	s.counts[k].Add(1)
	if len(out) > 0 {
		_, err = conn.WriteToUDPAddrPort(out, from)
	}
	return err
}

// split finds a message behind its length (RFC 1035 section 4.2.2).
func split(arrived []byte) (msg []byte, taken int, err error) {
	if len(arrived) < 2 {
		return nil, 0, nil
	}
	size := int(binary.BigEndian.Uint16(arrived))
	switch {
	case size < headerSize || size > maxMessage:
		return nil, 0, fmt.Errorf("a DNS message of %d octets", size)
	case len(arrived) < 2+size:
		return nil, 0, nil
	}
	return arrived[2 : 2+size], 2 + size, nil
}

var (
	errNoQuestion = errors.New("a DNS message that is not a question")
	errNotAllowed = errors.New("a DNS question of a client that is not in allow")
)

// stream answers a question over TCP.
func (s *server) stream(_ context.Context, client net.Addr, out, msg []byte) ([]byte, error) {
	z, allowed := s.active.Load(), false
	if tcp, ok := client.(*net.TCPAddr); ok {
		allowed = z.allows(tcp.AddrPort().Addr())
	}
	answer, k := respond(z.list, nil, msg, new(question), allowed, false, time.Now())
	s.counts[k].Add(1)
	if len(answer) == 0 {
		return out, errNoQuestion
	}
	out = append(binary.BigEndian.AppendUint16(out, uint16(len(answer))), answer...)
	if !allowed {
		return out, errNotAllowed // it hears that it is refused, and makes room for others
	}
	return out, nil
}
