// SPDX-License-Identifier: BSD-2-Clause

package milter_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate/config/setting"
	"rcptgate/front/milter"
	"rcptgate/front/milter/mta"
	"rcptgate/front/milter/wire"
	"rcptgate/kit/testkit"
)

// endsWithin waits until the filter has ended the connection.
func endsWithin(t *testing.T, nc net.Conn) {
	t.Helper()
	_ = nc.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.Copy(io.Discard, nc); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Fatal("the connection was not ended")
	}
}

func raw(t *testing.T, srv *running, octets []byte) net.Conn {
	t.Helper()
	nc, err := net.Dial(srv.socket.Network, srv.socket.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	return opened(t, nc, octets)
}

// opened is a connection on which something has been sent.
func opened(t *testing.T, nc net.Conn, octets []byte) net.Conn {
	t.Helper()
	if len(octets) > 0 {
		if _, err := nc.Write(octets); err != nil {
			t.Fatal(err)
		}
	}
	return nc
}

var bareOptions = wire.AppendOptions(nil, wire.Options{Version: 6})

// A malformed frame costs its connection and one log line, nothing else.
func TestMalformedFrameEndsOnlyItsConnection(t *testing.T) {
	srv := start(t, &asker{}, milter.Config{}, "tcp")
	good := srv.dial(t, mta.Options{})
	endsWithin(t, raw(t, srv, append(bareOptions[:len(bareOptions):len(bareOptions)], 0, 0, 0, 1, 'D')))
	testkit.Eventually(t, "the count of protocol errors", func() bool { return srv.Stats().ProtocolErrors == 1 })
	testkit.Eventually(t, "the log line", func() bool { return strings.Count(srv.log.String(), "milter connection ended") == 1 })
	if log := srv.log.String(); !strings.Contains(log, "macros without a command") {
		t.Errorf("the log does not say what was wrong: %s", log)
	}
	say(t)(good.Connect("client.example", client))
}

func TestHalfSentFrameIsNotWaitedForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, dial := inMemory(t, &asker{}, milter.Config{FrameTime: setting.Duration(200 * time.Millisecond)})
		long := wire.AppendStrings(nil, wire.CmdRcpt, strings.Repeat("x", 40000))
		for _, part := range [][]byte{long[:3], long[:30000]} {
			nc := opened(t, dial(), append(bareOptions[:len(bareOptions):len(bareOptions)], part...))
			// Dripping does not prolong it.
			stop := make(chan struct{})
			done := make(chan struct{})
			go func() {
				defer close(done)
				for _, octet := range long[len(part):] {
					select {
					case <-stop:
						return
					case <-time.After(20 * time.Millisecond):
						if _, err := nc.Write([]byte{octet}); err != nil {
							return
						}
					}
				}
			}()
			endsWithin(t, nc)
			close(stop)
			<-done
		}
		testkit.Eventually(t, "the count of time-outs", func() bool { return srv.Stats().TimedOut == 2 })
	})
}

// A connection that is asked something now and then is not idle, though it looks the
// same each time the watch comes by.
func TestBusyConnectionIsNotIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const idle = 2 * time.Second
		srv, dial := inMemory(t, continues{}, milter.Config{Idle: setting.Duration(idle)})
		c := speak(t, dial())
		for begun := time.Now(); time.Since(begun) < 10*idle; time.Sleep(idle / 40) {
			say(t)(c.Connect("client.example", client))
		}
		time.Sleep(idle * 9 / 10)
		say(t)(c.Connect("client.example", client))
		if n := srv.Stats().TimedOut; n != 0 {
			t.Errorf("%d connections timed out", n)
		}
	})
}

func TestIdleConnectionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const idle = time.Second
		_, dial := inMemory(t, &asker{}, milter.Config{Idle: setting.Duration(idle)})
		nc := opened(t, dial(), bareOptions)
		begun := time.Now()
		endsWithin(t, nc)
		if after := time.Since(begun); after < idle || after > idle*5/4 {
			t.Errorf("ended after %v", after)
		}
	})
}

// A peer that sends and never reads must not hold its connection's goroutine.
func TestPeerThatDoesNotReadItsAnswers(t *testing.T) {
	srv := start(t, &asker{}, milter.Config{FrameTime: setting.Duration(200 * time.Millisecond)}, "unix")
	nc := raw(t, srv, bareOptions)
	frames := []byte{}
	for range 1000 {
		frames = wire.AppendFrame(frames, wire.CmdHelo, 'x', 0)
	}
	_ = nc.SetWriteDeadline(time.Now().Add(time.Minute))
	for {
		if _, err := nc.Write(frames); err != nil {
			break
		}
	}
	testkit.Eventually(t, "the connection's end", func() bool { s := srv.Stats(); return s.Open == 0 && s.TimedOut == 1 })
}

func TestTooManyConnectionsAreClosedAtOnce(t *testing.T) {
	srv := start(t, &asker{}, milter.Config{Connections: 2}, "unix")
	first, second := srv.dial(t, mta.Options{}), srv.dial(t, mta.Options{})
	for range 3 {
		endsWithin(t, raw(t, srv, nil))
	}
	if got := srv.Stats(); got.Refused != 3 || got.Open != 2 {
		t.Errorf("stats %+v", got)
	}
	testkit.Eventually(t, "the log line", func() bool { return strings.Contains(srv.log.String(), "too many connections") })
	if n := strings.Count(srv.log.String(), "too many connections"); n != 1 {
		t.Errorf("%d log lines for 3 refused connections", n)
	}
	say(t)(first.Connect("client.example", client))
	if err := second.Quit(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "room for another", func() bool { return srv.Stats().Open == 1 })
	say(t)(srv.dial(t, mta.Options{}).Connect("client.example", client))
}

// Frames as long as an MTA can make them are answered, however they arrive.
func TestLongFrames(t *testing.T) {
	gate := &asker{}
	c := start(t, gate, milter.Config{}, "tcp").dial(t, mta.Options{Bare: true, Version: 6})
	say := say(t)
	name := strings.Repeat("l", 65000) + "@example.com"
	say(c.Mail(name, nil, macros("{x}", strings.Repeat("y", 60000))...))
	say(c.Rcpt(name, macros("{rcpt_addr}", name)...))
	if q := gate.last(t); q.Recipient.Path != name || q.Sender != name || q.NextHop.Addr != name {
		t.Error("a long name did not come through")
	}
	for range 3 {
		say(c.Body([]byte(strings.Repeat("b", 65535))))
	}
	say(c.Rcpt("u@example.com"))
	if q := gate.last(t); q.Recipient.Path != "u@example.com" {
		t.Errorf("after long frames: %q", q.Recipient.Path)
	}
}
