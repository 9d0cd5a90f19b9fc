// SPDX-License-Identifier: BSD-2-Clause

package antivirus

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/config/setting"
	"rcptgate/front/milter"
	"rcptgate/front/milter/mta"
	"rcptgate/front/milter/wire"
	"rcptgate/kit/testkit"
	"rcptgate/test/lab"
	"rcptgate/unit"
)

// gateway is the gate with its milter front, in this process.
type gateway struct {
	host   *unit.Host
	socket setting.Socket
}

// startGateway starts it with the lines of [antivirus], and waits until every scanner was tested.
func startGateway(t *testing.T, text string) *gateway {
	t.Helper()
	g := &gateway{socket: setting.Socket{Network: "unix", Address: filepath.Join(t.TempDir(), "m")}}
	units := []unit.Unit{Unit(), milter.Unit()}
	schema, err := unit.Compose(units)
	if err != nil {
		t.Fatal(err)
	}
	c, err := unit.Parse(schema, "test.toml", fmt.Sprintf("enforce = true\nmessage_deadline = \"10s\"\nstate = %q\n[listen]\nmilter = [\"unix:%s\"]\n[antivirus]\n%s\n", t.TempDir(), g.socket.Address, text))
	if err != nil {
		t.Fatal(err)
	}
	if g.host, err = unit.Open(t.Context(), units, c, unit.Options{Stderr: io.Discard}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.host.Stop)
	if err := g.host.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return g
}

// client is one connection of an MTA.
type client struct {
	t *testing.T
	*mta.Client
}

func (g *gateway) dial(t *testing.T) *client {
	t.Helper()
	c, err := mta.Dial(t.Context(), g.socket, mta.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &client{t, c}
}

// send plays one message and gives the answer to its end.
func (c *client) send(header, body string) (last mta.Response) {
	say := func(r mta.Response, err error) {
		if err != nil {
			c.t.Error(err)
		}
		last = r
	}
	say(c.Connect("client.test", netip.MustParseAddrPort("192.0.2.7:25")))
	say(c.Mail("x@client.test", nil))
	say(c.Rcpt("a@in.test"))
	say(c.Data())
	for line := range strings.Lines(header) {
		name, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
		say(c.Header(name, value))
	}
	say(c.EndOfHeader())
	for part := body; len(part) > 0; {
		n := min(len(part), wire.BodyMax)
		if say(c.Body([]byte(part[:n]))); last.Skip {
			break
		}
		part = part[n:]
	}
	say(c.EndOfMessage())
	return last
}

// infectedMessage is one with the test file, padded to more than a size, in base64.
func infectedMessage(i, size int) (header, body string) {
	header = fmt.Sprintf("Zz: message %d\r\nContent-Type: multipart/mixed; boundary=b\r\n", i)
	return header, "--b\r\n\r\n" + strings.Repeat("harmless\r\n", size/10) + "\r\n--b\r\nContent-Transfer-Encoding: base64\r\nContent-Type: application/octet-stream\r\n\r\n" +
		base64.StdEncoding.EncodeToString([]byte(lab.Eicar())) + "\r\n--b--\r\n"
}

// TestClamdTooSmall has real scanners whose limits are below max_size: what they do not look
// into is not taken, and there is a notice.
func TestClamdTooSmall(t *testing.T) {
	lab.Need(t, lab.ClamavKit)
	t.Parallel()
	for name, conf := range map[string]string{"StreamMaxLength": "StreamMaxLength 100K", "MaxFileSize": "MaxFileSize 100K", "MaxScanSize": "MaxScanSize 100K"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := lab.StartClamd(t, lab.ClamdOptions{Conf: conf})
			g := startGateway(t, fmt.Sprintf("clamd = [\"unix:%s\"]\nmax_size = \"1MB\"", server.Socket))
			c := g.dial(t)
			header, body := infectedMessage(0, 500<<10)
			if r := c.send(header, body); r.Code != 451 {
				t.Errorf("beyond clamd's limit: %+v", r)
			}
			header, body = infectedMessage(1, 1000)
			if r := c.send(header, body); r.Code != 550 || !strings.Contains(r.Text, lab.ClamdSignature) {
				t.Errorf("below it: %+v", r)
			}
			if r := c.send("Subject: x\r\n", "clean"); r.Action != rcptgate.Continue {
				t.Errorf("clean: %+v", r)
			}
			if list := fmt.Sprint(g.host.Notices.List()); !strings.Contains(list, "does not search messages of max_size") {
				t.Errorf("notices %s", list)
			}
			if r := c.send("Subject: x\r\n", strings.Repeat("x", 2<<20)); r.Action != rcptgate.Continue {
				t.Errorf("beyond max_size: %+v", r)
			}
		})
	}
}

// TestNothingPasses sends messages, every other one infected, while the only scanner is killed,
// started without signatures, hung and told to reload. Those that are put off come again, as
// from any sender. In the end every infected one was refused and every clean one taken.
func TestNothingPasses(t *testing.T) {
	lab.Need(t, lab.ClamavKit)
	t.Parallel()
	server := lab.StartClamd(t, lab.ClamdOptions{})
	g := startGateway(t, fmt.Sprintf("clamd = [\"unix:%s\"]\ntimeout = \"1s\"\nmax_size = \"1MB\"\nconnections = 4", server.Socket))
	messages := int64(testkit.Rounds(200, 1000))
	var next, sent, refused, taken, putOff atomic.Int64
	var all sync.WaitGroup
	for range 10 {
		c := g.dial(t)
		all.Go(func() {
			for {
				i := int(next.Add(1))
				if i > 2*int(messages) {
					return
				}
				header, body := "Subject: clean\r\n", "clean\r\n"
				if i%2 == 1 {
					header, body = infectedMessage(i, 100+i*5%3000)
				}
				for again := true; again; {
					again = false
					sent.Add(1)
					switch r := c.send(header, body); {
					case r.Code == 550 && i%2 == 1:
						refused.Add(1)
					case r.Action == rcptgate.Continue && i%2 == 0:
						taken.Add(1)
					case r.Code/100 == 4:
						putOff.Add(1)
						time.Sleep(100 * time.Millisecond)
						again = true
					default:
						t.Errorf("message %d: %+v", i, r)
					}
				}
			}
		})
	}
	through := make(chan struct{})
	go func() { all.Wait(); close(through) }()
	trouble(t, server, g, func(part int64) {
		testkit.Eventually(t, "messages go on", func() bool { return next.Load() > min(part*messages/5, 2*messages) })
	}, &sent)
	<-through
	if refused.Load() != messages || taken.Load() != messages || putOff.Load() == 0 {
		t.Errorf("%d infected messages were refused and %d clean ones taken, of %d each; %d times one was put off", refused.Load(), taken.Load(), messages, putOff.Load())
	}
	t.Logf("%d times a message was put off", putOff.Load())
}

// trouble is what happens to the scanner meanwhile; progress waits until messages have gone on,
// sent counts those that were tried.
func trouble(t *testing.T, server *lab.Clamd, g *gateway, progress func(part int64), sent *atomic.Int64) {
	t.Helper()
	noticed := func(text string) {
		testkit.Eventually(t, text, func() bool { return strings.Contains(fmt.Sprint(g.host.Notices.List()), text) })
	}
	test := func() { // instead of some seconds until it is tried again
		if _, err := g.host.Do(t.Context(), "antivirus", "test", nil); err != nil {
			t.Error(err)
		}
	}
	progress(1)
	server.Kill()
	noticed("does not answer")
	server.Start()
	test()
	progress(2)
	server.Kill()
	server.Signatures(false)
	server.Start()
	test()
	noticed("does not find the EICAR test file")
	before := sent.Load()
	testkit.Eventually(t, "messages are tried", func() bool { return sent.Load() > before+20 })
	server.Kill()
	server.Signatures(true)
	server.Start()
	test()
	progress(3)
	server.Freeze()
	noticed("does not answer")
	server.Thaw()
	test()
	progress(4)
	for range 20 {
		server.Reload()
		time.Sleep(20 * time.Millisecond)
	}
	progress(5)
	for range 3 { // restarts that the self-test may not see
		server.Kill()
		server.Start()
	}
	test()
}

// TestManyForgedFields has more fields of the header's name than can be removed: the message
// is put off, with one error and not with one for each.
func TestManyForgedFields(t *testing.T) {
	t.Parallel()
	c := &Check{cfg: &Config{Header: "X-Virus-Status"}}
	m := rcptgate.NewMessage(rcptgate.WantHeader | rcptgate.EditHeader)
	for range 1000 {
		m.Fields = append(m.Fields, rcptgate.Field{Name: "X-Virus-Status", Value: " clean"})
	}
	if err := c.mark(clean, m); err == nil || len(err.Error()) > 200 {
		t.Errorf("%.300v", err)
	}
}
