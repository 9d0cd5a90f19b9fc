// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"context"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/check/alias"
	"rcptgate/check/rules"
	"rcptgate/check/trusted"
	"rcptgate/unit"
)

// files writes files into a folder of their own, and gives the folder.
func files(tb testing.TB, texts map[string]string) string {
	tb.Helper()
	dir := tb.TempDir()
	for name, text := range texts {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

// behind is a unit after the script that answers as told: the chain that exists() asks.
func behind(says func(*rcptgate.Query) (rcptgate.Verdict, error)) unit.Unit {
	return unit.Unit{Name: "behind", Open: unit.Steps(func(s *unit.Setup) error {
		s.Step(rcptgate.StageRcpt, rcptgate.Step{Name: "existence", Check: rcptgate.CheckFunc(func(_ context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) { return says(q) })})
		return nil
	})}
}

// open opens a host with a script and more configuration.
func open(tb testing.TB, script, toml string, more ...unit.Unit) (*unit.Host, error) {
	tb.Helper()
	return openIn(tb, files(tb, map[string]string{"filter.star": script}), toml, more...)
}

func openIn(tb testing.TB, dir, toml string, more ...unit.Unit) (*unit.Host, error) {
	tb.Helper()
	units := append([]unit.Unit{rules.Unit(), Unit(), trusted.Unit(), alias.Unit()}, more...)
	schema, err := unit.Compose(units)
	if err != nil {
		tb.Fatal(err)
	}
	text := "state = \"" + tb.TempDir() + "\"\nenforce = true\nhostname = \"mx.example.org\"\n"
	if !strings.Contains(toml, "[script]") {
		toml = "[script]\nfile = \"" + filepath.Join(dir, "filter.star") + "\"\n" + toml
	}
	c, err := unit.Parse(schema, "test.toml", text+toml)
	if err != nil {
		return nil, err
	}
	h, err := unit.Open(context.Background(), units, c, unit.Options{Offline: true, Stderr: io.Discard})
	if err == nil {
		tb.Cleanup(h.Stop)
	}
	return h, err
}

func mustOpen(tb testing.TB, script, toml string, more ...unit.Unit) *unit.Host {
	tb.Helper()
	h, err := open(tb, script, toml, more...)
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

// question is one about a recipient.
func question(recipient string) *rcptgate.Query {
	q := &rcptgate.Query{
		Stage: rcptgate.StageRcpt, Recipient: address.Parse(recipient), Sender: "Ann+x@Sender.Example", Client: netip.MustParseAddr("192.0.2.7"),
		ClientName: "mx.sender.example", Helo: "mx.sender.example", Size: 1000, QueueID: "Q1",
		Session: &rcptgate.Session{Listener: "unix:/x", Port: 2525, TLSVersion: "TLSv1.3", MTA: rcptgate.Postfix, Mail: rcptgate.Transaction{Args: "SIZE=1000\x00BODY=8BITMIME"}},
	}
	q.Target = q.Recipient
	q.Trace.Explain = true
	return q
}

// at makes a question one at another stage.
func at(stage rcptgate.Stage, q *rcptgate.Query) *rcptgate.Query {
	q.Stage = stage
	if stage != rcptgate.StageRcpt {
		q.Recipient, q.Target = rcptgate.Mailbox{}, rcptgate.Mailbox{}
	}
	return q
}

// says is the verdict in words: "continue", "reject 550 5.7.1 text".
func says(v rcptgate.Verdict) string {
	words := []string{v.Action.String()}
	if v.Action.Refuses() {
		words = append(words, strings.TrimSpace(strings.Join([]string{itoa(v.Code), v.Enhanced, v.Text}, " ")))
	}
	return strings.Join(words, " ")
}

func itoa(n int) string {
	return strings.TrimLeft(string([]byte{byte('0' + n/100), byte('0' + n/10%10), byte('0' + n%10)}), "0")
}
