// SPDX-License-Identifier: BSD-2-Clause

package admin

import (
	"context"
	"fmt"
	"testing"

	"rcptgate/unit/fronttest"
)

// checkClient asks as "rcptgate check" does.
type checkClient struct{ *Client }

func (c checkClient) Ask(recipient string) (fronttest.Heard, error) {
	r, err := c.Check(context.Background(), CheckRequest{Recipient: recipient})
	if r.Action == "continue" || r.Action == "accept" {
		return fronttest.Heard{Code: 250}, err
	}
	return fronttest.Heard{Code: r.Code, Enhanced: r.Enhanced, Text: r.Text}, err
}

func (c checkClient) Close() error { c.Client.Close(); return nil }

func TestSuite(t *testing.T) {
	fronttest.Run(t, fronttest.Suite{
		Unit:   Unit(),
		Config: func(path string) string { return fmt.Sprintf("[listen]\nadmin = %q\n", "unix:"+path) },
		Dial: func(_ context.Context, path string) (fronttest.Client, error) {
			return checkClient{NewClient(path)}, nil
		},
	})
}
