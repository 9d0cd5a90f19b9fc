// SPDX-License-Identifier: BSD-2-Clause

package benford

import (
	_ "embed"
	"html/template"
	"io"
	"math"
	"strconv"

	"rcptgate/view"
)

//go:embed graph.svg
var svgText string

//go:embed page.html
var pageText string

// The graph's measures, in the units of its viewBox (640 by 320).
const (
	plotLeft, plotTop     = 48.0, 24.0
	plotWidth, plotHeight = 576.0, 248.0
)

// drawing is a result in the graph's coordinates.
type drawing struct {
	*Result
	Title, Summary string
	Bars           []drawnBar
	Line           string // the law, as points of a polyline
	Ticks          []drawnTick
}

type drawnBar struct {
	X, Y, Width, Height float64
	Middle              float64
	Low, High           float64 // of the 95 % band around the law
	Expected            float64
	Label               string // "" where there is no room for one
	Tip                 string
}

type drawnTick struct {
	Y    float64
	Text string
}

// SVG writes the graph: the shares as bars, the law as a line with the band that 95 of 100
// perfect sets of as many numbers stay in. The same result gives the same octets.
func (r *Result) SVG(w io.Writer) error {
	return template.Must(template.New("svg").Parse(svgText)).Execute(w, r.draw())
}

// HTML writes one page with the graph and the table; it needs no other file and runs nothing.
func (r *Result) HTML(w io.Writer) error {
	t := template.Must(template.New("page").Parse(pageText))
	template.Must(t.New("svg").Parse(svgText))
	return t.Execute(w, r.draw())
}

func (r *Result) draw() drawing {
	top := 0.0
	for _, d := range r.Rows {
		top = max(top, d.Share, d.Expected+band(d.Expected, r.N))
	}
	step := tickStep(top)
	top = math.Ceil(top/step) * step
	y := func(share float64) float64 { return round(plotTop + plotHeight*(1-share/top)) }
	out := drawing{Result: r, Title: view.Clean(r.What) + ": leading digits and Benford's law", Summary: r.Sentence()}
	for s := 0.0; s <= top*1.0001; s += step {
		out.Ticks = append(out.Ticks, drawnTick{y(s), percent(s, step)})
	}
	slot := plotWidth / float64(len(r.Rows))
	every := int(math.Ceil(22 / slot)) // labels need room
	for i, d := range r.Rows {
		b := drawnBar{X: round(plotLeft + slot*(float64(i)+.15)), Width: round(slot * .7), Y: y(d.Share), Middle: round(plotLeft + slot*(float64(i)+.5)),
			Low: y(max(d.Expected-band(d.Expected, r.N), 0)), High: y(d.Expected + band(d.Expected, r.N)), Expected: y(d.Expected),
			Tip: d.Digit + ": " + percent(d.Share, .001) + ", expected " + percent(d.Expected, .001)}
		b.Height = round(y(0) - b.Y)
		if i%every == 0 {
			b.Label = d.Digit
		}
		out.Bars = append(out.Bars, b)
		out.Line += formatFloat(b.Middle, 2) + "," + formatFloat(b.Expected, 2) + " "
	}
	return out
}

// band is half the width of the band that chance leaves to a share.
func band(expected float64, n uint64) float64 {
	if n == 0 {
		return 0
	}
	return 1.96 * math.Sqrt(expected*(1-expected)/float64(n))
}

// tickStep is the distance of the lines: 1, 2 or 5 times a power of ten, at most eight lines.
func tickStep(top float64) float64 {
	if top <= 0 {
		return 1
	}
	for power := math.Pow(10, math.Floor(math.Log10(top))-1); ; power *= 10 {
		for _, f := range []float64{1, 2, 5} {
			if top/(f*power) <= 8 {
				return f * power
			}
		}
	}
}

func percent(share, step float64) string {
	decimals := max(0, int(math.Ceil(-math.Log10(step)-2-1e-9)))
	return formatFloat(share*100, decimals) + " %"
}

func formatFloat(f float64, decimals int) string { return strconv.FormatFloat(f, 'f', decimals, 64) }

func round(f float64) float64 { return math.Round(f*100) / 100 }
