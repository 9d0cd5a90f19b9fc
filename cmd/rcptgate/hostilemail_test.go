// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"archive/zip"
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

// nested is a message of parts in parts.
func nested(depth int) string {
	var b strings.Builder
	for i := range depth {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i)
	}
	return b.String()
}

// hostileMail are messages that other programs have died of, and what the script says of them.
func hostileMail(t *testing.T) map[string]hostile {
	t.Helper()
	mixed := "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\n"
	attached := func(name string, data []byte) string {
		return mixed + "--x\nContent-Type: application/octet-stream; name=" + name + "\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString(data) + "\n--x--\n"
	}
	return map[string]hostile{
		"nesting 10,000 deep":  {func() string { return nested(10_000) }, "malformed=depth"},
		"100,000 parts":        {func() string { return mixed + strings.Repeat("--x\n\ny\n", 100_000) }, "malformed=parts"},
		"endless headers":      {func() string { return strings.Repeat("A: 1\n", 2_000_000) + "\nx\n" }, "parts=1"},
		"endless part headers": {func() string { return mixed + "--x\n" + strings.Repeat("A: 1\n", 2_000_000) }, "malformed="},
		"one field":            {func() string { return "Subject: " + strings.Repeat("x ", 5<<20) + "\n\nx\n" }, "parts=1"},
		"one huge line":        {func() string { return "Subject: a\n\n" + strings.Repeat("x", 30<<20) }, "parts=1"},
		"broken boundaries":    {func() string { return mixed + strings.Repeat("--xx\n--x-\n-- x\n--\n\x00--x\n", 200_000) }, "malformed="},
		"encoded-word bombs": {func() string {
			return "Subject: " + strings.Repeat("=?utf-8?q?=41?=", 200_000) + "\nFrom: " + strings.Repeat("=?a?b?", 200_000) + "\n\nx\n"
		}, "parts=1"},
		"names of parts": {func() string {
			return mixed + strings.Repeat("--x\nContent-Disposition: a"+strings.Repeat(";filename*9*=''%41", 1000)+"\n\n", 1000)
		}, "malformed="},
		"a zip bomb":     {func() string { return attached("a.zip", bomb(t)) }, "archive="},
		"a gzip bomb":    {func() string { return attached("a.tar.gz", gzipBomb(t)) }, "archive="},
		"nothing at all": {func() string { return "" }, "parts=1"},
		"octets":         {func() string { return strings.Repeat("\x00\xff\r", 1<<20) }, "parts="},
	}
}

// hostile is a message, made when it is needed, and a part of the answer to it.
type hostile struct {
	make func() string
	want string
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
			file, mail := filepath.Join(testkit.Dir(t), "mail.eml"), tc.make()
			if err := os.WriteFile(file, []byte(mail), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("sh", "-c", fmt.Sprintf(`ulimit -d %d; exec rcptgate "$@"`, memoryMax>>10), "rcptgate", "check", "-c", config, "--stage", "message", "--file", file, "ann@example.org") //nolint:gosec // the program under test
			var out, problem bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &problem
			err := cmd.Run()
			var failed *exec.ExitError
			if !errors.As(err, &failed) || failed.ExitCode() != 77 || !strings.Contains(out.String(), tc.want) || problem.Len() > 0 {
				t.Errorf("%v, want exit code 77 and %q\n%.2000s\n%.2000s", err, tc.want, out.String(), problem.String())
			}
			if took := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(); took > 20*time.Second {
				t.Errorf("%v for a message of %d KiB", took, len(mail)>>10)
			}
		})
	}
}
