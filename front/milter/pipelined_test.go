// SPDX-License-Identifier: BSD-2-Clause

package milter_test

import (
	"net"
	"testing"
	"time"

	"rcptgate/front/milter"
	"rcptgate/front/milter/wire"
	"rcptgate/kit/testkit"
)

// negotiated is a raw connection whose option negotiation is over.
func negotiated(t *testing.T, srv *running, network string) (net.Conn, *wire.Reader) {
	t.Helper()
	nc, err := net.Dial(network, srv.socket.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	reader := wire.NewReader(nc, anyFrame)
	_, err = nc.Write(wire.AppendOptions(nil, wire.Options{Version: 6}))
	if err == nil {
		_, _, err = readFrame(reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return nc, reader
}

func rcptFrame(recipient string) []byte {
	return wire.AppendFrame(nil, wire.CmdRcpt, []byte("<"+recipient+">\x00")...)
}

// TestPipelined has a peer that does not wait for answers. It gets all of them, whichever way
// its frames are cut.
func TestPipelined(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			srv := start(t, &asker{}, milter.Config{}, network)
			nc, reader := negotiated(t, srv, network)
			const recipients = 2000
			go func() {
				var frames []byte
				for range recipients {
					frames = append(frames, rcptFrame("ann@example.com")...)
				}
				for n := 1; len(frames) > 0; n = (n*7 + 3) % 211 {
					n = min(max(n, 1), len(frames))
					_, _ = nc.Write(frames[:n])
					frames = frames[n:]
				}
			}()
			for i := range recipients {
				if cmd, _, err := readFrame(reader); cmd != wire.ReplyContinue || err != nil {
					t.Fatalf("answer %d: %q, %v", i, cmd, err)
				}
			}
		})
	}
}

// TestGoneWithTheQuestion has a peer that sends its last question and its end in one go. The
// connection must not lie there until it has been idle for too long.
func TestGoneWithTheQuestion(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			srv := start(t, &asker{}, milter.Config{}, network)
			for range 50 {
				nc, _ := negotiated(t, srv, network)
				_, _ = nc.Write(rcptFrame("ann@example.com"))
				_ = nc.Close()
			}
			testkit.Eventually(t, "all connections have ended", func() bool { return srv.Stats().Open == 0 })
		})
	}
}
