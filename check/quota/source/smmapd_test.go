// SPDX-License-Identifier: BSD-2-Clause

package source

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"rcptgate/check/quota/room"
	"rcptgate/test/lab"
)

// A real Cyrus smmapd: room, full, no quota root, unknown; a name that would not fit into its
// buffer never reaches it.
func TestRealSmmapd(t *testing.T) {
	server := lab.StartCyrus(t, "ann@cyrus.test", "bob@cyrus.test")
	ask := func(user string, want room.State) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s := &socketmap{network: "tcp", address: server.Smmap, name: "cyrus"}
		if got, err := s.Ask(ctx, Mailbox{User: user}, 1); err != nil || got.State != want {
			t.Errorf("%.40s: %+v, %v; want %v", user, got, err, want)
		}
	}
	ask("nobody@cyrus.test", room.Unknown)
	ask("bob@cyrus.test", room.Room) // without a quota root
	server.SetLimit("ann@cyrus.test", 100)
	ask("ann@cyrus.test", room.Room)
	server.Fill("ann@cyrus.test", 50_000)
	server.SetLimit("ann@cyrus.test", 10)
	ask("ann@cyrus.test", room.Full)
	server.Empty("ann@cyrus.test")
	ask("ann@cyrus.test", room.Room)
	ask(strings.Repeat("x", 980)+"@cyrus.test", room.Unknown) // 997 octets with the map's name
	ask("ann@cyrus.test", room.Room)
}

// Requests to smmapd have at most 1,000 octets.
func TestSocketmapRequestIsBounded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // nothing was accepted
	asked := make(chan struct{}, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			asked <- struct{}{}
			_ = c.Close()
		}
	}()
	s := &socketmap{network: "tcp", address: l.Addr().String(), name: "cyrus"}
	got, err := s.Ask(t.Context(), Mailbox{User: strings.Repeat("x", 995)}, 1)
	if err != nil || got.State != room.Unknown {
		t.Errorf("%+v, %v", got, err)
	}
	select {
	case <-asked:
		t.Error("the server was connected to")
	default:
	}
}
