// SPDX-License-Identifier: BSD-2-Clause

package source

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcptgate/check/quota/room"
	"rcptgate/check/quota/wire"
	"rcptgate/kit/notice"
)

func TestParseSpec(t *testing.T) {
	for _, text := range []string{
		"udp:10.0.0.5:8049", "udp:[2001:db8::1]:8049", "tcp:store.example:8049", "tcp:{mailhost}:8049", "udp:{backend}:8049",
		"http://10.0.0.5/cgi-bin/quota.cgi?u={user}", "https://10.0.0.5:8048/v1/quota", "http://{mailhost}:8048", "policy:10.0.0.7:12340", "policy:unix:/run/quota",
		"socketmap:127.0.0.1:2004:quota", "socketmap:unix:/run/smmapd:quota", "doveadm:https://{backend}:8080", "file:/var/lib/quota",
	} {
		s, err := ParseSpec(text)
		if err != nil || s.String() != text {
			t.Errorf("%s: %v, %v", text, s, err)
		}
	}
	for text, word := range map[string]string{
		"": "udp:HOST:PORT", "nonsense:x": "doveadm:https://HOST:PORT", "udp:10.0.0.5": "HOST:PORT", "udp:10.0.0.5:0": "port", "udp::8049": "host", "policy:unix:run": "absolute",
		"socketmap:127.0.0.1:2004:": "map", "doveadm:10.0.0.5:8080": "URL", "file:relative": "absolute", "http://user:pw@host/": "URL", "tcp:a b:1": "host",
	} {
		if _, err := ParseSpec(text); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestAt(t *testing.T) {
	m := Mailbox{Backend: "10.0.0.5", Host: "2001:db8::1"}
	for text, want := range map[string]string{
		"udp:{backend}:8049": "udp:10.0.0.5:8049", "tcp:{mailhost}:8049": "tcp:[2001:db8::1]:8049", "http://{mailhost}/x?u={user}": "http://[2001:db8::1]/x?u={user}", "udp:h:1": "udp:h:1",
	} {
		s, err := ParseSpec(text)
		if got := s.At(&m); err != nil || got != want {
			t.Errorf("%s: %q, %v", text, got, err)
		}
		if got := s.At(&Mailbox{}); strings.Contains(text, "{mailhost}") && got != "" {
			t.Errorf("%s: %q without a host", text, got)
		}
	}
}

// said is an answer in words.
func said(a room.Answer, err error) string {
	if err != nil {
		return "error"
	}
	return fmt.Sprintf("%v %d %d %d %d %v", a.State, a.Used, a.Hard, a.Count, a.MaxCount, a.TooLarge)
}

// TestDoveadm has replies as Dovecot 2.3 gives them.
func TestDoveadm(t *testing.T) {
	rows := func(rows ...string) string { return `[["doveadmResponse",[` + strings.Join(rows, ",") + `],"q"]]` }
	row := func(root, kind, value, limit string) string {
		return fmt.Sprintf(`{"root":%q,"type":%q,"value":%q,"limit":%q,"percent":"1"}`, root, kind, value, limit)
	}
	for name, c := range map[string]struct{ reply, want string }{
		"room":                 {rows(row("User quota", "STORAGE", "5574", "10240"), row("User quota", "MESSAGE", "16", "-")), "room 5707776 10485760 16 0 false"},
		"full":                 {rows(row("User quota", "STORAGE", "10240", "10240")), "full 10485760 10485760 -1 -1 false"},
		"no limit":             {rows(row("User quota", "STORAGE", "10240", "-")), "room 10485760 0 -1 -1 false"},
		"too many messages":    {rows(row("User quota", "STORAGE", "1", "10240"), row("User quota", "MESSAGE", "16", "16")), "full 1024 10485760 16 16 false"},
		"another root is full": {rows(row("User quota", "STORAGE", "1", "10240"), row("Archive", "STORAGE", "99", "10")), "room 1024 10485760 -1 -1 false"},
		"no root":              {rows(), "room 0 0 -1 -1 false"},
		"no user":              {`[["error",{"type":"exitCode","exitCode":67},"q"]]`, "unknown -1 -1 -1 -1 false"},
		"no quota":             {`[["error",{"type":"exitCode","exitCode":68},"q"]]`, "room 0 0 -1 -1 false"},
		"temporary":            {`[["error",{"type":"exitCode","exitCode":75},"q"]]`, "error"},
		"no such method":       {`[["error",{"type":"unknownMethod"},"q"]]`, "error"},
		"not a number":         {rows(row("User quota", "STORAGE", "error", "error")), "error"},
		"garbage":              {"<html>", "error"}, "empty": {"", "error"}, "list": {"[]", "error"}, "null": {"[[null,null,null]]", "error"},
	} {
		if got := said(readDoveadm([]byte(c.reply), 1000, "")); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	two := rows(row("Archive", "STORAGE", "99", "10"), row("User quota", "STORAGE", "1", "10240"), row("Archive", "MESSAGE", "5", "5"))
	for root, want := range map[string]string{"": "full 101376 10240 5 5 false", "User quota": "room 1024 10485760 -1 -1 false", "No such root": "error"} {
		if got := said(readDoveadm([]byte(two), 1000, root)); got != want {
			t.Errorf("root %q: %q, want %q", root, got, want)
		}
	}
}

// TestDoveadmAsks: the request is Dovecot's, with a password or with an API key.
func TestDoveadmAsks(t *testing.T) {
	var asked string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = fmt.Sprintf("%s %s %s %s %s", r.Method, r.URL, r.Header.Get("Content-Type"), r.Header.Get("Authorization"), body)
		_, _ = io.WriteString(w, `[["error",{"type":"exitCode","exitCode":67},"q"]]`)
	}))
	t.Cleanup(server.Close)
	const body = ` [["quotaGet",{"user":"ann@example.org"},"q"]]`
	for key, want := range map[string]string{
		"doveadm:secret": "POST /doveadm/v1 application/json Basic ZG92ZWFkbTpzZWNyZXQ=" + body, // base64 of the two
		"key":            "POST /doveadm/v1 application/json X-Dovecot-API a2V5" + body,
		"":               "POST /doveadm/v1 application/json " + body,
	} {
		s := newSet(t)
		s.Configure(Settings{Doveadm: key})
		if got := ask(t, s, "doveadm:"+server.URL, "ann@example.org", 1); !strings.HasPrefix(got, "unknown") || asked != want {
			t.Errorf("key %q: %s, asked %q, want %q", key, got, asked, want)
		}
	}
}

func TestSocketmapReplies(t *testing.T) {
	for reply, want := range map[string]string{
		"OK ann": "room", "NOTFOUND Mailbox does not exist": "unknown", "TEMP Over quota": "full", "PERM Over quota": "full", "PERM no access": "unknown",
		"TEMP try later": "error", "OK ": "error", "OK": "error", "": "error", "TIMEOUT x": "error", "OVERQUOTA": "error", "ok ann": "error",
	} {
		a, err := readSocketmap(reply)
		if got := said(a, err); !strings.HasPrefix(got, want) {
			t.Errorf("%q: %q, want %q", reply, got, want)
		}
	}
	for text, want := range map[string]string{"6:OK ann,": "OK ann", "0:,": "", "6:OK ann": "error", "6:OK ann;": "error", "x": "error", ":,": "error", "99999999:x": "error", "": "error"} {
		got, err := readNetstring(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func newSet(t *testing.T) *Set {
	s := NewSet(notice.New(nil))
	t.Cleanup(s.Close)
	return s
}

func ask(t *testing.T, s *Set, at, user string, size int64) string {
	t.Helper()
	g, err := s.Get(at)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return said(g.ask(ctx, Mailbox{User: user}, size))
}

// TestHTTP: the CGI of old and the agent's API, and servers that turn hostile.
func TestHTTP(t *testing.T) {
	keys, err := wire.ParseKeys([]byte("g1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"))
	if err != nil {
		t.Fatal(err)
	}
	var body, query, token string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query, token = r.URL.String(), r.Header.Get("Authorization")
		switch body {
		case "redirect":
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		case "503":
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			_, _ = io.WriteString(w, body)
		}
	}))
	t.Cleanup(server.Close)
	s := newSet(t)
	s.Configure(Settings{Keys: keys, Timeout: time.Second})
	cgi, api := server.URL+"/cgi-bin/quota.cgi?u={user}", server.URL
	for _, c := range []struct {
		at, body string
		size     int64
		want     string
	}{
		{cgi, "OK ann 1234 209715200\n", 1, "room 1234 209715200"},
		{cgi, "OK ann 1234 209715200\n", 209715200, "full 1234 209715200"},
		{cgi, "OVERQUOTA ann 300000000 209715200\n", 1, "full 300000000 209715200"},
		{cgi, "OK ann 209715200 209715200\n", 1, "full 209715200 209715200"}, // the CGI compares otherwise
		{cgi, "OK ann 0 0\n", 1, "unknown"},
		{cgi, "OK bob 1234 209715200\n", 1, "error"},
		{cgi, "OVERQUOTA\n", 1, "error"},
		{cgi, "", 1, "error"},
		{cgi, "<html>OVERQUOTA ann 2 1", 1, "error"},
		{cgi, strings.Repeat("x", 1<<20), 1, "error"},
		{cgi, "redirect", 1, "error"},
		{cgi, "503", 1, "error"},
		{api, `{"user":"ann","state":"ok","used":1,"hard":100,"messages":7,"max":0}`, 1, "room 1 100 7 0"},
		{api, `{"user":"ann","state":"full","used":100,"hard":100}`, 1, "full 100 100"},
		{api, `{"user":"bob","state":"full","used":100,"hard":100}`, 1, "error"},
		{api, `{"user":"ann","state":"error","why":"timeout"}`, 1, "error"},
		{api, `{"user":"ann","state":"unknown"}`, 1, "unknown"},
		{api, "not found", 1, "error"},
	} {
		body = c.body
		if got := ask(t, s, c.at, "ann", c.size); !strings.HasPrefix(got, c.want) {
			t.Errorf("%.40q: %q, want %q", c.body, got, c.want)
		}
	}
	if query != "/v1/quota?size=1&user=ann" || token != "Bearer "+keys.Token() {
		t.Errorf("%s, %s", query, token)
	}
	ask(t, s, cgi, "a&u=b c\r\n%0a", 1)
	if query != "/cgi-bin/quota.cgi?u=a%26u%3Db+c%0D%0A%250a" || token != "" {
		t.Errorf("%s, %s: no token belongs into a CGI's request", query, token)
	}
}

// TestTCP: one line each way, and peers that say something else.
func TestTCP(t *testing.T) {
	for reply, want := range map[string]string{
		"QUOTA_OK\n": "room", "QUOTA_FULL\n": "full", "QUOTA_FULL": "error", "": "error", "nonsense\n": "error", strings.Repeat("x", 64<<10) + "\n": "error",
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(conn).ReadString('\n')
			if line != "CHECK_QUOTA ann\n" {
				reply = "not asked\n"
			}
			_, _ = io.WriteString(conn, reply)
			conn.Close()
		}()
		if got := ask(t, newSet(t), "tcp:"+l.Addr().String(), "ann", 1); !strings.HasPrefix(got, want) {
			t.Errorf("%.20q: %q", reply, got)
		}
		l.Close()
	}
}

// TestPolicy: a policy service is asked in Dovecot's words, and tells full from too large for ever.
func TestPolicy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const question = "request=smtpd_access_policy\nprotocol_state=RCPT\nrecipient=ann\nsize=%s\n\n"
	replies := map[string]string{fmt.Sprintf(question, "1"): "DUNNO", fmt.Sprintf(question, "1000"): "452 4.2.2 full", fmt.Sprintf(question, "9000"): "552 5.2.3 too large"}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buf := make([]byte, 1000)
				for {
					n, err := conn.Read(buf)
					if err != nil {
						return
					}
					_, _ = io.WriteString(conn, "action="+replies[string(buf[:n])]+"\n\n")
				}
			}()
		}
	}()
	s := newSet(t)
	for size, want := range map[int64]string{1: "room -1 -1 -1 -1 false", 1000: "full -1 -1 -1 -1 false", 9000: "full -1 -1 -1 -1 true"} {
		if got := ask(t, s, "policy:"+l.Addr().String(), "ann", size); got != want {
			t.Errorf("%d octets: %s, want %s", size, got, want)
		}
	}
}

func TestSocketmapAsks(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 100)
			if n, _ := conn.Read(buf); string(buf[:n]) == "9:quota ann," {
				_, _ = io.WriteString(conn, "15:TEMP Over quota,")
			}
			conn.Close()
		}
	}()
	s := newSet(t)
	at := "socketmap:" + l.Addr().String() + ":quota"
	if got := ask(t, s, at, "ann", 1); !strings.HasPrefix(got, "full") {
		t.Error(got)
	}
	if got := ask(t, s, at, strings.Repeat("a", 1000), 1); !strings.HasPrefix(got, "unknown") { // smmapd's buffer
		t.Error(got)
	}
	if got := ask(t, s, at, "bob", 1); got != "error" {
		t.Error(got)
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quota")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	s := newSet(t)
	at := "file:" + path
	if got := ask(t, s, at, "ann", 1); got != "error" {
		t.Error(got)
	}
	write("# user used hard\nann 100 1000 900\nbob 5 5\n")
	for user, want := range map[string]string{"ann": "room 100 1000", "bob": "full 5 5", "carl": "unknown"} {
		if got := ask(t, s, at, user, 1); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q", user, got)
		}
	}
	for _, bad := range []string{"ann\n", "ann x 1\n", "ann -1 1\n", "a b c d e\n"} {
		if _, err := readFile(strings.NewReader(bad)); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzReplies(f *testing.F) {
	for _, s := range []string{`[["doveadmResponse",[{"root":"User quota","type":"STORAGE","value":"5574","limit":"10240"}],"q"]]`, "OK ann 1 2", "9:OK ann,", `{"user":"ann","state":"ok"}`, "TEMP Over quota"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, read := range []func() (room.Answer, error){
			func() (room.Answer, error) { return readDoveadm(data, 1, "") },
			func() (room.Answer, error) { return readCGI(data, "ann", 1) },
			func() (room.Answer, error) { return readSocketmap(string(data)) },
		} {
			if a, err := read(); err == nil {
				var e room.Entry
				e.Learn(a, 1, 100, 1, &room.Rules{Soft: 0.9, Keep: time.Hour, FullKeep: time.Minute})
				e.Serve(101, 1)
			}
		}
		_, _ = readNetstring(bufio.NewReader(strings.NewReader(string(data))))
		_, _ = readFile(strings.NewReader(string(data)))
	})
}
