// SPDX-License-Identifier: BSD-2-Clause

package script

import "testing"

// TestPlainNumbers holds that "_" is left out of numbers, and of nothing else.
func TestPlainNumbers(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"x = 1":                           "x = 1",
		"f(1_000_000, y)":                 "f(1000000  , y)",
		"per=100_000)":                    "per=100000 )",
		"0xff_ff + 0o7_7 + 0b1_0":         "0xffff  + 0o77  + 0b10 ",
		"1_0.5_0e+1_0":                    "10.50e+10   ",
		"a_1_0 + _1_0 + é1_0 + a1_0":      "a_1_0 + _1_0 + é1_0 + a1_0",
		"1__0 + 1_ + 1_a":                 "1__0 + 1_ + 1_a",
		"0x_f + 0xg_1":                    "0x_f + 0xg_1",
		"\"1_0\" + '1_0' + 1_0":           "\"1_0\" + '1_0' + 10 ",
		"\"\\\"1_0\" + r'\\'1_0'":         "\"\\\"1_0\" + r'\\'1_0'",
		"\"\"\"1_0\n\"1_0\n\"\"\" + 1_0":  "\"\"\"1_0\n\"1_0\n\"\"\" + 10 ",
		"x # it's 1_0\n1_0":               "x # it's 1_0\n10 ",
		"'open\n1_0":                      "'open\n10 ",
		"\"\"\"open\n1_0":                 "\"\"\"open\n1_0",
		"x[1_0:2_0].y_1 - 1_0 -1_0":       "x[10 :20 ].y_1 - 10  -10 ",
		"0xe_1+1_0 + 'a\\":                "0xe1 +10  + 'a\\",
		"\"\" + 1_0 + '' + 2_0 + 3_0 # _": "\"\" + 10  + '' + 20  + 30  # _",
	} {
		if got := string(plainNumbers([]byte(text))); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
