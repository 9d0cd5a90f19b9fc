// SPDX-License-Identifier: BSD-2-Clause

package wire

import (
	"errors"
	"strings"
	"testing"
	"time"
)

const twoKeys = "# new\ng2 000102030405060708090a0b0c0d0e0f\ng1 ffffffffffffffffffffffffffffffff\n"

func testKeys(t testing.TB, text string) *Keys {
	t.Helper()
	keys, err := ParseKeys([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

var noon = time.Unix(1_764_316_800, 0)

func TestPlainWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, user string
		size       int64
		plain      bool
	}{
		{"CHECK_QUOTA ann", "ann", 0, true},
		{"CHECK_QUOTA ann\r\n", "ann", 0, true},
		{"CHECK_QUOTA ann\n", "ann", 0, true},
		{"CHECK_QUOTA  ann  ", "ann", 0, true},
		{"CHECK_QUOTA ann example.org", "ann@example.org", 0, true},
		{"CHECK_QUOTA ann@example.org\n", "ann@example.org", 0, true},
		{"CHECK_QUOTA 100%25 example.org", "100%25@example.org", 0, true}, // words are not decoded
		{"CHECK_QUOTA ann=bob example.org", "ann=bob@example.org", 0, true},
		{"CHECK_QUOTA jürgen", "jürgen", 0, true},
		{"CHECK_QUOTA ann example.org size=5", "ann@example.org", 5, false},
		{"CHECK_QUOTA %22a%20b%22@example.org size=5 colour=blue colour=red", `"a b"@example.org`, 5, false},
	} {
		r, err := ParseRequest([]byte(c.text))
		if err != nil || r.User != c.user || r.Size != c.size || r.Plain != c.plain || r.Signed() {
			t.Errorf("%q: %+v, %v", c.text, r, err)
		}
	}
	for _, bad := range []string{
		"", "\n", "CHECK_QUOTA", "CHECK_QUOTA ", "check_quota ann", "CHECK_QUOTAS ann", "SHOW_QUOTA ann", "CHECK_QUOTA\tann",
		"CHECK_QUOTA a\x00b", "CHECK_QUOTA a\nb", "CHECK_QUOTA a\x7f", "CHECK_QUOTA \xff", "CHECK_QUOTA ann a b", "CHECK_QUOTA ann size=-1",
		"CHECK_QUOTA ann size=", "CHECK_QUOTA ann size=1e3", "CHECK_QUOTA ann size=9999999999999999999", "CHECK_QUOTA ann size=1 size=2",
		"CHECK_QUOTA %0a size=1", "CHECK_QUOTA a%zz size=1", "CHECK_QUOTA a% size=1", "CHECK_QUOTA ann =1", "CHECK_QUOTA ann mac=short",
		"CHECK_QUOTA ann mac=AAAAAAAAAAAAAAAAAAAAAA", "CHECK_QUOTA ann id=a key=b t=1 mac=AAAAAAAAAAAAAAAAAAAAAA size=1",
		"CHECK_QUOTA " + strings.Repeat("a", MaxUser+1), "CHECK_QUOTA ann pad=" + strings.Repeat(".", 64<<10),
	} {
		if r, err := ParseRequest([]byte(bad)); err == nil {
			t.Errorf("%.60q was taken as %+v", bad, r)
		}
	}
	for state, want := range map[State]string{Room: "QUOTA_OK", Full: "QUOTA_FULL", Unknown: "QUOTA_OK", Error: ""} {
		a := NewAnswer(state)
		if got := string(a.AppendPlain(nil)); got != want {
			t.Errorf("plain reply of %v: %q", state, got)
		}
	}
	r := Request{User: "ann@example.org", Size: 5}
	if text, err := r.AppendPlain(nil); string(text) != "CHECK_QUOTA ann@example.org" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if text, err := r.AppendFields(nil); string(text) != "CHECK_QUOTA ann@example.org size=5" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	for _, user := range []string{"", `"a b"@example.org`, "a\r\nb", "a\xff", strings.Repeat("a", 400)} {
		if text, err := (&Request{User: user}).AppendPlain(nil); err == nil {
			t.Errorf("%q became %q", user, text)
		}
	}
}

// A whole exchange of both directions, for names up to the longest.
func TestSignedExchange(t *testing.T) {
	t.Parallel()
	asker, agent := testKeys(t, twoKeys), testKeys(t, twoKeys)
	a := Answer{State: Full, Used: maxNumber, Soft: maxNumber, Hard: maxNumber, Messages: maxNumber, Max: maxNumber, Age: 1 << 62, Keep: 1 << 62}
	for _, user := range []string{"ann@example.org", `"a b=c%"@example.org`, "jürgen@example.org", strings.Repeat("x", MaxUser)} {
		ask := Request{User: user, Size: 48211}
		text, err := ask.Sign(nil, asker, noon)
		if err != nil || len(text) < padTo || len(text) > MaxLine {
			t.Fatalf("%s: %d octets, %v", user, len(text), err)
		}
		got, err := ParseRequest(text)
		if err != nil {
			t.Fatalf("%s: %v in %s", user, err, text)
		}
		if err = agent.VerifyRequest(got, noon.Add(ClockSkew)); err != nil || got.User != user || got.Size != 48211 || got.Plain {
			t.Errorf("%s: %+v, %v", user, got, err)
		}
		for _, state := range []State{Room, Full, Unknown, Error} {
			a := a
			if a.State = state; state == Error {
				a = Failed("timeout")
			}
			answer := agent.SignReply(nil, &a, got)
			if len(answer) == 0 || len(answer) > len(text) {
				t.Fatalf("%s: %d octets in reply to %d: %s", user, len(answer), len(text), answer)
			}
			reply, err := ParseReply(answer)
			if err != nil {
				t.Fatalf("%v in %s", err, answer)
			}
			if err = asker.VerifyReply(reply, &ask); err != nil {
				t.Errorf("%s: %v", user, err)
			}
			want := a
			want.Age, want.Keep = min(a.Age, maxSeconds*time.Second), min(a.Keep, maxSeconds*time.Second)
			if reply.Answer != want {
				t.Errorf("%s: read %+v, want %+v", user, reply.Answer, want)
			}
		}
	}
}

// A name of many octets that are percent-encoded leaves no space for padding: then numbers
// are left out, and a request that is too long is an error.
func TestLongNames(t *testing.T) {
	t.Parallel()
	keys := testKeys(t, twoKeys)
	for n, ok := range map[int]bool{200: true, 280: true, 300: true, 320: false} {
		ask := Request{User: strings.Repeat("=", n)}
		text, err := ask.Sign(nil, keys, noon)
		if (err == nil) != ok {
			t.Errorf("%d octets: %v", n, err)
		}
		if err != nil {
			continue
		}
		got, err := ParseRequest(text)
		if err != nil {
			t.Fatal(err)
		}
		a := Answer{State: Room, Used: maxNumber, Soft: maxNumber, Hard: maxNumber, Messages: maxNumber, Max: maxNumber}
		answer := keys.SignReply(nil, &a, got)
		if len(answer) == 0 || len(answer) > len(text) {
			t.Errorf("%d octets: %d in reply to %d", n, len(answer), len(text))
		}
	}
}

func TestWhatIsNotBelieved(t *testing.T) {
	t.Parallel()
	keys := testKeys(t, twoKeys)
	ask := Request{User: "ann@example.org"}
	text, err := ask.Sign(nil, keys, noon)
	if err != nil {
		t.Fatal(err)
	}
	old, other, none := testKeys(t, "g1 ffffffffffffffffffffffffffffffff"), testKeys(t, "g2 ffffffffffffffffffffffffffffffff"), (*Keys)(nil)
	replace := func(a, b string) []byte { return []byte(strings.Replace(string(text), a, b, 1)) }
	for _, c := range []struct {
		name string
		text []byte
		keys *Keys
		now  time.Time
		want error
	}{
		{"right", text, keys, noon, nil},
		{"replayed after a minute", text, keys, noon.Add(61 * time.Second), ErrClock},
		{"from the future", text, keys, noon.Add(-61 * time.Second), ErrClock},
		{"another user", replace("ann", "bob"), keys, noon, ErrBadMAC},
		{"another size", replace("size=0", "size=1"), keys, noon, ErrBadMAC},
		{"another key of that name", text, other, noon, ErrBadMAC},
		{"no key of that name", text, old, noon, ErrNoSuchKey},
		{"no keys", text, none, noon, ErrNoSuchKey},
		{"plain", []byte("CHECK_QUOTA ann"), keys, noon, ErrNotSigned},
	} {
		r, err := ParseRequest(c.text)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if err = c.keys.VerifyRequest(r, c.now); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	again := Request{User: "ann@example.org"}
	if text, err = again.Sign(nil, keys, noon); err != nil {
		t.Fatal(err)
	}
	got, err := ParseRequest(text)
	if err != nil {
		t.Fatal(err)
	}
	a := NewAnswer(Full)
	answer := string(keys.SignReply(nil, &a, got))
	for _, c := range []struct {
		name, text string
		to         *Request
		keys       *Keys
		want       error
	}{
		{"right", answer, &again, keys, nil},
		{"to an earlier question", answer, &ask, keys, ErrNotOurs},
		{"id of an earlier question", strings.Replace(answer, again.ID, ask.ID, 1), &ask, keys, ErrBadMAC},
		{"about another user", strings.Replace(answer, "ann", "bob", 1), &again, keys, ErrNotOurs},
		{"another word", strings.Replace(answer, "FULL", "OK", 1), &again, keys, ErrBadMAC},
		{"added number", strings.Replace(answer, " id=", " used=1 id=", 1), &again, keys, ErrBadMAC},
		{"another key", answer, &again, other, ErrBadMAC},
		{"unknown key", answer, &again, old, ErrNoSuchKey},
		{"plain", "QUOTA_FULL", &again, keys, ErrNotSigned},
	} {
		r, err := ParseReply([]byte(c.text))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if err = c.keys.VerifyReply(r, c.to); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if sent := none.SignReply(nil, &a, got); len(sent) > 0 {
		t.Errorf("without a key: %s", sent)
	}
}

// goldenRequest is signed with the key g2.
const goldenRequest = "CHECK_QUOTA ann size=1 id=Qk3v0a9s8dPz7fGh t=1764316800 key=g2 mac=pzg8TlN2oQF212RNGhsGag"

// The MAC is as the package comment says: other programs make it too. Computed with
// openssl dgst -sha256 -mac HMAC -macopt hexkey:000102030405060708090a0b0c0d0e0f.
func TestGoldenMAC(t *testing.T) {
	t.Parallel()
	keys := testKeys(t, twoKeys)
	r, err := ParseRequest([]byte(goldenRequest))
	if err != nil {
		t.Fatal(err)
	}
	if err = keys.VerifyRequest(r, noon); err != nil {
		t.Errorf("request: %v, want mac=%s", err, keys.first().sum(requestLabel, r.signed))
	}
	reply, err := ParseReply([]byte("QUOTA_FULL ann used=2 id=Qk3v0a9s8dPz7fGh key=g2 mac=aRW5oqucOrnTe_7ZZ7xm9w"))
	if err != nil {
		t.Fatal(err)
	}
	if err = keys.VerifyReply(reply, r); err != nil {
		t.Errorf("reply: %v, want mac=%s", err, keys.first().sum(replyLabel, r.mac, reply.signed))
	}
	if token := keys.Token(); token != "280f268fef937c939c02e334e7790b6f563af09f2d7bc801a5758638eb2d1d36" || !keys.Accepts(token) || keys.Accepts("") || keys.Accepts(token[1:]) {
		t.Errorf("token %s", token)
	}
	if (*Keys)(nil).Accepts("") || (*Keys)(nil).Token() != "" {
		t.Error("no keys accept a token")
	}
}

func TestReplies(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		"", "OK", "QUOTA_OKAY", "QUOTA_UNKNOWN", "QUOTA_ERROR", "QUOTA_OK a used=-1", "QUOTA_OK a used=x", "QUOTA_OK a b", "QUOTA_OK a used=1 used=2",
		"QUOTA_OK a age=", "QUOTA_ERROR a why=", "QUOTA_ERROR a why=two%20words", "QUOTA_OK a mac=AAAAAAAAAAAAAAAAAAAAAA id=a", "QUOTA_OK %", "QUOTA_OK a\nb",
		"QUOTA_OK " + strings.Repeat("a", 64<<10), "QUOTA_OK a id=" + strings.Repeat("a", 33),
	} {
		if r, err := ParseReply([]byte(bad)); err == nil {
			t.Errorf("%.60q was taken as %+v", bad, r)
		}
	}
	r, err := ParseReply([]byte("QUOTA_OK ann used=1 hard=0 shoe=42\r\n"))
	want := NewAnswer(Room)
	want.Used, want.Hard = 1, 0
	if err != nil || r.Answer != want || r.User != "ann" {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestKeyFile(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                               "no key",
		"# g1 00\n":                      "no key",
		"g1":                             "line 1",
		"\ng1 0011":                      "line 2",
		"g1 " + strings.Repeat("0", 33):  "line 1",
		"g1 " + strings.Repeat("x", 32):  "line 1",
		"g 1 " + strings.Repeat("0", 32): "line 1",
		"g/1 " + strings.Repeat("0", 32): "line 1",
		twoKeys + "g1 " + strings.Repeat("0", 32): `second key "g1"`,
	} {
		if _, err := ParseKeys([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := LoadKeys("/does/not/exist"); err == nil {
		t.Error("a file that does not exist")
	}
}
