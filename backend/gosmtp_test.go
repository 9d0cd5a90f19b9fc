// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"io"
	"net"
	"testing"

	"github.com/emersion/go-smtp"
)

// others is a backend for a server that others wrote.
type others struct{ hello func(name string) }

func (o others) NewSession(c *smtp.Conn) (smtp.Session, error) {
	if o.hello != nil {
		o.hello(c.Hostname())
	}
	return session{}, nil
}

type session struct{}

func (session) Reset()                               {}
func (session) Logout() error                        { return nil }
func (session) Mail(string, *smtp.MailOptions) error { return nil }
func (session) Data(io.Reader) error                 { return smtp.ErrAuthUnsupported }

func (session) Rcpt(to string, _ *smtp.RcptOptions) error {
	switch to {
	case "user@example.com", "ü@bücher.example":
		return nil
	case "full@example.com":
		return &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 2, 2}, Message: "mailbox full"}
	}
	return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user\nnot here"}
}

// startServer starts a go-smtp server and gives its port.
func startServer(t *testing.T, lmtp bool, hello func(string)) (port string) {
	t.Helper()
	s := smtp.NewServer(others{hello})
	s.Domain, s.LMTP, s.EnableSMTPUTF8 = "others.example", lmtp, true
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
	})
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

func TestAServerThatOthersWrote(t *testing.T) {
	for _, protocol := range []string{"smtp", "lmtp"} {
		t.Run(protocol, func(t *testing.T) {
			port := startServer(t, protocol == "lmtp", nil)
			a, err := ParseAddress(protocol + ":[127.0.0.1]:" + port)
			if err != nil {
				t.Fatal(err)
			}
			b := newTestSet(t, Config{}).Get(a)
			for range 3 {
				mustSay(t, b, "user@example.com", 250)
				mustSay(t, b, "ü@bücher.example", 250)
				if rep := mustSay(t, b, "nobody@example.com", 550); rep.Enhanced != "5.1.1" || rep.Text != "no such user\nnot here" {
					t.Errorf("%+v", rep)
				}
				if rep := mustSay(t, b, "full@example.com", 452); rep.Enhanced != "4.2.2" {
					t.Errorf("%+v", rep)
				}
			}
			if h := b.Health(); h.Connections != 1 {
				t.Errorf("%d connections", h.Connections)
			}
		})
	}
}
