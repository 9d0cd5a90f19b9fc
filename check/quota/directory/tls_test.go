// SPDX-License-Identifier: BSD-2-Clause

package directory

import (
	"crypto/tls"
	"encoding/pem"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// certificate gives a server's certificate for example.com, and the authority's as a file.
func certificate(t *testing.T) (*tls.Config, string) {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	return &tls.Config{Certificates: s.TLS.Certificates}, write(t, string(ca))
}

// upgrade answers StartTLS as RFC 4511 section 4.14 says.
func upgrade(config *tls.Config) func(s *session, id int64) {
	return func(s *session, id int64) {
		s.send(result(id, ldap.ApplicationExtendedResponse, 0))
		s.Conn = tls.Server(s.Conn, config)
	}
}

// With TLS a server is asked only if its certificate is right; nothing is asked in the clear
// where StartTLS is required.
func TestTLS(t *testing.T) {
	config, ca := certificate(t)
	for _, c := range []struct {
		name, url string
		ca        string
		fake      func(f *fake)
		good      bool
	}{
		{"ldaps", "ldaps://example.com", ca, func(f *fake) { f.tls = config }, true},
		{"ldaps, unknown authority", "ldaps://example.com", "", func(f *fake) { f.tls = config }, false},
		{"ldaps, another name", "ldaps://other.test", ca, func(f *fake) { f.tls = config }, false},
		{"ldaps, spoken to in the clear", "ldaps://example.com", ca, func(*fake) {}, false},
		{"StartTLS", "ldap://example.com", ca, func(f *fake) { f.startTLS = upgrade(config) }, true},
		{"StartTLS, another name", "ldap://other.test", ca, func(f *fake) { f.startTLS = upgrade(config) }, false},
		{"StartTLS refused", "ldap://example.com", ca, func(f *fake) {
			f.startTLS = func(s *session, id int64) { s.send(result(id, ldap.ApplicationExtendedResponse, 52)) }
		}, false},
		{"StartTLS, mute", "ldap://example.com", ca, func(f *fake) { f.startTLS = func(s *session, _ int64) { swallow(s) } }, false},
		{"StartTLS, then mute", "ldap://example.com", ca, func(f *fake) {
			f.startTLS = func(s *session, id int64) { s.send(result(id, ldap.ApplicationExtendedResponse, 0)); swallow(s) }
		}, false},
		{"StartTLS, then garbage", "ldap://example.com", ca, func(f *fake) {
			f.startTLS = func(s *session, id int64) {
				s.send(result(id, ldap.ApplicationExtendedResponse, 0), done(1, 0), done(2, 0))
				swallow(s)
			}
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				l := newWorld(t, "example.com", "other.test")
				for _, f := range l.fakes {
					c.fake(f)
				}
				d := l.open(func(cfg *Config) { cfg.StartTLS, cfg.CAFile = "required", c.ca }, c.url)
				defer d.Close()
				defer l.fakes["example.com"].cut()
				start := time.Now()
				if c.good {
					l.find(d, "ann", annEntry)
				} else {
					l.lost(d, "ann", ErrDown)
				}
				if took := time.Since(start); took > 3*time.Second {
					t.Errorf("took %v", took)
				}
				synctest.Wait()
				for _, f := range l.fakes {
					if _, n := f.counts(); n > 0 && !c.good {
						t.Errorf("%d searches were sent", n)
					}
				}
			})
		})
	}
}

// Files that cannot be used are errors of the configuration.
func TestFiles(t *testing.T) {
	for key, change := range map[string]func(c *Config){
		"password_file":  func(c *Config) { c.Bind, c.PasswordFile = "cn=x", "/nonexistent/password" },
		"password_file ": func(c *Config) { c.Bind, c.PasswordFile = "cn=x", write(t, "\n") },
		"ca_file":        func(c *Config) { c.CAFile = "/nonexistent/ca" },
		"ca_file ":       func(c *Config) { c.CAFile = write(t, "no certificate") },
	} {
		c := Defaults()
		c.URL, c.Base, c.Schema = []string{"ldaps://a"}, "dc=test", "qmail"
		change(&c)
		if d, err := NewState(nil).Open(&c); err == nil {
			d.Close()
			t.Errorf("%s: no error", key)
		}
	}
}
