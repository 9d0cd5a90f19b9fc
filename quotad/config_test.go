// SPDX-License-Identifier: BSD-2-Clause

package quotad

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"rcptgate/config"
)

func TestConfigTypes(t *testing.T) {
	t.Parallel()
	schema, err := config.Compose(Parts()...)
	if err != nil {
		t.Fatal(err)
	}
	if err := config.CheckTypes(schema.Defaults().Any()); err != nil {
		t.Error(err)
	}
}

const mboxes = "[[store]]\ntype = \"mbox\"\nroot = \"/var/mail\"\npath = \"{local}\"\n"

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"", "there is no [[store]] section"},
		{"[[store]]\n", "store[1].type: \"\" is not allowed; expected \"mbox\""},
		{"[[store]]\ntype = \"fs\"\n", "agent.toml:2:1: store[1].type"},
		{"[[store]]\ntype = \"mbox\"\n", `store[1].path: type "mbox" needs it`},
		{mboxes + "override = true\n", `agent.toml:5:1: store[1].override: type "mbox" does not have it`},
		{mboxes + "command = [\"/bin/true\"]\n", "agent.toml:5:1: store[1].command"},
		{mboxes + "limit = \"big\"\n", `agent.toml:5:1: store[1].limit: "big" is not a size`},
		{mboxes + "domains = [\"a@b\"]\n", "agent.toml:5:1: store[1].domains"},
		{mboxes + "domain = [\"a\"]\n", "did you mean \"domains\"?"},
		{"[[store]]\ntype = \"mbox\"\nroot = \"/var/mail\"\npath = \"/var/spool/{local}\"\n", "agent.toml:4:1: store[1].path: \"/var/spool/{local}\" does not lie below root"},
		{"[[store]]\ntype = \"mbox\"\nroot = \"/var/mail\"\npath = \"../{local}\"\n", "agent.toml:4:1: store[1].path"},
		{"[[store]]\ntype = \"mbox\"\nroot = \"/var/mail\"\npath = \"{lokal}\"\n", "agent.toml:4:1: store[1].path: \"{lokal}\" has a brace"},
		{"[[store]]\ntype = \"mbox\"\npath = \"/var/mail/{local}\"\n", "store[1].root: \"\" is not an absolute path"},
		{"[[store]]\ntype = \"file\"\npath = \"/x/{local}\"\n", "agent.toml:3:1: store[1].path: a list is one file"},
		{"[[store]]\ntype = \"exec\"\ncommand = [\"true\"]\n", "agent.toml:3:1: store[1].command: \"true\" is not an absolute path"},
		{"[[store]]\ntype = \"policy\"\n", `store[1].address: type "policy" needs it`},
		{"[listen]\nudp = [\"8049\"]\n" + mboxes, "agent.toml:2:1: listen.udp: \"8049\" is not an address"},
		{"[listen]\nudp = [\"127.0.0.1:80490\"]\n" + mboxes, "agent.toml:2:1: listen.udp: \"127.0.0.1:80490\" is not an address"},
		{"[listen]\nudp = [\":8049\"]\n" + mboxes, "listen.udp: \":8049\" is not an address"},
		{"[listen]\nudp = []\ntcp = []\nhttp = \"\"\n" + mboxes, "there is nothing to listen on"},
		{"[listen]\nudp = [\"10.0.0.5:8049\"]\nclients = [\"10.0.0.0/24\"]\n" + mboxes, "agent.toml:2:1: listen.udp: an address that is not loopback needs key_file, or plain = true"},
		{"[listen]\nhttp = \"0.0.0.0:8048\"\n" + mboxes, "agent.toml:2:1: listen.http: an address that is not loopback needs key_file"},
		{"[listen]\ncertificate = \"/x\"\n" + mboxes, "listen.certificate: certificate and key belong together"},
		{"[listen]\nrate = 0\n" + mboxes, "agent.toml:2:1: listen.rate"},
		{"[listen]\nclients = [\"10.0.0.0/33\"]\n" + mboxes, "agent.toml:2:12: listen.clients[1]"},
	} {
		_, err := configure(t, c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.text, err, c.want)
		}
	}
	for _, good := range []string{
		mboxes,
		"[listen]\nudp = [\"10.0.0.5:8049\", \"[2001:db8::5]:8049\"]\nclients = [\"10.0.0.0/24\"]\nkey_file = \"/k\"\n" + mboxes,
		"[listen]\nudp = [\"10.0.0.5:8049\"]\nkey_file = \"/k\"\n" + mboxes, // clients: loopback
		"[listen]\nudp = [\"localhost:8049\", \"[::1]:8049\"]\n" + mboxes,
		"[[store]]\ntype = \"file\"\npath = \"/run/quotas.csv\"\nuser = \"{local}\"\n",
		"[[store]]\ntype = \"doveadm\"\naddress = \"unix:/run/dovecot/doveadm-server\"\nquota_root = \"User quota\"\ngrace = \"10MB\"\n",
		"[[store]]\ntype = \"policy\"\naddress = \"inet:127.0.0.1:12340\"\n",
	} {
		if _, err := configure(t, good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

// Without clients only programs on the same machine may ask, and the log says so if the agent
// listens elsewhere.
func TestNoClients(t *testing.T) {
	t.Parallel()
	for listen, warns := range map[string]bool{
		"udp = [\"10.0.0.5:8049\"]\nplain = true\n": true, "udp = [\"127.0.0.1:8049\"]\n": false, "http = \"0.0.0.0:8048\"\nplain = true\nclients = [\"192.0.2.0/24\"]\n": false,
	} {
		a, _, log := open(t, "[listen]\n"+listen+mboxes)
		a.warnOfNobody()
		if got := strings.Contains(log.String(), "name the gateways in [listen] clients"); got != warns {
			t.Errorf("%q: warns: %v", listen, got)
		}
		for client, want := range map[string]bool{"127.0.0.1": true, "::1": true, "192.0.2.7": strings.Contains(listen, "clients"), "10.0.0.5": false} {
			if got := a.active.Load().mayAsk(addr(client)); got != want {
				t.Errorf("%q: %s may ask: %v", listen, client, got)
			}
		}
	}
}

// Files that the configuration names are read at the start: a mistake in them has its line,
// and a reload with one changes nothing.
func TestKeyFileOfTheConfiguration(t *testing.T) {
	t.Parallel()
	c, err := configure(t, "[listen]\nkey_file = \"/does/not/exist\"\n"+mboxes)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = New(c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "agent.toml:2:1: listen.key_file") {
		t.Errorf("%v", err)
	}
	name, keys := keyed(t)
	a, _, log := open(t, "[listen]\nkey_file = \""+name+"\"\n"+mboxes)
	before := a.active.Load()
	a.reload(func() (*Config, error) { return c, nil })
	a.reload(func() (*Config, error) { return LoadConfig(filepath.Join(t.TempDir(), "absent")) })
	if a.active.Load() != before || strings.Count(log.String(), "keeping the old configuration") != 2 || !a.active.Load().keys.Accepts(keys.Token()) {
		t.Errorf("a mistake changed something:\n%s", log)
	}
	next, err := configure(t, "[listen]\nudp = [\"127.0.0.1:1\"]\n"+mboxes)
	if err != nil {
		t.Fatal(err)
	}
	a.reload(func() (*Config, error) { return next, nil })
	if a.active.Load().keys != nil || !strings.Contains(log.String(), "need a restart") {
		t.Errorf("the new configuration is not active:\n%s", log)
	}
}
