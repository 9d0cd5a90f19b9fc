// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/names"
	"rcptgate/route"
	"rcptgate/store"
	"rcptgate/table"
)

// fakeNames are published names in this process, with faults to order.
type fakeNames struct {
	mu      sync.Mutex
	values  map[string]string
	err     error
	finds   int      // calls of Find
	asked   []string // names of the last one
	budgets []time.Duration
}

func (f *fakeNames) Find(ctx context.Context, names []string) (map[string]store.Name, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.finds++
	f.asked = names
	f.budgets = append(f.budgets, rcptgate.BudgetOf(ctx).Left(time.Hour))
	if f.err != nil {
		return nil, f.err
	}
	found := map[string]store.Name{}
	for _, name := range names {
		if v, ok := f.values[name]; ok {
			found[name] = store.Name{Value: v, Expire: time.Now().Add(time.Hour)}
		}
	}
	return found, nil
}

func (f *fakeNames) set(err error, values map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err, f.values, f.finds = err, values, 0
}

func (f *fakeNames) questions() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.finds
}

func (*fakeNames) Publish(context.Context, string, store.Name) error { return nil }
func (*fakeNames) Withdraw(context.Context, string) error            { return nil }
func (*fakeNames) Down() bool                                        { return false }
func (*fakeNames) Survey(context.Context, string, time.Duration) (store.Survey, error) {
	return store.Intact, nil
}

// reader makes a check that looks published names up.
func reader(t testing.TB, published *fakeNames, ts tables, list ...string) (c *Check, p *names.Reader) {
	t.Helper()
	p = names.NewReader(published)
	cfg := DefaultConfig()
	cfg.Files, cfg.Domains = files(t, list...), []string{"example.org"}
	ts["text:/etc/passwd"] = "root"
	return newCheckWith(t, cfg, ts, p), p
}

func TestPublishedNames(t *testing.T) {
	names := &fakeNames{values: map[string]string{
		"sales": "ann@in.test", "both": "ann@in.test, bob@pf.test", "deep": "sales", "Kept": "carl@in.test",
		"plus+*": "ann@in.test", "plus": "bob@in.test", "list": "", "user": "ann",
		"broken": `"ann`, "gone": "nobody@example.org", "include": ":include:/etc/passwd", "program": "|/bin/sh", "escaped": `\ann`,
		"postmaster": "sales", "loop": "loop",
	}}
	c, _ := reader(t, names, tables{"hash:/own": "own bob@pf.test\nboth carl@in.test\nfar sales"}, "hash:/own", "memcached:")
	for _, tc := range []struct{ rcpt, want, says string }{
		{"sales@example.org", "ann@in.test", `sales is in memcached:, key "sales": ann@in.test`},
		{"SALES@example.org", "ann@in.test", ""},
		{"sales+news@example.org", "ann@in.test", ""},
		{"Kept@example.org", "carl@in.test", ""},
		{"kept@example.org", "continue", "may be missing"},
		{"plus+x@example.org", "ann@in.test", ""},
		{"plus@example.org", "bob@in.test", ""},
		{"both@example.org", "carl@in.test", ""}, // the first file that holds a name counts
		{"own@example.org", "bob@pf.test", ""},
		{"far@example.org", "ann@in.test", ""}, // from a file to a published name
		{"deep@example.org", "ann@in.test", ""},
		{"user@example.org", "=ann", "is a local mailbox"},
		{"list@example.org", "taken", ":taken:"},
		{"broken@example.org", "taken", ""},
		{"include@example.org", "taken", ":taken:"}, // no stranger names a file for us to read
		{"program@example.org", "taken", ":taken:"},
		{"escaped@example.org", "=ann", ""},
		{"loop@example.org", "=loop", ""},
		{"gone@example.org", "taken", "may be in a table that is not read here"},
		{"nobody@example.org", "continue", "names may be missing here that the MTA knows"},
		{"nobody+x@example.org", "continue", ""},
		{"sales@elsewhere.test", "continue", ""},
	} {
		got, q := ask(t, c, tc.rcpt, rcptgate.NextHop{})
		if got != tc.want {
			t.Errorf("%s: %s, want %s\n%s", tc.rcpt, got, tc.want, notes(q))
		}
		if !strings.Contains(notes(q), tc.says) {
			t.Errorf("%s: the trace does not say %q:\n%s", tc.rcpt, tc.says, notes(q))
		}
	}
}

func notes(q *rcptgate.Query) string { return fmt.Sprintf("%+v", q.Trace) }

// TestPublishedCopies counts the questions: one for all spellings of a name, none for a
// minute, half a minute for absent names.
func TestPublishedCopies(t *testing.T) { synctest.Test(t, testPublishedCopies) }

func testPublishedCopies(t *testing.T) {
	names := &fakeNames{values: map[string]string{"sales": "ann@in.test"}}
	c, p := reader(t, names, tables{}, "memcached:")
	for _, tc := range []struct {
		rcpt, want string
		later      time.Duration
		questions  int
	}{
		{"Sales+News@example.org", "ann@in.test", 0, 1},
		{"Sales+News@example.org", "ann@in.test", 0, 0},
		{"sales@example.org", "ann@in.test", 0, 0},
		{"sales@example.org", "ann@in.test", time.Minute - time.Second, 0},
		{"sales@example.org", "ann@in.test", 2 * time.Second, 1},
		{"nobody@example.org", "continue", 0, 1},
		{"nobody@example.org", "continue", 30*time.Second - time.Second, 0},
		{"nobody@example.org", "continue", 2 * time.Second, 1},
	} {
		time.Sleep(tc.later)
		names.set(nil, names.values)
		if got, _ := ask(t, c, tc.rcpt, rcptgate.NextHop{}); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.rcpt, got, tc.want)
		}
		if n := names.questions(); n != tc.questions {
			t.Errorf("%s: %d questions, want %d: %q", tc.rcpt, n, tc.questions, names.asked)
		}
	}
	if st := p.Stats(); st.Entries != 1 || st.Hits == 0 || st.Misses == 0 {
		t.Errorf("stats: %+v", st)
	}
}

// TestPublishedFailures: a memcached that cannot be asked neither refuses nor defers;
// a name that was found serves until it is known to be gone, or ends.
func TestPublishedFailures(t *testing.T) { synctest.Test(t, testPublishedFailures) }

func testPublishedFailures(t *testing.T) {
	names := &fakeNames{values: map[string]string{"sales": "ann@in.test"}}
	c, p := reader(t, names, tables{}, "memcached:")
	expect := func(rcpt, want string) {
		t.Helper()
		if got, q := ask(t, c, rcpt, rcptgate.NextHop{Mailer: "local"}); got != want {
			t.Errorf("%s: %s, want %s\n%s", rcpt, got, want, notes(q))
		}
	}
	expect("sales@example.org", "ann@in.test")
	names.set(store.ErrDown, nil)
	expect("other@example.org", "continue")
	time.Sleep(30 * time.Minute)
	expect("sales@example.org", "ann@in.test") // its copy is old, and all there is
	time.Sleep(31 * time.Minute)
	expect("sales@example.org", "continue") // it has ended
	if _, _, err := p.Lookup(rcptgate.WithBudget(context.Background(), time.Millisecond), "sales"); !errors.Is(err, store.ErrDown) {
		t.Errorf("the table says %v", err)
	}
	names.set(nil, map[string]string{"sales": "ann@in.test"})
	expect("sales@example.org", "ann@in.test")
	names.set(nil, nil)
	time.Sleep(2 * time.Minute)
	expect("sales@example.org", "continue") // taken out by its publisher
}

// TestPublishedCost holds that a name in use costs no allocation beyond the budget's.
func TestPublishedCost(t *testing.T) {
	c, _ := reader(t, &fakeNames{}, tables{}, "memcached:")
	q := &rcptgate.Query{Recipient: address.Parse("nobody@example.org")}
	q.Target = q.Recipient
	ctx := context.Background()
	_, _ = c.Check(ctx, q)
	if n := testing.AllocsPerRun(100, func() { _, _ = c.Check(ctx, q) }); n > 3 {
		t.Errorf("%v allocations", n)
	}
}

type nobody struct{}

func (nobody) Route(*rcptgate.Query) *route.Route { return nil }

func TestPublishedConfig(t *testing.T) {
	for _, tc := range []struct {
		name string
		cfg  func(c *Config)
		says string
	}{
		{"nothing to publish", func(c *Config) { c.Publish = true }, "nothing to publish"},
		{"only the names of others", func(c *Config) { c.Publish, c.Files = true, files(t, "memcached:") }, "nothing to publish"},
		{"good", func(c *Config) { c.Publish, c.Files = true, files(t, "memcached:", "hash:/a") }, ""},
	} {
		cfg := DefaultConfig()
		tc.cfg(&cfg)
		if err := cfg.Validate(); (err == nil) != (tc.says == "") || (err != nil && !strings.Contains(err.Error(), tc.says)) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	var f File
	if err := f.UnmarshalText([]byte("memcached:10.0.0.1")); err == nil || !strings.Contains(err.Error(), "alone") {
		t.Errorf("with a server: %v", err)
	}
	if err := f.UnmarshalText([]byte("nosuch:/x")); err == nil {
		t.Error("an unknown type is taken")
	}
	if text, err := files(t, "memcached:")[0].MarshalText(); err != nil || string(text) != "memcached:" {
		t.Errorf("written as %q, %v", text, err)
	}
	cfg := DefaultConfig()
	cfg.Files = files(t, "memcached:")
	_, err := New(Options{Config: cfg, Router: nobody{}, Open: func(Use, table.Spec) (table.Table, error) { return nil, nil }})
	if err == nil || !strings.Contains(err.Error(), "needs [cache] memcached") {
		t.Errorf("without memcached: %v", err)
	}
}
