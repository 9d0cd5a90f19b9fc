// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// QmailSchema has what mail servers of the qmail-ldap kind read, in the words of slapd.conf:
// an auxiliary class for inetOrgPerson.
const QmailSchema = `
attributetype ( 1.3.6.1.4.1.7914.1.2.1.3 NAME 'mailAlternateAddress' EQUALITY caseIgnoreIA5Match SYNTAX 1.3.6.1.4.1.1466.115.121.1.26{256} )
attributetype ( 1.3.6.1.4.1.7914.1.2.1.6 NAME 'mailHost' EQUALITY caseIgnoreIA5Match SYNTAX 1.3.6.1.4.1.1466.115.121.1.26{256} SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.7914.1.2.1.12 NAME 'deliveryMode' EQUALITY caseIgnoreIA5Match SYNTAX 1.3.6.1.4.1.1466.115.121.1.26{256} )
attributetype ( 1.3.6.1.4.1.7914.1.2.1.15 NAME 'mailQuotaSize' EQUALITY integerMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.7914.1.2.1.16 NAME 'mailQuotaCount' EQUALITY integerMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
objectclass ( 1.3.6.1.4.1.7914.1.2.2.1 NAME 'qmailUser' SUP top AUXILIARY MAY ( mail $ mailAlternateAddress $ mailHost $ deliveryMode $ mailQuotaSize $ mailQuotaCount ) )
`

// SlapdOptions says what a directory holds.
type SlapdOptions struct {
	// Name is used in messages; default "slapd".
	Name string
	// Schema is added to core, cosine and inetorgperson; default QmailSchema.
	Schema string
	// Entries are LDIF (RFC 2849) below dc=lab,dc=test, whose own entry is made.
	Entries string
	// Certificate and Key are PEM files: StartTLS is offered, and URLs has ldaps too.
	Certificate, Key string
}

// A Slapd is a running OpenLDAP server.
type Slapd struct {
	*Process
	// URL is ldap://127.0.0.1:PORT, Secure is ldaps:// with a certificate, and Local is
	// ldapi:// with the socket's path.
	URL, Secure, Local string
	// Base is the suffix; Bind and Password may read everything, others what is public.
	Base, Bind, Password string

	t    testing.TB
	opts SlapdOptions
}

const slapdConf = `include %[1]s/core.schema
include %[1]s/cosine.schema
include %[1]s/inetorgperson.schema
%[2]s
modulepath %[3]s
moduleload back_mdb
pidfile %[4]s/slapd.pid
%[5]s
database mdb
suffix "dc=lab,dc=test"
rootdn "cn=admin,dc=lab,dc=test"
rootpw lab-password
directory %[4]s/db
maxsize 16777216
`

// StartSlapd starts a server that has the entries.
func StartSlapd(t testing.TB, o SlapdOptions) *Slapd {
	t.Helper()
	Need(t, SlapdKit)
	if o.Name == "" {
		o.Name = "slapd"
	}
	if o.Schema == "" {
		o.Schema = QmailSchema
	}
	dir := NewDir(t, o.Name)
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	tls := ""
	if o.Certificate != "" {
		tls = fmt.Sprintf("TLSCertificateFile %s\nTLSCertificateKeyFile %s", o.Certificate, o.Key)
	}
	conf := write(t, dir, "slapd.conf", fmt.Sprintf(slapdConf, SlapdKit.Path("etc/ldap/schema"), o.Schema, SlapdKit.Path("usr/lib/ldap"), dir, tls))
	top := "dn: dc=lab,dc=test\nobjectClass: domain\ndc: lab\n\n"
	run(t, SlapdKit, dir, SlapdKit.Path("usr/sbin/slapadd"), "-q", "-f", conf, "-l", write(t, dir, "entries.ldif", top+o.Entries))
	s := &Slapd{
		URL: fmt.Sprintf("ldap://127.0.0.1:%d", FreePort(t)), Local: "ldapi://" + filepath.Join(dir, "ldapi"),
		Base: "dc=lab,dc=test", Bind: "cn=admin,dc=lab,dc=test", Password: "lab-password", t: t, opts: o,
	}
	if o.Certificate != "" {
		s.Secure = fmt.Sprintf("ldaps://127.0.0.1:%d", FreePort(t))
	}
	s.start(dir)
	return s
}

func (s *Slapd) start(dir string) {
	s.t.Helper()
	local := "ldapi://" + url.PathEscape(strings.TrimPrefix(s.Local, "ldapi://"))
	// "-d 0" keeps it in the foreground.
	cmd := exec.Command(SlapdKit.Path("usr/sbin/slapd"), "-d", "0", "-f", filepath.Join(dir, "slapd.conf"),
		"-h", strings.TrimSpace(s.URL+" "+local+" "+s.Secure))
	cmd.Env = SlapdKit.environment()
	s.Process = Start(s.t, s.opts.Name, dir, cmd)
	s.WaitFor(s.t, func() error {
		c, err := net.DialTimeout("tcp", strings.TrimPrefix(s.URL, "ldap://"), time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// Restart starts a server that was killed, with what it held, on the same ports.
func (s *Slapd) Restart() {
	s.t.Helper()
	s.Kill()
	s.start(s.Dir)
}

// Modify carries out a change in LDIF: "dn: ...\nchangetype: modify\n...".
func (s *Slapd) Modify(ldif string) {
	s.t.Helper()
	run(s.t, SlapdKit, s.Dir, SlapdKit.Path("usr/bin/ldapmodify"), "-x", "-H", s.URL, "-D", s.Bind, "-w", s.Password, "-f", write(s.t, s.Dir, "change.ldif", ldif))
}
