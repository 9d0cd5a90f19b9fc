// SPDX-License-Identifier: BSD-2-Clause

package quotad

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"rcptgate/front/listen"
)

// Server is an agent with its sockets.
type Server struct {
	agent *Agent
	udp   []*net.UDPConn
	tcp   []net.Listener
	http  net.Listener // nil: off
}

// Listen opens the sockets of the active configuration.
func (a *Agent) Listen(ctx context.Context) (*Server, error) {
	c := a.active.Load().config.Listen
	s := &Server{agent: a}
	var lc net.ListenConfig
	fail := func(err error) (*Server, error) {
		s.Close()
		return nil, err
	}
	for _, address := range c.UDP {
		conn, err := lc.ListenPacket(ctx, "udp", address)
		if err != nil {
			return fail(listen.Failed("udp "+address, err))
		}
		udp, ok := conn.(*net.UDPConn)
		if !ok {
			return fail(fmt.Errorf("listen for datagrams on %s: not a UDP socket", address))
		}
		_ = udp.SetReadBuffer(1 << 20) // bursts; the system may allow less
		s.udp = append(s.udp, udp)
	}
	for _, address := range c.TCP {
		l, err := lc.Listen(ctx, "tcp", address)
		if err != nil {
			return fail(listen.Failed("tcp "+address, err))
		}
		s.tcp = append(s.tcp, friends{l, a})
	}
	if c.HTTP != "" {
		l, err := lc.Listen(ctx, "tcp", c.HTTP)
		if err != nil {
			return fail(listen.Failed("http "+c.HTTP, err))
		}
		s.http = friends{l, a}
		if a.active.Load().cert != nil {
			s.http = tls.NewListener(s.http, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				if cert := a.active.Load().cert; cert != nil {
					return cert, nil
				}
				return nil, errors.New("no certificate")
			}})
		}
	}
	return s, nil
}

// UDPAddr is where the first datagram socket listens.
func (s *Server) UDPAddr() net.Addr { return s.udp[0].LocalAddr() }

// Close closes the sockets.
func (s *Server) Close() {
	for _, c := range s.udp {
		_ = c.Close()
	}
	for _, l := range s.tcp {
		_ = l.Close()
	}
	if s.http != nil {
		_ = s.http.Close()
	}
}

// Serve answers until ctx ends, and closes the sockets.
func (s *Server) Serve(ctx context.Context) error {
	var running sync.WaitGroup
	for _, c := range s.udp {
		running.Go(func() { s.agent.serveUDP(c) })
	}
	failed := make(chan error, len(s.tcp)+1)
	for _, l := range s.tcp {
		running.Go(func() {
			if err := s.agent.serveTCP(l); !errors.Is(err, net.ErrClosed) {
				failed <- fmt.Errorf("accept connections on %v: %w", l.Addr(), err)
			}
		})
	}
	if s.http != nil {
		server := &http.Server{Handler: s.agent.handler(), ReadHeaderTimeout: lineTime, ReadTimeout: lineTime, WriteTimeout: 2 * lineTime, IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10}
		running.Go(func() {
			if err := listen.ServeHTTP(ctx, s.http, server, maxConns, true, askTime); err != nil {
				failed <- err
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.Close()
	running.Wait()
	return err
}

// Run listens and answers until ctx ends. On what comes from hangups it reads the
// configuration again; a mistake in it changes nothing.
func (a *Agent) Run(ctx context.Context, reread func() (*Config, error), hangups <-chan os.Signal) error {
	s, err := a.Listen(ctx)
	if err != nil {
		return err
	}
	a.log.Info("the quota agent is ready", "configuration", a.active.Load().config.Source, "stores", len(a.active.Load().stores))
	a.warnOfNobody()
	_, _ = sd.SdNotify(false, sd.SdNotifyReady)
	defer func() { _, _ = sd.SdNotify(false, sd.SdNotifyStopping) }()
	ctx, end := context.WithCancel(ctx)
	defer end()
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	var alive <-chan time.Time
	if every, err := sd.SdWatchdogEnabled(false); err == nil && every > 0 {
		alive = time.Tick(every / 2)
	}
	for {
		select {
		case err := <-ended:
			return err
		case <-alive:
			_, _ = sd.SdNotify(false, sd.SdNotifyWatchdog)
		case <-hangups:
			_, _ = sd.SdNotify(false, sd.SdNotifyReloading+"\n"+sd.SdNotifyMonotonicUsec())
			a.reload(reread)
			_, _ = sd.SdNotify(false, sd.SdNotifyReady)
		}
	}
}

// warnOfNobody warns if the agent listens on the network and nobody there may ask.
func (a *Agent) warnOfNobody() {
	c := &a.active.Load().config.Listen
	if key := c.open(); key != "" && len(c.Clients) == 0 {
		a.log.Warn("only programs on this machine get an answer: name the gateways in [listen] clients", "listens", key)
	}
}

func (a *Agent) reload(reread func() (*Config, error)) {
	before := a.active.Load().config.Listen
	c, err := reread()
	if err == nil {
		err = a.Adopt(c)
	}
	if err != nil {
		a.log.Error("reload failed, keeping the old configuration", "error", err)
		return
	}
	a.log.Info("configuration reloaded", "configuration", c.Source)
	a.warnOfNobody()
	if now := c.Listen; !slices.Equal(before.UDP, now.UDP) || !slices.Equal(before.TCP, now.TCP) || before.HTTP != now.HTTP || (before.Cert == "") != (now.Cert == "") {
		a.log.Warn("changes of the addresses to listen on need a restart")
	}
}
