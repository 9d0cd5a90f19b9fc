// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"

	"rcptgate"
	"rcptgate/backend/sim"
)

func BenchmarkProbe(b *testing.B) {
	server := startSim(b, func(c *sim.Config) { c.AcceptAll = true })
	back := newTestBackend(b, server, Config{})
	m := rcptgate.Mailbox{Path: "user@example.com", Local: "user", Domain: "example.com"}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := back.Ask(ctx, Probe{Recipient: m}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPingPong is the yardstick: one write and one read on each side of a
// loopback connection, as many octets as a probe.
func BenchmarkPingPong(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		buf := make([]byte, 4096)
		for {
			if _, err := nc.Read(buf); err != nil {
				return
			}
			if _, err := nc.Write(buf[:44]); err != nil {
				return
			}
		}
	}()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	buf := make([]byte, 4096)
	for b.Loop() {
		if _, err := nc.Write(buf[:56]); err != nil {
			b.Fatal(err)
		}
		if _, err := nc.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMisses(b *testing.B) {
	for _, askers := range []int{8, 64} {
		b.Run(fmt.Sprint(askers), func(b *testing.B) {
			server := startSim(b, oneInTwenty)
			back := newTestBackend(b, server, Config{})
			var next atomic.Int64
			b.ResetTimer()
			done := make(chan error, askers)
			for range askers {
				go func() {
					for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
						if _, err := back.Ask(context.Background(), Probe{Recipient: numbered(int(n))}); err != nil {
							done <- err
							return
						}
					}
					done <- nil
				}()
			}
			for range askers {
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "misses/s")
			b.ReportMetric(float64(server.Stats().Connections), "connections")
		})
	}
}

func numbered(n int) rcptgate.Mailbox {
	local := fmt.Sprintf("u%d", n)
	return rcptgate.Mailbox{Path: local + "@example.com", Local: local, Domain: "example.com"}
}

// oneInTwenty refuses u20, u40, ...
func oneInTwenty(c *sim.Config) {
	c.Decide = func(recipient string) string {
		var n int
		if _, err := fmt.Sscanf(recipient, "u%d@", &n); err == nil && n%20 != 0 {
			return "250 2.1.5 Ok"
		}
		return ""
	}
}
