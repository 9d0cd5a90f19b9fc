// SPDX-License-Identifier: BSD-2-Clause

package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
)

func everything(maxLen uint32, skip string) *Limits {
	var l Limits
	for i := range l {
		l[i] = Limit{Max: maxLen, Skip: strings.IndexByte(skip, byte(i)) >= 0}
	}
	return &l
}

// readAll gives the frames of a stream, and what ended it.
func readAll(src io.Reader, limits *Limits) (frames []string, err error) {
	r := NewReader(src, limits)
	for {
		cmd, data, ok, err := r.Next()
		if err != nil {
			return frames, err
		}
		if ok {
			frames = append(frames, string(cmd)+string(data))
			continue
		}
		if err := r.Fill(); err != nil {
			if errors.Is(err, io.EOF) && r.Partial() {
				err = io.ErrUnexpectedEOF
			}
			return frames, err
		}
	}
}

func TestReader(t *testing.T) {
	big := strings.Repeat("x", 10000)
	stream := AppendFrame(nil, 'A')
	stream = AppendFrame(stream, 'R', []byte(big)...)
	stream = AppendFrame(stream, 'B', []byte(big)...)
	stream = AppendFrame(stream, 'B')
	stream = AppendFrame(stream, 'E', []byte("end")...)
	want := []string{"A", "R" + big, "B", "B", "Eend"}
	for name, src := range map[string]io.Reader{
		"at once":  bytes.NewReader(stream),
		"dripping": iotest.OneByteReader(bytes.NewReader(stream)),
		"halves":   iotest.HalfReader(bytes.NewReader(stream)),
		"data+EOF": iotest.DataErrReader(bytes.NewReader(stream)),
	} {
		got, err := readAll(src, everything(FrameMax, "B"))
		if !errors.Is(err, io.EOF) || strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("%s: %d frames, %v", name, len(got), err)
		}
	}
	if _, err := readAll(bytes.NewReader(stream[:7]), everything(FrameMax, "")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("end within a frame: %v", err)
	}
}

func TestReaderRefuses(t *testing.T) {
	limits := everything(100, "B")
	limits['!'] = Limit{}
	for name, stream := range map[string][]byte{
		"length 0":        {0, 0, 0, 0},
		"length 0, later": append(AppendFrame(nil, 'A'), 0, 0, 0, 0, 'R'),
		"too long":        {0, 0, 0, 101, 'R'},
		"too long, skip":  {0, 0, 0, 101, 'B'},
		"4 GiB":           {0xff, 0xff, 0xff, 0xff, 'R'},
		"not expected":    {0, 0, 0, 1, '!'},
	} {
		if _, err := readAll(bytes.NewReader(stream), limits); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The memory follows what has arrived, and goes back when a large frame is done.
func TestReaderMemory(t *testing.T) {
	promise := append(binary.BigEndian.AppendUint32(nil, FrameMax), 'R', 'x', 'y')
	r := NewReader(bytes.NewReader(promise), everything(FrameMax, ""))
	if cap(r.buf) != 0 {
		t.Error("memory before the first octet")
	}
	for range 2 {
		_, _, _, _ = r.Next()
		_ = r.Fill()
	}
	if cap(r.buf) != ReadBuffer {
		t.Errorf("%d octets for a promise", cap(r.buf))
	}
	stream := AppendFrame(AppendFrame(nil, 'R', make([]byte, 60000)...), 'A')
	r = NewReader(bytes.NewReader(stream), everything(FrameMax, ""))
	frames := 0
	for {
		_, _, ok, _ := r.Next()
		if ok {
			frames++
		} else if r.Fill() != nil {
			break
		}
	}
	if frames != 2 || cap(r.buf) != ReadBuffer {
		t.Errorf("%d octets kept after %d frames", cap(r.buf), frames)
	}
}

func TestAppendReply(t *testing.T) {
	for _, tc := range []struct {
		name     string
		code     int
		enhanced string
		text     string
		utf8     bool
		want     string
	}{
		{"plain", 550, "5.1.1", "No such user", false, "550 5.1.1 No such user"},
		{"lines", 550, "5.1.1", "a\nb\nc", false, "550-5.1.1 a\r\n550-5.1.1 b\r\n550 5.1.1 c"},
		{"no enhanced code", 550, "", "gone", false, "550 gone"},
		{"enhanced code of another class", 451, "5.1.1", "later", false, "451 4.1.1 later"},
		{"no enhanced code at all", 550, "5.1.1\r\n250 ok", "x", false, "550 x"},
		{"percent", 452, "4.2.2", "100% full %s %%", false, "452 4.2.2 100%% full %%s %%%%"},
		{"control characters", 550, "5.1.1", "a\x00b\rc\x1bd\x7f\te", false, "550 5.1.1 a b c d  e"},
		{"CR at a line's end", 550, "5.1.1", "a\r\nb\r", false, "550-5.1.1 a\r\n550 5.1.1 b"},
		{"empty", 550, "5.1.1", " \n", false, "550 5.1.1 Recipient refused"},
		{"empty, 4xx", 451, "", "", false, "451 Recipient temporarily refused"},
		{"digit first", 550, "", "4321 is not here", false, "550 5.0.0 4321 is not here"},
		{"enhanced code in the text", 550, "", "5.7.1 not you", false, "550 5.7.1 not you"},
		{"not ASCII", 550, "5.1.1", "Größe\u2028\xff", false, "550 5.1.1 Gr??e??"},
		{"SMTPUTF8", 550, "5.1.1", "Größe\u2028\xff\u0085", true, "550 5.1.1 Größe???"},
	} {
		frame := AppendReply([]byte("before"), tc.code, tc.enhanced, tc.text, tc.utf8)
		got := string(frame[len("before")+headerLen:])
		if got != tc.want+"\x00" {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
		if _, err := ParseReply([]byte(got)); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestReplyBounds(t *testing.T) {
	for name, text := range map[string]string{
		"a long line": strings.Repeat("x", 5000),
		"percents":    strings.Repeat("%", 5000),
		"characters":  strings.Repeat("ß", 5000),
		"many lines":  strings.Repeat(strings.Repeat("y", 900)+"\n", 100),
		"short lines": strings.Repeat("z\n", 100),
	} {
		frame := AppendReply(nil, 550, "5.1.1", text, true)
		if len(frame) > ReplyMax+headerLen+1 {
			t.Errorf("%s: %d octets", name, len(frame))
		}
		if _, err := ParseReply(frame[headerLen:]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n := strings.Count(string(frame), "\r\n") + 1; n > ReplyLinesMax {
			t.Errorf("%s: %d lines", name, n)
		}
	}
}

func TestParseReplyRefuses(t *testing.T) {
	for _, bad := range []string{
		"", "550", "250 ok", "55x no", "550_no", "550 4.1.1 class", "550 100% ", "550 a\x00b", "550-a\r\n551 b", "550 a\r\n550 b", "550 a\nb",
		"550 " + strings.Repeat("x", 1000),
	} {
		if r, err := ParseReply([]byte(bad + "\x00")); !errors.Is(err, ErrFrame) {
			t.Errorf("%q was taken: %+v, %v", bad, r, err)
		}
	}
	if _, err := ParseReply([]byte("550 no NUL")); !errors.Is(err, ErrFrame) {
		t.Error("a reply without NUL was taken")
	}
}

func TestParseAddr(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "[192.0.2.7]": "192.0.2.7", "2001:db8::7": "2001:db8::7", "IPv6:2001:db8::7": "2001:db8::7",
		"[ipv6:2001:db8::7]": "2001:db8::7", "::ffff:192.0.2.7": "192.0.2.7", "fe80::1%eth0": "fe80::1",
	} {
		if got := ParseAddr(in); got != netip.MustParseAddr(want) {
			t.Errorf("%q: %v", in, got)
		}
	}
	for _, in := range []string{"", "unknown", "IPv6:", "1.2.3", "localhost"} {
		if got := ParseAddr(in); got.IsValid() {
			t.Errorf("%q: %v", in, got)
		}
	}
}

func TestOptionsThereAndBack(t *testing.T) {
	want := Options{Version: 6, Actions: 0x1ff, Protocol: ProtocolAll, Macros: []MacroList{{MacrosRcpt, "i {rcpt_addr}"}, {MacrosMail, "i"}}}
	frame := AppendOptions(nil, want)
	got, err := ParseOptions(frame[headerLen:])
	if err != nil || got.Version != want.Version || got.Actions != want.Actions || got.Protocol != want.Protocol ||
		len(got.Macros) != 2 || got.Macros[0] != want.Macros[0] || got.Macros[1] != want.Macros[1] {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := ParseOptions(frame[headerLen : len(frame)-1]); !errors.Is(err, ErrFrame) {
		t.Errorf("a list without NUL: %v", err)
	}
}

func TestTooManyMacros(t *testing.T) {
	_, list, err := ParseMacros(append([]byte{'R'}, strings.Repeat("a\x00b\x00", MacrosMax+1)...))
	n := 0
	for ok := true; ok && err == nil; {
		if _, _, ok, err = list.Next(); ok {
			n++
		}
	}
	if n != MacrosMax || !errors.Is(err, ErrFrame) {
		t.Errorf("%d macros, %v", n, err)
	}
}

// Whatever arrives, and in whatever pieces: the same frames, no panic, and memory
// bounded by the limits.
func FuzzReader(f *testing.F) {
	f.Add(AppendFrame(AppendFrame(nil, 'R', 'x', 0), 'B', 1, 2, 3), uint8(3))
	f.Add([]byte{0, 0, 0, 0}, uint8(1))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 'R'}, uint8(2))
	limits := everything(5000, "BLN")
	f.Fuzz(func(t *testing.T, stream []byte, piece uint8) {
		whole, wholeErr := readAll(bytes.NewReader(stream), limits)
		parts, partsErr := readAll(&pieces{stream, int(piece) + 1}, limits)
		if strings.Join(whole, "|") != strings.Join(parts, "|") || errors.Is(wholeErr, io.EOF) != errors.Is(partsErr, io.EOF) {
			t.Fatalf("%d frames, %v; in pieces %d frames, %v", len(whole), wholeErr, len(parts), partsErr)
		}
	})
}

type pieces struct {
	rest []byte
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.size)], p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// Whatever a backend says, the reply is one that both MTAs take.
func FuzzReply(f *testing.F) {
	f.Add(550, "5.1.1", "No such user\nreally", false)
	f.Add(421, "4.7.0", "%\r\n\x00%%", true)
	f.Add(599, "", "1\n2\n\xff", true)
	f.Fuzz(func(t *testing.T, code int, enhanced, text string, utf8ok bool) {
		if code < 400 || code > 599 {
			return
		}
		frame := AppendReply(nil, code, enhanced, text, utf8ok)
		got, err := ParseReply(frame[headerLen:])
		if err != nil || got.Code != code || got.Text == "" || len(frame) > ReplyMax+headerLen+1 {
			t.Fatalf("%q: %+v, %v", frame, got, err)
		}
	})
}

// No data of a frame makes a decoder panic.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("client.example\x004\x00\x19192.0.2.7\x00"))
	f.Add([]byte("Ri\x00Q\x00{rcpt_addr}\x00u@x\x00"))
	f.Add(AppendOptions(nil, Options{Version: 6, Macros: []MacroList{{1, "i"}}})[headerLen:])
	f.Add([]byte("550-5.1.1 a\r\n550 5.1.1 b\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := ParseConnect(data); err == nil {
			c.Addr()
		}
		if _, list, err := ParseMacros(data); err == nil {
			for {
				if _, _, ok, err := list.Next(); !ok || err != nil {
					break
				}
			}
		}
		_, _ = ParseOptions(data)
		_, _ = ParseReply(data)
		if first, rest, err := Strings('R', data); err == nil && len(first)+len(rest)+1 != len(data) {
			t.Fatalf("%q and %q are not %q", first, rest, data)
		}
	})
}
