// SPDX-License-Identifier: BSD-2-Clause

package cases

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// policyService is a quota service that speaks the protocol of SMTPD_POLICY_README and says
// what a case file wants: DUNNO unless a recipient has an action of its own.
type policyService struct {
	listener net.Listener

	mu      sync.Mutex
	actions map[string]string
	mute    bool
}

func startPolicyService(t testing.TB) *policyService {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	p := &policyService{listener: l}
	p.reset()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			go p.serve(c)
		}
	}()
	return p
}

func (p *policyService) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.actions, p.mute = map[string]string{}, false
}

// set is the step "policy".
func (p *policyService) set(recipient, action string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch recipient {
	case "mute", "speaks":
		p.mute = recipient == "mute"
	default:
		p.actions[strings.ToLower(recipient)] = action
	}
}

func (p *policyService) serve(c net.Conn) {
	recipient := ""
	for in := bufio.NewScanner(c); in.Scan(); {
		if value, ok := strings.CutPrefix(in.Text(), "recipient="); ok {
			recipient = strings.ToLower(value)
		}
		if in.Text() != "" {
			continue
		}
		p.mu.Lock()
		action, ok := p.actions[recipient]
		mute := p.mute
		p.mu.Unlock()
		if !ok {
			action = "DUNNO"
		}
		if !mute {
			_, _ = io.WriteString(c, "action="+action+"\n\n")
		}
	}
}
