// SPDX-License-Identifier: BSD-2-Clause

package milter_test

import (
	"context"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"rcptgate"
	"rcptgate/config/setting"
	"rcptgate/front/milter"
	"rcptgate/front/milter/mta"
)

type continues struct{}

func (continues) Wants() rcptgate.Wants { return 0 }

func (continues) Ask(context.Context, *rcptgate.Query) rcptgate.Verdict { return rcptgate.Verdict{} }

// BenchmarkRcpt measures recipients through eight connections, as eight smtpd
// processes of a Postfix would send them: "echo" answers and looks into nothing,
// "front" makes a question of each.
func BenchmarkRcpt(b *testing.B) {
	for _, network := range []string{"unix", "tcp"} {
		for _, two := range []bool{false, true} {
			style := map[bool]string{false: "postfix", true: "sendmail"}[two]
			b.Run("echo/"+network+"/"+style, func(b *testing.B) {
				benchmarkRcpt(b, startEcho(b, network), mta.Options{TwoWrites: two, Timeout: -1})
			})
			b.Run("front/"+network+"/"+style, func(b *testing.B) {
				benchmarkRcpt(b, start(b, continues{}, milter.Config{}, network).socket, mta.Options{TwoWrites: two, Timeout: -1})
			})
		}
	}
}

func startEcho(b testing.TB, network string) setting.Socket {
	b.Helper()
	socket := setting.Socket{Network: "tcp", Address: "127.0.0.1:0"}
	if network == "unix" {
		socket = setting.Socket{Network: "unix", Address: filepath.Join(b.TempDir(), "m.sock")}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ln, err := milter.Listen(ctx, socket, 0, "")
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- milter.NewEcho(0).Serve(ctx, ln) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Errorf("echo: %v", err)
		}
	})
	return setting.Socket{Network: network, Address: ln.Addr().String()}
}

func benchmarkRcpt(b *testing.B, socket setting.Socket, options mta.Options) {
	const connections, perMail = 8, 50
	r := &running{socket: socket}
	clients := make([]*mta.Client, connections)
	for i := range clients {
		clients[i] = r.dial(b, options)
		say(b)(clients[i].Connect("client.example", client))
		say(b)(clients[i].Helo("client.example"))
	}
	names := make([]string, 64)
	for i := range names {
		names[i] = "recipient" + strconv.Itoa(i) + "@example.com"
	}
	b.ReportAllocs()
	before := cpuTime()
	b.ResetTimer()
	var running sync.WaitGroup
	for i, c := range clients {
		running.Go(func() {
			hop := macros("i", "4XyZ1234", "{rcpt_mailer}", "smtp", "{rcpt_host}", "[127.0.0.1]:2600", "{rcpt_addr}", "")
			for n := range b.N/connections + 1 {
				if n%perMail == 0 {
					_ = c.Abort()
					if _, err := c.Mail("sender@example.org", nil); err != nil {
						b.Errorf("mail: %v", err)
						return
					}
				}
				name := names[(n+i)%len(names)]
				hop[3].Value = name
				if _, err := c.Rcpt(name, hop...); err != nil {
					b.Errorf("rcpt: %v", err)
					return
				}
			}
		})
	}
	running.Wait()
	b.StopTimer()
	// Of both ends, and steadier than the time by the clock on a busy machine.
	b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
}

func cpuTime() int64 {
	var used syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	return used.Utime.Nano() + used.Stime.Nano()
}
