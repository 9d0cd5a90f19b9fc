// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"rcptgate"
)

func readReply(r io.Reader) (Reply, error) { return (&replyReader{src: r}).next(true) }

func TestReplies(t *testing.T) {
	for _, tc := range []struct {
		in             string
		code           int
		enhanced, text string
	}{
		{"250 2.1.5 Ok\r\n", 250, "2.1.5", "Ok"},
		{"250 Ok\n", 250, "", "Ok"},
		{"250\r\n", 250, "", ""},
		{"250 \r\n", 250, "", ""},
		{"550 5.1.1\r\n", 550, "5.1.1", ""},
		{"550 5.1.1 no\r\n", 550, "5.1.1", "no"},
		{"550-5.1.1 no such\r\n550 5.1.1 user\r\n", 550, "5.1.1", "no such\nuser"},
		{"550-no such\r\n550 5.1.1 user\r\n", 550, "5.1.1", "no such\nuser"},
		{"550-5.1.1 no\r\n550 5.7.1 user\r\n", 550, "5.1.1", "no\n5.7.1 user"},
		{"550-\r\n550 user\r\n", 550, "", "\nuser"},
		{"550 #5.1.1 no\r\n", 550, "", "#5.1.1 no"},
		{"550 4.1.1 no\r\n", 550, "", "4.1.1 no"}, // not the reply's class
		{"550 5.1.1no\r\n", 550, "", "5.1.1no"},
		{"550 5.1234.1 no\r\n", 550, "", "5.1234.1 no"},
		{"550 5.7.606 no\r\n", 550, "5.7.606", "no"},
		{"550 a\tb\x1b[1mc\x00\r\n", 550, "", "a b [1mc "},
		{"550 a\rb\r\n", 550, "", "a b"},
		{"550 caf\xe9\r\n", 550, "", "caf?"},
		{"550 " + strings.Repeat("x", 2000) + "\r\n", 550, "", strings.Repeat("x", 480)},
	} {
		for name, r := range map[string]io.Reader{
			"at once":        strings.NewReader(tc.in),
			"octet by octet": iotest.OneByteReader(strings.NewReader(tc.in)),
		} {
			got, err := readReply(r)
			if err != nil || got.Code != tc.code || got.Enhanced != tc.enhanced || got.Text != tc.text {
				t.Errorf("%q %s: %+v, %v", tc.in, name, got, err)
			}
		}
	}
}

func TestGarbageIsNoReply(t *testing.T) {
	for _, in := range []string{
		"\r\n", "25\r\n", "abc\r\n", "2x0 a\r\n", "150 wait\r\n", "650 a\r\n", "000 a\r\n", "2500 a\r\n", "250:a\r\n", " 250 a\r\n",
		"250-a\r\n550 b\r\n", "250-a\r\nb\r\n", "HTTP/1.1 400 Bad Request\r\n", "+OK ready\r\n", "-ERR\r\n", "* OK IMAP\r\n",
		strings.Repeat("250-x\r\n", 101) + "250 x\r\n", "250 " + strings.Repeat("x", 2045) + "\r\n",
	} {
		if got, err := readReply(strings.NewReader(in)); !errors.Is(err, errGarbage) {
			t.Errorf("%.40q: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "250 a", "250-a\r\n", "2"} {
		if got, err := readReply(strings.NewReader(in)); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
}

func TestLinesAtTheLimit(t *testing.T) {
	line := "250 " + strings.Repeat("x", replyLineMax-6) + "\r\n"
	if _, err := readReply(strings.NewReader(line)); err != nil {
		t.Errorf("a line of %d octets: %v", len(line), err)
	}
	if _, err := readReply(strings.NewReader(strings.Repeat("250-x\r\n", 99) + "250 x\r\n")); err != nil {
		t.Errorf("100 lines: %v", err)
	}
}

func TestRepliesFollowEachOther(t *testing.T) {
	r := &replyReader{src: strings.NewReader("250 2.0.0 a\r\n250-b\r\n250 c\r\n550 5.1.1 d\r\n")}
	for i, code := range []int{250, 250, 550} {
		rep, err := r.next(false)
		if err != nil || rep.Code != code {
			t.Fatalf("reply %d: %+v, %v", i, rep, err)
		}
		if r.pending() != (i < 2) {
			t.Errorf("pending after reply %d: %v", i, r.pending())
		}
	}
}

func FuzzReply(f *testing.F) {
	for _, s := range []string{
		"250 2.1.5 Ok\r\n", "550-5.1.1 a\r\n550 5.1.1 b\r\n", "250\n", "250-a\r\n550 b\r\n", "421 4.3.2 x\r\n250 y\r\n", "550 5.1.1\x00\xff\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := &replyReader{src: bytes.NewReader(data)}
		slow := &replyReader{src: iotest.OneByteReader(bytes.NewReader(data))}
		for {
			rep, err := r.next(true)
			again, slowErr := slow.next(true)
			if rep != again || (err == nil) != (slowErr == nil) {
				t.Fatalf("pieces matter: %+v, %v; octet by octet %+v, %v", rep, err, again, slowErr)
			}
			if err != nil {
				return
			}
			if rep.Code < 200 || rep.Code > 599 {
				t.Fatalf("code %d", rep.Code)
			}
			if rep.Enhanced != "" && int(rep.Enhanced[0]-'0') != rep.Code/100 {
				t.Fatalf("enhanced code %q of %d", rep.Enhanced, rep.Code)
			}
			if rep.Text != rcptgate.CleanText(rep.Text) || !utf8.ValidString(rep.Text) || strings.ContainsAny(rep.Text, "\r\x00") {
				t.Fatalf("text %q is not clean", rep.Text)
			}
		}
	})
}
