// SPDX-License-Identifier: BSD-2-Clause

package demo

import (
	"net"

	"rcptgate/check/quota/wire"
)

// quotaAgent answers for the mail store how much room a mailbox has: dan has none left.
type quotaAgent struct{ conn net.PacketConn }

func startQuotaAgent() (*quotaAgent, error) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &quotaAgent{conn}
	go a.serve()
	return a, nil
}

// Source is the agent as [quota] names it.
func (a *quotaAgent) Source() string { return "udp:" + a.conn.LocalAddr().String() }

func (a *quotaAgent) Stop() { _ = a.conn.Close() }

// serve answers in the plain words of the protocol until the socket is closed.
func (a *quotaAgent) serve() {
	buf := make([]byte, wire.MaxLine)
	for {
		n, from, err := a.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		req, err := wire.ParseRequest(buf[:n])
		if err != nil {
			continue
		}
		answer := wire.NewAnswer(wire.Room)
		if req.User == "dan@"+domain {
			answer.State = wire.Full
		}
		_, _ = a.conn.WriteTo(answer.AppendPlain(nil), from)
	}
}
