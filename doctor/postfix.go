// SPDX-License-Identifier: BSD-2-Clause

package doctor

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"rcptgate/mta/maincf"
	"rcptgate/table"
	"rcptgate/table/open"
)

// postfixMaps are the tables of main.cf that decide what becomes of a recipient.
var postfixMaps = []string{
	"alias_maps", "virtual_alias_maps", "virtual_mailbox_maps", "transport_maps", "relay_recipient_maps", "local_recipient_maps",
	"canonical_maps", "recipient_canonical_maps",
}

// readPostfix reads what main.cf and master.cf say.
func readPostfix(ctx context.Context, path string) (*MTA, error) {
	c, err := maincf.Read(path)
	if err != nil {
		return nil, err
	}
	m := &MTA{Name: "Postfix", File: c.Path, Timeout: 30}
	if value, _ := c.Get("milter_command_timeout"); value != "" {
		m.Timeout = seconds(value, m.Timeout)
	}
	m.postfixTables(ctx, c)
	for _, name := range []string{"mydestination", "virtual_alias_domains", "virtual_mailbox_domains", "relay_domains"} {
		value, err := c.Get(name)
		if err != nil {
			m.bad(Broken{What: err.Error(), Where: c.Path})
		}
		set, _ := c.Set(name)
		for _, word := range maincf.Split(value) {
			m.word(ctx, name, word, c.Path, set.Line)
		}
	}
	if set, ok := c.Set("smtpd_milters"); ok {
		value, err := c.Get("smtpd_milters")
		if err != nil {
			value = set.Value
		}
		action, _ := c.Get("milter_default_action")
		m.MilterValue = value
		m.Milters = postfixMilters(value, fmt.Sprintf("%s:%d smtpd_milters = %s", c.Path, set.Line, value), m.Timeout, action)
	}
	m.policies(c)
	m.Chroot = smtpdInChroot(filepath.Join(filepath.Dir(c.Path), "master.cf"))
	return m, nil
}

// postfixTables looks whether the tables that main.cf names can be read, and takes from the
// transport maps which domains go to other servers.
func (m *MTA) postfixTables(ctx context.Context, c *maincf.Config) {
	for _, name := range postfixMaps {
		set, ok := c.Set(name)
		if !ok {
			continue
		}
		value, err := c.Get(name)
		if err != nil {
			m.bad(Broken{What: err.Error(), Where: fmt.Sprintf("%s:%d", c.Path, set.Line)})
			continue
		}
		for _, word := range maincf.Split(value) {
			spec, err := table.ParseSpec(word)
			if err != nil {
				continue // a type that only Postfix reads
			}
			f, err := open.Open(ctx, spec, func(error) {})
			if err == nil && name == "transport_maps" {
				err = m.transports(ctx, f)
			}
			if err != nil {
				m.brokenTable(name, spec, err, lineOf(c.Path, set.Line))
			}
		}
	}
}

// transports takes the domains that a transport(5) table sends to other servers.
func (m *MTA) transports(ctx context.Context, f *open.File) error {
	return f.Scan(ctx, func(key, value []byte) error {
		domain := strings.TrimRight(strings.ToLower(string(key)), "\x00")
		transport, hop, _ := strings.Cut(strings.TrimRight(string(value), "\x00"), ":")
		if (transport == "smtp" || transport == "relay" || transport == "esmtp") && hop != "" && !strings.Contains(domain, "@") && len(m.Elsewhere) < maxPlaces {
			m.sendsElsewhere(domain)
		}
		return nil
	})
}

// policies takes the policy services that smtpd asks at unix sockets.
func (m *MTA) policies(c *maincf.Config) {
	for _, stage := range []string{"client", "helo", "sender", "relay", "recipient", "data", "end_of_data", "etrn"} {
		name := "smtpd_" + stage + "_restrictions"
		set, ok := c.Set(name)
		if !ok {
			continue
		}
		value, err := c.Get(name)
		if err != nil {
			continue // Postfix says so itself
		}
		words := maincf.Split(value)
		for i, word := range words {
			if word != "check_policy_service" || i+1 == len(words) {
				continue
			}
			fields := maincf.Split(strings.Trim(words[i+1], "{}"))
			if len(fields) == 0 {
				continue
			}
			if path, ok := strings.CutPrefix(fields[0], "unix:"); ok {
				m.Policies = append(m.Policies, policy{path: path, line: fmt.Sprintf("%s:%d %s", c.Path, set.Line, name)})
			}
		}
	}
}

// policy is a policy service at a unix socket.
type policy struct{ path, line string }

// smtpdInChroot reports whether master.cf(5) runs smtpd in a chroot.
func smtpdInChroot(path string) bool {
	found := false
	_ = eachLine(path, func(_ int, line string) {
		f := strings.Fields(line)
		if len(f) >= 8 && f[0] == "smtp" && f[1] == "inet" && f[7] == "smtpd" {
			found = f[4] == "y"
		}
	})
	return found
}
