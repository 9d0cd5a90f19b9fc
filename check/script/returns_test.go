// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"os"
	"strings"
	"testing"

	"rcptgate"
)

// A wrong result of each function is found before it is active where its text shows it, and
// else when it is returned; so are a wrong number of arguments and a name that is no function.
func TestWrongReturnsOfEachFunction(t *testing.T) {
	for _, h := range hooks {
		for script, want := range map[string]string{
			"def HOOK(x):\n  return 5":                          "filter.star:2:10: HOOK() returns a number",
			"def HOOK(x):\n  if x: return not x\n  return None": "filter.star:2:16: HOOK() returns True or False",
			"def HOOK(x):\n  return tempfail":                   "filter.star:2:10: HOOK() returns tempfail itself",
			"def HOOK(): pass":                                  "filter.star:1:5: HOOK() takes one argument",
			"def HOOK(x, y): pass":                              "filter.star:1:5: HOOK() takes one argument",
			"def HOOK(*x): pass":                                "filter.star:1:5: HOOK() takes one argument",
			"HOOK = lambda x, y: None":                          "HOOK() takes one argument",
			"HOOK = 5":                                          "HOOK is a int",
		} {
			want = strings.ReplaceAll(want, "HOOK", h.name)
			if _, err := open(t, strings.ReplaceAll(script, "HOOK", h.name), ""); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %s: %v, want %q", h.name, script, err, want)
			}
		}
		for result, want := range map[string]string{"5": "returned a value of type int", "'no'": "returned a value of type string", "True": "returned a value of type bool", "reject": "returned reject itself", "f": "returned f itself"} {
			p := program(t, "def f(): return "+result+"\ndef "+h.name+"(x): return f()", nil)
			q := at(h.stage, question("a@b.example"))
			if h.stage == rcptgate.StageMessage {
				q.Message = letter(mixed())
			}
			if v, err := p.hook(h.stage).Check(t.Context(), q); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %s: %+v, %v, want %q", h.name, result, v, err, want)
			}
		}
	}
}

// No way of writing a name leads load() out of the script's folder, or to what is not a script.
func TestLoadStaysBelow(t *testing.T) {
	const text, below = "def f(): pass", "below the script's folder"
	dir := files(t, map[string]string{"x.star": text, "in/y.star": text, "in/y.txt": text, "in/lib/z.star": text, "in/folder.star/z.star": text})
	for name, want := range map[string]string{
		"../x.star": below, "..": below, "../in/y.star": below, "lib/../../x.star": below, "lib/../y.star": below, "./y.star": below,
		"/y.star": below, dir + "/x.star": below, "y.txt": below, "folder.star": "not a regular file", "y.star": "", "lib/z.star": "",
	} {
		if err := os.WriteFile(dir+"/in/filter.star", []byte("load('"+name+"', 'f')"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := openIn(t, dir+"/in", "")
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "filter.star:1:6: load(")) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}
