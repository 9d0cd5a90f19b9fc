// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate"
	"rcptgate/names"
	"rcptgate/store"
	"rcptgate/table/index"
)

// countedNames counts what is published.
type countedNames struct {
	fakeNames
	published atomic.Int64
}

func (c *countedNames) Publish(context.Context, string, store.Name) error {
	c.published.Add(1)
	return nil
}

func (*countedNames) Survey(context.Context, string, time.Duration) (store.Survey, error) {
	return store.Intact, nil
}

// indexTable is a table of names that can be published.
type indexTable struct{ x *index.Index }

func (t indexTable) Index() *index.Index { return t.x }

func (t indexTable) Lookup(_ context.Context, key string) (string, bool, error) {
	value, found := t.x.Get(key)
	return value, found, nil
}

// TestPublishBesideAnswers follows aliases while they are published: all answers are
// right, and the rate is held.
func TestPublishBesideAnswers(t *testing.T) { synctest.Test(t, testPublishBesideAnswers) }

func testPublishBesideAnswers(t *testing.T) {
	const n = 1000
	var b index.Builder
	for i := range n {
		name := fmt.Sprintf("name%06d", i)
		if err := b.Add([]byte(name), []byte(name+"@in.test")); err != nil {
			t.Fatal(err)
		}
	}
	d := indexTable{b.Build(nil)}
	cfg := DefaultConfig()
	cfg.Files, cfg.Domains = files(t, "hash:/a"), []string{"example.org"}
	c := newCheckWith(t, cfg, tables{"text:/etc/passwd": ""}, nil)
	c.files[0].Table = d
	var published countedNames
	p := names.NewPublisher(names.PublisherOptions{Names: &published, Burst: n})
	p.Publish([]names.Content{d})
	ctx, cancel := context.WithCancel(context.Background())
	defer synctest.Wait()
	defer cancel()
	go func() { _ = p.Run(ctx) }()
	began := time.Now()
	for asked := 0; p.Status().Round.IsZero(); asked++ {
		name := fmt.Sprintf("name%06d", asked*7919%n)
		if got, _ := ask(t, c, name+"@example.org", rcptgate.NextHop{}); got != name+"@in.test" {
			t.Fatalf("%s: %s", name, got)
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("still publishing: %+v", p.Status())
		}
		time.Sleep(time.Millisecond)
	}
	if took := time.Since(began); took < 900*time.Millisecond || published.published.Load() != n {
		t.Errorf("%d names took %v at %d a second, %d published", n, took, n, published.published.Load())
	}
}
