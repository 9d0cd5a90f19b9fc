// SPDX-License-Identifier: BSD-2-Clause

package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/front/listen"
	"rcptgate/kit/testkit"
	"rcptgate/unit"
	"rcptgate/view"

	"go.uber.org/goleak"
)

// listenOn makes the admin socket.
func listenOn(path, group string) (*listen.Socket, error) {
	return listen.Unix(context.Background(), path, listen.Options{Mode: socketMode, Group: group})
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type verdicts func(q *rcptgate.Query) rcptgate.Verdict

func (verdicts) Wants() rcptgate.Wants { return 0 }

func (a verdicts) Ask(_ context.Context, q *rcptgate.Query) rcptgate.Verdict { return a(q) }

// run starts a server and gives a client for it.
func run(t *testing.T, o Options) *Client {
	t.Helper()
	path := filepath.Join(testkit.Dir(t), "admin.sock")
	l, err := listenOn(path, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- New(o).Serve(ctx, l) }()
	c := NewClient(path)
	t.Cleanup(func() {
		c.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is still there: %v", err)
		}
	})
	return c
}

func TestCheck(t *testing.T) {
	learnt := time.Now().Add(-90 * time.Second)
	chain := &rcptgate.Chain{Steps: []rcptgate.Step{
		{Name: "scope", Check: rcptgate.CheckFunc(func(_ context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
			q.Trace.Note("client " + q.Client.String() + " is not trusted")
			return rcptgate.Verdict{}, nil
		})},
		{Name: "existence", Check: rcptgate.CheckFunc(func(_ context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
			return rcptgate.Verdict{
				Action: rcptgate.Reject, Code: 550, Enhanced: "5.1.1", Text: "No " + q.Target.Path, Reason: rcptgate.ReasonUnknownUser,
				Source: rcptgate.SourceRAM, Backend: "smtp:[10.0.0.5]:25", Learnt: learnt, Expires: learnt.Add(time.Hour),
			}, nil
		})},
	}}
	gate := &rcptgate.Gate{}
	gate.Swap(rcptgate.Setup{Chains: [rcptgate.StageCount]rcptgate.Check{rcptgate.StageRcpt: chain}})
	c := run(t, Options{Gate: gate})
	r, err := c.Check(t.Context(), CheckRequest{Recipient: "<A@b.example>", Client: "::ffff:192.0.2.1", Host: "[10.0.0.5]", Addr: "real@b.example"})
	if err != nil {
		t.Fatal(err)
	}
	if r.Recipient != "A@b.example" || r.Target != "real@b.example" || r.Action != "reject" || r.Code != 550 || r.Text != "No real@b.example" ||
		r.AgeS == nil || *r.AgeS < 90 || *r.AgeS > 200 || r.ExpiresS == nil || *r.ExpiresS > 3510 || len(r.Trace) != 2 ||
		r.Trace[0].Notes[0] != "client 192.0.2.1 is not trusted" || r.Trace[1].Reason != "unknown-user" || r.Trace[1].Step != "existence" {
		t.Errorf("%+v", r)
	}
	data, _ := json.Marshal(r)
	for _, key := range []string{"recipient", "action", "code", "enhanced", "text", "reason", "source", "backend", "age_s", "expires_s", "elapsed_ms", "trace"} {
		if !strings.Contains(string(data), `"`+key+`":`) {
			t.Errorf("%s is missing in %s", key, data)
		}
	}
	for _, req := range []CheckRequest{{}, {Recipient: "a@b", Client: "nonsense"}} {
		var refusal *Refusal
		if _, err := c.Check(t.Context(), req); !errors.As(err, &refusal) || !refusal.BadRequest() {
			t.Errorf("%+v: %v", req, err)
		}
	}
}

func TestOtherCommands(t *testing.T) {
	reloadErr := errors.New("rcptgate.toml:3:1: x: no such key")
	c := run(t, Options{
		Version: "1.2", Show: func() string { return "a = 1\n" },
		Reload: func(context.Context) (unit.Reloaded, error) {
			return unit.Reloaded{Restart: []string{"state"}}, reloadErr
		},
		Status: func() unit.Status { return unit.Status{Mode: "enforcing", Attention: []string{"all", "of it"}} },
		Views: func() []view.Table {
			t := view.Table{Name: "backends", Columns: view.Columns("up", "Up", "since", "Since")}
			t.Add("it is down", false, 90*time.Second)
			return []view.Table{{Name: "memory"}, t, {Name: "blocklists", Unit: "blocklist"}, {Name: "listed", Unit: "blocklist"}}
		},
		Do: func(_ context.Context, name, op string, args []string) ([]view.Table, error) {
			if name != "quota" {
				return nil, fmt.Errorf("%s: %w", name, unit.ErrNoOp)
			}
			if op == "wrong" {
				return nil, fmt.Errorf("quota: %w", &unit.InputError{Err: errors.New("no such list")})
			}
			return []view.Table{{Name: op, Title: strings.Join(args, ",")}}, nil
		},
	})
	ctx := t.Context()
	var wrong *Refusal
	if _, err := c.Do(ctx, "quota", "wrong", nil); !errors.As(err, &wrong) || !wrong.BadRequest() || wrong.Text != "quota: no such list" {
		t.Errorf("wrong arguments: %v", err)
	}
	if v, err := c.Version(ctx); err != nil || v.Version != "1.2" || v.Started.IsZero() {
		t.Errorf("%+v, %v", v, err)
	}
	if text, err := c.Config(ctx); err != nil || text != "a = 1\n" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := c.Reload(ctx); err == nil || err.Error() != reloadErr.Error() {
		t.Errorf("%v", err)
	}
	reloadErr = nil
	if r, err := c.Reload(ctx); err != nil || len(r.Restart) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if st, err := c.Status(ctx, ""); err != nil || st.Mode != "enforcing" || len(st.Tables) != 4 || len(st.Attention) != 2 {
		t.Errorf("%+v, %v", st, err)
	}
	if st, err := c.Status(ctx, "blocklist"); err != nil || len(st.Tables) != 2 || len(st.Attention) != 0 {
		t.Errorf("all tables of a unit: %+v, %v", st, err)
	}
	var listed StatusAnswer
	if err := c.call(ctx, http.MethodGet, "/v1/blocklist", nil, &listed); err != nil || len(listed.Tables) != 2 || listed.Tables[1].Name != "listed" {
		t.Errorf("GET /v1/blocklist: %+v, %v", listed, err)
	}
	if err := c.call(ctx, http.MethodGet, "/v1/nothing", nil, &listed); err == nil || !strings.Contains(err.Error(), "has no status") {
		t.Errorf("GET /v1/nothing: %v", err)
	}
	if st, err := c.Status(ctx, "backends"); err != nil || len(st.Tables) != 1 || st.Tables[0].Rows[0].Cells[1] != 90*time.Second || !slices.Equal(st.Attention, []string{"it is down"}) {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := c.Status(ctx, "nothing"); err == nil || !strings.Contains(err.Error(), "memory, backends") {
		t.Errorf("%v", err)
	}
	if list, err := c.Do(ctx, "quota", "ask", []string{"a", "b"}); err != nil || len(list) != 1 || list[0].Name != "ask" || list[0].Title != "a,b" {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := c.Do(ctx, "none", "ask", nil); !errors.Is(err, ErrUnreachable) && err == nil {
		t.Error("an op that does not exist was done")
	}
	bare := run(t, Options{})
	var refusal *Refusal
	if _, err := bare.Reload(ctx); !errors.As(err, &refusal) || !refusal.NotFound() {
		t.Errorf("%v", err)
	}
}

func TestNoDaemon(t *testing.T) {
	dir := testkit.Dir(t)
	dead := filepath.Join(dir, "dead")
	l, err := net.Listen("unix", dead)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close()
	for _, path := range []string{filepath.Join(dir, "none"), dead} {
		c := NewClient(path)
		_, err := c.Version(t.Context())
		if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "systemctl start rcptgate") || !strings.Contains(err.Error(), "-c FILE") {
			t.Errorf("%v", err)
		}
	}
}

func TestListen(t *testing.T) {
	dir := testkit.Dir(t)
	path := filepath.Join(dir, "s")
	stale, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = stale.Close()
	first, err := listenOn(path, fmt.Sprint(os.Getgid()))
	if err != nil {
		t.Fatalf("a stale socket is in the way: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := listenOn(path, ""); !errors.Is(err, listen.ErrInUse) {
		t.Errorf("a socket in use was taken: %v", err)
	}
	_ = os.Remove(path)
	second, err := listenOn(path, "")
	if err != nil {
		t.Fatal(err)
	}
	_ = first.Close()
	if _, err := os.Stat(path); err != nil {
		t.Errorf("closing the first listener removed the second's socket: %v", err)
	}
	_ = second.Close()
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenOn(file, ""); err == nil {
		t.Error("a file was replaced")
	}
	if _, err := listenOn(path, "no-such-group"); err == nil || !strings.Contains(err.Error(), "no-such-group") {
		t.Errorf("%v", err)
	}
	if _, err := listenOn(filepath.Join(dir, "none", "s"), ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestBadRequestsHurtNobody(t *testing.T) {
	c := run(t, Options{Gate: verdicts(func(*rcptgate.Query) rcptgate.Verdict { return rcptgate.Verdict{} }), Memory: newMemory(t)})
	for path, body := range map[string]string{
		"/v1/check":        strings.Repeat("x", 2*maxRequest),
		"/v1/cache/forget": `{"pattern":["a@b"]}`,
		"/v1/cache/import": "nonsense\n",
	} {
		_, err := c.do(t.Context(), http.MethodPost, path, strings.NewReader(body))
		var refusal *Refusal
		if !errors.As(err, &refusal) || !refusal.BadRequest() {
			t.Errorf("%s: %v", path, err)
		}
	}
	conn, err := net.Dial("unix", c.path)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Write([]byte("\x00\xff\r\n\r\n"))
	_ = conn.Close()
	if _, err := c.Version(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestExportThatIsCutOff(t *testing.T) {
	path := filepath.Join(testkit.Dir(t), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("{\"rcptgate_cache\":1}\n{\"key\":\"a@b\"}\n"))
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = h.Serve(l) }()
	c := NewClient(path)
	defer func() { c.Close(); _ = h.Close(); <-done }()
	if _, err := c.Export(t.Context(), "", &bytes.Buffer{}, nil); !errors.Is(err, ErrTruncated) {
		t.Errorf("%v", err)
	}
	if err := c.List(t.Context(), "", func(Record) error { return nil }); !errors.Is(err, ErrTruncated) {
		t.Errorf("%v", err)
	}
}

// The end waits for a request in progress: what it uses is closed after Serve.
func TestServeWaitsForRequests(t *testing.T) {
	path := filepath.Join(testkit.Dir(t), "admin.sock")
	l, err := listenOn(path, "")
	if err != nil {
		t.Fatal(err)
	}
	asked, answered := make(chan struct{}), make(chan struct{})
	gate := verdicts(func(*rcptgate.Query) rcptgate.Verdict {
		close(asked)
		time.Sleep(200 * time.Millisecond)
		close(answered)
		return rcptgate.Verdict{}
	})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- New(Options{Gate: gate}).Serve(ctx, l) }()
	c := NewClient(path)
	defer c.Close()
	checked := make(chan error, 1)
	go func() {
		_, err := c.Check(context.Background(), CheckRequest{Recipient: "ann@example.com"})
		checked <- err
	}()
	<-asked
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	select {
	case <-answered:
	default:
		t.Error("Serve returned within a request")
	}
	if err := <-checked; err != nil {
		t.Error(err)
	}
}
