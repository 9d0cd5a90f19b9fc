// SPDX-License-Identifier: BSD-2-Clause

package antivirus

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate"
	"rcptgate/check/antivirus/clamd"
)

// run starts the tests of servers by the clock, as the daemon does.
func (r *rig) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.live.run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// TestServersTakeTurns has two servers and more messages than they may take at one time.
func TestServersTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(ctx context.Context, text []byte) (clamd.Finding, error) {
			time.Sleep(time.Second)
			return honest(text)
		}
		a, b := &fakeScanner{}, &fakeScanner{}
		a.set(slow)
		b.set(slow)
		r := newRig(t, func(c *Config) { c.Connections = 3 }, a, b)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if v := r.ask(t, letter("x")); v != (rcptgate.Verdict{}) {
					t.Errorf("%+v", v)
				}
			})
		}
		all.Wait()
		for _, f := range []*fakeScanner{a, b} {
			if scans, most := f.count(); most > 3 || scans < 8 {
				t.Errorf("%d scans, %d at one time", scans, most)
			}
		}
	})
}

// TestAnotherServerIsAsked has one of two servers fail in every way: no message is unscanned.
func TestAnotherServerIsAsked(t *testing.T) {
	for name, fault := range map[string]func(ctx context.Context, text []byte) (clamd.Finding, error){
		"hangs": never,
		"fails": func(context.Context, []byte) (clamd.Finding, error) {
			return clamd.Finding{}, &clamd.Error{Kind: clamd.Failed, Err: fmt.Errorf("no memory")}
		},
		"ends": func(context.Context, []byte) (clamd.Finding, error) {
			return clamd.Finding{}, &clamd.Error{Kind: clamd.Closed, Err: fmt.Errorf("EOF")}
		},
		"short": func(_ context.Context, text []byte) (clamd.Finding, error) {
			if len(text) > 1000 {
				return clamd.Finding{}, &clamd.Error{Kind: clamd.TooLong, Err: fmt.Errorf("size")}
			}
			return honest(text)
		},
		"is blind": func(context.Context, []byte) (clamd.Finding, error) { return clamd.Finding{}, nil },
		"is blind to what is large": func(_ context.Context, text []byte) (clamd.Finding, error) {
			if len(text) > 1000 {
				return clamd.Finding{}, nil
			}
			return honest(text)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bad, good := &fakeScanner{}, &fakeScanner{}
				r := newRig(t, func(c *Config) { c.MaxSize = 1 << 20 }, bad, good)
				r.run(t)
				synctest.Wait()
				bad.set(fault)
				for i := range 200 {
					body := strings.Repeat("x", 2000)
					if i%2 == 1 {
						body += string(eicar())
					}
					q := letter(body)
					if v := r.ask(t, q); i%2 == 0 && v.Action != rcptgate.Continue || i%2 == 1 && v.Action != rcptgate.Reject {
						if !(i%2 == 1 && strings.HasPrefix(name, "is blind") && v.Action == rcptgate.Continue) || i > 4 {
							t.Errorf("message %d: %+v, %q", i, v, q.Message.Unscanned)
						}
					}
					if i == 4 && strings.HasPrefix(name, "is blind") {
						time.Sleep(testEvery + time.Minute) // liars are found out hourly
					}
					time.Sleep(time.Second)
				}
				if scans, _ := bad.count(); scans > 120 {
					t.Errorf("the bad server was asked %d times", scans)
				}
			})
		})
	}
}

// TestAPoisonousMessage sends messages that the only scanner answers with an error, time and
// again: the others are scanned all the same.
func TestAPoisonousMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeScanner{}
		f.set(func(_ context.Context, text []byte) (clamd.Finding, error) {
			if bytes.Contains(text, []byte("poison")) {
				return clamd.Finding{}, &clamd.Error{Kind: clamd.Failed, Err: fmt.Errorf("cannot read it")}
			}
			return honest(text)
		})
		r := newRig(t, nil, f)
		r.run(t)
		for range 20 {
			for range 5 {
				if v := r.ask(t, letter("poison")); v.Action != rcptgate.Tempfail {
					t.Errorf("poison: %+v", v)
				}
			}
			q := letter("x")
			if v := r.ask(t, q); v.Action != rcptgate.Continue || q.Message.Unscanned != "" {
				t.Fatalf("another message: %+v, %q", v, q.Message.Unscanned)
			}
			time.Sleep(time.Second)
		}
	})
}

// TestBreaker has the only server down for a while: messages are unscanned at once, and scanned
// again soon after it is back.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeScanner{}
		r := newRig(t, nil, f)
		r.run(t)
		r.ask(t, letter("x"))
		f.fail(refused)
		for range 100 {
			start := time.Now()
			q := letter("x")
			if v := r.ask(t, q); v.Action != rcptgate.Tempfail || v.Code != 451 || q.Message.Unscanned == "" || time.Since(start) > time.Second {
				t.Errorf("while it is down: %+v after %v", v, time.Since(start))
			}
			time.Sleep(time.Second)
		}
		if scans, _ := f.count(); scans > 40 {
			t.Errorf("%d questions in 100 s", scans)
		}
		if !strings.Contains(r.notices(), "does not answer") {
			t.Errorf("notices %q", r.notices())
		}
		f.fail(nil)
		time.Sleep(restMax + 2*time.Second)
		if v := r.ask(t, letter("x")); v.Action != rcptgate.Continue {
			t.Errorf("when it is back: %+v", v)
		}
		if v := r.ask(t, letter(string(eicar()))); v.Action != rcptgate.Reject || r.notices() != "" {
			t.Errorf("when it is back: %+v, %q", v, r.notices())
		}
	})
}

// TestHungServer has the only server hang: messages wait no longer than their time, and soon not
// at all.
func TestHungServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeScanner{}
		r := newRig(t, func(c *Config) { c.Connections = 2 }, f)
		r.run(t)
		r.ask(t, letter("x"))
		f.set(never)
		var waited atomic.Int64
		for range 300 {
			go func() {
				start := time.Now()
				if v := r.ask(t, letter("x")); v.Action != rcptgate.Tempfail {
					t.Errorf("%+v", v)
				}
				waited.Store(max(waited.Load(), int64(time.Since(start))))
			}()
			time.Sleep(time.Second)
		}
		time.Sleep(2 * time.Minute)
		if longest := time.Duration(waited.Load()); longest > time.Minute {
			t.Errorf("waited for %v", longest)
		}
		if scans, most := f.count(); scans > 60 || most > 3 {
			t.Errorf("%d questions, %d at one time", scans, most)
		}
		f.set(nil)
		time.Sleep(time.Minute)
		if v := r.ask(t, letter("x")); v.Action != rcptgate.Continue {
			t.Errorf("when it is back: %+v", v)
		}
	})
}

// TestBlindServer has the only server find nothing: it says "clean", and is not believed.
func TestBlindServer(t *testing.T) {
	blind := func(context.Context, []byte) (clamd.Finding, error) { return clamd.Finding{}, nil }
	for name, make := range map[string]func(r *rig, f *fakeScanner){
		"from the start": func(*rig, *fakeScanner) {},
		"after an hour":  func(*rig, *fakeScanner) { time.Sleep(testEvery + 2*time.Second) },
		"with new signatures": func(_ *rig, f *fakeScanner) {
			f.mu.Lock()
			f.version = "new"
			f.mu.Unlock()
			time.Sleep(lookEvery + 2*time.Second)
		},
		"after it was down": func(r *rig, f *fakeScanner) {
			f.fail(refused)
			_, _ = r.Check.Check(context.Background(), letter("x"))
			time.Sleep(time.Minute)
			f.fail(nil)
			time.Sleep(time.Minute)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeScanner{}
				r := newRig(t, nil, f)
				if name != "from the start" {
					r.run(t)
					r.ask(t, letter("x"))
				}
				f.set(blind)
				make(r, f)
				for range 10 {
					if v := r.ask(t, letter("x"+string(eicar()))); v.Action != rcptgate.Tempfail {
						t.Fatalf("%+v", v)
					}
				}
				if !strings.Contains(r.notices(), "does not find the EICAR test file") {
					t.Errorf("notices %q", r.notices())
				}
				if rows := r.live.show()[0].Rows; rows[0].Attention == "" {
					t.Errorf("%+v", rows)
				}
				if name == "from the start" {
					r.run(t)
				}
				f.set(nil)
				time.Sleep(restBlind + 2*time.Second)
				if v := r.ask(t, letter("x")); v.Action != rcptgate.Continue || r.notices() != "" {
					t.Errorf("when it sees again: %+v, %q", v, r.notices())
				}
			})
		})
	}
}

// TestLimits has the only server look into small messages only, with and without saying so:
// larger ones are unscanned, whatever it says.
func TestLimits(t *testing.T) {
	for name, beyond := range map[string]func() (clamd.Finding, error){
		"MaxFileSize": func() (clamd.Finding, error) { return clamd.Finding{}, nil },
		"AlertExceedsMax": func() (clamd.Finding, error) {
			return clamd.Finding{Name: "Heuristics.Limits.Exceeded.MaxFileSize"}, nil
		},
		"StreamMaxLength": func() (clamd.Finding, error) {
			return clamd.Finding{}, &clamd.Error{Kind: clamd.TooLong, Err: fmt.Errorf("size")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeScanner{}
				f.set(func(_ context.Context, text []byte) (clamd.Finding, error) {
					if len(text) > 50<<10 {
						return beyond()
					}
					return honest(text)
				})
				r := newRig(t, nil, f)
				r.run(t)
				for size, want := range map[int]rcptgate.Action{1000: rcptgate.Continue, 30 << 10: rcptgate.Continue, 60 << 10: rcptgate.Tempfail, 100 << 10: rcptgate.Tempfail} {
					if name == "AlertExceedsMax" {
						want = rcptgate.Continue // too_large: it says so itself
					}
					q := letter(strings.Repeat("x", size))
					if v := r.ask(t, q); v.Action != want || (q.Message.Unscanned == "") != (size < 50<<10) {
						t.Errorf("%d octets: %+v, %q", size, v, q.Message.Unscanned)
					}
				}
				if v := r.ask(t, letter(string(eicar()))); v.Action != rcptgate.Reject {
					t.Errorf("infected: %+v", v)
				}
				if !strings.Contains(r.notices(), "does not search messages of max_size") {
					t.Errorf("notices %q", r.notices())
				}
				f.set(nil)
				time.Sleep(shortEvery + 2*time.Second)
				if v := r.ask(t, letter(strings.Repeat("x", 100<<10))); v.Action != rcptgate.Continue || r.notices() != "" {
					t.Errorf("when the limit is raised: %+v, %q", v, r.notices())
				}
			})
		})
	}
}

// A self-test that is slow for once does not undo what the server has shown before.
func TestSlowSelftest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeScanner{}
		r := newRig(t, nil, f)
		r.run(t)
		r.ask(t, letter("x"))
		f.set(func(ctx context.Context, text []byte) (clamd.Finding, error) {
			if len(text) > 50<<10 {
				return never(ctx, text)
			}
			return honest(text)
		})
		time.Sleep(testEvery + 2*time.Minute)
		f.set(nil)
		if v := r.ask(t, letter(strings.Repeat("x", 100<<10))); v.Action != rcptgate.Continue {
			t.Errorf("%+v", v)
		}
	})
}

// TestTimeGrows holds how long a scan may take, and that it ends with the question.
func TestTimeGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeScanner{}
		r := newRig(t, func(c *Config) { c.MaxSize, c.Selftest = 64<<20, false }, f)
		r.ask(t, letter("x"))
		f.set(never)
		f.mute = true
		for size, want := range map[int64]time.Duration{1000: 30 * time.Second, 10 << 20: 40 * time.Second, 31 << 20: time.Minute} {
			q := letter("")
			q.Message.Size = size
			start := time.Now()
			r.ask(t, q)
			if took := time.Since(start); took != want {
				t.Errorf("%d octets: %v, want %v", size, took, want)
			}
			f.set(nil)
			r.live.active.Load().testAll(t.Context())
			f.set(never)
		}
	})
}

// TestOldSignatures has a notice about them.
func TestOldSignatures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, &fakeScanner{})
		p := r.live.active.Load()
		p.tell(p.servers[0], &report{version: clamd.Version{Signatures: time.Now().Add(-8 * 24 * time.Hour)}, proven: 1})
		if !strings.Contains(r.notices(), "signatures of the virus scanner are old") {
			t.Errorf("notices %q", r.notices())
		}
		p.tell(p.servers[0], &report{version: clamd.Version{Signatures: time.Now().Add(-time.Hour)}, proven: 1})
		if r.notices() != "" {
			t.Errorf("notices %q", r.notices())
		}
	})
}

// TestReload has configurations share their servers while they name the same ones, and end
// those that no one uses.
func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeScanner{}
		u := newLive(nil, func(Server) scanner { return f })
		var closing []func()
		check := func(change func(*Config)) *Check {
			c := u.check(testConfig(change, f), func(f func()) { closing = append(closing, f) })
			u.adopt(c)
			return c
		}
		one, two := check(nil), check(func(c *Config) { c.Infected = "discard" })
		other := check(func(c *Config) { c.MaxSize = 64 << 10 })
		if one.pool != two.pool || one.pool == other.pool {
			t.Error("servers are shared where they differ, or not where they do not")
		}
		closing[0]()
		if one.pool.life.Err() != nil {
			t.Error("ended while it is used")
		}
		closing[1]()
		if one.pool.life.Err() == nil || other.pool.life.Err() != nil || u.active.Load() != other.pool {
			t.Error("not ended, or the wrong one")
		}
		closing[2]()
		u.adopt(nil)
		if len(u.pools) > 0 || u.show() != nil || u.servers() != nil {
			t.Error("something is left")
		}
		if _, err := u.do(t.Context(), "test", nil); err == nil {
			t.Error("a test without a scanner")
		}
	})
}

// TestCommand has the servers tested on demand.
func TestCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &fakeScanner{}, &fakeScanner{}
		b.fail(refused)
		r := newRig(t, nil, a, b)
		tables, err := r.live.do(t.Context(), "test", nil)
		if err != nil || len(tables) != 1 || len(tables[0].Rows) != 2 || tables[0].Rows[0].Attention != "" || tables[0].Rows[0].Cells[2] != int64(128<<10) || tables[0].Rows[1].Attention == "" {
			t.Errorf("%+v, %v", tables, err)
		}
	})
}

// TestGoneWhileWaiting has questions end while they wait for a server: its place is given back.
func TestGoneWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeScanner{}
		r := newRig(t, func(c *Config) { c.Connections = 1 }, f)
		r.ask(t, letter("x"))
		f.set(func(_ context.Context, text []byte) (clamd.Finding, error) {
			time.Sleep(100 * time.Millisecond)
			return honest(text)
		})
		var all sync.WaitGroup
		for i := range 200 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Millisecond)
				defer cancel()
				_, _ = r.Check.Check(ctx, letter("x"))
			})
		}
		all.Wait()
		f.set(nil)
		if v := r.ask(t, letter("x")); v.Action != rcptgate.Continue {
			t.Errorf("%+v", v)
		}
		p := r.live.active.Load()
		if p.servers[0].busy != 0 || len(p.waiting) > 0 {
			t.Errorf("%d are busy, %d wait", p.servers[0].busy, len(p.waiting))
		}
	})
}
