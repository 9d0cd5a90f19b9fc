// SPDX-License-Identifier: BSD-2-Clause

package wire

import (
	"strings"
	"testing"
	"time"
)

func TestCGI(t *testing.T) {
	t.Parallel()
	n := NotKnown
	for _, c := range []struct {
		a    Answer
		want string
	}{
		{Answer{State: Room, Used: 1234, Hard: 209715200}, "OK ann 1234 209715200\n"},
		{Answer{State: Full, Used: 300000000, Hard: 209715200}, "OVERQUOTA ann 300000000 209715200\n"},
		{Answer{State: Room, Used: 300000000, Hard: 209715200}, "OVERQUOTA ann 300000000 209715200\n"},
		{Answer{State: Full, Used: 209715200, Hard: 209715200}, "OK ann 209715200 209715200\n"}, // size > quota, as the CGI has it
		{Answer{State: Room, Used: 5, Hard: 0}, "OK ann 5 0\n"},
		{Answer{State: Room, Used: int64(n), Hard: 209715200}, "OK ann  209715200\n"},
		{Answer{State: Full, Used: int64(n), Hard: int64(n)}, "OVERQUOTA ann  \n"},
		{NewAnswer(Unknown), "OK ann 0 0\n"},
		{Answer{State: Full, Used: 5, Hard: 0}, "OVERQUOTA ann 5 0\n"},
		{Answer{State: Full, Used: 0, Hard: 0}, "OVERQUOTA ann 0 0\n"}, // not that of a mailbox that is not known
		{Answer{State: Full, Used: 5, Hard: 9, Messages: 7, Max: 7}, "OVERQUOTA ann 5 9\n"},
		{Answer{State: Full, Used: 9, Hard: 9, Messages: 6, Max: 7}, "OK ann 9 9\n"},
		{Answer{State: Room, Used: 5, Hard: 9, Messages: 7, Max: 7}, "OK ann 5 9\n"},
	} {
		got, err := AppendCGI(nil, "ann", &c.a)
		if err != nil || string(got) != c.want {
			t.Errorf("%+v: %q, %v; want %q", c.a, got, err, c.want)
		}
	}
	a := Failed("timeout")
	if got, err := AppendCGI(nil, "ann", &a); err == nil {
		t.Errorf("an error became %q", got)
	}
	a = NewAnswer(Room)
	for _, user := range []string{"", "a b", "a\nb"} {
		if got, err := AppendCGI(nil, user, &a); err == nil {
			t.Errorf("%q became %q", user, got)
		}
	}
}

func TestParseCGI(t *testing.T) {
	t.Parallel()
	answer := func(state State, used, hard int64) Answer {
		a := NewAnswer(state)
		a.Used, a.Hard = used, hard
		return a
	}
	for body, want := range map[string]Answer{
		"OK ann 1234 209715200\n":                      answer(Room, 1234, 209715200),
		"OK ann 1234 209715200":                        answer(Room, 1234, 209715200),
		"OK ann 1234 209715200\r\n":                    answer(Room, 1234, 209715200),
		"OVERQUOTA ann 300000000 209715200\nmore text": answer(Full, 300000000, 209715200),
		"OK ann  209715200\n":                          answer(Room, NotKnown, 209715200), // the CGI's for a file that is absent
		"OVERQUOTA ann\n":                              answer(Full, NotKnown, NotKnown),
		"OK ann 12\n":                                  answer(Room, 12, NotKnown),
		"OK ann 0 0\n":                                 NewAnswer(Unknown),
		"OK ann 0 209715200\n":                         answer(Room, 0, 209715200),
	} {
		if got, err := ParseCGI([]byte(body), "ann"); err != nil || got != want {
			t.Errorf("%q: %+v, %v", body, got, err)
		}
	}
	for _, bad := range []string{
		"", "\n", "OKAY ann 1 2", "ok ann 1 2", " OK ann 1 2", "OVERQUOTA@x ann 1 2", "OVERQUOTA bob 1 2", "OK ann -1 2", "OK ann 1 2 3", "OK ann 1.5 2", "OK",
		"<html>OK ann 1 2", "OK annabel 1 2", "OK ANN 1 2", "OK ann 99999999999999999999 1", "OK ann\t1 2", "OK ann 1 2\x00", strings.Repeat("OK ann ", 10_000),
	} {
		if got, err := ParseCGI([]byte(bad), "ann"); err == nil {
			t.Errorf("%.40q was taken as %+v", bad, got)
		}
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	a := Answer{State: Full, Used: 209700000, Soft: 188743680, Hard: 209715200, Messages: 812, Max: 0, Age: 3 * time.Second, Keep: 30 * time.Second}
	const want = `{"user":"ann","state":"full","used":209700000,"soft":188743680,"hard":209715200,"messages":812,"max":0,"age_s":3,"keep_s":30}` + "\n"
	if got := string(AppendJSON(nil, "ann", &a)); got != want {
		t.Errorf("%s", got)
	}
	if got, err := ParseJSON([]byte(want), "ann"); err != nil || got != a {
		t.Errorf("%+v, %v", got, err)
	}
	a = Failed("timeout")
	if got, err := ParseJSON(AppendJSON(nil, "ann", &a), "ann"); err != nil || got != a {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{
		"", "null", "[]", `{}`, `{"user":"ann"}`, `{"user":"ann","state":"great"}`, `{"user":"bob","state":"ok"}`, `{"user":"ann","state":"none"}`,
		`{"user":"ann","state":"ok","used":-1}`, `{"user":"ann","state":"ok","used":"1"}`, `{"user":"ann","state":"ok","used":1e30}`, `{"user":"ann","state":"ok","keep_s":-1}`,
		`{"user":"ann","state":"ok"} {"user":"ann","state":"full"}`, `{"user":"ann","state":"ok","x":"` + strings.Repeat("x", MaxJSON) + `"}`,
	} {
		if got, err := ParseJSON([]byte(bad), "ann"); err == nil {
			t.Errorf("%.60q was taken as %+v", bad, got)
		}
	}
}
