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
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestSpeed) })
		for i := range 10 {
			w, err := z.Create(fmt.Sprintf("%d-%d.zip", level, i))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(data); err != nil {
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

// hostileMail are messages that other programs have died of, and what the script says of them.
func hostileMail(t *testing.T) map[string][2]string {
	t.Helper()
	var deep, gz bytes.Buffer
	for i := range 10_000 {
		fmt.Fprintf(&deep, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i)
	}
	g, err := gzip.NewWriterLevel(&gz, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for range 200 {
		_, _ = g.Write(zeros)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	mixed := "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\n"
	attached := func(name string, data []byte) string {
		return mixed + "--x\nContent-Type: application/octet-stream; name=" + name + "\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString(data) + "\n--x--\n"
	}
	return map[string][2]string{
		"nesting 10,000 deep":  {deep.String(), "malformed=depth"},
		"100,000 parts":        {mixed + strings.Repeat("--x\n\ny\n", 100_000), "malformed=parts"},
		"endless headers":      {strings.Repeat("A: 1\n", 2_000_000) + "\nx\n", "parts=1"},
		"endless part headers": {mixed + "--x\n" + strings.Repeat("A: 1\n", 2_000_000), "malformed="},
		"one field":            {"Subject: " + strings.Repeat("x ", 5<<20) + "\n\nx\n", "parts=1"},
		"one huge line":        {"Subject: a\n\n" + strings.Repeat("x", 30<<20), "parts=1"},
		"broken boundaries":    {mixed + strings.Repeat("--xx\n--x-\n-- x\n--\n\x00--x\n", 200_000), "malformed="},
		"encoded-word bombs":   {"Subject: " + strings.Repeat("=?utf-8?q?=41?=", 200_000) + "\nFrom: " + strings.Repeat("=?a?b?", 200_000) + "\n\nx\n", "parts=1"},
		"names of parts":       {mixed + strings.Repeat("--x\nContent-Disposition: a"+strings.Repeat(";filename*9*=''%41", 1000)+"\n\n", 1000), "malformed="},
		"a zip bomb":           {attached("a.zip", bomb(t)), "archive="},
		"a gzip bomb":          {attached("a.tar.gz", gz.Bytes()), "archive="},
		"nothing at all":       {"", "parts=1"},
		"octets":               {strings.Repeat("\x00\xff\r", 1<<20), "parts="},
	}
}

// TestHostileMail has "rcptgate check" look at such messages with a script that looks at
// everything: each takes a bounded time of the processor and bounded memory, and the answer is the
// script's.
func TestHostileMail(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector does not fit into so little memory")
	}
	dir := t.TempDir()
	config, script := filepath.Join(dir, "gate.toml"), filepath.Join(dir, "filter.star")
	for name, text := range map[string]string{config: fmt.Sprintf("enforce = true\nstate = %q\n[script]\nfile = %q\n", dir, script), script: looksAtAll} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range hostileMail(t) {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "mail.eml")
			if err := os.WriteFile(file, []byte(tc[0]), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("sh", "-c", fmt.Sprintf(`ulimit -d %d; exec rcptgate "$@"`, memoryMax>>10), "rcptgate", "check", "-c", config, "--stage", "message", "--file", file, "ann@example.org") //nolint:gosec // the program under test
			var out, problem bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &problem
			err := cmd.Run()
			var failed *exec.ExitError
			if !errors.As(err, &failed) || failed.ExitCode() != 77 || !strings.Contains(out.String(), tc[1]) || problem.Len() > 0 {
				t.Errorf("%v, want exit code 77 and %q\n%.2000s\n%.2000s", err, tc[1], out.String(), problem.String())
			}
			if took := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(); took > 20*time.Second {
				t.Errorf("%v for a message of %d KiB", took, len(tc[0])>>10)
			}
		})
	}
}
