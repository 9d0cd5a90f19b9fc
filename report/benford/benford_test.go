// SPDX-License-Identifier: BSD-2-Clause

package benford

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files anew")

func near(a, b, within float64) bool { return math.Abs(a-b) <= within }

// TestLaw compares with the constants of Nigrini's tables.
func TestLaw(t *testing.T) {
	for w, want := range map[Which][]float64{
		First:  {.30103, .17609, .12494, .09691, .07918, .06695, .05799, .05115, .04576},
		Second: {.11968, .11389, .10882, .10433, .10031, .09668, .09337, .09035, .08757, .08500},
	} {
		_, got := law(w, 10)
		if len(got) != len(want) {
			t.Fatalf("%s: %d digits", w, len(got))
		}
		for i := range want {
			if !near(got[i], want[i], .000006) {
				t.Errorf("%s: %d has %.6f, want %.5f", w, i, got[i], want[i])
			}
		}
	}
	if lowest, got := law(FirstTwo, 10); lowest != 10 || len(got) != 90 || !near(got[0], .04139, .00001) || !near(got[89], .00436, .00001) {
		t.Errorf("first two: %d, %d, %v", lowest, len(got), got[0])
	}
	for base := MinBase; base <= MaxBase; base++ {
		for _, w := range []Which{First, Second, FirstTwo} {
			sum := 0.0
			_, expected := law(w, base)
			for _, e := range expected {
				sum += e
			}
			if !near(sum, 1, 1e-12) {
				t.Errorf("base %d, %s: the shares add up to %v", base, w, sum)
			}
		}
	}
}

// TestChiSquare compares with the usual table of critical values.
func TestChiSquare(t *testing.T) {
	for _, tt := range []struct{ x, df, p float64 }{
		{15.507, 8, .05}, {20.090, 8, .01}, {16.919, 9, .05}, {21.666, 9, .01}, {112.022, 89, .05}, {122.942, 89, .01}, {3.841, 1, .05}, {0, 8, 1}, {8, 8, .43347},
	} {
		if got := chiTail(tt.x, tt.df); !near(got, tt.p, .0001) {
			t.Errorf("%v with %v: %v, want %v", tt.x, tt.df, got, tt.p)
		}
	}
}

func TestLeadingDigits(t *testing.T) {
	for _, tt := range []struct{ n, base, first, two uint64 }{
		{1, 10, 1, 0}, {9, 10, 9, 0}, {10, 10, 1, 10}, {99, 10, 9, 99}, {100, 10, 1, 10}, {48211, 10, 4, 48}, {math.MaxUint64, 10, 1, 18},
		{255, 16, 15, 255}, {256, 16, 1, 16}, {35, 36, 35, 0}, {8, 3, 2, 8}, {9, 3, 1, 3},
	} {
		if first, two := leading(tt.n, tt.base); first != tt.first || two != tt.two {
			t.Errorf("%d in base %d: %d, %d; want %d, %d", tt.n, tt.base, first, two, tt.first, tt.two)
		}
	}
}

// TestLeadingDigitsAgainstText: the digits are those that the number is written with.
func TestLeadingDigitsAgainstText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64Range(1, math.MaxUint64).Draw(t, "n")
		base := rapid.IntRange(MinBase, MaxBase).Draw(t, "base")
		text := formatUint(n, base)
		first, two := leading(n, uint64(base))
		if formatUint(first, base) != text[:1] || (len(text) > 1) != (two > 0) || two > 0 && formatUint(two, base) != text[:2] {
			t.Fatalf("%s: %s, %s", text, formatUint(first, base), formatUint(two, base))
		}
	})
}

func TestParseNumber(t *testing.T) {
	for _, tt := range []struct {
		in string
		n  uint64
		ok bool
	}{
		{"123", 123, true}, {" -45.6 ", 456, true}, {"0.0042", 42, true}, {"1e9", 1, true}, {"4.2E-7", 42, true}, {"1,234,567", 1234567, true}, {"1_000", 1000, true},
		{"18446744073709551616", 184467440737095516, true}, {"0", 0, true}, {"0.00", 0, true}, {"", 0, false}, {"x", 0, false}, {"0x10", 0, false}, {"inf", 0, false}, {"NaN", 0, false}, {"1.2.3", 0, false},
	} {
		if n, ok := ParseNumber(tt.in); n != tt.n || ok != tt.ok {
			t.Errorf("%q: %d, %t; want %d, %t", tt.in, n, ok, tt.n, tt.ok)
		}
	}
}

// sets are numbers whose digits are known.
func sets() map[string]struct {
	numbers []uint64
	want    map[Which]string
} {
	random := rand.New(rand.NewPCG(1, 2))
	var powers, fibonacci, uniform, sizes, few []uint64
	for i := range 30_000 {
		// 2^i for i beyond 64 has the first digits of 10^(17 + the fraction of i*log10(2)).
		_, fraction := math.Modf(float64(i) * math.Log10(2))
		powers = append(powers, uint64(math.Pow(10, 17+fraction)))
	}
	a, b := 1.0, 1.0
	for range 1_400 {
		fibonacci = append(fibonacci, uint64(a/math.Pow(10, math.Floor(math.Log10(a))-15)))
		a, b = b, a+b
	}
	for range 50_000 {
		uniform = append(uniform, 1+random.Uint64N(999_999))
		sizes = append(sizes, uint64(math.Exp(9+2.2*random.NormFloat64()))+1)
	}
	few = sizes[:500]
	type set = struct {
		numbers []uint64
		want    map[Which]string
	}
	return map[string]set{
		"powers of two":   {powers, map[Which]string{First: Close, Second: Close, FirstTwo: Close}},
		"Fibonacci":       {fibonacci, map[Which]string{First: TooFew, Second: Close, FirstTwo: TooFew}},
		"uniform":         {uniform, map[Which]string{First: Deviates, Second: Acceptable, FirstTwo: Deviates}},
		"sizes of mail":   {sizes, map[Which]string{First: Close, Second: Close, FirstTwo: Close}},
		"five hundred":    {few, map[Which]string{First: TooFew, Second: TooFew, FirstTwo: TooFew}},
		"none":            {nil, map[Which]string{First: TooFew, Second: TooFew, FirstTwo: TooFew}},
		"one number only": {slicesRepeat(7_123, 20_000), map[Which]string{First: Deviates, Second: Deviates, FirstTwo: Deviates}},
	}
}

func slicesRepeat(n uint64, times int) []uint64 {
	out := make([]uint64, times)
	for i := range out {
		out[i] = n
	}
	return out
}

func TestVerdicts(t *testing.T) {
	for name, set := range sets() {
		for w, want := range set.want {
			c := NewCount(w, 10)
			for _, n := range set.numbers {
				c.Add(n)
			}
			r := c.Result(name)
			if r.Verdict != want {
				t.Errorf("%s, %s: %q (MAD %.4f, floor %.4f), want %q", name, w, r.Verdict, r.MAD, r.Floor, want)
			}
			says := map[string]string{Close: "closely: MAD 0.", Acceptable: "acceptably: MAD 0.", Deviates: "do not conform to Benford's law: MAD 0.",
				TooFew: fmt.Sprintf(": too few to tell, at least %d are needed", Enough(w))}[want]
			if !strings.Contains(r.Sentence(), says) {
				t.Errorf("%s, %s: %q, want %q", name, w, r.Sentence(), says)
			}
		}
	}
}

// TestBounds: a deviation as large as a bound is still within it; as much noise as the lowest
// bound leaves a verdict, more does not.
func TestBounds(t *testing.T) {
	for want, r := range map[string]Result{
		Close + "1": {MAD: .006}, Acceptable + "1": {MAD: .0061}, Acceptable + "2": {MAD: .012}, Marginal + "1": {MAD: .0121}, Marginal + "2": {MAD: .015}, Deviates: {MAD: .0151},
		Close + "2": {Floor: .006}, TooFew: {Floor: .0061},
	} {
		r.Base, r.N = 10, 1
		if got := r.judge(First); got != strings.TrimRight(want, "12") {
			t.Errorf("%s: %+v is %q", want, r, got)
		}
	}
	if r := (&Result{Verdict: Marginal, MAD: .013}); r.Sentence() != "The digits conform to Benford's law marginally: MAD 0.0130." {
		t.Error(r.Sentence())
	}
	if r := (&Result{Verdict: NoBounds, MAD: .03, Floor: .01}); !strings.HasPrefix(r.Sentence(), "The deviation is 3.0 times") {
		t.Error(r.Sentence())
	}
}

// TestWhich: the words of the command line are those of the output.
func TestWhich(t *testing.T) {
	for word, want := range map[string]Which{"first": First, "second": Second, "first-two": FirstTwo} {
		if got, err := ParseWhich(word); err != nil || got != want || got.String() != word {
			t.Errorf("%s: %v, %v", word, got, err)
		}
	}
	if _, err := ParseWhich("third"); err == nil {
		t.Error("third digits are known")
	}
}

// TestZipf: numbers whose ranks follow Zipf's law have other digits than Benford's; in base 16
// there are no bounds, but the deviation is many times what chance makes.
func TestZipf(t *testing.T) {
	zipf := rand.NewZipf(rand.New(rand.NewPCG(3, 4)), 1.5, 1, 1<<40)
	c, hex := NewCount(First, 10), NewCount(First, 16)
	for range 50_000 {
		n := zipf.Uint64() + 1
		c.Add(n)
		hex.Add(n)
	}
	if r := c.Result("ranks"); r.Verdict != Deviates {
		t.Errorf("%+v", r)
	}
	if r := hex.Result("ranks"); r.Verdict != NoBounds || r.MAD < 3*r.Floor || len(r.Rows) != 15 || r.Rows[14].Digit != "f" {
		t.Errorf("%+v", r)
	}
}

// TestEnough compares with the numbers that the noise floor was worked out to.
func TestEnough(t *testing.T) {
	for w, want := range map[Which]int{First: 1533, Second: 892, FirstTwo: 4373} {
		if got := Enough(w); !near(float64(got), float64(want), float64(want)/100) {
			t.Errorf("%s: %d, want about %d", w, got, want)
		}
	}
}

func TestWhatIsLeftOut(t *testing.T) {
	c := NewCount(Second, 10)
	for _, n := range []uint64{0, 0, 5, 10, 99, 1234} {
		c.Add(n)
	}
	r := c.Result("x")
	if r.N != 3 || r.Zeros != 2 || r.Short != 1 || r.Rows[0].Count != 1 || r.Rows[9].Count != 1 || r.Rows[2].Count != 1 {
		t.Errorf("%+v", r)
	}
	for _, want := range []string{"left out    2 that are 0\n", "left out    1 with one digit only\n"} {
		if got := text(t, r); !strings.Contains(got, want) {
			t.Errorf("%q is not in %s", want, got)
		}
	}
	c = NewCount(First, 10)
	c.Add(7)
	if got := text(t, c.Result("x")); strings.Contains(got, "left out") || !strings.Contains(got, "Nine of ten numbers are between 7 and 7") {
		t.Error(got)
	}
}

func text(t *testing.T, r *Result) string {
	t.Helper()
	var out bytes.Buffer
	if err := r.Text(&out, 80, true); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// full takes no output.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// TestOutputThatFails: a disk that is full is an error of each output.
func TestOutputThatFails(t *testing.T) {
	r := NewCount(First, 10).Result("x")
	for name, write := range map[string]func(io.Writer) error{"SVG": r.SVG, "HTML": r.HTML, "CSV": r.CSV, "text": func(out io.Writer) error { return r.Text(out, 80, false) }} {
		if err := write(full{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestPercentiles(t *testing.T) {
	c := NewCount(First, 10)
	for n := range uint64(100_000) {
		c.Add(n + 1)
	}
	r := c.Result("x")
	for _, p := range []struct {
		got  uint64
		want float64
	}{{r.P5, 5_000}, {r.Median, 50_000}, {r.P95, 95_000}} {
		if math.Abs(float64(p.got)/p.want-1) > 1.0/16 {
			t.Errorf("%d, want about %.0f", p.got, p.want)
		}
	}
	if r.Caution() == "" {
		t.Error("no caution at 1.3 decades")
	}
	for n := uint64(1); ; n += n/2 + 1 { // small and great ones alike
		c := NewCount(First, 10)
		c.Add(n)
		if got := c.Result("x").Median; got > n || n-got > n/16 {
			t.Errorf("the median of %d alone is %d", n, got)
		}
		if n > math.MaxUint64/2 {
			break
		}
	}
}

// TestCaution: from two decades on there is none, and none where there are no numbers.
func TestCaution(t *testing.T) {
	for r, want := range map[*Result]bool{{}: false, {N: 9, Decades: 1.9}: true, {N: 9, Decades: 2}: false} {
		if got := r.Caution() != ""; got != want {
			t.Errorf("%+v: %v", r, got)
		}
	}
}

// TestGolden: the outputs of one set, octet by octet.
func TestGolden(t *testing.T) {
	sizes := sets()["sizes of mail"].numbers
	for _, w := range []Which{First, FirstTwo} {
		c := NewCount(w, 10)
		for _, n := range sizes {
			c.Add(n)
		}
		r := c.Result(`Sizes of <b>"mail"</b>`)
		for name, write := range map[string]func(io.Writer) error{
			"svg": r.SVG, "html": r.HTML, "csv": r.CSV,
			"txt":       func(out io.Writer) error { return r.Text(out, 100, false) },
			"ascii.txt": func(out io.Writer) error { return r.Text(out, 80, true) },
		} {
			var out bytes.Buffer
			if err := write(&out); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", w.String()+"."+name)
			if *update {
				if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil || out.String() != string(want) {
				t.Errorf("%s is another (%v); run with -update and look at the difference", path, err)
			}
			if strings.Contains(out.String(), "<b>") && name != "txt" && name != "ascii.txt" {
				t.Errorf("%s: a title becomes markup", name)
			}
			if name == "svg" {
				wellFormed(t, out.Bytes())
			}
		}
	}
}

func wellFormed(t *testing.T, data []byte) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(data))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Errorf("not XML: %v", err)
			return
		}
	}
}

// TestEmptyOutputs: nothing to count is no reason to fail.
func TestEmptyOutputs(t *testing.T) {
	r := NewCount(First, 36).Result("nothing")
	for _, write := range []func(io.Writer) error{r.SVG, r.HTML, r.CSV, func(out io.Writer) error { return r.Text(out, 0, false) }} {
		var out bytes.Buffer
		if err := write(&out); err != nil || out.Len() == 0 || strings.Contains(out.String(), "NaN") || strings.Contains(out.String(), "Inf") {
			t.Errorf("%v: %s", err, out.String())
		}
	}
}

func TestGroups(t *testing.T) {
	g := NewGroups(First, 10)
	all := sets()
	for name, group := range map[string]string{"uniform": "bad.example", "sizes of mail": "good.example", "five hundred": "few.example"} {
		for _, n := range all[name].numbers {
			g.Add(group, n)
		}
	}
	for _, n := range all["five hundred"].numbers {
		g.Add("few.example.net", n)
		g.Add("few.example.org", n)
	}
	table := g.Table("domain", "Sizes", 2)
	if table.Rows[0].Cells[0] != "bad.example" || table.Rows[1].Cells[0] != "good.example" || table.More != 3 {
		t.Errorf("%+v", table)
	}
	if table = g.Table("domain", "Sizes", 0); len(table.Rows) != 5 || table.Rows[2].Cells[0] != "few.example" || table.Rows[4].Cells[0] != "few.example.org" {
		t.Errorf("%+v", table)
	}
	for i := range maxGroups + 10 {
		g.Add(formatUint(uint64(i), 10), 1)
	}
	if g.Beyond() != 15 {
		t.Errorf("%d beyond the bound", g.Beyond())
	}
}

func formatUint(n uint64, base int) string {
	return strings.ToLower(string(appendUint(nil, n, uint64(base))))
}

func appendUint(out []byte, n, base uint64) []byte {
	if n >= base {
		out = appendUint(out, n/base, base)
	}
	return append(out, "0123456789abcdefghijklmnopqrstuvwxyz"[n%base])
}

func BenchmarkAdd(b *testing.B) {
	c := NewCount(First, 10)
	n := uint64(1)
	for b.Loop() {
		c.Add(n)
		n = n*6364136223846793005 + 1
	}
}
