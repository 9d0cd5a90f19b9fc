// SPDX-License-Identifier: BSD-2-Clause

package part

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	netmail "net/mail"
	"strings"
	"testing"

	"golang.org/x/text/encoding/charmap"
	"pgregory.net/rapid"

	"rcptgate"
	"rcptgate/mail"
)

// leaf is a single part as the standard library reads it.
type leaf struct {
	kind, raw string
	text      string // decoded, in UTF-8
}

// leaves reads a message with net/mail and mime/multipart, by Content-ID.
func leaves(text string) (map[string]leaf, error) {
	m, err := netmail.ReadMessage(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(m.Body)
	if err != nil {
		return nil, err
	}
	out := map[string]leaf{}
	return out, addLeaves(out, m.Header, string(body))
}

func addLeaves(out map[string]leaf, header netmail.Header, body string) error {
	kind, params, err := mime.ParseMediaType(cmp.Or(header.Get("Content-Type"), "text/plain"))
	if err != nil {
		return fmt.Errorf("%q: %w", header.Get("Content-Type"), err)
	}
	if strings.HasPrefix(kind, "multipart/") {
		r := multipart.NewReader(strings.NewReader(body), params["boundary"])
		for {
			p, err := r.NextRawPart()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			data, err := io.ReadAll(p)
			if err == nil {
				err = addLeaves(out, netmail.Header(p.Header), string(data))
			}
			if err != nil {
				return err
			}
		}
	}
	l := leaf{kind: kind, raw: body}
	data := []byte(body)
	switch header.Get("Content-Transfer-Encoding") {
	case "base64":
		data, err = base64.StdEncoding.DecodeString(strings.NewReplacer("\r\n", "").Replace(body))
	case "quoted-printable":
		data, err = io.ReadAll(quotedprintable.NewReader(strings.NewReader(body)))
	}
	if err != nil {
		return fmt.Errorf("%s part %q: %w", header.Get("Content-Transfer-Encoding"), body, err)
	}
	l.text = string(data)
	if params["charset"] == "iso-8859-1" {
		if l.text, err = charmap.ISO8859_1.NewDecoder().String(l.text); err != nil {
			return err
		}
	}
	id := header.Get("Content-Id")
	if id == "" {
		id = fmt.Sprintf("new %d", len(out))
	}
	out[id] = l
	return nil
}

// drawn makes messages at random, with a Content-ID for every single part.
type drawn struct {
	t     *rapid.T
	parts int
}

func (d *drawn) part(depth int) string {
	kinds := []string{"text/plain", "text/plain", "text/html", "application/octet-stream"}
	if depth < 3 {
		kinds = append(kinds, "multipart/mixed", "multipart/alternative", "multipart/related", "multipart/signed")
	}
	kind := rapid.SampledFrom(kinds).Draw(d.t, "type")
	d.parts++
	if strings.HasPrefix(kind, "multipart/") {
		boundary := fmt.Sprint("b", d.parts)
		out := "Content-Type: " + kind + ";\r\n boundary=\"" + boundary + "\"\r\n\r\n" + rapid.SampledFrom([]string{"", "preamble\r\n"}).Draw(d.t, "preamble")
		for range rapid.IntRange(1, 3).Draw(d.t, "parts") {
			out += "--" + boundary + "\r\n" + d.part(depth+1) + "\r\n"
		}
		return out + "--" + boundary + "--\r\n"
	}
	header := fmt.Sprintf("Content-ID: <%d>\r\nContent-Type: %s", d.parts, kind)
	text := rapid.SampledFrom([]string{"", "hello", "hello\r\n", "a = b \r\n-- \r\n", strings.Repeat("long line ", 20) + "\r\n", "<html><body>hi</body></html>\r\n", "x</BODY>"}).Draw(d.t, "text")
	latin := rapid.SampledFrom([]string{"", "iso-8859-1", "utf-8"}).Draw(d.t, "charset")
	if latin != "" {
		header += "; charset=" + latin
		more := "é"
		if latin != "utf-8" {
			more = "\xe9"
		}
		text = more + text
	}
	switch encoding := rapid.SampledFrom([]string{"base64", "quoted-printable", ""}).Draw(d.t, "encoding"); {
	case encoding == "base64":
		header += "\r\nContent-Transfer-Encoding: base64"
		text = string(base64Lines([]byte(text))) + rapid.SampledFrom([]string{"", "\r\n"}).Draw(d.t, "end")
	case encoding == "quoted-printable":
		header += "\r\nContent-Transfer-Encoding: quoted-printable"
		text = string(quoted([]byte(text)))
	case latin != "":
		header += "\r\nContent-Transfer-Encoding: 8bit"
	}
	if rapid.IntRange(0, 4).Draw(d.t, "named") == 0 {
		header += "\r\nContent-Disposition: attachment; filename=a.txt"
	}
	return header + "\r\n\r\n" + text
}

// TestEditsAreReadByOthers: what the edits make is read by the standard library, has the text
// that was appended, and has every other part as it was, octet for octet.
func TestEditsAreReadByOthers(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := &drawn{t: rt}
		in := "From: a@example.org\r\nMIME-Version: 1.0\r\n" + d.part(0)
		before, err := leaves(in)
		if err != nil {
			rt.Fatalf("%q: %v", in, err)
		}
		m := message(t, in)
		v := Open(t.Context(), m)
		parts := must[[]*Part](t)(v.Parts())
		text := rapid.SampledFrom([]string{"bye", "grüße – „x“\nsecond line", strings.Repeat("words of a disclaimer ", 50), "-- \r\n--b1--\n"}).Draw(rt, "appended")
		outcome, err := v.AppendText(text, "")
		if err != nil {
			rt.Fatal(err)
		}
		touched, gone := map[string]bool{}, map[string]bool{}
		for _, o := range outcome {
			if o.Reason == "" {
				touched[o.Part.Header().Value("Content-ID")] = true
			}
		}
		added := 0
		for range rapid.IntRange(0, 2).Draw(rt, "removed") {
			p := rapid.SampledFrom(parts).Draw(rt, "part")
			if p.replacedBy() != nil {
				continue
			}
			for q := range p.part.All() {
				gone[q.Header.Value("Content-ID")] = true
			}
			switch rapid.IntRange(0, 2).Draw(rt, "how") {
			case 0:
				err = p.Remove("")
			case 1:
				err = p.Remove("a note")
			case 2:
				err = p.Replace([]byte("\x00\xff"), "application/x", "new.bin")
			}
			added++
			if err != nil {
				rt.Fatal(err)
			}
		}
		if err := v.Apply(); err != nil {
			rt.Fatal(err)
		}
		out := result(t, m)
		after, err := leaves(out)
		if err != nil {
			rt.Fatalf("made of %q\n%q: %v", in, out, err)
		}
		for id, was := range before {
			is, there := after[id]
			switch {
			case gone[id]:
				if there {
					rt.Fatalf("%s is still in %q", id, out)
				}
			case touched[id]:
				if err := sameText(was, is, text); err != nil {
					rt.Fatalf("%s: %v; made of %q\n%q", id, err, in, out)
				}
			case was != is:
				rt.Fatalf("%s was %+v, is %+v; made of %q\n%q", id, was, is, in, out)
			}
		}
		if len(after) > len(before)+added {
			rt.Fatalf("%d parts of %d: %q", len(after), len(before), out)
		}
	})
}

// sameText compares a part with what it was before a text was appended, white space aside.
func sameText(was, is leaf, text string) error {
	flat := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	want := flat(was.text + "\n" + text)
	got := is.text
	if was.kind == "text/html" {
		place := strings.LastIndex(strings.ToLower(was.text), "</body")
		if place < 0 {
			place = len(was.text)
		}
		if !strings.HasPrefix(got, was.text[:place]) || !strings.HasSuffix(got, was.text[place:]) && strings.TrimSpace(was.text[place:]) != "" {
			return fmt.Errorf("%q around the new text of %q", was.text, got)
		}
		want, got = flat(asciiHTML(strings.Join(textLines(htmlText(text)), "<br>"))), got[place:]
		if !strings.Contains(strings.ReplaceAll(flat(got), "<br> ", "<br>"), want) {
			return fmt.Errorf("%q, want %q in it", got, want)
		}
		return nil
	}
	if flat(got) != want && !strings.Contains(text, "„") { // which Latin-1 does not have
		return fmt.Errorf("%q, want %q", got, want)
	}
	if !strings.HasPrefix(got, was.text) {
		return fmt.Errorf("%q does not begin with %q", got, was.text)
	}
	return nil
}

func htmlText(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;").Replace(s)
}

// FuzzEdits: whatever the message, text can be appended and a part removed, and the message
// has the same parts as before.
func FuzzEdits(f *testing.F) {
	for _, seed := range []string{two, sample, "A: 1\n\nx", "Content-Type: text/html\nContent-Transfer-Encoding: base64\n\nPC9ib2R5Pg==",
		"Content-Type: multipart/mixed; boundary=x\n\n--x\nhello\n--x\n\n--x--", "Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: message/rfc822\n\n--x"} {
		f.Add([]byte(seed), 1)
	}
	f.Fuzz(func(t *testing.T, data []byte, at int) {
		header, body := mail.ParseHeader(data)
		shape := func(v *View) string {
			var out strings.Builder
			for _, p := range must[[]*Part](t)(v.Parts()) {
				fmt.Fprintf(&out, "%d %s, ", p.Depth, p.Type)
			}
			return out.String()
		}
		m := message(t, "A: 1\n\n")
		for _, f := range header {
			if strings.HasPrefix(strings.ToLower(f.Name), "content-") && !bytes.ContainsAny(f.Raw, "\r\n\x00") {
				m.Fields = append(m.Fields, rcptgate.Field{Name: f.Name, Value: string(f.Raw)})
			}
		}
		m.Body, m.Size = bytes.NewReader(body), int64(len(body))
		v := Open(t.Context(), m)
		before := shape(v)
		_, err := v.AppendText("bye é\n-- \n", "")
		if err = errors.Join(err, v.Apply()); err != nil {
			t.Fatal(err)
		}
		after := shape(Open(t.Context(), parse(result(t, m))))
		if after != before {
			t.Fatalf("%s, was %s:\n%q", after, before, result(t, m))
		}
		v = Open(t.Context(), m)
		parts := must[[]*Part](t)(v.Parts())
		p := parts[uint(at)%uint(len(parts))]
		if err := errors.Join(p.Remove(""), v.Apply()); err != nil {
			t.Fatal(err)
		}
		_ = result(t, m)
	})
}
