// SPDX-License-Identifier: BSD-2-Clause

package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"rcptgate/config/setting"
)

var update = flag.Bool("update", false, "write the expected files")

// The structs below have the shapes that units' sections have.
type sampleConfig struct {
	sampleTop
	Listen    sampleListen        `toml:"listen" doc:"Where to listen."`
	Callahead sampleCallahead     `toml:"callahead" doc:"How servers are asked."`
	Cache     sampleCache         `toml:"cache" doc:"What is remembered."`
	Labels    map[string]string   `toml:"labels" doc:"Names for networks."`
	Domain    []sampleDomain      `toml:"domain" doc:"One domain."`
	Weights   []float64           `toml:"weights" doc:"Shares."`
	Trusted   []setting.Network   `toml:"trusted" doc:"Networks that are not checked."`
	private   map[string]struct{} //nolint:unused // fields without a tag are no options
}

type sampleTop struct {
	Hostname string           `toml:"hostname" doc:"EHLO name." example:"\"mx1.example.org\""`
	Enforce  bool             `toml:"enforce" doc:"false: rehearse."`
	Deadline setting.Duration `toml:"deadline" doc:"For one answer." min:"1s" max:"1m"`
}

type sampleListen struct {
	Milter []setting.Socket `toml:"milter" doc:"Milter sockets."`
	HTTP   string           `toml:"http" doc:"Metrics; \"\" is off."`
	Mode   uint16           `toml:"mode" doc:"Mode." max:"511"`
}

type sampleCallahead struct {
	sampleBackend
	Sender string `toml:"sender" doc:"Reverse-path."`
}

type sampleBackend struct {
	Timeout     setting.Duration `toml:"timeout" doc:"For one probe."`
	Connections int              `toml:"connections" doc:"Per backend." min:"1" max:"10000"`
	TLS         string           `toml:"tls" doc:"STARTTLS." oneof:"off,opportunistic,required"`
	Rate        float64          `toml:"rate" doc:"Probes a second." min:"0"`
	Password    string           `toml:"password" doc:"Secret." secret:"true"`
}

type sampleLife struct {
	Refresh setting.Duration `toml:"refresh" doc:"When it is asked again."`
	Expire  setting.Duration `toml:"expire" doc:"When it ends."`
}

type sampleCache struct {
	Entries int64      `toml:"entries" doc:"How many." min:"100"`
	Valid   sampleLife `toml:"valid" doc:"Life of good answers."`
}

// Validate names the key in its text.
func (c sampleCache) Validate() error {
	if c.Valid.Refresh > c.Valid.Expire {
		return setting.Keyf("valid.expire", "must not be shorter than refresh")
	}
	return nil
}

type sampleDomain struct {
	Name        string            `toml:"name" doc:"The domain."`
	Backend     []string          `toml:"backend" doc:"Who is asked."`
	Check       *bool             `toml:"check" doc:"false: leave alone."`
	Unknown     *setting.Duration `toml:"unknown" doc:"Life." max:"1d"`
	Valid       *sampleLife       `toml:"valid" doc:"Life."`
	Unreachable string            `toml:"unreachable" doc:"Action." oneof:",tempfail,accept"`
}

// Validate names keys with KeyError, several at once, whatever they are.
func (d *sampleDomain) Validate() error {
	var errs []error
	if d.Name == "" {
		errs = append(errs, setting.Keyf("name", "is missing"))
	}
	for _, b := range d.Backend {
		if !strings.Contains(b, ":") {
			errs = append(errs, setting.Keyf("backend", "%q has no port", b))
		}
	}
	return errors.Join(errs...)
}

func sampleDefaults() *sampleConfig {
	return &sampleConfig{
		sampleTop: sampleTop{Hostname: "localhost", Enforce: true, Deadline: seconds(8)},
		Callahead: sampleCallahead{
			sampleBackend: sampleBackend{Timeout: seconds(30), Connections: 64, TLS: "opportunistic"}, Sender: "<>",
		},
		Cache: sampleCache{Entries: 1000000, Valid: sampleLife{Refresh: seconds(86400), Expire: seconds(31 * 86400)}},
	}
}

func seconds(n int64) setting.Duration { return setting.Duration(n * 1e9) }

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rcptgate.toml")
	write(t, path, `
hostname = "mx1.example.org"
trusted = ["192.0.2.0/24", "2001:db8::1"]
labels = { "a b" = "x" }
[listen]
milter = ["unix:/run/m.sock", "inet:8890@127.0.0.1"]
mode = 0o660
[callahead]
connections = 1_000
rate = 2
cache = 1
[cache]
valid = { expire = "60d" }
[[domain]]
name = "example.com"
check = false
[[domain]]
name = "example.net"
valid.refresh = "2d"
`)
	cfg := sampleDefaults()
	if _, err := LoadFile(path, cfg); err == nil || !strings.Contains(err.Error(), "callahead.cache") {
		t.Fatalf("the unknown key passed: %v", err)
	}
	if !reflect.DeepEqual(cfg, sampleDefaults()) {
		t.Fatal("a load that failed changed the configuration")
	}
	data, _ := os.ReadFile(path)
	write(t, path, strings.Replace(string(data), "cache = 1\n", "", 1))
	if _, err := LoadFile(path, cfg); err != nil {
		t.Fatal(err)
	}
	if cfg.Hostname != "mx1.example.org" || !cfg.Enforce || cfg.Callahead.Connections != 1000 || cfg.Callahead.Rate != 2 ||
		cfg.Cache.Valid.Expire != seconds(60*86400) || cfg.Cache.Valid.Refresh != seconds(86400) || cfg.Listen.Mode != 0o660 ||
		cfg.Listen.Milter[1].String() != "inet:127.0.0.1:8890" || cfg.Labels["a b"] != "x" || len(cfg.Trusted) != 2 {
		t.Errorf("read %+v", cfg)
	}
	if len(cfg.Domain) != 2 || cfg.Domain[0].Check == nil || *cfg.Domain[0].Check || cfg.Domain[1].Valid.Refresh != seconds(2*86400) {
		t.Errorf("domains: %+v", cfg.Domain)
	}
}

// TestBad reads each testdata/bad/NAME.toml and compares the error with NAME.err.
func TestBad(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.toml")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d bad configurations, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".toml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse(filepath.Base(file), data, sampleDefaults())
			if err == nil {
				t.Fatal("no error")
			}
			want := strings.TrimSuffix(file, ".toml") + ".err"
			if *update {
				write(t, want, err.Error()+"\n")
			}
			expected, _ := os.ReadFile(want)
			if err.Error()+"\n" != string(expected) {
				t.Errorf("got\n%s\nwant\n%s", err, expected)
			}
		})
	}
}

func TestErrorsAreBounded(t *testing.T) {
	var text strings.Builder
	for i := range 5000 {
		text.WriteString("x" + strings.Repeat("y", i%7) + string(rune('a'+i%26)) + strings.Repeat("z", i/26) + " = 1\n")
		if text.Len() > 200000 {
			break
		}
	}
	_, err := Parse("f", []byte(text.String()), sampleDefaults())
	var all *Errors
	if !errors.As(err, &all) || len(all.List) != maxErrors || all.More == 0 {
		t.Fatalf("%T %+v", err, all)
	}
	if lines := strings.Count(err.Error(), "\n"); lines != maxErrors {
		t.Errorf("%d lines", lines)
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	write(t, large, strings.Repeat("#\n", MaxFileSize))
	for path, want := range map[string]string{
		dir:                        "not a regular file",
		large:                      "larger than",
		filepath.Join(dir, "none"): "no such file",
	} {
		_, err := LoadFile(path, sampleDefaults())
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := LoadFile(filepath.Join(dir, "none"), sampleDefaults()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file cannot be told apart: %v", err)
	}
	if err := Validate(sampleDefaults()); err != nil {
		t.Errorf("defaults: %v", err)
	}
}

func TestCheckTypes(t *testing.T) {
	if err := CheckTypes(sampleDefaults()); err != nil {
		t.Error(err)
	}
	type a struct {
		Name string `toml:"name" doc:"x"`
	}
	type bad struct {
		a
		Name    string   `toml:"name" doc:"x"`
		Nodoc   int      `toml:"nodoc"`
		Channel chan int `toml:"Channel" doc:"x"`
		Limit   int      `toml:"limit" doc:"x" min:"1x"`
	}
	err := CheckTypes(bad{})
	for _, want := range []string{"name is declared twice", "nodoc has no doc", "chan int cannot", "Channel is not in lower", "limit: limit \"1x\""} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
