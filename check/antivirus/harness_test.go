// SPDX-License-Identifier: BSD-2-Clause

package antivirus

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate"
	"rcptgate/check/antivirus/clamd"
	"rcptgate/config/setting"
	"rcptgate/kit/notice"
)

// fakeScanner is a scanner with faults to order.
type fakeScanner struct {
	mu      sync.Mutex
	scan    func(ctx context.Context, text []byte) (clamd.Finding, error) // nil: honest
	version string
	down    error
	mute    bool // it does not even read
	scans   int  // of messages and samples
	most    int  // at one time
	now     int
}

// honest finds the test file and says that all else is clean.
func honest(text []byte) (clamd.Finding, error) {
	if bytes.Contains(text, []byte(sampleTail())) || bytes.Contains(text, eicar()) {
		return clamd.Finding{Name: "Eicar"}, nil
	}
	return clamd.Finding{}, nil
}

func (f *fakeScanner) Scan(ctx context.Context, message io.Reader, size int64) (clamd.Finding, error) {
	f.mu.Lock()
	f.scans++
	f.now++
	f.most = max(f.most, f.now)
	scan, down, mute := f.scan, f.down, f.mute
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.now--
		f.mu.Unlock()
	}()
	if down != nil {
		return clamd.Finding{}, down
	}
	if mute {
		return scan(ctx, nil)
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(message, text); err != nil {
		return clamd.Finding{}, &clamd.Error{Kind: clamd.Unread, Err: err}
	}
	if scan != nil {
		return scan(ctx, text)
	}
	return honest(text)
}

func (f *fakeScanner) Version(context.Context) (clamd.Version, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return clamd.Version{Text: f.version}, f.down
}

func (f *fakeScanner) set(scan func(ctx context.Context, text []byte) (clamd.Finding, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.scan = scan
}

// break has every connection fail; nil mends it.
func (f *fakeScanner) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = err
}

func (f *fakeScanner) count() (scans, most int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.scans, f.most
}

var refused = &clamd.Error{Kind: clamd.Connect, Err: io.ErrClosedPipe}

// never does not answer before ctx ends.
func never(ctx context.Context, _ []byte) (clamd.Finding, error) {
	<-ctx.Done()
	return clamd.Finding{}, &clamd.Error{Kind: clamd.TimeOut, Err: ctx.Err()}
}

// testConfig has one server for each fake.
func testConfig(change func(*Config), fakes ...*fakeScanner) *Config {
	c := DefaultConfig()
	c.MaxSize = 128 << 10
	for i := range fakes {
		c.Clamd = append(c.Clamd, Server{setting.Socket{Network: "unix", Address: "/" + string(rune('a'+i))}})
	}
	if change != nil {
		change(&c)
	}
	return &c
}

// rig is the unit's inside with fakes for servers.
type rig struct {
	*Check
	live  *live
	board *notice.Board
	close func()
}

// newRig makes it; it tests its servers only when tick is called, or a message needs one.
func newRig(t *testing.T, change func(*Config), fakes ...*fakeScanner) *rig {
	t.Helper()
	r := &rig{board: notice.New(slog.New(slog.DiscardHandler))}
	r.live = newLive(r.board, func(s Server) scanner { return fakes[s.Address[1]-'a'] })
	r.Check = r.live.check(testConfig(change, fakes...), func(f func()) { r.close = f })
	r.live.adopt(r.Check)
	t.Cleanup(r.close)
	return r
}

func (r *rig) notices() string {
	synctest.Wait() // a test tells what it found out after it has let scans go on
	var list []string
	for _, n := range r.board.List() {
		list = append(list, n.Text)
	}
	return strings.Join(list, "\n")
}

const bodyWants = rcptgate.WantMessage | rcptgate.WantHeader | rcptgate.WantBody | rcptgate.EditHeader | rcptgate.Quarantine

// letter is the question about a message.
func letter(body string) *rcptgate.Query {
	m := rcptgate.NewMessage(bodyWants)
	m.Fields = []rcptgate.Field{{Name: "From", Value: " x@client.test"}, {Name: "Subject", Value: " one\n two"}}
	m.Body, m.Size = strings.NewReader(body), int64(len(body))
	return &rcptgate.Query{Stage: rcptgate.StageMessage, Sender: "x@client.test", QueueID: "Q1", Message: m}
}

// ask puts a message to the check within a minute, as the chain does.
func (r *rig) ask(t *testing.T, q *rcptgate.Query) rcptgate.Verdict {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	v, err := r.Check.Check(ctx, q)
	if err != nil {
		t.Errorf("check: %v", err)
	}
	return v
}
