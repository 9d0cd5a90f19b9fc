// SPDX-License-Identifier: BSD-2-Clause

package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"rcptgate/doctor/zonetest"
	"rcptgate/kit/exit"
	"rcptgate/unit"
)

// line runs the command as with a configuration's text; "" is one that is not there.
func line(t *testing.T, config string, args ...string) (stdout string, err error) {
	t.Helper()
	schema, err := unit.Compose(nil)
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(&unit.CLI{
		Load: func(*cobra.Command) (*unit.Config, error) {
			if config == "broken" {
				return nil, errors.New("the file is broken")
			}
			c, err := unit.Parse(schema, "test.toml", "hostname = \"Gate.example.org\"\n"+config)
			if err == nil && config == "" {
				c.File = nil
			}
			return c, err
		},
		Offline: func(ctx context.Context, c *unit.Config) (*unit.Host, error) {
			return unit.Open(ctx, nil, c, unit.Options{Offline: true})
		},
	})
	var out bytes.Buffer
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err = cmd.ExecuteContext(t.Context())
	return out.String(), err
}

// TestCommandLine: what the flags say reaches the findings, and mistakes in them have their exit codes.
func TestCommandLine(t *testing.T) {
	server, stop, err := zonetest.Start(healthy + ";_mta-sts.example.com servfail\n")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	dir := t.TempDir()
	maincf, maillog := filepath.Join(dir, "main.cf"), filepath.Join(dir, "maillog")
	for path, text := range map[string]string{maincf: "myhostname = mx1.example.org\nmydestination = example.com\n" + milters,
		maillog: "Nov 28 10:00:00 mx postfix/smtpd[1]: lost connection after RCPT from pc7.example.net[198.51.100.7]\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	here := []string{"--resolver", server, "--from-ip", "192.0.2.80", "--helo", "MX1.example.org", "--postfix", maincf}
	says := func(config string, args ...string) string {
		t.Helper()
		out, err := line(t, config, append(here, args...)...)
		var coded *exit.Error
		if err != nil && !errors.As(err, &coded) {
			t.Errorf("%q: %v", args, err)
		}
		return out
	}
	for _, tt := range []struct {
		config, args, want, not string
	}{
		{"", "example.com --verbose", "mx1.example.org is this machine's", "gate-config"},
		{"", "example.com --verbose", "192.0.2.80 may send for the domain", ""},
		{"", "example.com --verbose --helo gate.example.org", "gate.example.org, the name in EHLO", ""},
		{"", "example.com --verbose --from-ip 192.0.2.81", "192.0.2.81", ""},
		{"deadline = \"7s\"\n", "example.com --verbose", "gate-config", ""},
		{"enforce = false\n", "example.com", "gate-rehearses", ""},
		{"", "example.com --log " + maillog, "pc7.example.net", ""},
		{"", "example.com", "? mta-sts", "✓ spf"},
		{"", "example.com --quiet", "? mta-sts", "· "},
	} {
		if out := says(tt.config, strings.Fields(tt.args)...); !strings.Contains(out, tt.want) || tt.not != "" && strings.Contains(out, tt.not) {
			t.Errorf("%s: no %q, or %q, in\n%s", tt.args, tt.want, tt.not, out)
		}
	}
	var report struct{ Findings []Finding }
	if out := says("", "--json", "example.com"); json.Unmarshal([]byte(out), &report) != nil || len(report.Findings) < 5 {
		t.Errorf("not a report: %s", out)
	}
	for args, want := range map[string]int{"notadomain": exit.Data, "--from-ip x": exit.Usage, "--postfix /nonexistent/main.cf": exit.Config, "--from-ip 192.0.2.80 example.com": exit.Tempfail, "--from-ip 192.0.2.81 example.com": exit.Config} {
		_, err := line(t, "", append(here, strings.Fields(args)...)...)
		var coded *exit.Error
		if !errors.As(err, &coded) || coded.Code != want {
			t.Errorf("%s: %v, want exit code %d", args, err, want)
		}
	}
	if _, err := line(t, "broken", "example.com"); err == nil || !strings.Contains(err.Error(), "the file is broken") {
		t.Errorf("a configuration that cannot be read: %v", err)
	}
}

// TestStrict: warnings are wrong then.
func TestStrict(t *testing.T) {
	server, stop, err := zonetest.Start(healthy + "_dmarc.example.com. TXT \"v=DMARC1; p=reject\"\n")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for _, strict := range []bool{false, true} {
		_, err := line(t, "", fmt.Sprintf("--strict=%v", strict), "--resolver", server, "--from-ip", "192.0.2.80", "--helo", "mx1.example.org", "example.com")
		if (err != nil) != strict {
			t.Errorf("strict %v: %v", strict, err)
		}
	}
}

// TestFlagsOfTheDoctor: what is asked, and as whom.
func TestFlagsOfTheDoctor(t *testing.T) {
	schema, err := unit.Compose(nil)
	if err != nil {
		t.Fatal(err)
	}
	cli := &unit.CLI{Load: func(*cobra.Command) (*unit.Config, error) {
		c, err := unit.Parse(schema, "test.toml", "hostname = \"Gate.example.org\"\n")
		if err == nil {
			c.File = nil
		}
		return c, err
	}}
	cmd := &cobra.Command{}
	cmd.SetContext(t.Context())
	f := flags{resolvers: []string{"192.0.2.1", "192.0.2.2:5353", "2001:db8::1", "[2001:db8::2]", "[2001:db8::3]:5353"}, https: true, logs: []string{"a"}}
	d, err := f.doctor(cmd, cli)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(d.DNS.Servers); got != "[192.0.2.1:53 192.0.2.2:5353 [2001:db8::1]:53 [2001:db8::2]:53 [2001:db8::3]:5353]" || d.DNS.Search != 0 {
		t.Errorf("%s, %d", got, d.DNS.Search)
	}
	if d.Fetch == nil || d.Hostname != "gate.example.org" || d.Gate != nil || fmt.Sprint(d.Logs) != "[a]" {
		t.Errorf("%+v", d)
	}
	if d, err = new(flags).doctor(cmd, cli); err != nil || d.Fetch != nil || len(d.DNS.Servers) == 0 || d.DNS.Servers[0] == "192.0.2.1:53" {
		t.Errorf("without flags: %+v, %v", d, err)
	}
	for _, r := range d.DNS.Servers {
		if _, _, err := net.SplitHostPort(r); err != nil {
			t.Error(err)
		}
	}
}
