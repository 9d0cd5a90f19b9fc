// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"archive/zip"
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcptgate/kit/testkit"
)

// looksAtAll is a script that looks at everything in a message, and says what is wrong with it.
const looksAtAll = `
def message(m):
    seen = [m.subject, m.from_, m.date, m.headers("Received"), len(m.fields), m.text()]
    n = 0
    problem = ""
    for p in m.parts:
        a = p.archive()
        problem = problem or a.problem
        seen = [p.type, p.filename, p.names, p.exts, p.size, p.sha256, p.text(max = 1000), a.names]
        n += 1
    m.append_text("a disclaimer")
    return reject("parts=%d malformed=%s archive=%s" % (n, m.malformed, problem))
`

// memoryMax is what the program may write to, in octets: more ends it (getrlimit(2), RLIMIT_DATA).
const memoryMax = 400 << 20

// bomb is a zip of zips, each of which unpacks to far more.
func bomb(t *testing.T) []byte {
	t.Helper()
	data := make([]byte, 20<<20)
	for level := range 3 {
		packed := deflated(t, data)
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for i := range 10 {
			w, err := z.CreateRaw(&zip.FileHeader{
				Name: fmt.Sprintf("%d-%d.zip", level, i), Method: zip.Deflate, CRC32: crc32.ChecksumIEEE(data),
				CompressedSize64: uint64(len(packed)), UncompressedSize64: uint64(len(data)),
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(packed); err != nil {
				t.Fatal(err)
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		data = b.Bytes()
	}
	return data
}

func deflated(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// gzipBomb unpacks to 200 MiB of zeros.
func gzipBomb(t *testing.T) []byte {
	t.Helper()
	var member bytes.Buffer
	w, err := gzip.NewWriterLevel(&member, gzip.BestSpeed)
	if err == nil {
		_, err = w.Write(make([]byte, 10<<20))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Repeat(member.Bytes(), 20) // members are read as one file (RFC 1952, section 2.2)
}

// A writing writes a message.
type writing func(w *bufio.Writer)

// text writes texts one after the other.
func text(texts ...string) writing {
	return func(w *bufio.Writer) {
		for _, t := range texts {
			_, _ = w.WriteString(t) // an error stays until Flush
		}
	}
}

// times writes a text n times.
func times(n int, text string) writing {
	return func(w *bufio.Writer) {
		for range n {
			_, _ = w.WriteString(text)
		}
	}
}

// all writes one part after the other, so that a test holds no message of 30 MB in its memory.
func all(parts ...writing) writing {
	return func(w *bufio.Writer) {
		for _, p := range parts {
			p(w)
		}
	}
}

// nested writes a message of parts in parts.
func nested(depth int) writing {
	return func(w *bufio.Writer) {
		for i := range depth {
			_, _ = fmt.Fprintf(w, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i)
		}
	}
}

// hostile is a message and a part of the answer to it.
type hostile struct {
	mail writing
	want string
}

// hostileMail are messages that other programs have died of, and what the script says of them.
func hostileMail(t *testing.T) map[string]hostile {
	t.Helper()
	const mixed = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\n"
	attached := func(name string, data func(*testing.T) []byte) writing {
		return func(w *bufio.Writer) {
			_, _ = w.WriteString(mixed + "--x\nContent-Type: application/octet-stream; name=" + name + "\nContent-Transfer-Encoding: base64\n\n")
			e := base64.NewEncoder(base64.StdEncoding, w)
			_, _ = e.Write(data(t))
			_ = e.Close()
			_, _ = w.WriteString("\n--x--\n")
		}
	}
	return map[string]hostile{
		"nesting 10,000 deep":  {nested(10_000), "malformed=depth"},
		"100,000 parts":        {all(text(mixed), times(100_000, "--x\n\ny\n")), "malformed=parts"},
		"endless headers":      {all(times(2_000_000, "A: 1\n"), text("\nx\n")), "parts=1"},
		"endless part headers": {all(text(mixed, "--x\n"), times(2_000_000, "A: 1\n")), "malformed="},
		"one field":            {all(text("Subject: "), times(5<<20, "x "), text("\n\nx\n")), "parts=1"},
		"one huge line":        {all(text("Subject: a\n\n"), times(30<<10, strings.Repeat("x", 1<<10))), "parts=1"},
		"broken boundaries":    {all(text(mixed), times(200_000, "--xx\n--x-\n-- x\n--\n\x00--x\n")), "malformed="},
		"encoded-word bombs": {all(text("Subject: "), times(200_000, "=?utf-8?q?=41?="),
			text("\nFrom: "), times(200_000, "=?a?b?"), text("\n\nx\n")), "parts=1"},
		"names of parts": {all(text(mixed),
			times(1000, "--x\nContent-Disposition: a"+strings.Repeat(";filename*9*=''%41", 1000)+"\n\n")), "malformed="},
		"a zip bomb":     {attached("a.zip", bomb), "archive="},
		"a gzip bomb":    {attached("a.tar.gz", gzipBomb), "archive="},
		"nothing at all": {text(), "parts=1"},
		"octets":         {times(1<<20, "\x00\xff\r"), "parts="},
	}
}

// write makes a file of a message and returns its size in octets.
func (m hostile) write(t *testing.T, name string) int64 {
	t.Helper()
	f, err := os.Create(name) // #nosec G304 -- the test's own folder
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriterSize(f, 64<<10)
	m.mail(w)
	ferr := w.Flush()
	info, serr := f.Stat()
	if err := errors.Join(ferr, serr, f.Close()); err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// TestHostileMail has "rcptgate check" look at such messages with a script that looks at
// everything: each takes a bounded time of the processor and bounded memory, and the answer is the
// script's.
func TestHostileMail(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector does not fit into so little memory")
	}
	t.Parallel()
	dir := t.TempDir()
	config, script := filepath.Join(dir, "gate.toml"), filepath.Join(dir, "filter.star")
	for name, text := range map[string]string{config: fmt.Sprintf("enforce = true\nstate = %q\n[script]\nfile = %q\n", dir, script), script: looksAtAll} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range hostileMail(t) {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(testkit.Dir(t), "mail.eml")
			size := tc.write(t, file)
			cmd := exec.Command("sh", "-c", fmt.Sprintf(`ulimit -d %d; exec rcptgate "$@"`, memoryMax>>10), "rcptgate", "check", "-c", config, "--stage", "message", "--file", file, "ann@example.org") //nolint:gosec // the program under test
			var out, problem bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &problem
			err := cmd.Run()
			var failed *exec.ExitError
			if !errors.As(err, &failed) || failed.ExitCode() != 77 || !strings.Contains(out.String(), tc.want) || problem.Len() > 0 {
				t.Errorf("%v, want exit code 77 and %q\n%.2000s\n%.2000s", err, tc.want, out.String(), problem.String())
			}
			if took := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(); took > 20*time.Second {
				t.Errorf("%v for a message of %d KiB", took, size>>10)
			}
		})
	}
}
