// SPDX-License-Identifier: BSD-2-Clause

package milter_test

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/config/setting"
	"rcptgate/front/milter"
	"rcptgate/front/milter/mta"
	"rcptgate/kit/testkit"
	"rcptgate/unit"
	"rcptgate/unit/fronttest"
)

// milterClient is an MTA within a transaction.
type milterClient struct{ *mta.Client }

func (c milterClient) Ask(recipient string) (fronttest.Heard, error) {
	r, err := c.Rcpt(recipient)
	if err == nil && !r.Action.Refuses() {
		return fronttest.Heard{Code: 250}, nil
	}
	return fronttest.Heard{Code: r.Code, Enhanced: r.Enhanced, Text: r.Text}, err
}

func TestSuite(t *testing.T) {
	fronttest.Run(t, fronttest.Suite{
		Unit: milter.Unit(),
		Config: func(path string) string {
			return fmt.Sprintf("[listen]\nmilter = [%q]\n[milter]\ndrain = \"30s\"\n", "unix:"+path)
		},
		Dial: func(ctx context.Context, path string) (fronttest.Client, error) {
			c, err := mta.Dial(ctx, setting.Socket{Network: "unix", Address: path}, mta.Options{Timeout: time.Minute})
			if err != nil {
				return nil, err
			}
			if _, err = c.Connect("client.example", netip.MustParseAddrPort("192.0.2.7:40000")); err == nil {
				_, err = c.Mail("s@sender.example", nil)
			}
			return milterClient{c}, err
		},
	})
}

// Sockets of milter_local are for mail in which no recipient is refused.
func TestLocalSockets(t *testing.T) {
	dir := testkit.Dir(t)
	units := []unit.Unit{milter.Unit(), {Name: "no", Open: unit.Steps(func(s *unit.Setup) error {
		s.Step(rcptgate.StageRcpt, rcptgate.Step{Name: "no", Check: rcptgate.CheckFunc(func(context.Context, *rcptgate.Query) (rcptgate.Verdict, error) {
			return rcptgate.Verdict{Action: rcptgate.Reject, Code: 550, Text: "no"}, nil
		})})
		return nil
	})}}
	schema, err := unit.Compose(units)
	if err != nil {
		t.Fatal(err)
	}
	c, err := unit.Parse(schema, "test.toml", fmt.Sprintf("enforce = true\nstate = %q\n[listen]\nmilter = [\"unix:%[1]s/a\"]\nmilter_local = [\"unix:%[1]s/b\"]\n", dir))
	if err != nil {
		t.Fatal(err)
	}
	h, err := unit.Open(t.Context(), units, c, unit.Options{Stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Stop()
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, refuses := range map[string]bool{"a": true, "b": false} {
		m, err := mta.Dial(t.Context(), setting.Socket{Network: "unix", Address: dir + "/" + name}, mta.Options{Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		say := say(t)
		say(m.Connect("localhost", netip.AddrPort{}))
		say(m.Mail("s@example.org", nil))
		if r := say(m.Rcpt("a@in.test")); r.Action.Refuses() != refuses {
			t.Errorf("%s: the recipient: %+v", name, r)
		}
		if r := say(m.EndOfMessage()); r.Action.Refuses() == refuses {
			t.Errorf("%s: the message: %+v", name, r)
		}
		_ = m.Quit()
	}
}
