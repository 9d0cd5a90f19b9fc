// SPDX-License-Identifier: BSD-2-Clause

package wire

import (
	"bytes"
	"testing"
)

// FuzzRequest holds that whatever is taken as a request can be answered with a line that is
// no longer and has no line end within.
func FuzzRequest(f *testing.F) {
	keys := testKeys(f, twoKeys)
	signed := []byte(goldenRequest)
	for _, seed := range []string{"CHECK_QUOTA ann", "CHECK_QUOTA ann example.org\r\n", "CHECK_QUOTA %22a%20b%22 example.org size=5 x=y", string(signed)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseRequest(text)
		if err != nil {
			return
		}
		if err := CheckUser(r.User); err != nil {
			t.Fatalf("%q: %v", r.User, err)
		}
		a := Answer{State: Unknown, Used: maxNumber, Soft: maxNumber, Hard: maxNumber, Messages: maxNumber, Max: maxNumber, Age: 1 << 62, Keep: 1 << 62}
		for _, reply := range [][]byte{a.AppendPlain(nil), keys.SignReply(nil, &a, r)} {
			if len(reply) > len(text) || bytes.ContainsAny(reply, "\r\n\x00") {
				t.Fatalf("%q in reply to %q", reply, text)
			}
		}
		if r.Signed() && keys.VerifyRequest(r, noon) == nil && !bytes.Equal(bytes.TrimRight(text, "\r\n"), signed) {
			t.Fatalf("%q is believed", text)
		}
		again := Request{User: r.User, Size: r.Size}
		fields, err := again.AppendFields(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseRequest(fields); len(fields) <= MaxLine && (err != nil || got.User != r.User || got.Size != r.Size) {
			t.Fatalf("%q becomes %q: %+v, %v", text, fields, got, err)
		}
	})
}

// FuzzReply holds that no text is believed that the key's owner did not write, and that what
// is read can be written again.
func FuzzReply(f *testing.F) {
	keys := testKeys(f, twoKeys)
	ask := Request{User: "ann@example.org"}
	if _, err := ask.Sign(nil, keys, noon); err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{"QUOTA_OK", "QUOTA_FULL\r\n", "QUOTA_FULL ann used=1 soft=2 hard=3 messages=4 max=5 age=6 keep=7 id=a key=g2 mac=AAAAAAAAAAAAAAAAAAAAAA", "QUOTA_ERROR ann why=timeout"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseReply(text)
		if err != nil {
			return
		}
		if keys.VerifyReply(r, &ask) == nil {
			t.Fatalf("%q is believed", text)
		}
		if r.User == "" {
			return
		}
		if r.State == Error && r.Why == "" {
			r.Why = "error"
		}
		again, err := ParseReply(r.appendFields(nil, r.User, everything))
		if err != nil || (r.State != Error && again.Answer.numbersOnly() != r.Answer.numbersOnly()) || again.User != r.User {
			t.Fatalf("%q: %+v, %+v, %v", text, r, again, err)
		}
	})
}

func (a Answer) numbersOnly() Answer {
	a.Why = ""
	return a
}

func FuzzCGI(f *testing.F) {
	for _, seed := range []string{"OK ann 1234 209715200\n", "OVERQUOTA ann 300000000 209715200\n", "OK ann  209715200\n", "OK ann 0 0"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := ParseCGI(body, "ann")
		if err != nil {
			return
		}
		text, err := AppendCGI(nil, "ann", &a)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseCGI(text, "ann")
		if err != nil || again.Used != a.Used && a.State != Unknown {
			t.Fatalf("%q: %+v, %q: %+v, %v", body, a, text, again, err)
		}
		if octets := a.Used >= 0 && a.Hard > 0; again.State != a.State && !octets { // with numbers they decide
			t.Fatalf("%q became %q", body, text)
		}
	})
}

func FuzzJSON(f *testing.F) {
	a := Answer{State: Full, Used: 1, Soft: 2, Hard: 3, Messages: 4, Max: 0}
	f.Add(AppendJSON(nil, "ann", &a))
	f.Add([]byte(`{"user":"ann","state":"error","why":"timeout"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := ParseJSON(body, "ann")
		if err != nil {
			return
		}
		again, err := ParseJSON(AppendJSON(nil, "ann", &a), "ann")
		if err != nil || again != a {
			t.Fatalf("%q: %+v, %+v, %v", body, a, again, err)
		}
	})
}
