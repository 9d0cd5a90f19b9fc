// SPDX-License-Identifier: BSD-2-Clause

package milter_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"rcptgate/config/setting"
	"rcptgate/front/milter"
	"rcptgate/front/milter/mta"
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
