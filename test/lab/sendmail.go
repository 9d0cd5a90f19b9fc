// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A Sendmail is a running Sendmail of its own, as a gateway.
type Sendmail struct {
	*Process
	// Port is the loopback TCP port of the daemon, of IPv4 and, with SendmailOptions.IPv6, of IPv6 too; Plain one without
	// a filter, 0 if there is none.
	Port, Plain int

	t      testing.TB
	conf   string // sendmail.cf
	dev    string // what the daemon sees as /dev
	passwd string // what the daemon sees as /etc/passwd
	etc    string // a directory whose files the daemon sees in /etc as well; may be empty
	host   string
}

// SendmailOptions says what a Sendmail does.
type SendmailOptions struct {
	// Name is used in messages; default "sendmail".
	Name string
	// Hostname is $j, a qualified name; default "mx.gate.test".
	Hostname string
	// Port to listen on; 0 chooses a free one.
	Port int
	// Milter is the socket of the filter, for instance "inet:8890@127.0.0.1" or "unix:/path"; empty for none.
	Milter string
	// MilterFlags follow the socket; default "F=T, T=S:10s;R:10s", the only safe way (see docs of the project).
	MilterFlags string
	// Relay maps a relayed domain to mailer and host, for instance "esmtp:[127.80.0.1]". There is no port in it: to
	// Sendmail "[127.0.0.1]:2525" is a list of two hosts, the second a host named 2525. Use a Tap on port 25.
	Relay map[string]string
	// VirtualUsers is virtusertable: an address or "@domain" and its target. Each domain named becomes a virtual one.
	VirtualUsers map[string]string
	// Access is the access map, with FEATURE(`blocklist_recipients'): a key such as "To:user@domain" and its value.
	Access map[string]string
	// Aliases is the local aliases file: a name and its target.
	Aliases map[string]string
	// LocalDomains are further names of this host.
	LocalDomains []string
	// VirtualDomains are those in which virtusertable holds; nil: every domain that it names.
	VirtualDomains []string
	// RelayDomains are relayed although neither Relay nor virtusertable names them.
	RelayDomains []string
	// Plain adds a port without a filter.
	Plain bool
	// IPv6 has the daemon listen on ::1 too.
	IPv6 bool
	// Users are the users who may authenticate (AUTH PLAIN), and their passwords.
	Users map[string]string
	// Network is where this Sendmail listens; nil: where the test does.
	Network *Network
	// Passwd is the file that this Sendmail sees as /etc/passwd; default the system's own.
	Passwd string
	// Extra lines of the .mc file, before the mailers.
	Extra string
}

// Addr returns the address of the daemon.
func (s *Sendmail) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.Port) }

// Addr6 returns the IPv6 address of the daemon.
func (s *Sendmail) Addr6() string { return fmt.Sprintf("[::1]:%d", s.Port) }

// StartSendmail starts a Sendmail built from its own m4 files. There is no DNS; load averages stop nothing.
func StartSendmail(t testing.TB, o SendmailOptions) *Sendmail {
	t.Helper()
	Need(t, SendmailKit)
	if o.Name == "" {
		o.Name = "sendmail"
	}
	if o.Hostname == "" {
		o.Hostname = "mx.gate.test"
	}
	if o.Port == 0 {
		o.Port = FreePort(t)
	}
	if o.MilterFlags == "" {
		o.MilterFlags = "F=T, T=S:10s;R:10s"
	}
	if o.Passwd == "" {
		o.Passwd = "/etc/passwd"
	}
	dir := NewDir(t, o.Name)
	s := &Sendmail{Port: o.Port, t: t, host: o.Hostname, conf: filepath.Join(dir, "sendmail.cf"), dev: filepath.Join(dir, "dev"), passwd: o.Passwd}
	if o.Plain {
		s.Plain = FreePort(t)
	}
	for _, sub := range []string{"queue", "dev", "bin"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatalf("starting %s: %v", o.Name, err)
		}
	}
	write(t, dir, "switch", "hosts files\naliases files\npasswd files\n")
	write(t, dir, "sendmail.mc", sendmailMC(dir, s.Plain, o))
	cf := run(t, SendmailKit, dir, SendmailKit.Path("usr/bin/m4"), "-D_CF_DIR_="+SendmailKit.Path("usr/share/sendmail/cf")+"/",
		SendmailKit.Path("usr/share/sendmail/cf/m4/cf.m4"), filepath.Join(dir, "sendmail.mc"))
	write(t, dir, "sendmail.cf", cf)
	s.maps(dir, o)
	s.users(dir, o)
	write(t, dir, "statistics", "")
	if len(o.Aliases) > 0 {
		s.Command("-bi")
	}
	s.listenLog(dir)
	if o.Network == nil {
		s.start(o.Name, dir)
	} else {
		o.Network.Do(func() { s.start(o.Name, dir) })
	}
	return s
}

// sendmailProgram is the daemon's path inside the kit.
const sendmailProgram = "usr/libexec/sendmail/sendmail"

// inNamespace runs a program with a qualified host name (Sendmail sleeps a minute without one) and a /dev whose "log"
// is the socket of listenLog: Sendmail has no other way to log. Both hold for this process alone.
const inNamespace = `set -e
hostname "$1"; dev=$2; [ -z "$4" ] || mount -t overlay etc -o "lowerdir=$4:/etc" /etc; mount --bind "$3" /etc/passwd; shift 4
for node in null zero random urandom; do : >"$dev/$node"; mount --bind "/dev/$node" "$dev/$node"; done
mount --rbind "$dev" /dev
exec "$@"`

// command returns a command of the kit inside the namespace.
func (s *Sendmail) command(args ...string) *exec.Cmd {
	all := append([]string{
		"--uts", "--mount", "/bin/sh", "-c", inNamespace, "sh", s.host, s.dev, s.passwd, s.etc,
		SendmailKit.Path(sendmailProgram), "-C", s.conf,
	}, args...)
	cmd := exec.Command("/usr/bin/unshare", all...)
	cmd.Env = SendmailKit.environment()
	return cmd
}

// Command runs sendmail with arguments to its end and returns what it printed, for instance "-bv" ADDRESS.
func (s *Sendmail) Command(args ...string) string {
	s.t.Helper()
	out, err := s.command(args...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("sendmail %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// AddressTest runs sendmail's address test mode (sendmail -bt) with lines such as "$=w" and returns what it printed.
func (s *Sendmail) AddressTest(lines ...string) string {
	s.t.Helper()
	cmd := s.command("-bt")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("sendmail -bt: %v", err)
	}
	return string(out)
}

// Session begins an SMTP session over standard input, as a local program does with "sendmail -bs".
func (s *Sendmail) Session() *Dialogue {
	s.t.Helper()
	here, there, err := socketPair()
	if err != nil {
		s.t.Fatalf("sendmail -bs: %v", err)
	}
	cmd := s.command("-bs")
	cmd.Stdin, cmd.Stdout = there, there
	err = cmd.Start()
	_ = there.Close() // the program has its own
	if err != nil {
		s.t.Fatalf("sendmail -bs: %v", err)
	}
	d := &Dialogue{conn: here, r: bufio.NewReader(here)}
	s.t.Cleanup(func() { d.Close(); _ = cmd.Wait() })
	if d.Banner, err = d.read(); err != nil {
		s.t.Fatalf("sendmail -bs: %v", err)
	}
	return d
}

// socketPair gives two connected ends: a connection, and a file for a program. The program's end is
// not the network's: it has no address.
func socketPair() (net.Conn, *os.File, error) {
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	there, file := os.NewFile(uintptr(ends[1]), "there"), os.NewFile(uintptr(ends[0]), "here")
	here, err := net.FileConn(file) // it has a copy
	return here, there, errors.Join(err, file.Close())
}

// Conf is the path of sendmail.cf.
func (s *Sendmail) Conf() string { return s.conf }

// start runs the daemon and waits for its banner.
func (s *Sendmail) start(name, dir string) {
	s.t.Helper()
	s.Process = Start(s.t, name, dir, s.command("-bD"))
	s.WaitFor(s.t, func() error { return Greets("tcp", s.Addr()) })
}

// listenLog receives the daemon's syslog datagrams and writes them to mail.log, until the end of the test.
func (s *Sendmail) listenLog(dir string) {
	s.t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: filepath.Join(s.dev, "log")})
	if err != nil {
		s.t.Fatalf("listening for Sendmail's log: %v", err)
	}
	out, err := os.OpenFile(filepath.Join(dir, "mail.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		s.t.Fatalf("writing Sendmail's log: %v", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer out.Close() //nolint:errcheck // a log of a test
		buf := make([]byte, 16<<10)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			line := strings.TrimRight(string(buf[:n]), "\x00\n")
			if _, rest, ok := strings.Cut(line, ">"); ok { // the priority "<22>"
				line = rest
			}
			_, _ = out.WriteString(line + "\n")
		}
	}()
	s.t.Cleanup(func() { _ = conn.Close(); <-done })
}

// Log returns what the Sendmail has logged so far.
func (s *Sendmail) Log() string {
	text, err := os.ReadFile(filepath.Join(s.Dir, "mail.log"))
	if err != nil {
		s.t.Fatalf("reading the log of %s: %v", s.Name, err)
	}
	return string(text)
}

// maps builds mailertable, virtusertable and the aliases file.
func (s *Sendmail) maps(dir string, o SendmailOptions) {
	s.t.Helper()
	s.makemap(dir, "mailertable", o.Relay)
	s.makemap(dir, "virtusertable", o.VirtualUsers)
	s.makemap(dir, "access", o.Access)
	write(s.t, dir, "aliases", aliasesText(o.Aliases))
}

// Table spells a map file of this Sendmail: "hash:/.../virtusertable".
func (s *Sendmail) Table(kind, name string) string { return kind + ":" + filepath.Join(s.Dir, name) }

// Newaliases makes the alias database (Table "hash", "aliases") of a text, as newaliases(1) does.
func (s *Sendmail) Newaliases(text string) {
	s.t.Helper()
	write(s.t, s.Dir, "aliases", text)
	s.Command("-bi")
}

// makemap builds a hash map as makemap(8) does.
func (s *Sendmail) makemap(dir, name string, entries map[string]string) {
	s.t.Helper()
	var text strings.Builder
	for _, key := range keys(entries) {
		fmt.Fprintf(&text, "%s\t%s\n", key, entries[key])
	}
	cmd := exec.Command(SendmailKit.Path("usr/libexec/sendmail/makemap"), "-C", s.conf, "hash", filepath.Join(dir, name))
	cmd.Env = SendmailKit.environment()
	cmd.Stdin = strings.NewReader(text.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("makemap %s: %v\n%s", name, err, out)
	}
}

// sendmailMC returns the .mc file.
func sendmailMC(dir string, plain int, o SendmailOptions) string {
	at := func(name string) string { return filepath.Join(dir, name) }
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("divert(0)dnl\nVERSIONID(`lab')\nOSTYPE(`linux')")
	for _, def := range [][2]string{
		{"confDOMAIN_NAME", o.Hostname},
		{"QUEUE_DIR", at("queue")},
		{"STATUS_FILE", at("statistics")},
		{"confPID_FILE", at("sendmail.pid")},
		{"HELP_FILE", at("helpfile")},
		{"ALIAS_FILE", at("aliases")},
		{"confSERVICE_SWITCH_FILE", at("switch")},
		{"confCW_FILE", at("names")},
		{"confDONT_PROBE_INTERFACES", "True"},
		{"confTO_IDENT", "0"},
		{"confTO_ICONNECT", "5s"},
		{"confQUEUE_LA", "1000"},
		{"confREFUSE_LA", "1000"},
		{"confDELAY_LA", "0"},
		{"confLOG_LEVEL", "14"},
		{"confMILTER_LOG_LEVEL", "14"},
		{"confME_TOO", "True"},
		{"confHOST_STATUS_DIRECTORY", ""},
		{"PROCMAIL_MAILER_PATH", "/bin/false"},
		{"LOCAL_MAILER_PATH", "/bin/true"},
	} {
		line("define(`%s', `%s')", def[0], def[1])
	}
	line("FEATURE(`no_default_msa')")
	line("DAEMON_OPTIONS(`Name=MTA, Addr=127.0.0.1, Port=%d%s')", o.Port, cond(plain != 0 && o.Milter != "", ", InputMailFilters=rcptgate"))
	if o.IPv6 {
		line("DAEMON_OPTIONS(`Name=MTA6, Family=inet6, Addr=::1, Port=%d')", o.Port)
	}
	if plain != 0 {
		line("DAEMON_OPTIONS(`Name=plain, Addr=127.0.0.1, Port=%d')", plain)
	}
	for _, feature := range []string{"nocanonify", "accept_unresolvable_domains", "accept_unqualified_senders"} {
		line("FEATURE(`%s')", feature)
	}
	line("FEATURE(`mailertable', `hash -o %s')", at("mailertable"))
	line("FEATURE(`virtusertable', `hash -o %s')", at("virtusertable"))
	if len(o.Access) > 0 {
		line("FEATURE(`access_db', `hash -T<TMPF> %s', `skip')\nFEATURE(`blocklist_recipients')", at("access"))
	}
	for _, domain := range keys(o.Relay) {
		line("RELAY_DOMAIN(`%s')", strings.TrimPrefix(domain, "."))
	}
	virtual := map[string]string{}
	for _, addr := range keys(o.VirtualUsers) {
		virtual[addr[strings.LastIndex(addr, "@")+1:]] = ""
	}
	domains := keys(virtual)
	if o.VirtualDomains != nil {
		domains = o.VirtualDomains
	}
	for _, domain := range o.RelayDomains {
		line("RELAY_DOMAIN(`%s')", domain)
	}
	for _, domain := range domains {
		line("VIRTUSER_DOMAIN(`%s')", domain)
		line("RELAY_DOMAIN(`%s')", domain)
	}
	for _, domain := range o.LocalDomains {
		line("LOCAL_DOMAIN(`%s')", domain)
	}
	switch {
	case o.Milter != "" && plain != 0: // for its own port, see above
		line("MAIL_FILTER(`rcptgate', `S=%s, %s')", o.Milter, o.MilterFlags)
	case o.Milter != "":
		line("INPUT_MAIL_FILTER(`rcptgate', `S=%s, %s')", o.Milter, o.MilterFlags)
	}
	if len(o.Users) > 0 {
		line("define(`confAUTH_MECHANISMS', `PLAIN')\nTRUST_AUTH_MECH(`PLAIN')")
		line("LOCAL_CONFIG\nESASL_PATH=%s", saslPlugins())
	}
	if o.Extra != "" {
		line("%s", o.Extra)
	}
	line("MAILER(`local')\nMAILER(`smtp')")
	return b.String()
}

// cond is the text if the condition holds, else nothing.
func cond(holds bool, text string) string {
	if holds {
		return text
	}
	return ""
}
