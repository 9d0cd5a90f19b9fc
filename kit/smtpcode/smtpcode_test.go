// SPDX-License-Identifier: BSD-2-Clause

package smtpcode

import "testing"

func TestParse(t *testing.T) {
	for in, want := range map[string]Enhanced{
		"5.1.1": {5, 1, 1}, "4.2.2": {4, 2, 2}, "2.0.0": {2, 0, 0}, "5.7.999": {5, 7, 999}, "5.001.1": {5, 1, 1},
	} {
		if got, ok := Parse(in); !ok || got != want {
			t.Errorf("%q: %v, %v", in, got, ok)
		}
	}
	for _, in := range []string{"", "5", "5.1", "5.1.", "5..1", "3.1.1", "6.1.1", "5.1.1 ", " 5.1.1", "5.1.1.1", "5.1000.1", "5.1.1000", "5.a.1", "5,1,1", "-5.1.1"} {
		if Is(in) {
			t.Errorf("%q is taken for a code", in)
		}
	}
	if s := (Enhanced{5, 1, 10}).String(); s != "5.1.10" {
		t.Error(s)
	}
}

func TestCut(t *testing.T) {
	for in, want := range map[string]string{"5.1.1 User unknown": " User unknown", "5.1.1)": ")", "4.2.2": ""} {
		if _, rest, ok := Cut(in); !ok || rest != want {
			t.Errorf("%q leaves %q, %v", in, rest, ok)
		}
	}
	if _, rest, ok := Cut("5.1 is not a code"); ok || rest != "5.1 is not a code" {
		t.Errorf("left %q", rest)
	}
}
