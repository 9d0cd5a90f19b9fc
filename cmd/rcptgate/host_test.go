// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"rcptgate/config"
	"rcptgate/front/web"
	"rcptgate/metric/exposition"
	"rcptgate/unit"
	"rcptgate/view"
)

// testConfig reads a configuration from a text.
func testConfig(t testing.TB, text string) (*program, *unit.Config) {
	t.Helper()
	p, err := newProgram(units())
	if err != nil {
		t.Fatal(err)
	}
	c, err := unit.Parse(p.schema, "test.toml", text)
	if err != nil {
		t.Fatal(err)
	}
	return p, c
}

// smallText is a configuration with everything below dir and without a status page. Extra
// stands at the top level, sections after it.
func smallText(dir, extra, sections string) string {
	return fmt.Sprintf("state = %q\nenforce = true\n%s\n[listen]\nmilter = [%q]\nhttp = \"\"\n%s\n", filepath.Join(dir, "state"), extra, "unix:"+filepath.Join(dir, "m.sock"), sections)
}

// smallHost runs a host with a configuration of smallText's.
func smallHost(t *testing.T, o unit.Options, text string) (*unit.Host, error) {
	t.Helper()
	p, c := testConfig(t, text)
	if o.Stderr == nil {
		o.Stderr = new(locked)
	}
	h, err := p.start(context.Background(), c, o)
	if err == nil {
		t.Cleanup(h.Stop)
	}
	return h, err
}

// page asks for a page of the host as it would be served.
func page(h *unit.Host, path string) string {
	w := httptest.NewRecorder()
	site := web.New(web.Options{Metrics: exposition.Handler(h.Metrics), Status: h.Status, Views: func() []view.Table { return h.Views() }})
	site.Handler(false).ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Body.String()
}

// TestConfigurationTypes: what the units compose is what package config can read and
// explain.
func TestConfigurationTypes(t *testing.T) {
	p, c := testConfig(t, "")
	if err := config.CheckTypes(c.Any()); err != nil {
		t.Error(err)
	}
	if _, err := p.offline(t.Context(), c); err != nil {
		t.Error(err)
	}
}
