// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pageLimit is how long the browser may take for one page; it starts anew for each.
const pageLimit = 2 * time.Minute

// A Browser shows pages as people see them: Chromium without a window. It is told that only the
// loopback has addresses.
type Browser struct {
	// Dark prefers a dark colour scheme, as a setting of the desktop would.
	Dark bool
	// Width and Height are the window in pixels; zero is 1200 by 900.
	Width, Height int

	t   testing.TB
	dir string
}

// StartBrowser prepares a browser with an empty profile.
func StartBrowser(t testing.TB) *Browser {
	t.Helper()
	Need(t, ChromiumKit)
	return &Browser{t: t, dir: NewDir(t, "chromium")}
}

// DOM returns the document at the URL (http or file) after its scripts, styles and images, written
// as HTML again: what the page's text could smuggle in is an element here.
func (b *Browser) DOM(url string) string {
	b.t.Helper()
	return b.open("--dump-dom", url)
}

// Screenshot writes what the window shows of the URL to a PNG file.
func (b *Browser) Screenshot(url, file string) {
	b.t.Helper()
	b.open("--hide-scrollbars", "--screenshot="+file, url)
}

func (b *Browser) open(args ...string) string {
	b.t.Helper()
	width, height := b.Width, b.Height
	if width == 0 {
		width, height = 1200, 900
	}
	flags := []string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
		"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--user-data-dir=" + filepath.Join(b.dir, "profile"),
		fmt.Sprintf("--window-size=%d,%d", width, height),
	}
	if b.Dark {
		flags = append(flags, "--blink-settings=preferredColorScheme=0")
	}
	ctx, cancel := context.WithTimeout(context.Background(), pageLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, ChromiumKit.Path("usr/lib/chromium/chromium"), append(flags, args...)...)
	cmd.Dir = b.dir
	cmd.Env = append(ChromiumKit.environment(), "HOME="+b.dir, "FONTCONFIG_FILE="+write(b.t, b.dir, "fonts.conf", b.fonts()))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		b.t.Fatalf("opening %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return out.String()
}

// fonts has only the kit's own fonts, so that pages look alike on every machine.
func (b *Browser) fonts() string {
	return fmt.Sprintf("<fontconfig><dir>%s</dir><cachedir>%s</cachedir></fontconfig>\n",
		ChromiumKit.Path("usr/share/fonts"), filepath.Join(b.dir, "fonts"))
}
