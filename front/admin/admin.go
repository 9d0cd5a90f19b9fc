// SPDX-License-Identifier: BSD-2-Clause

// Package admin is the command line's way into the running daemon: HTTP/1.1 with
// JSON over a unix socket, server and client. Whoever can open the socket (mode 0660
// and a group) can do everything; there is no other authentication.
//
//	GET  /v1/version           what is running
//	POST /v1/check             one question, with its trace (CheckRequest, Result)
//	GET  /v1/cache?pattern=P   records as NDJSON: see docs/cache-export.md
//	GET  /v1/cache/show?address=A
//	GET  /v1/cache/domain?domain=D  findings about it
//	POST /v1/cache/forget      ForgetRequest
//	GET  /v1/cache/stats
//	POST /v1/cache/import      NDJSON, as it was exported
//	GET  /v1/config            the effective configuration, TOML
//	POST /v1/reload
//	GET  /v1/status?unit=U     what the daemon does, and what its units show
//	GET  /v1/UNIT              the same for one unit: /v1/blocklist, /v1/antivirus
//	POST /v1/do                DoRequest: a command of a unit
//
// A refusal is {"error": "..."} with a status of 400 or above. Limits: 64
// connections (beyond that, the one that has been idle for longest is closed); 5 s for a
// request's header; 64 KiB for a request, except imports; 64 KiB for a line; 30 s without
// progress.
package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"time"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/front/listen"
	"rcptgate/store"
	"rcptgate/unit"
	"rcptgate/view"
)

// Bounds of the socket.
const (
	maxConnections = 64
	maxRequest     = 64 << 10
	headerTimeout  = 5 * time.Second
	stallTimeout   = 30 * time.Second
	checkTimeout   = 60 * time.Second
	drainTime      = 2 * time.Second // for requests in progress at the end
)

// Memory is what the cache commands need of the gate's memory.
type Memory interface {
	Recall(ctx context.Context, key string) (rec store.Record, source string, ok bool)
	Learn(key string, began time.Time, change func(old store.Record) store.Record)
	Forget(ctx context.Context, match store.Pattern) (int, error)
	Range(ctx context.Context, match store.Pattern, f func(key string, rec store.Record) bool) error
	Stats() []store.Stats
}

// Options is what the server speaks for. Gate and Memory are needed; what is nil
// of the others is answered with 404.
type Options struct {
	Gate   rcptgate.Asker
	Memory Memory
	Show   func() string                                // the effective configuration
	Reload func(context.Context) (unit.Reloaded, error) // reads the configuration again
	Status func() unit.Status
	Views  func() []view.Table
	// Tables are those that Views may show, without rows: who asks for one that is not shown
	// now hears that it is empty.
	Tables   []view.Table
	Do       func(ctx context.Context, unit, op string, args []string) ([]view.Table, error)
	FoldCase func(domain string) bool // whether a domain's local parts ignore case; nil means all do
	Version  string
	Hostname func() string // stands in exports
	Log      *slog.Logger
}

// Server answers on the admin socket. Make it with New.
type Server struct {
	Options
	started time.Time
	stall   time.Duration // without progress, after which a request is given up
	http    *http.Server
}

// New makes a server; Serve starts it.
func New(o Options) *Server {
	s := &Server{Options: o, started: time.Now(), stall: stallTimeout}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	s.http = &http.Server{
		Handler: s.routes(), ReadHeaderTimeout: headerTimeout, IdleTimeout: stallTimeout, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
	}
	return s
}

// Serve answers on l until ctx ends, then gives requests in progress two seconds
// and returns. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if err := listen.ServeHTTP(ctx, l, s.http, maxConnections, false, drainTime); err != nil {
		return fmt.Errorf("serve admin socket: %w", err)
	}
	return nil
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, handle := range map[string]func(*http.Request) (any, error){
		"GET /v1/version":       s.version,
		"POST /v1/check":        s.check,
		"GET /v1/cache/show":    s.cacheShow,
		"GET /v1/cache/domain":  s.cacheDomain,
		"POST /v1/cache/forget": s.cacheForget,
		"GET /v1/cache/stats":   s.cacheStats,
		"POST /v1/cache/import": s.cacheImport,
		"GET /v1/config":        s.config,
		"POST /v1/reload":       s.reload,
		"GET /v1/status":        s.status,
		"GET /v1/{unit}":        s.status,
		"POST /v1/do":           s.do,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, handle) })
	}
	mux.HandleFunc("GET /v1/cache", s.cacheExport)
	return mux
}

// failure is an error with the status it is answered with.
type failure struct {
	status int
	err    error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func bad(format string, args ...any) error {
	return &failure{http.StatusBadRequest, fmt.Errorf(format, args...)}
}

var errNotOffered = &failure{http.StatusNotFound, errors.New("this daemon does not offer that")}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, handle func(*http.Request) (any, error)) {
	control := http.NewResponseController(w)
	working := func() { listen.Working(r.Context()) }
	body := &timedBody{ReadCloser: r.Body, control: control, stall: s.stall, until: time.Now().Add(s.stall), read: working}
	switch {
	case r.URL.Path == "/v1/cache/import":
		body.until = time.Time{} // as long as it likes, so long as it moves
		working()
	case r.Body == http.NoBody:
		working()
	default:
		body.ReadCloser = http.MaxBytesReader(w, r.Body, maxRequest)
	}
	r.Body = body
	out, err := handle(r)
	status := http.StatusOK
	if err != nil {
		status = http.StatusInternalServerError
		var f *failure
		if errors.As(err, &f) {
			status = f.status
		}
		out = errorBody{Error: err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = control.SetWriteDeadline(time.Now().Add(s.stall))
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(out)
}

type errorBody struct {
	Error string `json:"error"`
}

func readJSON(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return bad("read request: %w", err)
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return bad("read request: %w", err)
	}
	return nil
}

// Version is what is running.
type Version struct {
	Version string    `json:"version"`
	Go      string    `json:"go"`
	Started time.Time `json:"started"`
}

func (s *Server) version(*http.Request) (any, error) {
	return Version{s.Version, runtime.Version(), s.started}, nil
}

func (s *Server) check(r *http.Request) (any, error) {
	var req CheckRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	q, err := req.Query()
	if err != nil {
		return nil, bad("%w", err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	v := s.Gate.Ask(ctx, q)
	result := NewResult(q, &v, time.Now())
	result.Server = s.server(v.Source, q.Target.Key(s.FoldCase == nil || s.FoldCase(q.Target.Domain)))
	return result, nil
}

// Configuration is the answer to config show.
type Configuration struct {
	TOML string `json:"toml"`
}

func (s *Server) config(*http.Request) (any, error) {
	if s.Show == nil {
		return nil, errNotOffered
	}
	return Configuration{s.Show()}, nil
}

func (s *Server) reload(r *http.Request) (any, error) {
	if s.Reload == nil {
		return nil, errNotOffered
	}
	done, err := s.Reload(r.Context())
	if err != nil {
		return nil, &failure{http.StatusUnprocessableEntity, err}
	}
	return done, nil
}

// StatusAnswer is what the daemon says of itself, and what its units show.
type StatusAnswer struct {
	unit.Status
	Tables []view.Table `json:"tables"`
}

func (s *Server) status(r *http.Request) (any, error) {
	if s.Status == nil || s.Views == nil {
		return nil, errNotOffered
	}
	out := StatusAnswer{Status: s.Status(), Tables: s.Views()}
	name := cmp.Or(r.PathValue("unit"), r.URL.Query().Get("unit"))
	if name == "" {
		return out, nil
	}
	var words []string
	all := out.Tables
	out.Tables, out.Attention = nil, nil
	for _, t := range all {
		if words = append(words, t.Name); t.Name == name || t.Unit == name {
			out.Tables = append(out.Tables, t)
			out.Attention = append(out.Attention, t.Attention()...)
		}
	}
	if len(out.Tables) > 0 {
		return out, nil
	}
	for _, t := range s.Tables {
		if !slices.Contains(words, t.Name) {
			words = append(words, t.Name)
		}
		if t.Name == name || t.Unit == name {
			t.Empty = cmp.Or(t.Empty, "not in use")
			out.Tables = append(out.Tables, t)
		}
	}
	if len(out.Tables) > 0 {
		return out, nil
	}
	return nil, bad("%q has no status; these have: %s", name, strings.Join(words, ", "))
}

// DoRequest is a command of a unit.
type DoRequest struct {
	Unit string   `json:"unit"`
	Op   string   `json:"op"`
	Args []string `json:"args,omitempty"`
}

func (s *Server) do(r *http.Request) (any, error) {
	if s.Do == nil {
		return nil, errNotOffered
	}
	var req DoRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	tables, err := s.Do(ctx, req.Unit, req.Op, req.Args)
	if errors.Is(err, unit.ErrNoOp) {
		return nil, &failure{http.StatusNotFound, err}
	}
	if _, ok := errors.AsType[*unit.InputError](err); ok {
		return nil, &failure{http.StatusBadRequest, err}
	}
	if _, ok := errors.AsType[*unit.ConfigError](err); ok {
		return nil, &failure{http.StatusConflict, err}
	}
	if _, ok := errors.AsType[*unit.PartError](err); ok {
		return nil, &failure{http.StatusServiceUnavailable, err}
	}
	return tables, err
}

// CheckRequest is one question, as the command line puts it.
type CheckRequest struct {
	Recipient string `json:"recipient"`
	Sender    string `json:"sender,omitempty"`
	Client    string `json:"client,omitempty"` // an IP address
	Helo      string `json:"helo,omitempty"`
	Mailer    string `json:"mailer,omitempty"` // {rcpt_mailer}
	Host      string `json:"host,omitempty"`   // {rcpt_host}: the MTA's next hop
	Addr      string `json:"addr,omitempty"`   // {rcpt_addr}
	Auth      string `json:"auth,omitempty"`   // authenticated as
	Size      int64  `json:"size,omitempty"`
}

// Query turns the request into the question that a milter would have put.
func (r *CheckRequest) Query() (*rcptgate.Query, error) {
	q := &rcptgate.Query{
		Stage: rcptgate.StageRcpt, Recipient: address.Parse(r.Recipient), Sender: address.Parse(r.Sender).Path,
		Helo: r.Helo, AuthUser: r.Auth, Size: max(r.Size, 0),
		NextHop: rcptgate.NextHop{Mailer: r.Mailer, Host: r.Host, Addr: r.Addr},
	}
	if q.Recipient.Path == "" {
		return nil, errors.New("no recipient")
	}
	if r.Client != "" {
		client, err := netip.ParseAddr(r.Client)
		if err != nil {
			return nil, fmt.Errorf("client %q is not an IP address", r.Client)
		}
		q.Client = client.Unmap()
	}
	q.Target = address.Target(q.Recipient, r.Addr)
	q.Inquiry, q.Trace.Explain = true, true
	return q, nil
}
