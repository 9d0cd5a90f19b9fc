// SPDX-License-Identifier: BSD-2-Clause

package harvest

import (
	"errors"
	"time"

	"rcptgate/config/setting"
)

// Config is the section [harvest].
type Config struct {
	Limit        int              `toml:"limit" doc:"how often one client (an IPv6 /64) may hear within window that a mailbox does not exist. After that it can write only to mailboxes that are remembered to exist; every other recipient gets a temporary answer. 0: no limit, nothing is counted" min:"0" max:"1000000" example:"50"`
	Window       setting.Duration `toml:"window" doc:"the time that limit is about" min:"1m" max:"1d"`
	SlowLimit    int              `toml:"slow_limit" doc:"the same within slow_window, for clients that guess slowly. 0: four times limit" min:"0" max:"1000000"`
	NetworkLimit int              `toml:"network_limit" doc:"the same within slow_window for all clients of an IPv4 /24 or IPv6 /48 together. 0: eight times limit" min:"0" max:"1000000"`
	SlowWindow   setting.Duration `toml:"slow_window" doc:"the time that slow_limit and network_limit are about" min:"1h" max:"31d"`
	Blocklist    string           `toml:"blocklist" doc:"name of a [[blocklist]] that a client joins when it reaches limit or slow_limit. It is then refused mail to real users as well" example:"\"harvest\""`
	Never        []string         `toml:"never" doc:"clients that are not counted: networks, $own, $backends and $trusted. This machine, servers behind, trusted networks and authenticated clients are never counted" example:"[\"198.51.100.25\"]"`
	NeverNames   []string         `toml:"never_names" doc:"patterns of host names, as the MTA has verified them, that are not counted" example:"[\".google.com\"]"`
	Text         string           `toml:"text" doc:"the text of the temporary answer"`
}

// DefaultConfig counts nothing.
func DefaultConfig() Config {
	return Config{
		Window: setting.Duration(time.Hour), SlowWindow: setting.Duration(24 * time.Hour),
		Text: "Too many unknown recipients from your address, please try again later",
	}
}

// Validate reports what does not fit together.
func (c Config) Validate() error {
	var errs []error
	if c.Limit == 0 && c.Blocklist != "" {
		errs = append(errs, setting.Keyf("blocklist", "limit is 0, so no client can reach it; set limit as well"))
	}
	if c.SlowWindow < c.Window {
		errs = append(errs, setting.Keyf("slow_window", "%s is shorter than window, %s", c.SlowWindow, c.Window))
	}
	if c.Text == "" {
		errs = append(errs, setting.Keyf("text", "a text is needed"))
	}
	return errors.Join(errs...)
}

// slowLimit and networkLimit are what is set, or follows from limit.
func (c *Config) slowLimit() int    { return orTimes(c.SlowLimit, 4, c.Limit) }
func (c *Config) networkLimit() int { return orTimes(c.NetworkLimit, 8, c.Limit) }

func orTimes(set, times, limit int) int {
	if set > 0 {
		return set
	}
	return times * limit
}
