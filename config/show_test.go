// SPDX-License-Identifier: BSD-2-Clause

package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"rcptgate/config/setting"
)

func TestShowIsReadAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := drawConfig(t)
		text := (*File)(nil).Show(cfg)
		again := &sampleConfig{}
		if _, err := Parse("shown", []byte(text), again); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		normalise(reflect.ValueOf(cfg).Elem())
		normalise(reflect.ValueOf(again).Elem())
		if !reflect.DeepEqual(cfg, again) {
			t.Fatalf("%+v became %+v through\n%s", cfg, again, text)
		}
	})
}

func drawConfig(t *rapid.T) *sampleConfig {
	text := rapid.String()
	duration := func(low, high int64, name string) setting.Duration {
		return setting.Duration(rapid.Int64Range(low, high).Draw(t, name) * 1e6)
	}
	cfg := &sampleConfig{}
	cfg.Hostname, cfg.Enforce = text.Draw(t, "hostname"), rapid.Bool().Draw(t, "enforce")
	cfg.Deadline = duration(1000, 60000, "deadline")
	cfg.Listen.HTTP, cfg.Listen.Mode = text.Draw(t, "http"), rapid.Uint16Range(0, 511).Draw(t, "mode")
	cfg.Listen.Milter = rapid.SliceOf(rapid.SampledFrom([]setting.Socket{
		{Network: "unix", Address: "/run/a b.sock"}, {Network: "tcp", Address: "[::1]:25"}, {},
	})).Draw(t, "milter")
	cfg.Callahead = sampleCallahead{
		sampleBackend: sampleBackend{
			Timeout: duration(0, 1e9, "timeout"), Connections: rapid.IntRange(1, 10000).Draw(t, "connections"),
			TLS: rapid.SampledFrom([]string{"off", "required"}).Draw(t, "tls"), Rate: rapid.Float64Range(0, 1e18).Draw(t, "rate"),
		},
		Sender: text.Draw(t, "sender"),
	}
	cfg.Cache.Entries = rapid.Int64Min(100).Draw(t, "entries")
	cfg.Cache.Valid.Expire = duration(0, 1e9, "expire")
	cfg.Labels = rapid.MapOf(text, text).Draw(t, "labels")
	cfg.Weights = rapid.SliceOf(rapid.Float64Range(-1e9, 1e9)).Draw(t, "weights")
	if rapid.Bool().Draw(t, "network") {
		cfg.Trusted = []setting.Network{{Prefix: netip.MustParsePrefix("192.0.2.0/24")}, {Prefix: netip.MustParsePrefix("2001:db8::1/128")}}
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "domains") {
		d := sampleDomain{Name: "x" + text.Draw(t, fmt.Sprint("name", i)), Unreachable: "accept"}
		if rapid.Bool().Draw(t, "set") {
			check, life := rapid.Bool().Draw(t, "check"), duration(0, 86400e3, "life")
			d.Check, d.Unknown, d.Valid = &check, &life, &sampleLife{Expire: life}
			d.Backend = []string{"smtp:[10.0.0.5]:25"}
		}
		cfg.Domain = append(cfg.Domain, d)
	}
	return cfg
}

// normalise makes empty lists and maps nil, wherever they are: a file cannot tell
// one from the other.
func normalise(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() || v.Type().Field(i).Anonymous {
				normalise(v.Field(i))
			}
		}
	case reflect.Slice, reflect.Map:
		if v.Len() == 0 && v.CanSet() {
			v.SetZero()
		}
		for i := 0; v.Kind() == reflect.Slice && i < v.Len(); i++ {
			normalise(v.Index(i))
		}
	}
}

func TestShowRemarksAndSecrets(t *testing.T) {
	cfg := sampleDefaults()
	f, err := Parse("f", []byte("hostname = \"a\"\n[callahead]\npassword = \"geheim\"\n[[domain]]\nname = \"d\"\n"), cfg)
	if err != nil {
		t.Fatal(err)
	}
	text := f.Show(cfg)
	for _, want := range []string{
		"hostname = \"a\"\n", "enforce = true  # default\n", "# password is set and not shown\n",
		"[[domain]]\nname = \"d\"\n", "# check is not set\n", "valid = { refresh = \"1d\", expire = \"31d\" }  # default\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if strings.Contains(text, "geheim") {
		t.Error("the secret is shown")
	}
}

func TestExampleIsReadAgain(t *testing.T) {
	text := Example(sampleDefaults())
	cfg := sampleDefaults()
	if _, err := Parse("example", []byte(text), cfg); err != nil || !reflect.DeepEqual(cfg, sampleDefaults()) {
		t.Fatalf("the example changes the defaults: %v\n%s", err, text)
	}
	for _, want := range []string{
		"# EHLO name.\n#hostname = \"localhost\"\n", "[callahead]\n", "#connections = 64\n", "#[[domain]]\n",
		"#   valid.refresh: When it is asked again.\n", "#valid = { refresh = \"1d\", expire = \"31d\" }\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	var options []string
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "# ") && !strings.Contains(line, "= (") {
			line = line[1:]
		}
		options = append(options, line)
	}
	uncommented := strings.Join(options, "\n")
	if _, err := Parse("uncommented", []byte(uncommented), sampleDefaults()); err == nil || !strings.Contains(err.Error(), "name: is missing") {
		t.Errorf("uncommented, only the domain's name should be missing: %v", err)
	}
}

func TestDescribe(t *testing.T) {
	found := map[string]Entry{}
	for _, e := range Describe(sampleDefaults()) {
		found[e.Section+"/"+e.Name] = e
	}
	for key, want := range map[string]Entry{
		"/hostname":             {Name: "hostname", Doc: "EHLO name.", Form: "a string in quotes", Default: `"localhost"`, Example: `"mx1.example.org"`},
		"callahead/":            {Section: "callahead", Doc: "How servers are asked."},
		"callahead/connections": {Section: "callahead", Name: "connections", Doc: "Per backend.", Form: "a whole number, from 1 to 10000", Default: "64"},
		"callahead/tls":         {Section: "callahead", Name: "tls", Doc: "STARTTLS.", Form: `"off", "opportunistic" or "required"`, Default: `"opportunistic"`},
		"cache/valid.refresh":   {Section: "cache", Name: "valid.refresh", Inner: true, Doc: "When it is asked again.", Form: seconds(0).Form(), Default: `"1d"`},
		"domain/":               {Section: "domain", Repeated: true, Doc: "One domain."},
		"domain/valid.refresh":  {Section: "domain", Repeated: true, Name: "valid.refresh", Inner: true, Doc: "When it is asked again.", Form: seconds(0).Form()},
	} {
		if found[key] != want {
			t.Errorf("%s: %+v, want %+v", key, found[key], want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("hostname = \"a\"\n[callahead]\ntimeout = \"5s\"\n[[domain]]\nname = \"x\"\nvalid = { refresh = \"1d\" }\n"))
	f.Add([]byte("[cache]\nvalid.expire = \"1d\"\n[labels]\n\"a.b\" = \"c\"\n"))
	f.Add([]byte("a.b.c = [[1, {x = 2}], [1979-05-27T07:32:00Z]]\n[[q.w]]\n[q.w.e]\n"))
	f.Add([]byte("weights = [1e308, -inf, 0x1F]\ntrusted=[\"::/0\"]\n"))
	f.Add([]byte("[a.b]\n[a]\nc.d=1\n[[domain]]\n[[domain.valid]]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg := sampleDefaults()
		_, err := Parse("f", data, cfg)
		if err == nil {
			if _, err := Parse("shown", []byte((*File)(nil).Show(cfg)), sampleDefaults()); err != nil {
				t.Fatalf("what was read cannot be read again: %v\n%s", err, (*File)(nil).Show(cfg))
			}
			return
		}
		all, ok := err.(*Errors) //nolint:errorlint // Parse promises it
		if !ok || len(all.List) == 0 || len(all.List) > maxErrors {
			t.Fatalf("%T: %v", err, err)
		}
		for _, e := range all.List {
			if e.File != "f" || e.Line == 0 && e.Key == "" || e.Text == "" {
				t.Fatalf("an error that does not say where: %+v", e)
			}
		}
	})
}
