// SPDX-License-Identifier: BSD-2-Clause

package demo

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"rcptgate/quotad"
)

// quotaAgent is the agent of a mail store whose mailboxes are files: dan's is full.
type quotaAgent struct {
	server *quotad.Server
	stop   context.CancelFunc
	done   chan struct{}
}

// startQuotaAgent makes the store below dir and starts its agent.
func startQuotaAgent(dir string) (*quotaAgent, error) {
	mail := filepath.Join(dir, "mail")
	for name, size := range map[string]int{"ann": 100, "bob": 200, "dan": 3000} {
		if err := os.MkdirAll(mail, 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(mail, name), bytes.Repeat([]byte("x"), size), 0o600); err != nil {
			return nil, err
		}
	}
	path := filepath.Join(dir, "agent.toml")
	text := fmt.Sprintf("[listen]\nudp = [\"127.0.0.1:0\"]\ntcp = []\nhttp = \"\"\n\n[[store]]\ntype = \"mbox\"\nroot = %q\npath = %q\nlimit = \"2KB\"\n", mail, filepath.Join(mail, "{local}"))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, err
	}
	config, err := quotad.LoadConfig(path)
	if err != nil {
		return nil, err
	}
	agent, err := quotad.New(config, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	server, err := agent.Listen(ctx)
	if err != nil {
		stop()
		return nil, err
	}
	a := &quotaAgent{server, stop, make(chan struct{})}
	go func() {
		defer close(a.done)
		_ = server.Serve(ctx) // ends with the demo
	}()
	return a, nil
}

// Source is the agent as [quota] names it.
func (a *quotaAgent) Source() string { return "udp:" + a.server.UDPAddr().String() }

// Stop ends the agent.
func (a *quotaAgent) Stop() {
	a.stop()
	<-a.done
}
