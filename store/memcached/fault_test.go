// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/kit/notice"
	"rcptgate/kit/testkit"
	"rcptgate/store"
	"rcptgate/store/storetest"
	"rcptgate/test/lab"
)

func user(i int) string { return fmt.Sprintf("user%d@example.org", i) }

// fill puts n records, each with a code of its own, and waits until they are written.
func fill(t testing.TB, s *Store, n int) {
	t.Helper()
	for i := range n {
		if err := s.Put(ctx, user(i), numbered(i)); err != nil {
			t.Fatalf("putting %d: %v", i, err)
		}
	}
	written(t, s)
}

func numbered(i int) store.Record {
	rec := storetest.Valid(time.Now())
	rec.Standing.Code = 200 + i%100
	rec.Standing.Text = user(i)
	return rec
}

// look asks for n records and counts what comes; a wrong record fails the test.
func look(t testing.TB, s *Store, n int) (found, missed, failed int) {
	t.Helper()
	for i := range n {
		switch rec, err := s.Get(ctx, user(i)); {
		case errors.Is(err, store.ErrNotFound):
			missed++
		case err != nil:
			failed++
		case rec.Standing.Text != user(i) || rec.Standing.Code != 200+i%100:
			t.Fatalf("asked for %s and got %v", user(i), rec.Standing)
		default:
			found++
		}
	}
	return found, missed, failed
}

// TestKilledServer: its share is gone, the others' is not; it is logged once; what is learnt
// meanwhile lies on the others; it comes back by itself.
func TestKilledServer(t *testing.T) {
	t.Parallel()
	servers := lab.StartMemcacheds(t, 3, lab.MemcachedOptions{})
	s, log := logging(t, config(t, servers...), Options{})
	const n = 200
	fill(t, s, n)
	if found, _, _ := look(t, s, n); found != n {
		t.Fatalf("%d of %d records are there", found, n)
	}
	lost := 0
	for i := range n {
		if s.Server(user(i)) == servers[1].Addr {
			lost++
		}
	}
	servers[1].Kill()
	found, missed, failed := look(t, s, n)
	if found != n-lost || failed > 2 || missed+failed != lost {
		t.Errorf("a server with %d of %d records is gone: %d found, %d missed, %d failed", lost, n, found, missed, failed)
	}
	fill(t, s, n)
	if found, _, _ := look(t, s, n); found != n {
		t.Errorf("learnt again, %d of %d are there", found, n)
	}
	if st := s.Stats(); !strings.Contains(st.Detail, "1 of 3 servers dead") {
		t.Errorf("stats: %+v", st)
	}
	servers[1].Restart()
	testkit.Eventually(t, "the server is back", func() bool { return s.c.Stats()[1].Alive })
	found, missed, failed = look(t, s, n)
	if found != n-lost || missed != lost || failed > 0 {
		t.Errorf("back and empty: %d found, %d missed, %d failed; its share is %d", found, missed, failed, lost)
	}
	testkit.Eventually(t, "the log says so", func() bool { return log.count("answers again") == 1 })
	if log.count("memcached server does not answer") != 1 {
		t.Errorf("the death was told %d times", log.count("memcached server does not answer"))
	}
}

// TestRestartedServer comes back before anybody asked it: connections that lay idle
// are not failures.
func TestRestartedServer(t *testing.T) {
	t.Parallel()
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	s, log := logging(t, config(t, server), Options{})
	fill(t, s, 50)
	server.Restart()
	if found, missed, failed := look(t, s, 50); found != 0 || missed != 50 || failed != 0 {
		t.Errorf("an empty server: %d found, %d missed, %d failed", found, missed, failed)
	}
	if log.count("memcached server does not answer") > 0 {
		t.Error("it was taken for dead")
	}
}

// TestStoppedServers hang: a few questions wait, all others not at all.
func TestStoppedServers(t *testing.T) {
	t.Parallel()
	servers := lab.StartMemcacheds(t, 3, lab.MemcachedOptions{})
	fill(t, gateway(t, config(t, servers...), Options{}), 100)
	cfg := config(t, servers...)
	cfg.Timeout = 250 * time.Millisecond
	s, log := logging(t, cfg, Options{})
	for _, server := range servers {
		server.Stop()
	}
	slow, down := 0, 0
	for i := range 2000 {
		switch _, err := s.Get(ctx, user(i%100)); {
		case errors.Is(err, store.ErrDown):
			down++
		case err != nil:
			slow++
		default:
			t.Fatal("a server that hangs answered")
		}
	}
	// Some of what waits does not count: it was asked before the one before was known to
	// have failed.
	if slow > 100 || down < 2000-100 || !s.Down() {
		t.Errorf("of 2,000 questions %d waited and %d were not asked; down: %v", slow, down, s.Down())
	}
	if err := s.Put(ctx, "a@example.org", numbered(0)); !errors.Is(err, store.ErrDown) {
		t.Errorf("put: %v", err)
	}
	if _, err := s.Lease(ctx, "a@example.org", "route"); !errors.Is(err, store.ErrDown) {
		t.Errorf("lease: %v", err)
	}
	testkit.Eventually(t, "the log tells of them", func() bool { return log.count("memcached server does not answer") >= 3 })
	if dead := log.count("memcached server does not answer"); dead > 3 {
		t.Errorf("three deaths were told %d times", dead)
	}
	for _, server := range servers {
		server.Cont()
	}
	for i := range 100 {
		testkit.Eventually(t, "all are back with what they had", func() bool { _, err := s.Get(ctx, user(i)); return err == nil })
	}
}

// TestBudget: one answer waits for as long as it may, all its questions together.
func TestBudget(t *testing.T) {
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	s := gateway(t, config(t, server), Options{})
	fill(t, s, 1)
	rich := rcptgate.WithBudget(ctx, 10*time.Second)
	if _, err := s.Get(rich, user(0)); err != nil {
		t.Errorf("with time: %v", err)
	}
	server.Stop()
	poor := rcptgate.WithBudget(ctx, 20*time.Millisecond)
	if _, err := s.Get(poor, user(0)); !errors.Is(err, ErrSlow) {
		t.Errorf("a server that hangs: %v", err)
	}
	for what, ask := range map[string]func() error{
		"get":   func() error { _, err := s.Get(poor, user(0)); return err },
		"many":  func() error { _, err := s.GetMany(poor, []string{user(1), user(2)}); return err },
		"lease": func() error { _, err := s.Lease(poor, user(0), ""); return err },
		"await": func() error { _, _, err := s.Await(poor, user(0), ""); return err },
	} {
		if err := ask(); !errors.Is(err, store.ErrBudget) {
			t.Errorf("%s with nothing left: %v", what, err)
		}
	}
	if left := rcptgate.BudgetOf(rich).Left(time.Hour); left >= 10*time.Second || left < time.Second {
		t.Errorf("%v are left of 10 s", left)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.Get(gone, user(0)); !errors.Is(err, context.Canceled) {
		t.Errorf("the asker has gone: %v", err)
	}
	server.Cont()
}

// TestManyQuestionsToAServerThatHangs: no more than 256 wait.
func TestManyQuestionsToAServerThatHangs(t *testing.T) {
	t.Parallel()
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	s := gateway(t, config(t, server), Options{})
	fill(t, s, 1)
	server.Stop()
	results := make(chan error, 1000)
	for i := range cap(results) {
		go func() {
			_, err := s.Get(rcptgate.WithBudget(ctx, 2*time.Second), user(i))
			results <- err
		}()
	}
	busy, slow := 0, 0
	for range cap(results) {
		switch err := <-results; {
		case errors.Is(err, ErrBusy):
			busy++
		case errors.Is(err, ErrSlow):
			slow++
		default:
			t.Errorf("%v", err)
		}
	}
	if slow > maxOps || busy != cap(results)-slow {
		t.Errorf("%d waited, %d were turned away", slow, busy)
	}
	server.Cont()
}

// TestFullServer: memory for a fraction. What is found is right, nothing fails.
func TestFullServer(t *testing.T) {
	t.Parallel()
	server := lab.StartMemcached(t, lab.MemcachedOptions{Args: []string{"-m", "2"}})
	s := gateway(t, config(t, server), Options{})
	n := 0
	for ; n < 15_000; n++ {
		i := n
		if i%250 == 249 && server.Stats()["evictions"] != "0" {
			break
		}
		rec := numbered(i)
		rec.Transient = storetest.Full(user(i), time.Now()).Transient
		rec.Transient.Text = strings.Repeat("x", 500)
		if err := s.Put(ctx, user(i), rec); err != nil {
			t.Fatal(err)
		}
		if i%1000 == 0 {
			written(t, s)
		}
	}
	written(t, s)
	found, missed, failed := look(t, s, n)
	if found == 0 || missed == 0 || failed > 0 || server.Stats()["evictions"] == "0" {
		t.Errorf("%d found, %d missed, %d failed, %s evicted", found, missed, failed, server.Stats()["evictions"])
	}
	if _, _, failed := look(t, s, 10); failed > 0 || s.Down() {
		t.Error("a full server was taken for dead")
	}
}

// TestServerThatEvictsNothing refuses what it has no memory for, and lives.
func TestServerThatEvictsNothing(t *testing.T) {
	t.Parallel()
	server := lab.StartMemcached(t, lab.MemcachedOptions{Args: []string{"-m", "2", "-M"}})
	s, log := logging(t, config(t, server), Options{})
	for i := 0; i < 6000 && s.Queue().Failed == 0; i++ {
		rec := numbered(i)
		rec.Transient = storetest.Full(user(i), time.Now()).Transient
		rec.Transient.Text = strings.Repeat("x", 500)
		_ = s.Put(ctx, user(i), rec)
		if i%250 == 0 {
			written(t, s)
		}
	}
	written(t, s)
	if s.Queue().Failed == 0 {
		t.Skip("this memcached had room for everything")
	}
	if found, _, failed := look(t, s, 100); found == 0 || failed > 0 || log.count("memcached server does not answer") > 0 {
		t.Errorf("%d found, %d failed, %d deaths told", found, failed, log.count("memcached server does not answer"))
	}
}

// TestSlowServer: slower than the time for a question is dead, and comes back when it is
// faster; slow within it is used.
func TestSlowServer(t *testing.T) {
	t.Parallel()
	p := startProxy(t, lab.StartMemcached(t, lab.MemcachedOptions{}))
	cfg := p.config()
	cfg.Timeout = time.Second // a busy machine must not be slower than this
	s, log := logging(t, cfg, Options{})
	fill(t, s, 5)
	p.spoil(20*time.Millisecond, -1, nil)
	if found, _, _ := look(t, s, 5); found != 5 {
		t.Errorf("20 ms slow: %d of 5 found", found)
	}
	p.spoil(5*time.Second, -1, nil)
	testkit.Eventually(t, "it is dead", func() bool {
		if _, err := s.Get(ctx, user(0)); err == nil {
			t.Error("an answer after five times the patience")
		}
		return s.Down()
	})
	p.spoil(0, -1, nil)
	testkit.Eventually(t, "it is back", func() bool { found, _, _ := look(t, s, 5); return found == 5 })
	if log.count("memcached server does not answer") == 0 || log.count("answers again") == 0 {
		t.Errorf("log: %s", log.text.String())
	}
}

// TestCutReplies: a connection that ends after each number of octets of a reply.
func TestCutReplies(t *testing.T) {
	t.Parallel()
	p := startProxy(t, lab.StartMemcached(t, lab.MemcachedOptions{}))
	cfg := p.config()
	cfg.Timeout = 10 * time.Second
	s := gateway(t, cfg, Options{})
	fill(t, s, 2)
	whole := 0
	for cut := 0; cut < 300 && whole < 10; cut++ {
		p.spoil(0, cut, nil)
		fresh := newClient(t, cfg) // the server is dead to the one before
		one := &Store{c: fresh, now: time.Now, settled: func() bool { return true }, life: time.Hour, tombstones: newTombstones(), queue: s.queue}
		rec, err := one.Get(ctx, user(0))
		switch {
		case err == nil && rec.Standing.Text != user(0):
			t.Fatalf("cut after %d octets: %v", cut, rec)
		case err == nil:
			whole++
		case whole > 0:
			t.Errorf("cut after %d octets: %v, and sooner it was whole", cut, err)
		}
		err = fresh.Add(ctx, fmt.Sprint("rg:a:cut", cut), []byte("x\n"), time.Now().Add(time.Minute))
		if (err == nil) != (cut >= len("STORED\r\n")) {
			t.Errorf("cut after %d octets: add: %v", cut, err)
		}
		_ = fresh.Close()
	}
	if whole == 0 {
		t.Errorf("%d replies were whole", whole)
	}
	p.spoil(0, -1, nil)
	if found, _, _ := look(t, s, 2); found != 2 {
		t.Errorf("%d of 2 found afterwards", found)
	}
}

// TestGarbage: what a server that is none, or lies, can say.
func TestGarbage(t *testing.T) {
	t.Parallel()
	noise := rand.New(rand.NewPCG(1, 2))
	junk := make([]byte, 100_000)
	for i := range junk {
		junk[i] = byte(noise.Uint32())
	}
	key := "rg:a:" + user(0)
	value := string(encode(entry{rec: numbered(0), written: time.Now()}))
	wrong := "rg:a:" + user(1)
	for name, reply := range map[string]string{
		"nothing like it":     "220 mail.example.org ESMTP\r\n",
		"error":               "ERROR\r\n",
		"client error":        "CLIENT_ERROR bad command line format\r\n",
		"out of memory":       "SERVER_ERROR out of memory\r\n",
		"noise":               string(junk),
		"lines":               strings.Repeat("VALUE\r\n", 50_000),
		"a line without end":  strings.Repeat("VALUE ", 50_000),
		"4 GiB":               "VALUE " + key + " 0 4294967295 1\r\n",
		"16 GiB":              "VALUE " + key + " 0 17179869184 1\r\nx",
		"negative":            "VALUE " + key + " 0 -1 1\r\nx",
		"no number":           "VALUE " + key + " 0 x 1\r\nx",
		"too short":           "VALUE " + key + " 0 5 1\r\n" + value + "\r\nEND\r\n",
		"somebody else's":     "VALUE " + wrong + " 0 " + fmt.Sprint(len(value)) + " 1\r\n" + value + "\r\nEND\r\n",
		"values without end":  strings.Repeat("VALUE "+key+" 0 10000 1\r\n"+strings.Repeat("x", 10000)+"\r\n", 500),
		"17 KiB":              "VALUE " + key + " 0 17408 1\r\n" + strings.Repeat("x", 17408) + "\r\nEND\r\n",
		"a value of nonsense": "VALUE " + key + " 0 5 1\r\nhello\r\nEND\r\n",
		"an empty value":      "VALUE " + key + " 0 0 1\r\n\r\nEND\r\n",
		"stored":              "STORED\r\n",
		"nul":                 "\x00\x00\x00\r\n",
	} {
		p := startProxy(t, nil)
		p.spoil(0, -1, func([]byte) []byte { return []byte(reply) })
		s := gateway(t, prompt(p.config()), Options{})
		s.Start(nil, func(store.Tombstone) { t.Errorf("%s: a tombstone", name) }, func() {})
		for range 3 {
			if rec, err := s.Get(ctx, user(0)); err == nil {
				t.Errorf("%s: believed: %v", name, rec)
			}
			if found, _ := s.GetMany(ctx, []string{user(0), user(2)}); len(found) > 0 {
				t.Errorf("%s: believed: %v", name, found)
			}
			if rec, _, _ := s.Await(ctx, user(0), ""); !rec.IsZero() {
				t.Errorf("%s: believed: %v", name, rec)
			}
			_ = s.Put(ctx, user(3), numbered(3))
			if release, err := s.Lease(ctx, user(0), ""); err == nil {
				if name != "stored" {
					t.Errorf("%s: leased", name)
				}
				release()
			}
		}
		written(t, s)
		_ = s.Close()
	}
}

// TestDrippingServer gives an octet now and then: the time is for the whole reply.
func TestDrippingServer(t *testing.T) {
	t.Parallel()
	p := startProxy(t, nil)
	p.spoil(0, -1, func([]byte) []byte { return []byte(strings.Repeat("VALUE x 0 0 1\r\n\r\n", 1000)) })
	p.drip = 5 * time.Millisecond
	cfg := p.config()
	cfg.Timeout = 200 * time.Millisecond
	c := newClient(t, cfg)
	testkit.Eventually(t, "it is dead", func() bool {
		if _, _, err := c.Get(ctx, "rg:a:x"); err == nil || errors.Is(err, store.ErrNotFound) {
			t.Errorf("an answer: %v", err)
		}
		return c.Down()
	})
}

// TestFullQueue: putting never waits for a server that hangs; what finds no room is
// dropped and counted, what waits is found.
func TestFullQueue(t *testing.T) {
	t.Parallel()
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	s := gateway(t, config(t, server), Options{})
	s.queue.most = testkit.Rounds(250, maxQueued) // all of them are written in the end
	server.Stop()
	n := 10 * s.queue.most
	for i := range n {
		if err := s.Put(ctx, user(i), numbered(i)); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
	q := s.Queue()
	if q.Waiting > writers*s.queue.most || int(q.Dropped) < n-writers*s.queue.most || q.Waiting+int(q.Dropped) != n {
		t.Errorf("of %d records %d wait and %d were dropped", n, q.Waiting, q.Dropped)
	}
	if found, _, _ := look(t, s, 1000); found != 1000 {
		t.Errorf("%d of the first 1,000 are found in the queue", found)
	}
	server.Cont()
	written(t, s)
	if found, _, failed := look(t, s, 1000); found < 990 || failed > 0 { // what was under way may have failed
		t.Errorf("%d of the first 1,000 were written, %d failed", found, failed)
	}
}

// TestManyKeysWithoutAServer: what the others have comes with the error, then without.
func TestManyKeysWithoutAServer(t *testing.T) {
	t.Parallel()
	servers := lab.StartMemcacheds(t, 3, lab.MemcachedOptions{})
	s := gateway(t, config(t, servers...), Options{})
	const n = 350 // more than one question a server
	fill(t, s, n)
	keys := []string{strings.Repeat("x", 2000), "nobody@example.org"}
	mine := 0
	for i := range n {
		keys = append(keys, user(i))
		if s.Server(user(i)) == servers[2].Addr {
			mine++
		}
	}
	if found, err := s.GetMany(ctx, keys); err != nil || len(found) != n {
		t.Errorf("%d of %d found, %v", len(found), n, err)
	}
	servers[2].Kill()
	found, err := s.GetMany(ctx, keys)
	if err == nil || len(found) != n-mine {
		t.Errorf("without a server that has %d: %d of %d found, %v", mine, len(found), n, err)
	}
	if found, err = s.GetMany(ctx, keys); err != nil || len(found) != n-mine {
		t.Errorf("once it is dead: %d of %d found, %v", len(found), n, err)
	}
	for key, rec := range found {
		if rec.Standing.Text != key {
			t.Fatalf("asked for %s and got %v", key, rec.Standing)
		}
	}
}

// TestNoticeOfADeadServerEnds when no configuration names it any more, or it is answers again.
func TestNoticeOfADeadServerEnds(t *testing.T) {
	t.Parallel()
	servers := lab.StartMemcacheds(t, 2, lab.MemcachedOptions{})
	both, one := config(t, servers...), config(t, servers[0])
	board := notice.New(slog.New(slog.DiscardHandler))
	c, err := NewClient(both.Config, slog.New(slog.DiscardHandler), ClientOptions{Timeout: both.Timeout, Notices: board})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	die := func() {
		servers[1].Kill()
		testkit.Eventually(t, "a notice", func() bool {
			for i := range 20 {
				_, _, _ = c.Get(t.Context(), c.Key("a", "h", strconv.Itoa(i)))
			}
			return len(board.List()) == 1
		})
	}
	die()
	servers[1].Restart()
	testkit.Eventually(t, "the end of the notice of a server that is back", func() bool { return len(board.List()) == 0 })
	die()
	if err := c.Configure(one.Config); err != nil {
		t.Fatal(err)
	}
	if list := board.List(); len(list) > 0 {
		t.Errorf("a server that is no longer asked: %+v", list)
	}
}
