// SPDX-License-Identifier: BSD-2-Clause

package source

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"rcptgate/kit/notice"
)

// TestAnErrorNamesTheSourceOnce, of every kind, in errors, in the log and in what status shows.
func TestAnErrorNamesTheSourceOnce(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	at := l.Addr().String()
	for _, name := range []string{"tcp:" + at, "udp:" + at, "policy:" + at, "socketmap:" + at + ":quota", "http://" + at + "/quota?u={user}"} {
		var log bytes.Buffer
		s := NewSet(notice.New(slog.New(slog.NewTextHandler(&log, nil))))
		g, err := s.Get(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for range failures {
			_, err = g.Ask(t.Context(), Mailbox{User: "ann"}, 1, 10*time.Second)
			if err == nil || strings.Count(err.Error(), at) != 1 || !strings.Contains(err.Error(), "connection refused") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if strings.Count(log.String(), at) != 1 {
			t.Errorf("%s: the log has %q", name, log.String())
		}
		if st := g.Health(); st.Error == "" || strings.Contains(st.Error, at) {
			t.Errorf("%s: status, next to the source's name, has %q", name, st.Error)
		}
		s.Close()
	}
}
