// SPDX-License-Identifier: BSD-2-Clause

package part

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/mail"
)

// message makes what a front gives to a step of a message's text.
func message(t testing.TB, text string) *rcptgate.Message {
	t.Helper()
	return parse(strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n"))
}

// parse makes a message of a text as it is.
func parse(text string) *rcptgate.Message {
	header, body := mail.ParseHeader([]byte(text))
	m := rcptgate.NewMessage(^rcptgate.Wants(0))
	for _, f := range header {
		m.Fields = append(m.Fields, rcptgate.Field{Name: f.Name, Value: strings.ReplaceAll(string(f.Raw), "\r\n", "\n")})
	}
	m.Body, m.Size = bytes.NewReader(body), int64(len(body))
	return m
}

func view(t testing.TB, text string) *View {
	t.Helper()
	return Open(t.Context(), message(t, text))
}

// must gives a value without its error, which does not come.
func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

const sample = `From: =?utf-8?q?Andr=C3=A9?= <andre@example.org>, bob@example.org
Subject: =?utf-8?b?R3LDvMOfZQ==?=
 from here
Message-ID: <1@example.org>
Date: Sat, 28 Nov 2026 15:00:00 +0100
Content-Type: multipart/mixed; boundary=x

--x
Content-Type: multipart/alternative; boundary=y

--y
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

Gr=FC=
=DFe
--y
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: base64

PGI+R3LDvMOfZTwvYj4=
--y--
--x
Content-Type: application/zip; name="a.zip"
Content-Disposition: attachment; filename="b.ZIP"
Content-Transfer-Encoding: base64

UEsDBA==
--x
Content-Type: message/rfc822

Subject: inner

inner text
--x--
`

func TestView(t *testing.T) {
	v := view(t, sample)
	date, ok := v.Date()
	if got := fmt.Sprintln(v.From(), v.Subject(), v.MessageID(), date.UTC(), ok); got !=
		"[{André andre@example.org} { bob@example.org}] Grüße from here <1@example.org> 2026-11-28 14:00:00 +0000 UTC true\n" {
		t.Errorf("header: %s", got)
	}
	var out strings.Builder
	for _, p := range must[[]*Part](t)(v.Parts()) {
		text := ""
		if !p.IsMultipart() {
			text = must[string](t)(p.Text(100))
		}
		fmt.Fprintf(&out, "%d %s %s %q %q %q %d %.8s %q %t\n", p.Depth, p.Type, p.Charset, p.Disposition, p.Filename(), p.Exts(),
			must[int64](t)(p.Size()), must[string](t)(p.SHA256()), text, p.IsAttachment())
	}
	want := `0 multipart/mixed  "" "" [] 501 ` + must[string](t)(must[*Part](t)(v.Root()).SHA256())[:8] + ` "" false
1 multipart/alternative  "" "" [] 223 ` + must[string](t)(must[[]*Part](t)(v.Parts())[1].SHA256())[:8] + ` "" false
2 text/plain iso-8859-1 "" "" [] 5 ffe1279f "Grüße" false
2 text/html utf-8 "" "" [] 14 fdcc9c16 "<b>Grüße</b>" false
1 application/zip  "attachment" "b.ZIP" ["zip"] 4 8dcc7e60 "PK\x03\x04" true
1 message/rfc822  "" "" [] 28 b4a8ab7f "Subject: inner\r\n\r\ninner text" true
2 text/plain  "" "" [] 10 9fdc8bc4 "inner text" false
`
	if out.String() != want {
		t.Errorf("parts:\n%swant\n%s", out.String(), want)
	}
	if word := must[string](t)(v.Malformed()); word != "" {
		t.Errorf("malformed: %s", word)
	}
	if got := must[string](t)(v.Text(100)); got != "Grüße" {
		t.Errorf("text %q", got)
	}
}

func TestTextIsCutBetweenCharacters(t *testing.T) {
	for _, charset := range []string{"utf-8", "iso-8859-1", "utf-16le", "iso-2022-jp", "gb18030", "unknown", ""} {
		for max := range 12 {
			v := view(t, "Content-Type: text/plain; charset="+charset+"\n\näöü\xe4\xf6 $B$\"$ ✓✓✓✓")
			got := must[string](t)(v.Text(max))
			if len(got) > max || strings.ToValidUTF8(got, "") != got {
				t.Errorf("%s, at most %d octets: %q", charset, max, got)
			}
		}
	}
	v := view(t, "Content-Type: text/plain; charset=utf-8\n\nä✓")
	for max, want := range []string{"", "", "ä", "ä", "ä", "ä✓"} {
		if got := must[string](t)(v.Text(max)); got != want {
			t.Errorf("at most %d octets: %q, want %q", max, got, want)
		}
	}
}

func TestNothing(t *testing.T) {
	m := rcptgate.NewMessage(0)
	v := Open(t.Context(), m)
	if parts := must[[]*Part](t)(v.Parts()); len(parts) != 1 || parts[0].Type != "text/plain" || must[int64](t)(parts[0].Size()) != 0 {
		t.Errorf("%d parts", len(parts))
	}
}

// hostile are messages that other programs have died of.
func hostile() map[string]string {
	deep := strings.Builder{}
	for i := range 10_000 {
		fmt.Fprintf(&deep, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i)
	}
	mixed := "Content-Type: multipart/mixed; boundary=x\n\n"
	return map[string]string{
		"nesting":           deep.String(),
		"nested messages":   strings.Repeat("Content-Type: message/rfc822\n\n", 10_000),
		"parts":             mixed + strings.Repeat("--x\n\ny\n", 100_000),
		"parts with fields": mixed + strings.Repeat("--x\n"+strings.Repeat("Content-A: "+strings.Repeat("v", 1000)+"\n", 250)+"\ny\n", 20),
		"endless header":    mixed + "--x\n" + strings.Repeat("A: 1\n", 400_000),
		"an endless field":  mixed + "--x\nA: " + strings.Repeat("x", 2<<20),
		"folding":           mixed + "--x\nA: 1\n" + strings.Repeat(" x\n", 400_000),
		"broken boundaries": mixed + strings.Repeat("--xx\n--x-\n-- x\n--\n", 100_000),
		"empty lines":       mixed + strings.Repeat("\n", 1_000_000),
		"encoded words":     mixed + "--x\nContent-Type: x/y; name=\"" + strings.Repeat("=?utf-8?q?=41?=", 16_000) + "\"\n\n",
		"unended words":     mixed + strings.Repeat("--x\nContent-Type: x/y; name=\""+strings.Repeat("=?a?b?", 40_000)+"\"\n\n", 10),
		"names":             mixed + "--x\nContent-Disposition: a" + strings.Repeat(";filename=\"=?x?q?"+strings.Repeat("a%41", 1000)+"?=\"", 60) + "\n\n",
		"name pieces":       mixed + "--x\nContent-Disposition: a" + strings.Repeat(";filename*9*=''%41", 14_000) + "\n\n",
		"a subject":         "Subject: " + strings.Repeat("=?", 120_000) + "\n\n",
		"addresses":         "From: " + strings.Repeat("(", 60_000) + strings.Repeat("<,", 60_000) + "\n\n",
		"base64":            "Content-Transfer-Encoding: base64\n\n" + strings.Repeat("=", 1<<18) + strings.Repeat("!A", 1<<20),
		"quoted-printable":  "Content-Transfer-Encoding: quoted-printable\n\n" + strings.Repeat("= ", 1<<20),
		"text":              "Content-Type: text/plain; charset=iso-2022-jp\n\n" + strings.Repeat("\x1b$B\"\x1b", 1<<18),
	}
}

// cpu is the time that the process has computed.
func cpu(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestHostileMessages holds that such messages cost time in proportion to their size, and
// little memory.
func TestHostileMessages(t *testing.T) {
	for name, text := range hostile() {
		t.Run(name, func(t *testing.T) {
			v := view(t, text)
			runtime.GC()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := cpu(t)
			v.Subject()
			v.From()
			parts := must[[]*Part](t)(v.Parts())
			word := must[string](t)(v.Malformed())
			for _, p := range parts {
				if len(p.Names()) > mail.NamesMax {
					t.Errorf("%d names", len(p.Names()))
				}
				must[string](t)(p.Text(100))
			}
			must[string](t)(parts[len(parts)-1].SHA256())
			must[string](t)(v.Text(TextMax))
			took := cpu(t) - start
			runtime.ReadMemStats(&after)
			if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 64<<20 {
				t.Errorf("%d MiB allocated for a message of %d", allocated>>20, len(text)>>20)
			}
			if took > 5*time.Second { // it takes a twentieth of a second, ten times that beside the race detector
				t.Errorf("%v of CPU for %d octets", took, len(text))
			}
			if len(parts) > mail.DefaultLimits.Parts {
				t.Errorf("%d parts", len(parts))
			}
			t.Logf("%v, %d KiB allocated, %d KiB, %d parts, malformed %q", took, (after.TotalAlloc-before.TotalAlloc)>>10, len(text)>>10, len(parts), word)
		})
	}
}

func TestReadingIsBounded(t *testing.T) {
	v := view(t, "A: 1\n\n"+strings.Repeat("text\n", 1<<20))
	parts := must[[]*Part](t)(v.Parts())
	var err error
	for i := 0; err == nil && i < 1000; i++ {
		parts[0].known = false
		_, err = parts[0].SHA256()
	}
	if !errors.Is(err, ErrWork) {
		t.Errorf("a thousand digests: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, message(t, sample)).Parts(); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
}
