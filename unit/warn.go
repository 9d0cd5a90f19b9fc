// SPDX-License-Identifier: BSD-2-Clause

package unit

import (
	"fmt"
	"time"

	"rcptgate/store/memcached"
)

// sendmailTimeout is how long Sendmail waits for a milter's answer unless its R: says
// otherwise (Operations Guide, section 5.11). Postfix waits 30 s.
const sendmailTimeout = 10 * time.Second

// Warnings are what the daemon accepts and a postmaster would hardly want.
func (h *Host) Warnings() (list []string) {
	c := h.Config()
	if d := c.Core().Deadline.Std(); d >= sendmailTimeout {
		list = append(list, fmt.Sprintf("deadline = %q is not below the 10s that Sendmail waits for an answer by default", c.Core().Deadline))
	}
	if m := Part[memcached.Config](c); m.Active() && m.KeyFile == "" {
		list = append(list, "memcached without memcached_key_file: anyone who can reach these servers can change what is remembered")
	}
	for _, s := range h.Tables.States() {
		if !s.Readable() {
			list = append(list, "table "+s.String())
		}
	}
	for _, f := range h.follows() {
		for _, w := range f.Source.Warnings {
			list = append(list, f.Section+": "+w)
		}
	}
	for i := range h.live {
		if warn := h.live[i].Warn; warn != nil {
			list = append(list, warn(c)...)
		}
	}
	return list
}
