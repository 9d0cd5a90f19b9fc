// SPDX-License-Identifier: BSD-2-Clause

package web

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// As many slow clients as there may be connections keep nobody from the health page: no
// time-out ends them here.
func TestSlowClientsDoNotHideTheHealth(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{})
	s.readTimeout = time.Hour
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	for range maxConnections {
		slow, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = slow.Close() }()
		if _, err := io.WriteString(slow, "GET /healthz HTTP/1.1\r\nHost: loc"); err != nil {
			t.Fatal(err)
		}
	}
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + l.Addr().String() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("status %d", resp.StatusCode)
	}
}
