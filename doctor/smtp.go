// SPDX-License-Identifier: BSD-2-Clause

package doctor

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strings"
	"time"

	"rcptgate/backend"
)

// dialogueTime is how long one dialogue with a server may take.
const dialogueTime = 20 * time.Second

// slowStep is what one step of a dialogue may take before it is reported.
const slowStep = 5 * time.Second

// maxReply bounds one reply, in octets: replies are short, and a server may never end one.
const maxReply = 64 << 10

// talk is a dialogue with a server behind the gate. It never says DATA.
type talk struct {
	conn    net.Conn
	in      *replyReader
	text    *textproto.Conn
	slowest time.Duration
	step    string // that took longest
	offers  map[string]string
}

// replyReader reads what the server says, and fails beyond maxReply.
type replyReader struct {
	io.Reader
	left int
}

var errLongReply = fmt.Errorf("the reply has more than %d KiB", maxReply>>10)

func (r *replyReader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, errLongReply
	}
	n, err := r.Reader.Read(p)
	r.left -= n
	return n, err
}

// use has the dialogue go on over a connection.
func (t *talk) use(conn net.Conn) {
	t.conn, t.in = conn, &replyReader{Reader: conn}
	t.text = textproto.NewConn(struct {
		io.Reader
		io.Writer
		io.Closer
	}{t.in, conn, conn})
}

// brief is a reply's text as findings have it.
func brief(text string) string {
	const most = 300
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return strings.ReplaceAll(text, "\n", " / ")
}

// say sends a command and gives the reply.
func (t *talk) say(command string) (code int, text string, err error) {
	start := time.Now()
	if err = t.text.PrintfLine("%s", command); err == nil {
		code, text, err = t.reply()
	}
	if took := time.Since(start); took > t.slowest {
		t.slowest, t.step = took, command
	}
	return code, text, err
}

// reply reads one reply; a code that is none is the only error that it has.
func (t *talk) reply() (code int, text string, err error) {
	t.in.left = maxReply
	code, text, err = t.text.ReadResponse(0)
	var reply *textproto.Error
	if errors.As(err, &reply) {
		return reply.Code, reply.Msg, nil
	}
	return code, text, err
}

// backend has one dialogue with a server that the configuration names.
func (d *Doctor) backend(ctx context.Context, domain string, a backend.Address) {
	if a.IsMX {
		return // the servers are those that DNS names: see mx
	}
	id := a.String()
	network, address := "tcp", net.JoinHostPort(a.Host, fmt.Sprint(a.Port))
	if a.Path != "" {
		network, address = "unix", a.Path
	}
	ctx, cancel := context.WithTimeout(ctx, dialogueTime)
	defer cancel()
	start := time.Now()
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		d.add(Finding{ID: "backend-down", Level: Fail, Domain: domain, What: fmt.Sprintf("%s cannot be reached: %v", id, err), Matters: "recipients that are not remembered are deferred",
			Do: []string{"start the server, or correct backend in the [[domain]] section"}})
		return
	}
	defer conn.Close() //nolint:errcheck // the dialogue is over
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline) // a connection that has just been made
	t := &talk{slowest: time.Since(start), step: "connect"}
	t.use(conn)
	if err := d.dialogue(domain, a, t); err != nil {
		d.add(Finding{ID: "backend-smtp", Level: Fail, Domain: domain, What: fmt.Sprintf("the dialogue with %s broke off: %v", id, err)})
		return
	}
	if t.slowest > cmp.Or(d.slow, slowStep) {
		d.add(Finding{ID: "backend-slow", Level: Warn, Domain: domain, What: fmt.Sprintf("%s took %.1f s for %s", id, t.slowest.Seconds(), t.step), Matters: "the sender waits as long at RCPT"})
	}
}

// dialogue goes through the steps of a call-ahead and says what is wrong with each.
func (d *Doctor) dialogue(domain string, a backend.Address, t *talk) error {
	id := a.String()
	code, text, err := t.reply()
	if err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	if code != 220 {
		d.add(Finding{ID: "backend-greeting", Level: Fail, Domain: domain, What: fmt.Sprintf("%s greets with %d %s", id, code, brief(text))})
		return nil
	}
	if name, _, _ := strings.Cut(text, " "); strings.EqualFold(name, d.Hostname) {
		d.add(Finding{ID: "backend-loop", Level: Fail, Domain: domain, What: fmt.Sprintf("%s is this machine: it greets as %s", id, name), Matters: "a recipient would be asked about in a circle",
			Do: []string{"name the server behind in backend, or give the gate a hostname of its own"}})
		return nil
	}
	if err := d.hello(domain, a, t); err != nil {
		return err
	}
	if err := d.tls(domain, a, t); err != nil {
		return err
	}
	return d.envelope(domain, id, t)
}

// hello says EHLO, or LHLO, and reads what the server offers.
func (d *Doctor) hello(domain string, a backend.Address, t *talk) error {
	word := "EHLO"
	if a.Protocol == backend.LMTP {
		word = "LHLO"
	}
	code, text, err := t.say(word + " " + d.Hostname)
	if err != nil {
		return fmt.Errorf("%s: %w", word, err)
	}
	t.offers = map[string]string{}
	for i, line := range strings.Split(text, "\n") {
		name, value, _ := strings.Cut(line, " ")
		if i > 0 {
			t.offers[strings.ToUpper(name)] = value
		}
	}
	switch {
	case code != 250:
		d.add(Finding{ID: "backend-ehlo", Level: Fail, Domain: domain, What: fmt.Sprintf("%s says %d %s to %s %s", a, code, brief(text), word, d.Hostname)})
	default:
		if _, ok := t.offers["PIPELINING"]; !ok {
			d.add(Finding{ID: "backend-pipelining", Level: Note, Domain: domain, What: fmt.Sprintf("%s does not offer PIPELINING: a question takes one round trip more", a)})
		}
		d.ok("backend-ehlo", domain, fmt.Sprintf("%s offers %s", a, brief(strings.Join(strings.Fields(text), " "))))
	}
	return nil
}

// tls begins TLS where it is offered, and looks at the certificate.
func (d *Doctor) tls(domain string, a backend.Address, t *talk) error {
	if _, ok := t.offers["STARTTLS"]; !ok {
		return nil
	}
	code, _, err := t.say("STARTTLS")
	if err != nil || code != 220 {
		d.add(Finding{ID: "backend-tls", Level: Warn, Domain: domain, What: fmt.Sprintf("%s offers STARTTLS and does not begin it (%d)", a, code)})
		return err
	}
	conn := tls.Client(t.conn, &tls.Config{ServerName: a.Host, InsecureSkipVerify: true}) // #nosec G402 -- it is looked at below
	if err := conn.Handshake(); err != nil {
		d.add(Finding{ID: "backend-tls", Level: Warn, Domain: domain, What: fmt.Sprintf("TLS with %s fails: %v", a, err), Matters: "the gate then asks without TLS, unless the section requires it"})
		return fmt.Errorf("TLS: %w", err)
	}
	cert := conn.ConnectionState().PeerCertificates[0]
	left := cert.NotAfter.Sub(d.Now())
	switch {
	case left < 0:
		d.add(Finding{ID: "backend-cert", Level: Fail, Domain: domain, What: fmt.Sprintf("the certificate of %s ended on %s", a, cert.NotAfter.Format(time.DateOnly)), Do: []string{"renew it"}})
	case left < 14*24*time.Hour:
		d.add(Finding{ID: "backend-cert", Level: Warn, Domain: domain, What: fmt.Sprintf("the certificate of %s ends on %s", a, cert.NotAfter.Format(time.DateOnly)), Do: []string{"renew it"}})
	case net.ParseIP(a.Host) == nil && a.Host != "" && cert.VerifyHostname(a.Host) != nil:
		d.add(Finding{ID: "backend-cert", Level: Note, Domain: domain, What: fmt.Sprintf("the certificate of %s is for %s", a, brief(strings.Join(append(cert.DNSNames, cert.Subject.CommonName), " "))),
			Matters: "the gate does not mind unless the section has it checked"})
	default:
		d.ok("backend-cert", domain, fmt.Sprintf("the certificate of %s is good until %s", a, cert.NotAfter.Format(time.DateOnly)))
	}
	t.use(conn)
	return d.hello(domain, a, t)
}

// envelope asks about the senders and a made-up recipient, and whether the server takes a
// second question on the connection.
func (d *Doctor) envelope(domain, id string, t *talk) error {
	sender, ok, err := d.sender(domain, id, t)
	if err != nil || !ok {
		return err
	}
	name := "rcptgate-doctor-" + strings.ToLower(rand.Text()[:12]) + "@" + domain
	code, text, err := t.say("RCPT TO:<" + name + ">")
	if err != nil {
		return fmt.Errorf("RCPT: %w", err)
	}
	switch {
	case code/100 == 2:
		d.add(Finding{ID: "backend-accept-all", Level: Fail, Domain: domain, What: fmt.Sprintf("%s takes a made-up name: %d %s", id, code, brief(text)), Matters: "the gate cannot tell who exists, and refuses nobody for it",
			Do: []string{"have the server check recipients at RCPT (Postfix: relay_recipient_maps or local_recipient_maps; Exchange: recipient filtering)"}})
	case refusesToRelay(strings.ReplaceAll(text, domain, "")):
		d.add(Finding{ID: "backend-relay", Level: Fail, Domain: domain, What: fmt.Sprintf("%s does not take mail for the domain: %d %s", id, code, brief(text)), Do: []string{"let the server know the domain, or correct backend in the section"}})
	case code/100 == 4:
		d.add(Finding{ID: "backend-defers", Level: Warn, Domain: domain, What: fmt.Sprintf("%s defers a made-up name: %d %s", id, code, brief(text)), Matters: "unknown recipients are deferred instead of refused"})
	default:
		d.ok("backend-unknown", domain, fmt.Sprintf("%s refuses a made-up name: %d %s", id, code, brief(text)))
	}
	d.again(domain, id, sender, t)
	return t.quit()
}

// sender says MAIL with the null sender, and with the fallback sender where that is refused,
// as the gate does. It gives the one that was taken.
func (d *Doctor) sender(domain, id string, t *talk) (sender string, ok bool, err error) {
	code, text, err := t.say("MAIL FROM:<>")
	if err != nil {
		return "", false, fmt.Errorf("MAIL FROM:<>: %w", err)
	}
	if code/100 == 2 {
		return "", true, nil
	}
	fallback := "postmaster@" + d.Hostname
	if d.Gate != nil && d.Gate.Fallback != "" {
		fallback = d.Gate.Fallback
	}
	d.add(Finding{ID: "backend-null", Level: Warn, Domain: domain, What: fmt.Sprintf("%s says %d %s to MAIL FROM:<>", id, code, brief(text)), Matters: "it refuses bounces, and call-aheads with the null sender; the gate then asks as " + fallback,
		Do: []string{"let the server take the null sender from this machine (RFC 5321 section 4.5.5)"}})
	if _, _, err = t.say("RSET"); err == nil {
		code, text, err = t.say("MAIL FROM:<" + fallback + ">")
	}
	if err != nil {
		return "", false, fmt.Errorf("MAIL FROM:<%s>: %w", fallback, err)
	}
	if code/100 != 2 {
		d.add(Finding{ID: "backend-fallback", Level: Fail, Domain: domain, What: fmt.Sprintf("%s takes neither the null sender nor the fallback sender: it says %d %s to MAIL FROM:<%s>", id, code, brief(text), fallback),
			Matters: "no recipient can be asked about; those that are not remembered are deferred", Do: []string{"[callahead] fallback_sender = an address that the server takes"}})
		return "", false, t.quit()
	}
	d.ok("backend-fallback", domain, fmt.Sprintf("%s takes the fallback sender %s", id, fallback))
	return fallback, true, nil
}

// again begins a second transaction: a server that does not take it needs a connection for
// each question.
func (d *Doctor) again(domain, id, sender string, t *talk) {
	code, text, err := t.say("RSET")
	if err == nil && code/100 == 2 {
		code, text, err = t.say("MAIL FROM:<" + sender + ">")
	}
	what := ""
	switch {
	case err != nil:
		what = "ends the connection after one question"
	case code/100 != 2:
		what = fmt.Sprintf("takes one question a connection: %d %s", code, brief(text))
	default:
		d.ok("backend-reset", domain, id+" takes several questions on a connection")
		return
	}
	d.add(Finding{ID: "backend-reset", Level: Note, Domain: domain, What: id + " " + what, Matters: "each question takes a connection of its own"})
}

// refusesToRelay reports whether a reply says that the domain is not the server's: Postfix
// "454 4.7.1 Relay access denied" or 554, Sendmail "550 5.7.1 Relaying denied", Exim "550 relay
// not permitted", Exchange "550 5.7.54 Unable to relay".
func refusesToRelay(text string) bool {
	text = strings.ToLower(text)
	if !strings.Contains(text, "relay") {
		return false
	}
	for _, words := range []string{"denied", "not permitted", "not allowed", "unable to", "prohibited", "not authorized"} {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false // "User unknown in relay recipient table"
}

// quit ends the dialogue; what the server says to it does not matter.
func (t *talk) quit() error {
	_, _, _ = t.say("QUIT")
	return nil
}
