// SPDX-License-Identifier: BSD-2-Clause

package table

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestParseSpec(t *testing.T) {
	for _, tc := range []struct{ in, path string }{
		{"hash:/etc/mail/aliases", "/etc/mail/aliases.db"},
		{"hash:/etc/mail/aliases.db", "/etc/mail/aliases.db"},
		{"btree:/etc/mail/virtusertable", "/etc/mail/virtusertable.db"},
		{"cdb:/etc/postfix/virtual", "/etc/postfix/virtual.cdb"},
		{"cdb:/etc/postfix/virtual.cdb", "/etc/postfix/virtual.cdb"},
		{"lmdb:/etc/aliases", "/etc/aliases.lmdb"},
		{"lmdb:/etc/aliases.lmdb", "/etc/aliases.lmdb"},
		{"text:/etc/aliases", "/etc/aliases"},
		{"texthash:/etc/postfix/relay_recipients", "/etc/postfix/relay_recipients"},
		{"hash:C:odd name", "C:odd name.db"},
	} {
		spec, err := ParseSpec(tc.in)
		if err != nil || spec.Path() != tc.path || spec.String() != tc.in {
			t.Errorf("%q: %q, %q, %v", tc.in, spec.Path(), spec, err)
		}
		var again Spec
		if err := again.UnmarshalText([]byte(tc.in)); err != nil || again != spec {
			t.Errorf("%q read again: %+v, %v", tc.in, again, err)
		}
	}
}

func TestParseSpecProxied(t *testing.T) {
	spec, err := ParseSpec("proxy:hash:/etc/postfix/virtual")
	if want := (Spec{Type: Hash, Name: "/etc/postfix/virtual"}); err != nil || spec != want || spec.Path() != "/etc/postfix/virtual.db" {
		t.Errorf("%+v, %v", spec, err)
	}
}

func TestParseSpecErrors(t *testing.T) {
	for _, tc := range []struct{ in, says string }{
		{"/etc/aliases", "has no type: write TYPE:FILE"},
		{"", "has no type"},
		{"dbm:/etc/aliases", `unknown type "dbm"; types are hash, btree, cdb, lmdb, text, texthash`},
		{"Hash:/etc/aliases", "unknown type"},
		{"memcached:10.0.0.1:11211", "only [aliases] files"},
		{"proxy:memcached:", "only [aliases] files"},
		{"proxy:/etc/aliases", "has no type"},
		{"proxy:mysql:/etc/postfix/mysql.cf", `unknown type "mysql"`},
		{"proxy:hash:", "the file name is missing"},
		{"hash:", "the file name is missing"},
		{"hash:/etc/mail/", "directory"},
		{"hash:/etc/a\nb", "control character U+000A"},
	} {
		if spec, err := ParseSpec(tc.in); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%q: %+v, %v; want an error with %q", tc.in, spec, err, tc.says)
		}
	}
}

func TestFormatError(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{Damaged("cdb", 2048, "record of %d octets: %w", 7, io.ErrUnexpectedEOF), "cdb: record of 7 octets: unexpected EOF, at offset 2048"},
		{Damaged("lmdb", -1, "no such file"), "lmdb: no such file"},
		{DamagedLine("text", 3, "missing colon"), "text: line 3: missing colon"},
	} {
		var damage *FormatError
		if tc.err.Error() != tc.want || !errors.As(tc.err, &damage) {
			t.Errorf("%q, want %q", tc.err, tc.want)
		}
	}
	if err := Damaged("cdb", 0, "short: %w", io.EOF); !errors.Is(err, io.EOF) {
		t.Error("the cause is lost")
	}
}
