// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"errors"
	"strings"
	"testing"
	"time"

	"rcptgate/config/setting"
)

// A refresh below the pace at which answers are asked again would silently be that pace.
func TestRefreshBelowThePace(t *testing.T) {
	for _, tc := range []struct {
		refresh, expire time.Duration
		key             string
	}{
		{10 * time.Minute, time.Hour, ""},
		{time.Minute, time.Minute, ""}, // no refresh at all
		{10*time.Minute - time.Millisecond, time.Hour, "valid.refresh"},
		{0, time.Hour, "valid.refresh"},
		{2 * time.Hour, time.Hour, "valid.expire"},
	} {
		lives := DefaultLives()
		lives.Valid = RefreshedLife{setting.Duration(tc.refresh), setting.Duration(tc.expire)}
		var bad *setting.KeyError
		if err := lives.Validate(); errors.As(err, &bad) != (tc.key != "") || bad != nil && bad.Key != tc.key {
			t.Errorf("[cache] %v, %v: %v, want key %q", tc.refresh, tc.expire, err, tc.key)
		}
		d := DomainConfig{Valid: &RefreshedLifeChange{Refresh: ptr(setting.Duration(tc.refresh)), Expire: ptr(setting.Duration(tc.expire))}}
		_, bad = newSettings(new(Config), ptr(DefaultLives()), &d)
		if (bad != nil) != (tc.key != "") || bad != nil && bad.Key != tc.key {
			t.Errorf("[[domain]] %v, %v: %v, want key %q", tc.refresh, tc.expire, bad, tc.key)
		}
	}
}

func TestSenderSettings(t *testing.T) {
	for _, good := range []string{"", "<>", "postmaster@mx1.example.org", "<probe@example.org>"} {
		if err := (Config{Sender: good}).Validate(); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	if got, err := readSender("postmaster@bücher.example"); err != nil || got != "postmaster@xn--bcher-kva.example" {
		t.Errorf("a domain in Unicode gives %q, %v", got, err)
	}
	for _, bad := range []string{
		`a\"b@x.example`, `"a b"@x.example`, "pöst@x.example", "a@b\u0378.example", `a\@x.example`,
		"postmaster", "@example.org", "a@b@example.org", "a b@example.org", "a@exa\x01mple.org",
		"a\x7f@example.org", "a\x1b[2J@example.org", "a@example.org\r\nRSET", "a\x00@example.org", strings.Repeat("a", 600) + "@example.org",
	} {
		for _, c := range []Config{{Sender: bad}, {FallbackSender: bad}} {
			if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "sender") {
				t.Errorf("%q: %v", bad, err)
			}
		}
	}
}
