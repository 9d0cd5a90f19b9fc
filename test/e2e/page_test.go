// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rcptgate/kit/testkit"
	"rcptgate/test/cases"
	"rcptgate/test/lab"

	"golang.org/x/net/html"
)

// elements are those that the status page is made of.
var elements = strings.Fields("html head meta title style body h1 h2 p strong span a ul li div table tbody tr th td")

// TestPageInBrowser looks at the status page as a browser understands it, after strangers have sent
// names that are markup: no element and no attribute is theirs, and no script ran.
func TestPageInBrowser(t *testing.T) {
	browser := lab.StartBrowser(t)
	sim := lab.StartScripted(t)
	g := lab.StartGate(t, section("sim.test", "smtp:"+sim.Hop())+section("down.test", "smtp:[127.0.0.1]:1"))
	s := open(t, cases.Bare(g, nil))
	hostile := []string{
		`nobody<img/src=x/onerror=document.title='owned'>`, `"nobody<script>document.title='owned'</script>"`,
		`nobody'onmouseover='document.title=1`, `nobody&lt;b&gt;`, `nobody</td></table><svg/onload=document.title='owned'>`,
		`nobody{{.Hostname}}`, "nobody" + strings.Repeat("x", 190),
	}
	expect(t, s, "ann@sim.test", 250, "")
	s.Rcpt("ann@down.test")
	url := fmt.Sprintf("http://127.0.0.1:%d/", g.HTTP)
	for _, local := range hostile {
		// The page leaves out some of the refusals that come at the same moment.
		testkit.Eventually(t, local+" is on the page", func() bool {
			if s.Rcpt(local+"@sim.test").Code == 250 {
				t.Fatalf("%s is taken", local)
			}
			return strings.Contains(fetch(t, url), html.EscapeString(local[:15]))
		})
	}
	dom := browser.DOM(url)
	doc, err := html.Parse(strings.NewReader(dom))
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for n := range doc.Descendants() {
		switch n.Type {
		case html.TextNode:
			text.WriteString(n.Data)
		case html.ElementNode:
			if !slices.Contains(elements, n.Data) {
				t.Errorf("the page has an element %s", n.Data)
			}
			for _, a := range n.Attr {
				if strings.HasPrefix(a.Key, "on") || a.Key == "href" && !slices.Contains([]string{"/metrics", "/status.json"}, a.Val) {
					t.Errorf("%s has the attribute %s=%q", n.Data, a.Key, a.Val)
				}
			}
		}
	}
	for _, want := range []string{"rcptgate mx.gate.test", "<img/src=x/onerror=", "<script>document.title", "&lt;b&gt;", "{{.Hostname}}", "</td></table><svg", "down.test"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("people do not read %q on the page:\n%s", want, text.String())
		}
	}
	if strings.Contains(dom, "<title>owned") {
		t.Error("a script ran")
	}
	pictures(t, browser, url)
}

// pictures draws the page wide, narrow and dark into the directory that RCPTGATE_PICTURES names, for
// people to look at.
func pictures(t *testing.T, browser *lab.Browser, url string) {
	t.Helper()
	dir := os.Getenv("RCPTGATE_PICTURES")
	if dir == "" {
		return
	}
	for _, c := range []struct {
		name  string
		width int
		dark  bool
	}{{"wide", 1280, false}, {"narrow", 400, false}, {"dark", 1280, true}} {
		browser.Width, browser.Height, browser.Dark = c.width, 1500, c.dark
		browser.Screenshot(url, filepath.Join(dir, "page-"+c.name+".png"))
	}
}

// fetch returns what a GET answers.
func fetch(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
