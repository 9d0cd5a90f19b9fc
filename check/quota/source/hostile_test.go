// SPDX-License-Identifier: BSD-2-Clause

package source

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rcptgate/check/quota/room"
	"rcptgate/check/quota/wire"
	"rcptgate/kit/notice"
)

// TestPatternsDoNotReachDoveadm: doveadm takes "*" and "?" in a user's name as a pattern, goes
// through all users, and the answer would be that of whichever comes last.
func TestPatternsDoNotReachDoveadm(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = w.Write([]byte(`[["doveadmResponse",[{"root":"User quota","type":"STORAGE","value":"9","limit":"9"}],"q"]]`))
	}))
	defer server.Close()
	s := newSet(t)
	for user, want := range map[string]string{"ann": "full", "*": "unknown", "*@example.com": "unknown", "?nn@example.com": "unknown"} {
		if got := ask(t, s, "doveadm:"+server.URL, user, 1); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %s", user, got, want)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("%d questions", n)
	}
}

// TestStrangeNamesDoNotOpenTheBreaker: a sender makes names up. What cannot be asked about is
// not the source's failure, which would switch the check off for everybody.
func TestStrangeNamesDoNotOpenTheBreaker(t *testing.T) {
	keys, err := wire.ParseKeys([]byte("gateway-number-1 000102030405060708090a0b0c0d0e0f"))
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"a\xff@example.com", "a\u0085@example.com", strings.Repeat("=", 308) + "@example.com", strings.Repeat("a", wire.MaxUser+1)} {
		s := newSet(t)
		s.Configure(Settings{Keys: keys, Timeout: time.Second})
		g, err := s.Get("udp:127.0.0.1:9")
		if err != nil {
			t.Fatal(err)
		}
		for range failures {
			if a, err := g.Ask(t.Context(), Mailbox{User: user}, 1<<40, time.Minute); err != nil || a.State != room.Unknown {
				t.Fatalf("%.20q: %+v, %v", user, a, err)
			}
		}
		if h := g.Health(); !h.Up || h.Error != "" {
			t.Errorf("%.20q: %+v", user, h)
		}
	}
}

// TestOneBadMailboxDoesNotOpenTheBreaker: an agent that cannot find out about one mailbox works,
// and somebody who names that mailbox again and again must not switch it off for all. One that
// is too busy, or whose clock is wrong, is of no use.
func TestOneBadMailboxDoesNotOpenTheBreaker(t *testing.T) {
	for why, up := range map[string]bool{"store": true, "error": true, "busy": false, "timeout": false, "clock": false} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answer := wire.Failed(why)
			_, _ = w.Write(wire.AppendJSON(nil, r.URL.Query().Get("user"), &answer))
		}))
		s := NewSet(notice.New(slog.New(slog.DiscardHandler)))
		t.Cleanup(s.Close)
		g, err := s.Get(server.URL + "/v1/quota")
		if err != nil {
			t.Fatal(err)
		}
		for range 2 * failures {
			if a, err := g.Ask(t.Context(), Mailbox{User: "ann"}, 1, time.Minute); err == nil {
				t.Fatalf("%s: %+v", why, a)
			}
		}
		if h := g.Health(); h.Up != up {
			t.Errorf("%s: %+v", why, h)
		}
		server.Close()
	}
}

// TestFileNeverRefusesByWhatIsDoubtful: half a line is half a number, and while the file has a
// mistake nothing is known.
func TestFileNeverRefusesByWhatIsDoubtful(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quota")
	f := newFile(path)
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct{ text, want string }{
		{"bob 1 9\nann 500 10", "unknown"}, // of 1000
		{"ann 500 100\n", "full"},
		{"ann 500 100\nbob\n", "error"},
		{"ann 500 1000\n", "room"},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		at = at.Add(time.Hour)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		f.looked = time.Time{}
		for range 3 { // the second question within the second as the first
			if got := said(f.Ask(t.Context(), Mailbox{User: "ann"}, 1)); !strings.HasPrefix(got, c.want) {
				t.Errorf("%q: %q, want %s", c.text, got, c.want)
			}
		}
	}
}

// TestFileOnADiskThatHangs: askers leave at their deadline.
func TestFileOnADiskThatHangs(t *testing.T) {
	f := newFile("/")
	f.turn <- struct{}{} // somebody reads, and does not come back
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := f.Ask(ctx, Mailbox{User: "ann"}, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
