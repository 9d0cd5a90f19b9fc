// SPDX-License-Identifier: BSD-2-Clause

package open_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/table/live"
	"rcptgate/table/open"
	"rcptgate/table/tabletest"
	"rcptgate/test/lab"
)

// The benchmarks measure a million names: loading from each format, and what a reload beside live look-ups
// adds to these. Bars: 2 s, and 10 ms at p99.9.

const millionNames = 1_000_000

func millionText(between string) string {
	var b strings.Builder
	for i := range millionNames {
		fmt.Fprintf(&b, "firstname.lastname%07d%s mailbox%d@host.example.org\n", i, between, i)
	}
	return b.String()
}

// millionFile makes the database of a million names with the tool that is quickest at it.
func millionFile(b *testing.B, kind string) string {
	b.Helper()
	name := filepath.Join(testkit.Dir(b), "map")
	var pairs []tabletest.Pair
	if kind != "text" && kind != "texthash" {
		pairs = make([]tabletest.Pair, millionNames)
		for i := range pairs {
			pairs[i] = tabletest.Pair{Key: fmt.Sprintf("firstname.lastname%07d", i), Value: fmt.Sprintf("mailbox%d@host.example.org", i)}
		}
	}
	dir := filepath.Dir(name)
	switch kind {
	case "text":
		put(b, name, millionText(":"))
	case "texthash":
		put(b, name, millionText(" "))
	case "cdb":
		need(b, lab.MapsKit, "usr/bin/cdb").run(b, dir, tabletest.CDBDump(pairs), "-c", name+".cdb")
	case "hash", "btree":
		need(b, lab.DatabaseKit, "usr/bin/db5.3_load").run(b, dir, tabletest.HexDump(pairs, "type="+kind, "db_pagesize=4096"), name+".db")
	case "lmdb":
		put(b, name, millionText(" "))
		postmap := postfix(b, "postmap")
		postmap.run(b, dir, nil, postmap.args("lmdb:"+name)...)
	}
	return name
}

func BenchmarkLoad(b *testing.B) {
	for _, kind := range []string{"text", "texthash", "cdb", "lmdb", "hash", "btree"} {
		b.Run(kind, func(b *testing.B) {
			name := millionFile(b, kind)
			for b.Loop() {
				l, err := open.Live(live.Config{Spec: spec(b, kind+":"+name), Aliases: true})
				if err != nil {
					b.Fatal(err)
				}
				if err := l.Load(context.Background()); err != nil {
					b.Fatal(err)
				}
				if st := l.Status(); st.Entries != millionNames {
					b.Fatalf("%d entries", st.Entries)
				}
			}
		})
	}
}

// BenchmarkReload asks at a steady rate, as connections do, beside nothing, beside a goroutine that only keeps a
// processor busy, and beside one reload after the other, and reports the latency of a look-up from the moment it was due.
func BenchmarkReload(b *testing.B) {
	name := millionFile(b, "cdb")
	l, err := open.Live(live.Config{Spec: spec(b, "cdb:"+name)})
	if err != nil {
		b.Fatal(err)
	}
	if err := l.Load(context.Background()); err != nil {
		b.Fatal(err)
	}
	for _, work := range []string{"idle", "spin", "reload"} {
		b.Run(work, func(b *testing.B) {
			ctx, cancel := context.WithTimeout(context.Background(), 6*time.Second)
			defer cancel()
			done := make(chan int)
			go func() { done <- reloads(ctx, l, name, work) }()
			late := ask(ctx, l)
			b.ReportMetric(float64(<-done), "reloads")
			slices.Sort(late)
			for _, p := range []float64{0.5, 0.99, 0.999} {
				b.ReportMetric(float64(late[int(p*float64(len(late)))].Microseconds())/1000, fmt.Sprintf("ms-p%v", p*100))
			}
		})
	}
}

// reloads has the file read anew again and again, one octet of it changed each time.
func reloads(ctx context.Context, l *live.Live, name, work string) int {
	n := 0
	for work == "spin" && ctx.Err() == nil {
		runtime.Gosched() // what any work on the other processor does to look-ups
	}
	data, err := os.ReadFile(name + ".cdb")
	for ; work == "reload" && err == nil && ctx.Err() == nil; n++ {
		// The last octet of the last value lies before the first table: any octet of a value may change.
		data[2048+8+25+3] = byte('a' + n%26)
		if err = os.WriteFile(name+".new", data, 0o600); err == nil {
			err = os.Rename(name+".new", name+".cdb")
		}
		_ = l.Load(ctx)
	}
	<-ctx.Done()
	return n
}

// ask makes 2,000 look-ups a second from each of four goroutines.
func ask(ctx context.Context, l *live.Live) []time.Duration {
	const askers, every = 4, 500 * time.Microsecond
	results := make(chan []time.Duration)
	for range askers {
		go func() {
			var late []time.Duration
			for due := time.Now(); ctx.Err() == nil; due = due.Add(every) {
				time.Sleep(time.Until(due))
				_, _, _ = l.Lookup(ctx, "firstname.lastname0000777")
				late = append(late, time.Since(due))
				runtime.Gosched()
			}
			results <- late
		}()
	}
	var all []time.Duration
	for range askers {
		all = append(all, <-results...)
	}
	return all
}
