// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/backend"
	"rcptgate/route"
	"rcptgate/table"
	"rcptgate/table/live"
	"rcptgate/table/open"
)

// BenchmarkMillion asks about addresses with maps of a million: one that a map holds, one with a detail, one of a
// catch-all, and one that no map holds, with Postfix's and with Sendmail's order of keys.
func BenchmarkMillion(b *testing.B) {
	const entries = 1_000_000
	spec := table.Spec{Type: table.TextHash, Name: filepath.Join(b.TempDir(), "virtual")}
	f, err := os.Create(spec.Name)
	if err != nil {
		b.Fatal(err)
	}
	out := bufio.NewWriter(f)
	for i := range entries {
		fmt.Fprintf(out, "firstname.lastname%d@virtual%d.example mailbox%d@in.test\n", i, i%1000, i)
	}
	fmt.Fprintln(out, "@catch.test everybody@in.test")
	if err := out.Flush(); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	l, err := open.Live(live.Config{Spec: spec})
	if err != nil {
		b.Fatal(err)
	}
	if err := l.Load(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.Logf("%d entries, %d octets of keys and values, %d of memory, loaded in %v", l.Index().Len(), l.Index().Octets(), l.Index().Size(), l.Status().Took)
	for _, kind := range []string{"postfix", "sendmail"} {
		cfg := DefaultConfig()
		cfg.Passwd = ""
		if kind == "postfix" {
			cfg.VirtualAliasMaps = []table.Spec{spec}
		} else {
			cfg.VirtUserTable = []table.Spec{spec}
		}
		c := benchCheck(b, cfg, l)
		for name, rcpt := range map[string]string{
			"held": "firstname.lastname777777@virtual777.example", "detail": "firstname.lastname777777+x@virtual777.example", "catch-all": "nobody@catch.test", "absent": "nobody@elsewhere.example",
		} {
			b.Run(kind+"-"+name, func(b *testing.B) {
				q := &rcptgate.Query{Recipient: address.Parse(rcpt)}
				q.Target = q.Recipient
				b.ReportAllocs()
				for b.Loop() {
					if _, err := c.Check(context.Background(), q); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func benchCheck(b *testing.B, cfg Config, t table.Table) *Check {
	b.Helper()
	set := backend.NewSet(backend.DefaultConfig(), "mx.gate.test", nil)
	b.Cleanup(set.Close)
	router, err := route.New(route.Options{Set: set, Servers: []string{"127.0.0.1:1"}, Domains: []route.DomainConfig{{Name: "in.test", Backend: []string{"smtp:[127.0.0.1]:1"}}}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(router.Close)
	c, err := New(Options{Config: cfg, Router: router, Open: func(Use, table.Spec) (table.Table, error) { return t, nil }})
	if err != nil {
		b.Fatal(err)
	}
	return c
}
