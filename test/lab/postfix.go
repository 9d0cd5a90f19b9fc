// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A Postfix is a running Postfix of its own (postconf(5), master(5)), as a gateway or as a server behind one.
type Postfix struct {
	*Process
	// Port is the loopback TCP port of smtpd; Plain that of an smtpd without milters, 0 if there is none.
	Port, Plain int

	t      testing.TB
	etc    string
	passwd string
	resolv string // what it sees as /etc/resolv.conf
}

// PostfixOptions says what a Postfix does. The zero value is a Postfix that knows no domain.
type PostfixOptions struct {
	// Name is used in messages; default "postfix".
	Name string
	// Hostname is myhostname, a qualified name; default "mx.gate.test".
	Hostname string
	// Port to listen on; 0 chooses a free one.
	Port int
	// Milters is smtpd_milters, for instance "inet:127.0.0.1:8890" or "unix:/path".
	Milters []string
	// Relay maps a relayed domain to its transport and next hop, for instance "smtp:[127.0.0.1]:2525".
	Relay map[string]string
	// VirtualAliases is virtual_alias_maps: an address or "@domain" and its target.
	VirtualAliases map[string]string
	// Mailboxes are the addresses that exist here (virtual mailboxes, not delivered anywhere); their domains are final here.
	Mailboxes []string
	// Domains are final here even if they have no mailbox.
	Domains []string
	// Chroot runs smtpd in a chroot of the queue directory, as Debian does.
	Chroot bool
	// Plain adds an smtpd without milters on a port of its own.
	Plain bool
	// Postscreen puts postscreen(8) before smtpd, with its deep protocol tests: it takes no recipient of a client's first
	// session.
	Postscreen bool
	// Hash keeps Mailboxes in a hash: table, see Postmap.
	Hash bool
	// Aliases is alias_maps: a name and its targets. Without any there is no alias database.
	Aliases map[string]string
	// Maps are further tables: the parameter of main.cf, and what is in its table.
	Maps map[string]map[string]string
	// Passwd is the file that this Postfix sees as /etc/passwd; default the system's own.
	Passwd string
	// Resolver is the address of the name server that this Postfix sees in /etc/resolv.conf; default the system's own.
	Resolver string
	// Refuse maps a recipient to a reply of smtpd's restrictions (access(5)), for instance "452 4.2.2 Mailbox full".
	Refuse map[string]string
	// Main are further lines of main.cf, later ones win: "smtpd_error_sleep_time" = "0".
	Main map[string]string
}

// Addr returns the address of smtpd.
func (p *Postfix) Addr() string { return fmt.Sprintf("127.0.0.1:%d", p.Port) }

// StartPostfix starts a Postfix with Debian's defaults except what the options say. There is no DNS and no chroot, all
// else (error limits, delays, process limits) is as it ships.
func StartPostfix(t testing.TB, o PostfixOptions) *Postfix {
	t.Helper()
	Need(t, PostfixKit)
	if o.Name == "" {
		o.Name = "postfix"
	}
	if o.Hostname == "" {
		o.Hostname = "mx.gate.test"
	}
	if o.Port == 0 {
		o.Port = FreePort(t)
	}
	dir := NewDir(t, o.Name)
	p := &Postfix{Port: o.Port, t: t, etc: filepath.Join(dir, "etc"), passwd: o.Passwd}
	postfixQueue(t, dir)
	if err := os.Mkdir(p.etc, 0o755); err != nil {
		t.Fatalf("starting %s: %v", o.Name, err)
	}
	if o.Resolver != "" {
		p.resolv = write(t, p.etc, "resolv.conf", "nameserver "+o.Resolver+"\n")
	}
	services := fmt.Sprintf("127.0.0.1:%d inet n - n - - smtpd\n", o.Port)
	if o.Chroot {
		services = strings.Replace(services, "n - n", "n - y", 1)
	}
	if o.Plain {
		p.Plain = FreePort(t)
		services += fmt.Sprintf("127.0.0.1:%d inet n - n - - smtpd\n  -o smtpd_milters=\n", p.Plain)
	}
	if o.Postscreen {
		services = fmt.Sprintf("127.0.0.1:%d inet n - n - 1 postscreen\nsmtpd pass - - n - - smtpd\ndnsblog unix - - n - 0 dnsblog\ntlsproxy unix - - n - 0 tlsproxy\n", o.Port)
	}
	write(t, p.etc, "master.cf", services+masterCF)
	write(t, p.etc, "main.cf", mainCF(t, dir, p.etc, o))
	if len(o.Aliases) > 0 {
		p.Postalias(aliasesText(o.Aliases))
	}
	if o.Hash {
		p.Postmap(o.Mailboxes...)
	}
	p.start(o.Name, dir)
	return p
}

// start runs the master and waits for the banner.
func (p *Postfix) start(name, dir string) {
	p.t.Helper()
	args := []string{PostfixKit.Path("usr/lib/postfix/sbin/master"), "-d", "-c", p.etc}
	for file, own := range map[string]string{"/etc/passwd": p.passwd, "/etc/resolv.conf": p.resolv} {
		if own != "" {
			args = append([]string{"/usr/bin/unshare", "--mount", "/bin/sh", "-c", `mount --bind "$1" "$2"; shift 2; exec "$@"`, "sh", own, file}, args...)
		}
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = PostfixKit.environment()
	p.Process = Start(p.t, name, dir, cmd)
	p.WaitFor(p.t, func() error { return Greets("tcp", p.Addr()) })
}

// Stop ends the Postfix with all its children, as a crash of its machine would.
func (p *Postfix) Stop() { p.Kill() }

// Restart starts a stopped Postfix again on the same port.
func (p *Postfix) Restart() {
	p.t.Helper()
	p.start(p.Name, p.Dir)
}

// Log returns what the Postfix has logged so far. A line is there a moment after what it speaks of.
func (p *Postfix) Log() string {
	text, err := os.ReadFile(filepath.Join(p.Dir, "mail.log"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // postlogd makes it with the first line
		p.t.Fatalf("reading the log of %s: %v", p.Name, err)
	}
	return string(text)
}

// Count returns how many lines of the log match the expression.
func (p *Postfix) Count(expr string) int {
	return len(regexp.MustCompile("(?m)"+expr).FindAllStringIndex(p.Log(), -1))
}

// Connections returns how many SMTP connections the log shows since the start, those of WaitFor's own look included.
func (p *Postfix) Connections() int { return p.Count(`postfix/smtpd\[\d+\]: connect from`) }

// Table spells a map file of this Postfix: "hash:/.../aliases".
func (p *Postfix) Table(kind, name string) string { return kind + ":" + filepath.Join(p.etc, name) }

// TextHash writes a map file of the entries and spells it.
func (p *Postfix) TextHash(name string, entries map[string]string) string {
	p.t.Helper()
	return textHash(p.t, p.etc, name, entries)
}

// Postalias makes the alias database (Table "hash", "aliases") of a text, as postalias(1) does.
func (p *Postfix) Postalias(text string) {
	p.t.Helper()
	write(p.t, p.etc, "aliases", text)
	run(p.t, PostfixKit, p.etc, PostfixKit.Path("usr/sbin/postalias"), "-c", p.etc, p.Table("hash", "aliases"))
}

// Submit hands a message over as the machine's own users do, by sendmail(1): it goes through the maildrop queue and
// pickup(8), past smtpd.
func (p *Postfix) Submit(sender, message string, recipients ...string) {
	p.t.Helper()
	cmd := exec.Command(PostfixKit.Path("usr/sbin/sendmail"), append([]string{"-C", p.etc, "-i", "-f", sender, "--"}, recipients...)...)
	cmd.Env = PostfixKit.environment()
	cmd.Stdin = strings.NewReader(message)
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("submitting a message: %v\n%s", err, out)
	}
}

// Queued is how many messages are in a queue, such as "maildrop" or "deferred".
func (p *Postfix) Queued(queue string) (n int) {
	p.t.Helper()
	_ = filepath.WalkDir(filepath.Join(p.Dir, "spool", queue), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			n++
		}
		return nil // what has just gone is not counted
	})
	return n
}

// Postmap makes the table of mailboxes anew, as postmap(1) does. Sessions that are open keep the old one: smtpd(8) looks for
// changed tables between sessions only.
func (p *Postfix) Postmap(mailboxes ...string) {
	p.t.Helper()
	entries := map[string]string{}
	for _, box := range mailboxes {
		entries[box] = "kept/nowhere"
	}
	textHash(p.t, p.etc, "mailboxes", entries)
	run(p.t, PostfixKit, p.etc, PostfixKit.Path("usr/sbin/postmap"), "-c", p.etc, p.Table("hash", "mailboxes"))
}

// postfixQueue makes the queue and data directories with the owners Postfix insists on (postfix-files).
func postfixQueue(t testing.TB, dir string) {
	t.Helper()
	owner, group := lookupIDs(t, "postfix", "postdrop")
	dirs := []struct {
		name     string
		mode     os.FileMode
		uid, gid int
	}{
		{"spool", 0o755, 0, 0},
		{"spool/pid", 0o755, 0, 0},
		{"data", 0o700, owner, 0},
		{"spool/public", 0o710, owner, group},
		{"spool/maildrop", 0o730, owner, group},
	}
	for _, name := range strings.Fields("active bounce corrupt defer deferred flush hold incoming private saved trace") {
		dirs = append(dirs, struct {
			name     string
			mode     os.FileMode
			uid, gid int
		}{"spool/" + name, 0o700, owner, 0})
	}
	for _, d := range dirs {
		path := filepath.Join(dir, d.name)
		if err := os.Mkdir(path, d.mode); err != nil {
			t.Fatalf("making Postfix's queue: %v", err)
		}
		if err := os.Chmod(path, d.mode); err != nil {
			t.Fatalf("making Postfix's queue: %v", err)
		}
		if err := os.Chown(path, d.uid, d.gid); err != nil {
			t.Fatalf("making Postfix's queue: %v", err)
		}
	}
}

// lookupIDs returns the numbers of a user and of a group that install.sh has made.
func lookupIDs(t testing.TB, owner, group string) (uid, gid int) {
	t.Helper()
	u, err := user.Lookup(owner)
	if err != nil {
		t.Fatalf("looking up the user %s: %v", owner, err)
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		t.Fatalf("looking up the group %s: %v", group, err)
	}
	uid, _ = strconv.Atoi(u.Uid) // numbers on every Unix
	gid, _ = strconv.Atoi(g.Gid)
	return uid, gid
}

// mainCF returns main.cf. The maps are texthash files, read once at the start of each daemon.
func mainCF(t testing.TB, dir, etc string, o PostfixOptions) string {
	t.Helper()
	main := map[string]string{
		"compatibility_level": "3.6",
		"mail_owner":          "postfix",
		"setgid_group":        "postdrop",
		"command_directory":   PostfixKit.Path("usr/sbin"),
		"daemon_directory":    PostfixKit.Path("usr/lib/postfix/sbin"),
		"shlib_directory":     PostfixKit.Path("usr/lib/postfix"),
		"meta_directory":      PostfixKit.Path("etc/postfix"),
		"queue_directory":     filepath.Join(dir, "spool"),
		"data_directory":      filepath.Join(dir, "data"),
		"maillog_file":        filepath.Join(dir, "mail.log"),
		// The default allows /var and /dev/stdout only.
		"maillog_file_prefixes": dir,
		// The daemons run with a cleaned environment; their libraries lie in the kit.
		"import_environment":    "MAIL_CONFIG MAIL_LOGTAG LD_LIBRARY_PATH TZ=UTC LANG=C",
		"export_environment":    "MAIL_CONFIG LD_LIBRARY_PATH TZ=UTC LANG=C",
		"myhostname":            o.Hostname,
		"inet_interfaces":       "127.0.0.1",
		"inet_protocols":        "ipv4",
		"mydestination":         "",
		"mynetworks":            "192.0.2.0/24", // no client of a test is at home
		"alias_maps":            "",
		"local_recipient_maps":  "",
		"disable_dns_lookups":   "yes",
		"smtp_host_lookup":      "native",
		"lmtp_host_lookup":      "native",
		"smtpd_peername_lookup": "no",
		"smtpd_milters":         strings.Join(o.Milters, ", "),
		"milter_protocol":       "6",
		"milter_default_action": "tempfail",
		"relay_domains":         strings.Join(keys(o.Relay), ", "),
		"transport_maps":        textHash(t, etc, "transport", o.Relay),
		"virtual_alias_maps":    textHash(t, etc, "virtual", o.VirtualAliases),
	}
	mailboxes := map[string]string{}
	domains := map[string]string{}
	for _, domain := range o.Domains {
		domains[domain] = "here"
	}
	for _, box := range o.Mailboxes {
		mailboxes[box] = "kept/nowhere"
		domains[box[strings.LastIndex(box, "@")+1:]] = "here"
	}
	main["virtual_mailbox_domains"] = textHash(t, etc, "domains", domains)
	main["virtual_mailbox_maps"] = textHash(t, etc, "mailboxes", mailboxes)
	if o.Hash {
		main["virtual_mailbox_maps"] = "hash:" + filepath.Join(etc, "mailboxes")
	}
	if o.Postscreen {
		for key, value := range map[string]string{
			"postscreen_cache_map": "btree:" + filepath.Join(dir, "data", "postscreen"), "postscreen_greet_wait": "1s", "postscreen_greet_action": "enforce",
			"postscreen_pipelining_enable": "yes", "postscreen_non_smtp_command_enable": "yes", "postscreen_bare_newline_enable": "yes",
			"postscreen_access_list": "", "postscreen_command_time_limit": "60s",
		} {
			main[key] = value
		}
	}
	main["virtual_transport"] = "discard:"
	if len(o.Refuse) > 0 {
		main["smtpd_recipient_restrictions"] = "check_recipient_access " + textHash(t, etc, "refuse", o.Refuse)
	}
	if len(o.Aliases) > 0 {
		main["alias_maps"] = "hash:" + filepath.Join(etc, "aliases")
	}
	for key, entries := range o.Maps {
		main[key] = textHash(t, etc, key, entries)
	}
	for key, value := range o.Main {
		main[key] = value
	}
	var b strings.Builder
	for _, key := range keys(main) {
		fmt.Fprintf(&b, "%s = %s\n", key, main[key])
	}
	return b.String()
}

// textHash writes a map file and returns how main.cf names it, nothing for an empty map.
func textHash(t testing.TB, etc, name string, entries map[string]string) string {
	t.Helper()
	if len(entries) == 0 {
		return ""
	}
	var b strings.Builder
	for _, key := range keys(entries) {
		fmt.Fprintf(&b, "%s\t%s\n", key, entries[key])
	}
	return "texthash:" + write(t, etc, name, b.String())
}

// keys returns the keys of a map in order.
func keys(m map[string]string) []string {
	list := make([]string, 0, len(m))
	for key := range m {
		list = append(list, key)
	}
	sort.Strings(list)
	return list
}

// aliasesText writes an alias database.
func aliasesText(aliases map[string]string) string {
	var b strings.Builder
	for _, name := range keys(aliases) {
		fmt.Fprintf(&b, "%s: %s\n", name, aliases[name])
	}
	return b.String()
}

// masterCF is master.cf without smtpd: what a message passes through.
const masterCF = `
pickup    unix n - n 60   1 pickup
cleanup   unix n - n -    0 cleanup
qmgr      unix n - n 300  1 qmgr
rewrite   unix - - n -    - trivial-rewrite
bounce    unix - - n -    0 bounce
defer     unix - - n -    0 bounce
trace     unix - - n -    0 bounce
verify    unix - - n -    1 verify
tlsmgr    unix - - n 1000? 1 tlsmgr
flush     unix n - n 1000? 0 flush
proxymap  unix - - n -    - proxymap
proxywrite unix - - n -   1 proxymap
smtp      unix - - n -    - smtp
relay     unix - - n -    - smtp
lmtp      unix - - n -    - lmtp
error     unix - - n -    - error
retry     unix - - n -    - error
discard   unix - - n -    - discard
local     unix - n n -    - local
virtual   unix - n n -    - virtual
anvil     unix - - n -    1 anvil
scache    unix - - n -    1 scache
postlog   unix-dgram n - n - 1 postlogd
`

// WaitLog waits until the log matches the expression, at most a minute, and says whether it did.
func (p *Postfix) WaitLog(expr string) bool {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if p.Count(expr) > 0 {
			return true
		}
	}
	return false
}

// Freeze stops every process of the server in its tracks: it accepts connections (the kernel does) and says nothing.
func (p *Process) Freeze() { _ = syscall.Kill(-p.Pid(), syscall.SIGSTOP) }

// Thaw lets a frozen server go on.
func (p *Process) Thaw() { _ = syscall.Kill(-p.Pid(), syscall.SIGCONT) }

// itoa writes a port.
func itoa(port int) string { return strconv.Itoa(port) }
