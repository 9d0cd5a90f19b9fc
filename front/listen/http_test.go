// SPDX-License-Identifier: BSD-2-Clause

package listen

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// A request in progress is answered after the end has begun, and ServeHTTP returns only
// then.
func TestServeHTTPDrains(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked, answer := make(chan struct{}), make(chan struct{})
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(asked)
		<-answer
		_, _ = io.WriteString(w, "late")
	})}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- ServeHTTP(ctx, l, s, 10, false, time.Minute) }()
	got := make(chan string, 1)
	go func() {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		r, err := client.Get("http://" + l.Addr().String())
		if err != nil {
			got <- err.Error()
			return
		}
		defer func() { _ = r.Body.Close() }()
		body, _ := io.ReadAll(r.Body)
		got <- string(body)
	}()
	<-asked
	cancel()
	select {
	case err := <-served:
		t.Fatalf("returned with a request in progress: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(answer)
	if body := <-got; body != "late" {
		t.Errorf("answered %q", body)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
