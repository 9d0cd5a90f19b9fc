// SPDX-License-Identifier: BSD-2-Clause

package socketmap

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rcptgate"
	"rcptgate/kit/testkit"
	"rcptgate/unit"
	"rcptgate/unit/fronttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const listening = "[listen]\nsocketmap = [\"unix:DIR/map.sock\"]\n"

// words is a map that says what its keys are made of.
func words() unit.Unit {
	return unit.Unit{Name: "words", Open: unit.Steps(func(s *unit.Setup) error {
		s.Maps = map[string]unit.Map{
			"words": func(ctx context.Context, key string) (string, bool, error) {
				switch key {
				case "slow":
					<-ctx.Done()
					return "", false, ctx.Err()
				case "broken":
					return "", false, errors.New("directory\r\nis down")
				case "empty":
					return "", true, nil
				case "none":
					return "", false, nil
				case "lines":
					return "one\r\ntwo\x00", true, nil
				case "long":
					return strings.Repeat("a", 1_000_000), true, nil
				}
				return "value of " + key, true, nil
			},
			"virus": func(context.Context, string) (string, bool, error) { return "not the list", true, nil },
		}
		return nil
	})}
}

// asker is an MTA.
type asker struct {
	net.Conn
	r *bufio.Reader
}

func dial(t testing.TB, path string) *asker {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(testkit.Patience))
	return &asker{conn, bufio.NewReader(conn)}
}

// question writes a netstring.
func question(text string) string { return strconv.Itoa(len(text)) + ":" + text + "," }

// reply reads one.
func (a *asker) reply() (string, error) {
	digits, err := a.r.ReadString(':')
	if err != nil {
		return "", err
	}
	size, err := strconv.Atoi(strings.TrimSuffix(digits, ":"))
	if err != nil {
		return "", err
	}
	text := make([]byte, size+1)
	if _, err := io.ReadFull(a.r, text); err != nil {
		return "", err
	}
	if text[size] != ',' {
		return "", fmt.Errorf("%q does not end with a comma", text)
	}
	return string(text[:size]), nil
}

func (a *asker) ask(t testing.TB, text string) string {
	t.Helper()
	if _, err := io.WriteString(a, question(text)); err != nil {
		t.Fatal(err)
	}
	got, err := a.reply()
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return got
}

func add(t testing.TB, l *fronttest.List, clients ...string) {
	t.Helper()
	for _, c := range clients {
		if err := l.Add(netip.MustParseAddr(c), "Eicar-Test-Signature", "q1", 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLookUps(t *testing.T) {
	virus, trial := fronttest.NewList("virus"), fronttest.NewList("trial")
	virus.Words, trial.Rehearse = "You have sent us mail containing a virus and are blocked for an hour.", true
	add(t, virus, "192.0.2.1", "2001:db8::1", "127.0.0.1")
	add(t, trial, "192.0.2.1")
	h, dir := fronttest.Start(t, "deadline = \"300ms\"\n"+listening+`[socketmap]
maps = [{ name = "virbl", list = "virus" }, { name = "left", list = "virus", form = "seconds" }]
`, fronttest.Lists(virus, trial), words(), Unit())
	if got := h.Address("socketmap"); got != dir+"/map.sock" {
		t.Errorf("it listens at %q", got)
	}
	a := dial(t, dir+"/map.sock")
	const refused = "OK REJECT 5.7.1 You have sent us mail containing a virus and are blocked for an hour."
	for text, want := range map[string]string{
		"virus 192.0.2.1":                    refused,
		"virbl 192.0.2.1":                    refused,
		"virus 192.0.2.2":                    "NOTFOUND ",
		"virus 2001:db8::1":                  refused, // Postfix
		"virus IPv6:2001:db8::1":             refused, // Sendmail
		"virus ipv6:2001:db8:0:0:0:0:0:1":    refused, // Sendmail, after its map has folded the case
		"virus 2001:DB8::1":                  refused,
		"virus [192.0.2.1]":                  refused,
		"virus [IPv6:2001:db8::1]":           refused,
		"virus ::ffff:192.0.2.1":             refused,
		"virus IPv6:::ffff:192.0.2.1":        refused,
		"virus 2001:db8::1%eth0":             refused,
		"virus 2001:db8::2":                  "NOTFOUND ",
		"virus":                              "NOTFOUND ",
		"virus ":                             "NOTFOUND ",
		`virus ""`:                           "NOTFOUND ",
		"virus unknown":                      "NOTFOUND ", // a client without a name, in Postfix
		"virus mail.example.org":             "NOTFOUND ",
		"virus 192.0.2.1 ":                   "NOTFOUND ",
		"virus 192.0.2":                      "NOTFOUND ",
		"virus 192.0.2.01":                   "NOTFOUND ",
		"virus 0":                            "NOTFOUND ", // Sendmail, for mail of this machine's users
		"virus " + strings.Repeat("1", 9000): "NOTFOUND ",
		"trial 192.0.2.1":                    "NOTFOUND ", // in rehearsal
		"words a b@c":                        "OK value of a b@c",
		"words none":                         "NOTFOUND ",
		"words empty":                        "OK empty",
		"words ":                             "NOTFOUND ",
		"words <>":                           "NOTFOUND ",
		"words broken":                       "TEMP directory  is down",
		"words lines":                        "OK one  two ",
		"words slow":                         "TEMP context deadline exceeded",
		"":                                   `TEMP unknown map ""`,
		"other x":                            `TEMP unknown map "other"`,
		"oth\x00\ner x":                      `TEMP unknown map "oth\x00\ner"`,
	} {
		if got := a.ask(t, text); got != want {
			t.Errorf("%.60q: %q, want %q", text, got, want)
		}
	}
	if got := a.ask(t, "words long"); len(got) != 100_000 || !strings.HasPrefix(got, "OK aaa") {
		t.Errorf("a long value: %d octets", len(got))
	}
	left, err := strconv.Atoi(strings.TrimPrefix(a.ask(t, "left 192.0.2.1"), "OK "))
	if err != nil || left < 3000 || left > 3600 {
		t.Errorf("seconds left: %d, %v", left, err)
	}
	virus.Remove(netip.MustParseAddr("192.0.2.1"))
	if got := a.ask(t, "virus 192.0.2.1"); got != "NOTFOUND " {
		t.Errorf("after the end of the listing: %q", got)
	}
	if list := h.Attention(); len(list) != 1 || !strings.Contains(list[0].Text, "map that does not exist") {
		t.Errorf("attention: %+v", list)
	}
}

// A value is never of digits alone, which Postfix takes as OK, never empty, and has nothing
// in it that Sendmail would not leave as it is.
func TestTextsOfLists(t *testing.T) {
	l := fronttest.NewList("x")
	for text, want := range map[string]string{
		"":                         "REJECT 5.7.1 Mail from your address is refused here for the time being",
		"(":                        "REJECT 5.7.1 Mail from your address is refused here for the time being",
		"a (b) \"c\" <d> \\ $e %f": "REJECT 5.7.1 a b c d e f",
		"two\r\nlines\x00":         "REJECT 5.7.1 two lines",
		"ιός":                      "REJECT 5.7.1 Mail from your address is refused here for the time being",
		"123":                      "REJECT 5.7.1 123",
		strings.Repeat("ab ", 200): "REJECT 5.7.1 " + strings.TrimSpace(strings.Repeat("ab ", 200)[:maxText]),
	} {
		l.Words = text
		if got := accessValue(l); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	l.Words, l.Code = "Later", 450
	if got := accessValue(l); got != "450 4.7.1 Later" {
		t.Errorf("a list that puts clients off: %q", got)
	}
}

func TestPipelines(t *testing.T) {
	list := fronttest.NewList("virus")
	add(t, list, "192.0.2.1")
	_, dir := fronttest.Start(t, listening, fronttest.Lists(list), words(), Unit())
	a := dial(t, dir+"/map.sock")
	go func() {
		for range 500 {
			_, _ = io.WriteString(a, question("virus 192.0.2.1")+question("words x")+question("virus 192.0.2.3"))
		}
	}()
	for i := range 500 {
		for _, want := range []string{"OK REJECT 5.7.1 Mail from your address is refused here for the time being", "OK value of x", "NOTFOUND "} {
			if got, err := a.reply(); err != nil || got != want {
				t.Fatalf("round %d: %q, %v", i, got, err)
			}
		}
	}
}

// What is not this protocol ends its connection; a wrong port is found by the notice.
func TestNotSocketmap(t *testing.T) {
	h, dir := fronttest.Start(t, listening, words(), Unit())
	for text, want := range map[string]string{
		"GET / HTTP/1.1\r\n\r\n":            "an HTTP request",
		"get u@example.org\n":               "tcp_table",
		"request=smtpd_access_policy\n\n":   "policy delegation",
		"\x16\x03\x01\x02\x00":              "TLS",
		"\x00\x00\x00\x0dO\x00\x00\x00\x06": "a milter's frame",
		"EHLO x\r\n":                        "SMTP",
		"virus 192.0.2.1\n":                 "begins with",
		":virus x,":                         "begins with",
		"07:words x,":                       "begins with",
		"+7:words x,":                       "begins with",
		"7:words xx":                        "no comma",
		"10001:":                            "more than 10000 octets",
		"99999999999999999999999:":          "more than 10000 octets",
	} {
		a := dial(t, dir+"/map.sock")
		_, _ = io.WriteString(a, question("words x")+text)
		if got, err := a.reply(); got != "OK value of x" || err != nil {
			t.Errorf("%q: the question before it: %q, %v", text, got, err)
		}
		if got, err := a.reply(); err == nil {
			t.Errorf("%q: %q", text, got)
		}
		if list := h.Attention(); len(list) != 1 || !strings.Contains(list[0].Text, want) {
			t.Errorf("%q: attention: %+v", text, list)
		}
	}
	a := dial(t, dir+"/map.sock")
	if got := a.ask(t, "words "+strings.Repeat("k", maxQuestion-6)); !strings.HasPrefix(got, "OK value of k") {
		t.Errorf("the longest question: %.40q", got)
	}
}

func TestReload(t *testing.T) {
	list := fronttest.NewList("virus")
	add(t, list, "192.0.2.1")
	units := []unit.Unit{fronttest.Lists(list), Unit()}
	schema, err := unit.Compose(units)
	if err != nil {
		t.Fatal(err)
	}
	dir, maps := testkit.Dir(t), ""
	read := func() (*unit.Config, error) {
		return unit.Parse(schema, "test.toml", fmt.Sprintf("state = %q\n", dir)+strings.ReplaceAll(listening, "DIR", dir)+"[socketmap]\n"+maps)
	}
	c, err := read()
	if err != nil {
		t.Fatal(err)
	}
	h, err := unit.Open(t.Context(), units, c, unit.Options{Stderr: io.Discard, Reread: read})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Stop)
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	a := dial(t, dir+"/map.sock")
	for _, step := range []struct{ maps, fails, heard string }{
		{`maps = [{ name = "virbl", list = "virus" }]`, "", "OK REJECT"},
		{`maps = [{ name = "virbl", list = "other" }]`, `socketmap.maps[1].list: there is no [[blocklist]] named "other"`, "OK REJECT"},
		{`maps = [{ name = "a b", list = "virus" }]`, `socketmap.maps[1].name: "a b" is not the name of a map`, "OK REJECT"},
		{`maps = [{ name = "a", list = "virus" }, { name = "a", list = "virus" }]`, `socketmap.maps[2].name: "a" is there already`, "OK REJECT"},
		{`maps = [{ name = "a" }]`, `socketmap.maps[1].list: a map needs a list`, "OK REJECT"},
		{`maps = [{ name = "a", list = "virus", form = "text" }]`, `socketmap.maps[1].form: "text" is not allowed`, "OK REJECT"},
		{"", "", "TEMP unknown map"},
	} {
		maps = step.maps
		_, err := h.Reload()
		if (err == nil) != (step.fails == "") || err != nil && !strings.Contains(err.Error(), step.fails) {
			t.Errorf("%s: %v, want %q", step.maps, err, step.fails)
		}
		if got := a.ask(t, "virbl 192.0.2.1"); !strings.HasPrefix(got, step.heard) {
			t.Errorf("%s: heard %q, want %q", step.maps, got, step.heard)
		}
	}
}

// Nothing listens unless it is configured.
func TestOff(t *testing.T) {
	h, _ := fronttest.Start(t, "", Unit())
	if h.Address("socketmap") != "" {
		t.Error("it listens")
	}
}

// FuzzAnswers sends octets in two pieces: whatever comes back is a sequence of replies, one
// for each question, and the next connection is answered.
func FuzzAnswers(f *testing.F) {
	list := fronttest.NewList("virus")
	if err := list.Add(netip.MustParseAddr("192.0.2.1"), "x", "", 0); err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{"15:virus 192.0.2.1,", "15:virus 192.0.2.1,0:,", "6:virus ,9:words a b,", "07:", "99999:", "3:abc;", "20:virus IPv6:2001:db8::,"} {
		f.Add([]byte(seed), 3)
	}
	a := &answers{
		lists: map[string]listMap{"virus": {list: list}, "left": {list, formSeconds}}, deadline: time.Second,
		maps: map[string]unit.Map{"words": func(_ context.Context, key string) (string, bool, error) {
			return key, len(key)%2 == 0, nil
		}},
	}
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		var out []byte
		rest, asked := data, 0
		for len(rest) > 0 {
			text, taken, err := split(rest)
			if err != nil {
				break
			}
			// The same in pieces: nothing is decided before the question is complete.
			if cut = min(max(cut, 0), len(rest)); taken > 0 && cut < taken {
				if _, early, err := split(rest[:cut]); early != 0 || err != nil {
					t.Fatalf("%q cut at %d: %d octets, %v", rest, cut, early, err)
				}
			}
			if taken == 0 {
				break
			}
			if want := question(string(text)); string(rest[:taken]) != want {
				t.Fatalf("%q was read as %q", rest[:taken], text)
			}
			out, _ = a.answer(t.Context(), out, text)
			asked++
			rest = rest[taken:]
		}
		r := &asker{r: bufio.NewReader(strings.NewReader(string(out)))}
		for range asked {
			got, err := r.reply()
			if err != nil {
				t.Fatalf("%q: %v", out, err)
			}
			status, value, _ := strings.Cut(got, " ")
			if status != "OK" && status != "NOTFOUND" && status != "TEMP" || status == "OK" && value == "" || strings.ContainsAny(value, "\r\n\x00") {
				t.Fatalf("reply %q", got)
			}
		}
		if _, err := r.r.ReadByte(); !errors.Is(err, io.EOF) {
			t.Fatalf("%q has more replies than there were questions", out)
		}
	})
}

// BenchmarkLookUp is one look-up over a unix socket after the other, on one connection and
// on several.
func BenchmarkLookUp(b *testing.B) {
	list := fronttest.NewList("virus")
	add(b, list, "192.0.2.1")
	_, dir := fronttest.Start(b, listening, fronttest.Lists(list), Unit())
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		a := dial(b, dir+"/map.sock")
		text := []byte(question("virus 192.0.2.1"))
		buf := make([]byte, 256)
		for pb.Next() {
			if _, err := a.Write(text); err != nil {
				b.Error(err)
				return
			}
			if _, err := a.Read(buf); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

var _ rcptgate.Blocklist = (*fronttest.List)(nil)

// TestSplitWaits holds that a question is complete with its comma, and not before.
func TestSplitWaits(t *testing.T) {
	whole := question("virus 192.0.2.1")
	for n := range len(whole) {
		if text, taken, err := split([]byte(whole[:n])); taken != 0 || err != nil {
			t.Errorf("%q: %q, %d, %v", whole[:n], text, taken, err)
		}
	}
	if text, taken, err := split([]byte(whole + "1")); string(text) != "virus 192.0.2.1" || taken != len(whole) || err != nil {
		t.Errorf("%q, %d, %v", text, taken, err)
	}
}
