// SPDX-License-Identifier: BSD-2-Clause

// Package web is the daemon's HTTP side: what monitoring and people look at, and
// nothing that changes anything.
//
//	/metrics   Prometheus text
//	/healthz   200 while the process answers
//	/readyz    200 when it takes questions, else 503 with the reasons, one a line;
//	           what else is wrong follows "ready", a line each
//	/          a status page: what needs a person, then what every unit shows
//	/status.json  the same for programs
//
// Only GET and HEAD are answered. There is no authentication: by default it listens on
// loopback, and there a request must name a loopback host, so that no web page can read it
// through a name of its own (DNS rebinding). Limits: 128 connections (a new one takes the
// place of the one that is slowest to ask, or to read its answer), 16 KiB of header, 5 s for a
// request, 30 s for an answer.
package web

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"rcptgate/front/listen"
	"rcptgate/unit"
	"rcptgate/view"
)

const (
	maxConnections = 128
	drainTime      = 2 * time.Second // for requests in progress at the end
)

// Options is what the pages show. What is nil is left out.
type Options struct {
	Metrics http.Handler
	Status  func() unit.Status
	Views   func() []view.Table
	// Hide reports whether local parts of addresses are left out of what is shown.
	Hide func() bool
	Log  *slog.Logger
}

// Server answers HTTP. Make it with New.
type Server struct {
	Options
	readTimeout time.Duration // for a request
}

// New makes a server; Serve starts it.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{Options: o, readTimeout: 5 * time.Second}
}

// Serve answers on l until ctx ends, then gives requests in progress two seconds
// and returns. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	h := &http.Server{
		Handler: s.Handler(onLoopback(l.Addr())), ReadTimeout: s.readTimeout, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	if err := listen.ServeHTTP(ctx, l, h, maxConnections, true, drainTime); err != nil {
		return fmt.Errorf("serve http on %s: %w", l.Addr(), err)
	}
	return nil
}

// Handler is the whole site. loopback asks for a loopback name in the Host header.
func (s *Server) Handler(loopback bool) http.Handler {
	mux := http.NewServeMux()
	if s.Metrics != nil {
		mux.Handle("/metrics", s.Metrics)
	}
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") })
	mux.HandleFunc("/readyz", s.ready)
	mux.HandleFunc("/status.json", s.json)
	mux.HandleFunc("/{$}", s.status)
	return guard(mux, loopback)
}

// guard refuses what does not only look: other methods, and foreign names on loopback.
func guard(next http.Handler, loopback bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		listen.Working(r.Context())
		header := w.Header()
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cache-Control", "no-store")
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			header.Set("Allow", "GET, HEAD")
			plain(w, http.StatusMethodNotAllowed, "only GET and HEAD are allowed")
		case loopback && !loopbackName(r.Host):
			plain(w, http.StatusMisdirectedRequest, "the Host header must name a loopback address or localhost")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func onLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// loopbackName reports whether a Host header names this machine only. A header
// without a host (HTTP/1.0) was not sent by a browser.
func loopbackName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().IsLoopback()
	}
	return host == "" || strings.EqualFold(strings.TrimSuffix(host, "."), "localhost")
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprintln(w, text)
}

// ready says what else is wrong after "ready", a line each: a reason to look, not a reason
// to send no questions.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	st := s.describe()
	if len(st.NotReady) > 0 {
		plain(w, http.StatusServiceUnavailable, strings.Join(st.NotReady, "\n"))
		return
	}
	lines := []string{"ready"}
	if st.ReloadError != "" {
		lines = append(lines, "the last reload failed: "+strings.Join(strings.Fields(st.ReloadError), " "))
	}
	plain(w, http.StatusOK, strings.Join(append(lines, st.Attention...), "\n"))
}

func (s *Server) describe() unit.Status {
	if s.Status == nil {
		return unit.Status{}
	}
	st := s.Status()
	if s.Hide != nil && s.Hide() {
		for i, why := range st.Attention {
			st.Attention[i] = address.ReplaceAllString(why, "…@")
		}
	}
	return st
}

func (s *Server) views() []view.Table {
	if s.Views == nil {
		return nil
	}
	tables := s.Views()
	if s.Hide != nil && s.Hide() {
		for i := range tables {
			hideAddresses(&tables[i])
		}
	}
	return tables
}

// address finds what may be the local part of an address, in quotes or not: servers name
// recipients in their errors.
var address = regexp.MustCompile(`"(?:[^"\\]|\\.)*"@|[^\s<>,;:()]+@`)

// hideAddresses leaves out local parts, wherever a table has them.
func hideAddresses(t *view.Table) {
	for i := range t.Rows {
		r := &t.Rows[i]
		r.Attention = address.ReplaceAllString(r.Attention, "…@")
		for k, cell := range r.Cells {
			if text, ok := cell.(string); ok {
				r.Cells[k] = address.ReplaceAllString(text, "…@")
			}
		}
	}
}

// json is the status page for programs.
func (s *Server) json(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(struct {
		unit.Status
		Tables []view.Table `json:"tables"`
	}{s.describe(), s.views()})
}
