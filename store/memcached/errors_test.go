// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"rcptgate/kit/notice"
)

// TestAnErrorNamesTheServerOnce in errors, in the log and in what status shows.
func TestAnErrorNamesTheServerOnce(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	server, err := ParseServer("inet:" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Servers = []Server{server}
	var log bytes.Buffer
	c, err := NewClient(cfg, slog.New(slog.DiscardHandler), ClientOptions{Timeout: 10 * time.Second, Notices: notice.New(slog.New(slog.NewTextHandler(&log, nil)))})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, _, err = c.Get(t.Context(), c.Key("a", "h", "ann@example.org"))
	if err == nil || strings.Count(err.Error(), "127.0.0.1") != 1 || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("%v", err)
	}
	if strings.Count(log.String(), "127.0.0.1") != 1 {
		t.Errorf("the log has %q", log.String())
	}
	if st := c.Stats()[0]; st.Alive || strings.Contains(st.Error, "127.0.0.1") {
		t.Errorf("status, next to the server's name, has %+v", st)
	}
}
