// SPDX-License-Identifier: BSD-2-Clause

package config

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"rcptgate/config/setting"
)

type (
	topPart struct {
		Name string `toml:"name" doc:"a name" restart:"true"`
	}
	otherTop struct {
		Force bool `toml:"force" doc:"by force"`
	}
	cachePart struct {
		Entries int `toml:"entries" doc:"how many" min:"1" max:"100" restart:"true"`
	}
	livesPart struct {
		Life setting.Duration `toml:"life" doc:"how long"`
		Less setting.Duration `toml:"less" doc:"less than that"`
	}
	domainA struct {
		Name string `toml:"name" doc:"of the domain"`
	}
	domainB struct {
		Room int `toml:"room" doc:"how much" max:"9"`
	}
)

func (l livesPart) Validate() error {
	var errs []error
	if l.Less > l.Life {
		errs = append(errs, setting.Keyf("less", "%v is not less than life, %v", l.Less, l.Life))
	}
	if l.Life == 7 {
		errs = append(errs, errors.New("seven is not a good number"))
	}
	return errors.Join(errs...)
}

func parts() []Part {
	return []Part{
		{Defaults: topPart{Name: "ann"}},
		{Section: "domain", Doc: "one a domain", Repeated: true, Defaults: domainA{}},
		{Section: "cache", Doc: "what is kept", Defaults: cachePart{Entries: 10}},
		{Defaults: otherTop{}},
		{Section: "cache", Defaults: livesPart{Life: 2e9, Less: 1e9}},
		{Section: "domain", Repeated: true, Defaults: domainB{}},
	}
}

func composed(t *testing.T) *Composed {
	t.Helper()
	s, err := Compose(parts()...)
	if err != nil {
		t.Fatal(err)
	}
	return s.Defaults()
}

// TestCompose reads a file into parts, and each unit finds its own.
func TestCompose(t *testing.T) {
	c := composed(t)
	if err := CheckTypes(c.Any()); err != nil {
		t.Fatal(err)
	}
	begun := c.Clone()
	file, err := Parse("f", []byte("name = \"bob\"\nforce = true\n[cache]\nentries = 20\nless = \"1ms\"\nlife = \"2ms\"\n[[domain]]\nname = \"a\"\n[[domain]]\nname = \"b\"\nroom = 3\n"), c.Any())
	if err != nil {
		t.Fatal(err)
	}
	if Get[topPart](c).Name != "bob" || !Get[otherTop](c).Force || Get[cachePart](c).Entries != 20 || Get[livesPart](c).Life.String() != "2ms" {
		t.Errorf("%+v", c.Any())
	}
	if a, b := All[domainA](c), All[domainB](c); len(a) != 2 || a[1].Name != "b" || len(b) != 2 || b[0].Room != 0 || b[1].Room != 3 {
		t.Errorf("%+v, %+v", a, b)
	}
	if Get[topPart](begun).Name != "ann" || len(All[domainA](begun)) != 0 {
		t.Error("the clone changed too")
	}
	if got, want := NeedsRestart(begun, c), []string{"name", "cache.entries"}; !slices.Equal(got, want) {
		t.Errorf("needs a restart: %v, want %v", got, want)
	}
	again := composed(t)
	if _, err := Parse("again", []byte(file.Show(c.Any())), again.Any()); err != nil || Get[cachePart](again).Entries != 20 || len(All[domainB](again)) != 2 {
		t.Errorf("%v; shown:\n%s", err, file.Show(c.Any()))
	}
}

// TestComposeErrors: every mistake has its own line, in sections of several parts too.
func TestComposeErrors(t *testing.T) {
	c := composed(t)
	_, err := Parse("f", []byte("[cache]\nentriess = 3\nentries = 500\nless = \"1h\"\n[[domain]]\nroom = 10\n[[domain]]\nroom = 11\nname = 3\n"), c.Any())
	want := []string{
		`f:2:1: cache.entriess: no such key; did you mean "entries"?`, `f:3:1: cache.entries: 500 is out of range`, `f:4:1: cache.less: 1h is not less than life`,
		`f:6:1: domain[1].room: 10 is too large`, `f:8:1: domain[2].room: 11 is too large`, `f:9:1: domain[2].name: a whole number is not allowed here`,
	}
	lines := strings.Split(err.Error(), "\n")
	for i, w := range want {
		if i >= len(lines) || !strings.HasPrefix(lines[i], w) {
			t.Errorf("line %d is not %q in:\n%v", i, w, err)
		}
	}
	if len(lines) != len(want) {
		t.Errorf("%d errors:\n%v", len(lines), err)
	}
	if Get[cachePart](c).Entries != 10 {
		t.Error("an error changed the values")
	}
}

func TestComposeRefuses(t *testing.T) {
	for name, list := range map[string][]Part{
		"is not a struct":       {{Defaults: 3}},
		"two parts":             {{Defaults: topPart{}}, {Section: "x", Defaults: topPart{}}},
		"single in another":     {{Section: "x", Defaults: topPart{}}, {Section: "x", Repeated: true, Defaults: otherTop{}}},
		"<nil> is not a struct": {{}},
	} {
		if _, err := Compose(list...); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a part that is not there was found")
		}
	}()
	Get[struct{ X int }](composed(t))
}

// cautious is a part of a repeated section that begins with more than zero.
type cautious struct {
	Hours int      `toml:"hours" doc:"how long" min:"1"`
	Open  []string `toml:"open" doc:"who"`
}

func (c *cautious) SetDefaults() { *c = cautious{Hours: 3, Open: []string{"postmaster@"}} }

// TestRepeatedDefaults has every section of a repeated one begin with its parts' defaults.
func TestRepeatedDefaults(t *testing.T) {
	s, err := Compose(
		Part{Section: "list", Doc: "a list", Repeated: true, Defaults: domainB{}}, Part{Section: "list", Repeated: true, Defaults: cautious{}},
	)
	if err != nil {
		t.Fatal(err)
	}
	c := s.Defaults()
	if _, err := Parse("f", []byte("[[list]]\nhours = 5\n[[list]]\nopen = []\nroom = 2\n"), c.Any()); err != nil {
		t.Fatal(err)
	}
	all, rooms := All[cautious](c), All[domainB](c)
	if len(all) != 2 || all[0].Hours != 5 || len(all[0].Open) != 1 || all[1].Hours != 3 || len(all[1].Open) != 0 || rooms[1].Room != 2 {
		t.Errorf("%+v, %+v", all, rooms)
	}
	for _, e := range Describe(c.Any()) {
		if e.Name == "hours" && e.Default != "3" {
			t.Errorf("the reference says %+v", e)
		}
	}
}
