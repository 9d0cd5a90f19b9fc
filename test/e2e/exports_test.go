// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/test/lab"
)

// exportedList is a daemon with a list that it keeps in files, and a network with an address of
// a listed client.
type exportedList struct {
	listGate
	gate *lab.Gate
	dir  string // of the files, each named like its format
}

// exportText has what rbldnsd and Postfix give a meaning of their own, and what a quoted string
// of DNS has.
const exportText = `Blocked: pay $5 (or 10%), see "list"; \ $= $1 for 0.5 h`

// startExports lists an IPv4 and an IPv6 client, and waits until the files say so.
func startExports(t *testing.T, formats ...string) *exportedList {
	t.Helper()
	x := &exportedList{listGate: listGate{t: t, net: lab.NewNetwork(t, virusClient, otherClient)}, gate: lab.NewGate(t), dir: lab.NewDir(t, "exports")}
	config := fmt.Sprintf("[[blocklist]]\nname = \"virus\"\ntext = '%s'\nexport = [", exportText)
	for _, format := range formats {
		config += fmt.Sprintf("{ format = %q, file = %q }, ", format, x.file(format))
	}
	x.gate.Configure(config + "]\n")
	x.gate.Run()
	for _, client := range []string{virusClient, "2001:db8:0:1::5", "2001:db8:7::5"} {
		x.gate.MustCommand(0, "blocklist", "add", "virus", client)
	}
	for _, format := range formats {
		testkit.Eventually(t, "the file for "+format, func() bool {
			text, _ := os.ReadFile(x.file(format))
			return strings.Contains(string(text), virusClient)
		})
	}
	return x
}

func (x *exportedList) file(format string) string { return filepath.Join(x.dir, format) }

// The files for Postfix, as check_client_access reads them: the listed client hears the list's
// code and text, and whoever is not listed is let through.
func TestPostfixFiles(t *testing.T) {
	x := startExports(t, "cidr", "texthash")
	for _, format := range []string{"cidr", "texthash"} {
		t.Run(format, func(t *testing.T) {
			g := x.listGate
			g.t = t
			p := g.postfix(lab.PostfixOptions{Name: format, Main: map[string]string{
				"smtpd_recipient_restrictions":   "reject_unauth_destination, check_client_access " + format + ":" + x.file(format),
				"smtpd_authorized_xclient_hosts": otherClient, "inet_protocols": "all",
			}})
			g.hears("listed", p.Addr(), virusClient, "ann@here.test", 550, "Client host rejected: "+exportText)
			g.hears("another client", p.Addr(), otherClient, "ann@here.test", 250, "")
			for client, listed := range map[string]bool{
				"2001:db8:0:1:ffff::9": true, "2001:db8:0:1::9": true, "2001:db8:7::9": true, "2001:db8:7:0:1:2:3:4": true, "2001:db8:7:0:1::": true,
				"2001:db8:0:2::9": false, "2001:db8:7:1::9": false, "2001:db8::1": false, "2001:db8::7:0:0:0:9": false,
			} {
				g.net.Do(func() { // it says where the client comes from: this network has no IPv6
					d, err := lab.DialFrom("tcp", p.Addr(), otherClient)
					if err != nil {
						t.Fatal(err)
					}
					defer d.Close()
					d.Must(t, 250, d.Do(t, "EHLO client.test"))
					d.Must(t, 220, d.Do(t, "XCLIENT NAME=[UNAVAILABLE] ADDR=IPV6:"+client))
					d.Must(t, 250, d.Do(t, "EHLO client.test"))
					d.Must(t, 250, d.Mail(t, "a@client.test"))
					if r := d.Rcpt(t, "ann@here.test"); (r.Code == 550) != listed || !listed && r.Code != 250 {
						t.Errorf("%s heard %s", client, r)
					}
				})
			}
		})
	}
}

// rbldnsd loads the file that the daemon keeps, and what the command prints, and answers as the
// gate's own zone does.
func TestRbldnsd(t *testing.T) {
	lab.Need(t, lab.DNSKit)
	x := startExports(t, "rbldnsd")
	printed := x.file("printed")
	if err := os.WriteFile(printed, []byte(x.gate.MustCommand(0, "blocklist", "export", "virus", "--format", "rbldnsd")), 0o644); err != nil { //nolint:gosec // rbldnsd is another user
		t.Fatal(err)
	}
	var server *lab.Process
	x.net.Do(func() {
		cmd := exec.Command(lab.DNSKit.Path("usr/sbin/rbldnsd"), "-n", "-4", "-u", "65534:65534", "-c", "1s", "-b", "127.0.0.1/53", //nolint:gosec // the lab's own program
			"kept.example:combined:"+x.file("rbldnsd"), "printed.example:combined:"+printed)
		cmd.Env = lab.DNSKit.Environment()
		server = lab.Start(t, "rbldnsd", lab.NewDir(t, "rbldnsd"), cmd)
	})
	ask := func(name, kind string) (answer string) {
		x.net.Do(func() {
			cmd := exec.Command(lab.DNSKit.Path("usr/bin/dig"), "@127.0.0.1", "+tries=1", "+time=20", "+short", name, kind) //nolint:gosec // the lab's own program
			cmd.Env = lab.DNSKit.Environment()
			out, _ := cmd.Output() // while it starts
			answer = strings.TrimSpace(string(out))
		})
		return answer
	}
	const v4, v6 = "9.100.51.198.", "9.0.0.0.0.0.0.0.0.0.0.0.f.f.f.f.1.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2."
	testkit.Eventually(t, "rbldnsd to answer", func() bool { return ask("2.0.0.127.kept.example", "A") != "" })
	for _, zone := range []string{"kept.example", "printed.example"} {
		for name, want := range map[string]string{
			v4: "127.0.0.2", v6: "127.0.0.2", "2.0.0.127.": "127.0.0.2", // RFC 5782 section 5
			"10.100.51.198.": "", "1.0.0.127.": "", strings.Replace(v6, ".1.0.0.0.", ".2.0.0.0.", 1): "",
			"2.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.": "127.0.0.2",
		} {
			if got := ask(name+zone, "A"); got != want {
				t.Errorf("%s%s: %q, want %q", name, zone, got, want)
			}
		}
		text := `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(exportText) + `"`
		for _, name := range []string{v4, v6} {
			if got := ask(name+zone, "TXT"); got != text {
				t.Errorf("TXT of %s%s: %s, want %s", name, zone, got, text)
			}
		}
	}
	// It looks for a new file by itself.
	x.gate.MustCommand(0, "blocklist", "remove", "virus", virusClient)
	testkit.Eventually(t, "the removal", func() bool { return ask(v4+"kept.example", "A") == "" })
	if got := ask(v6+"kept.example", "A"); got != "127.0.0.2" {
		t.Errorf("the other listing has gone as well: %q", got)
	}
	if log, err := os.ReadFile(filepath.Join(server.Dir, "output.log")); err != nil || regexp.MustCompile(`(?i)warn|error|invalid|unrecognized`).Match(log) {
		t.Errorf("%v: rbldnsd says:\n%s", err, log)
	}
}

// The firewall of the recipe: a listed client does not get through, until it is removed.
func TestNftables(t *testing.T) {
	lab.Need(t, lab.NftablesKit)
	x := startExports(t, "nft")
	commands := func(word string) string {
		return fmt.Sprintf("nft() { LD_LIBRARY_PATH=%q %q \"$@\"; }\nrcptgate() { %q \"$@\" -c %q; }\nset -e\n%s",
			strings.TrimPrefix(lab.NftablesKit.Environment()[slices.IndexFunc(lab.NftablesKit.Environment(), func(s string) bool { return strings.HasPrefix(s, "LD_") })], "LD_LIBRARY_PATH="),
			lab.NftablesKit.Path("usr/sbin/nft"), x.gate.Binary(), x.gate.Config(), word)
	}
	sh := func(text string) (out string) {
		t.Helper()
		x.net.Do(func() {
			b, err := exec.Command("/bin/bash", "-o", "pipefail", "-c", commands(text)).CombinedOutput() //nolint:gosec // the recipe
			if out = string(b); err != nil {
				t.Fatalf("%s\n%v\n%s", text, err, out)
			}
		})
		return out
	}
	var port string
	x.net.Do(func() {
		ln, err := net.Listen("tcp", "127.0.0.1:25")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
		port = ln.Addr().String()
	})
	connects := func(client string) (ok bool) {
		x.net.Do(func() {
			d := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(client)}}
			c, err := d.Dial("tcp", port)
			if ok = err == nil; ok {
				_ = c.Close()
			}
		})
		return ok
	}
	elements := func(set string) string {
		m := regexp.MustCompile(`(?s)elements = \{(.*?)\}`).FindStringSubmatch(sh("nft list set inet mail " + set))
		if m == nil {
			return ""
		}
		return strings.Join(strings.Fields(regexp.MustCompile(`(timeout|expires) \S+`).ReplaceAllString(m[1], "")), " ")
	}
	recipe := recipeOf(t, "blocklists.md", "nft add set")
	if !connects(virusClient) {
		t.Fatal("the client is kept out before there is a firewall")
	}
	sh(recipe)
	for set, want := range map[string]string{"virus": virusClient, "virus6": "2001:db8:0:1::/64 2001:db8:7::/64"} {
		if got := elements(set); got != want {
			t.Errorf("the set %s has %q, want %q", set, got, want)
		}
	}
	if connects(virusClient) || !connects(otherClient) {
		t.Errorf("the listed client connects: %v, another one: %v", connects(virusClient), connects(otherClient))
	}
	// Both ways to feed it replace what is in the sets.
	x.gate.MustCommand(0, "blocklist", "remove", "virus", virusClient)
	x.gate.MustCommand(0, "blocklist", "add", "virus", otherClient)
	sh(recipe[strings.LastIndex(strings.TrimSpace(recipe), "\n"):])
	if got := elements("virus"); got != otherClient || !connects(virusClient) || connects(otherClient) {
		t.Errorf("after a removal the set has %q", got)
	}
	testkit.Eventually(t, "the new file", func() bool {
		text, _ := os.ReadFile(x.file("nft"))
		return strings.Contains(string(text), otherClient) && !strings.Contains(string(text), virusClient+" ")
	})
	sh("nft flush set inet mail virus; nft -f " + x.file("nft"))
	if got := elements("virus"); got != otherClient {
		t.Errorf("the kept file fills the set with %q", got)
	}
}
