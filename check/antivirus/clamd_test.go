// SPDX-License-Identifier: BSD-2-Clause

package antivirus

import (
	"context"
	"encoding/base64"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"rcptgate/check/antivirus/clamd"
	"rcptgate/test/lab"
)

// TestRealClamd has a real clamd scan: what it finds, and what it says of what it does not
// look at.
func TestRealClamd(t *testing.T) {
	lab.Need(t, lab.ClamavKit)
	t.Parallel()
	server := lab.StartClamd(t, lab.ClamdOptions{Conf: "StreamMaxLength 1M\nMaxFileSize 400K\n"})
	client := &clamd.Client{Network: "unix", Address: server.Socket}
	scan := func(text string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		f, err := client.Scan(ctx, strings.NewReader(text), int64(len(text)))
		return f.Name, err
	}
	read := func(r io.Reader) string {
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	encoded := "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString([]byte(lab.Eicar())) + "\r\n"
	for name, c := range map[string]struct {
		text, want string
	}{
		"empty": {"", ""}, "clean": {"From: x\r\n\r\nhello\r\n", ""}, "plain": {"From: x\r\n\r\n" + lab.Eicar() + "\r\n", lab.ClamdSignature},
		"the smallest sample": {read(newSample(sampleMin())), lab.ClamdSignature},
		"a sample":            {read(newSample(300 << 10)), lab.ClamdSignature},
		"beyond MaxFileSize":  {read(newSample(500 << 10)), ""}, // "OK"
	} {
		if got, err := scan(c.text); got != c.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
	// Senders choose their first field: what begins with one that clamd does not know, or looks
	// like another format, is not taken apart as a message.
	for _, first := range []string{"Zzz: x\r\n", "%PDF-1.4: x\r\n", "MZ: x\r\n", "GIF89a: x\r\n", "PK: x\r\n", "<html>: x\r\n"} {
		if got, err := scan(first + encoded); got != "" || err != nil {
			t.Errorf("%q without ours before it: %q, %v: is ownField still needed?", first, got, err)
		}
		if got, err := scan(ownField + first + encoded); got != lab.ClamdSignature || err != nil {
			t.Errorf("%q: %q, %v", first, got, err)
		}
	}
	large := read(newSample(8 << 20))
	for range 20 { // the connection is closed while we write
		if _, err := scan(large); clamd.KindOf(err) != clamd.TooLong {
			t.Errorf("beyond StreamMaxLength: %v", err)
		}
	}
	tcp := &clamd.Client{Network: "tcp", Address: "127.0.0.1:" + strconv.Itoa(server.Port)}
	if f, err := tcp.Scan(t.Context(), newSample(1000), 1000); f.Name != lab.ClamdSignature || err != nil {
		t.Errorf("over TCP: %v, %v", f, err)
	}
	for range 20 {
		if _, err := tcp.Scan(t.Context(), strings.NewReader(large), int64(len(large))); clamd.KindOf(err) != clamd.TooLong {
			t.Errorf("over TCP, beyond StreamMaxLength: %v", err)
		}
	}
	if v, err := client.Version(t.Context()); !strings.HasPrefix(v.Text, "ClamAV ") || err != nil {
		t.Errorf("version %+v, %v", v, err)
	}
}
