// SPDX-License-Identifier: BSD-2-Clause

package milter_test

import (
	"errors"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"rcptgate/front/milter"
	"rcptgate/front/milter/mta"
	"rcptgate/front/milter/wire"
	"rcptgate/kit/testkit"
)

// Idle connections and frames that were half sent cost little memory and do not slow
// the others. The count is bounded by the open files a test may have.
func TestManyIdleConnections(t *testing.T) {
	count := testkit.Rounds(2000, 9000)
	if testing.Short() {
		count = 500
	}
	srv := start(t, continues{}, milter.Config{}, "unix")
	before := memory()
	idle := make([]net.Conn, 0, count)
	defer func() {
		for _, nc := range idle {
			_ = nc.Close()
		}
	}()
	for i := range count {
		if i%64 == 0 { // a queue of connections holds 128 on some machines
			testkit.Eventually(t, "connections taken", func() bool { return srv.Stats().Accepted+64 >= uint64(i) })
		}
		nc, err := net.Dial("unix", srv.socket.Address)
		if errors.Is(err, syscall.EMFILE) {
			for range 100 { // room for what follows
				_ = idle[len(idle)-1].Close()
				idle = idle[:len(idle)-1]
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, nc)
		say := wire.AppendOptions(nil, wire.Options{Version: 6, Actions: wire.ActionsAll, Protocol: wire.ProtocolAll})
		say = wire.AppendConnect(say, "client.example", wire.FamilyIPv4, 25, "192.0.2.7")
		say = wire.AppendStrings(say, wire.CmdMail, "<sender@example.org>")
		say = wire.AppendStrings(say, wire.CmdRcpt, "<recipient@example.com>")
		if i%90 == 0 {
			say = append(say, 0, 0, 1, 0, 'R') // a frame that never comes
		}
		if _, err := nc.Write(say); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	testkit.Eventually(t, "all recipients", func() bool { return srv.Stats().Recipients >= uint64(len(idle)) })
	each := (memory() - before) / int64(len(idle))
	t.Logf("%d idle connections, both ends: %d octets each (stack, heap)", len(idle), each)
	if each > 20_000 {
		t.Errorf("an idle connection costs %d octets", each)
	}
	c := srv.dial(t, mta.Options{})
	say(t)(c.Connect("client.example", client))
	begun := time.Now()
	for range 1000 {
		say(t)(c.Rcpt("recipient@example.com"))
	}
	t.Logf("a recipient beside them takes %v", time.Since(begun)/1000)
}

func memory() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
