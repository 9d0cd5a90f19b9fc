// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// saslPlugins is the directory of the kit's mechanisms.
func saslPlugins() string {
	found, _ := filepath.Glob(SASLKit.Path("usr/lib/*-linux-gnu/sasl2")) // the pattern is well formed
	return strings.Join(found, ":")
}

// users makes a database of users (saslpasswd2(8)), and the file by which Cyrus SASL finds it for a Sendmail:
// /etc/sasl2/Sendmail.conf, for this Sendmail alone.
func (s *Sendmail) users(dir string, o SendmailOptions) {
	s.t.Helper()
	if len(o.Users) == 0 {
		return
	}
	Need(s.t, SASLKit)
	s.etc = filepath.Join(dir, "etc")
	if err := os.MkdirAll(filepath.Join(s.etc, "sasl2"), 0o755); err != nil {
		s.t.Fatal(err)
	}
	database := filepath.Join(dir, "sasldb2")
	write(s.t, filepath.Join(s.etc, "sasl2"), "Sendmail.conf", fmt.Sprintf("pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: %s\nmech_list: PLAIN\n", database))
	for _, user := range keys(o.Users) {
		cmd := exec.Command(SASLKit.Path("usr/sbin/saslpasswd2"), "-p", "-c", "-f", database, "-u", o.Hostname, user)
		cmd.Env = append(SASLKit.environment(), "SASL_PATH="+saslPlugins())
		cmd.Stdin = strings.NewReader(o.Users[user])
		if out, err := cmd.CombinedOutput(); err != nil {
			s.t.Fatalf("saslpasswd2 %s: %v\n%s", user, err, out)
		}
	}
}
