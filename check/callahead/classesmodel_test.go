// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rcptgate"
	"rcptgate/backend"
)

// refusal is one reason of a random server, in unknown words.
type refusal struct {
	code     int
	enhanced string
	text     string
}

func (r refusal) say(p backend.Probe) *said {
	return said{code: r.code, enhanced: r.enhanced, text: r.text}.filled(p)
}

// randomRefusal draws a code and a text. No word of it is one that the lists have.
func randomRefusal(alphabet []rune) *rapid.Generator[refusal] {
	word := rapid.StringOfN(rapid.SampledFrom(alphabet), 2, 7, -1)
	place := rapid.SampledFrom([]string{"{R}", "<{R}>", "{L}", "({I})", "{T}", "[{A}]", "https://x.example/{I}?{R}", "„{R}“", "「{L}」"})
	return rapid.Custom(func(t *rapid.T) refusal {
		r := refusal{
			code:     rapid.SampledFrom([]int{550, 551, 553, 554, 571, 501}).Draw(t, "code"),
			enhanced: rapid.SampledFrom([]string{"", "", "5.0.0", "5.1.1", "5.7.1", "5.2.1", "5.1.6", "5.3.0", "5.4.1", "5.1.2"}).Draw(t, "enhanced"),
		}
		words := rapid.SliceOfN(word, 3, 8).Draw(t, "words")
		for range rapid.IntRange(0, 3).Draw(t, "places") {
			words[rapid.IntRange(0, len(words)-1).Draw(t, "at")] += " " + place.Draw(t, "place")
		}
		r.text = strings.Join(words, " ")
		return r
	})
}

// Servers with random texts, of which the truth is known: no recipient is refused for
// good that exists, and none that is absent is taken; each is answered right
// after at most one control question about a shape, unless there have been too many.
func TestRandomServers(t *testing.T) {
	alphabets := [][]rune{[]rune("zxqkvjw"), []rune("αβγδεζηθ"), []rune("öäüßzxq"), []rune("一丁丂七丄丅丆万")}
	rapid.Check(t, func(rt *rapid.T) {
		alphabet := rapid.SampledFrom(alphabets).Draw(rt, "alphabet")
		absent, own, us, sender := randomRefusal(alphabet).Draw(rt, "absent"), randomRefusal(alphabet).Draw(rt, "own"),
			randomRefusal(alphabet).Draw(rt, "us"), randomRefusal(alphabet).Draw(rt, "sender")
		if sender.enhanced == "5.1.1" {
			sender.enhanced = "5.7.1" // the first question of all has nothing to be compared with
		}
		distinct := make(map[shapeID]bool)
		for _, r := range []refusal{absent, own, us, sender} {
			s := shapeIn("rcptgatexyz@example.com", r.code, r.enhanced, r.say(backend.Probe{Recipient: query("rcptgatexyz@example.com").Recipient}).text)
			distinct[s.id] = true
		}
		if len(distinct) != 4 {
			rt.Skip("two reasons have one shape")
		}
		refusesNull := rapid.Bool().Draw(rt, "refuses the null sender")
		steps := rapid.SliceOfN(rapid.SampledFrom([]string{"exists", "absent", "own", "us", "well", "minute", "hour", "restart"}), 1, 30).Draw(rt, "steps")
		fault := ""
		inBubble(t, nil, func(_ *testing.T, w *world) {
			b := w.backend(at1)
			refusesUs := false
			b.decide = func(p backend.Probe) *said {
				switch {
				case refusesUs:
					return us.say(p)
				case refusesNull && p.Sender == "":
					return sender.say(p)
				case strings.HasPrefix(p.Recipient.Local, "exists"):
					return &good
				case strings.HasPrefix(p.Recipient.Local, "own"):
					return own.say(p)
				}
				return absent.say(p)
			}
			w.ask("exists@example.com")
			settle()
			for i, step := range steps {
				before := w.state.Stats().Controls
				name := fmt.Sprintf("%s%d@example.com", step, rand.IntN(1e9))
				v := rcptgate.Verdict{}
				switch step {
				case "us", "well":
					b.mu.Lock()
					refusesUs = step == "us"
					b.mu.Unlock()
					time.Sleep(controlApart)
					continue
				case "minute":
					time.Sleep(time.Minute)
					continue
				case "hour":
					time.Sleep(time.Hour)
					continue
				case "restart":
					w.restart()
					w.memory.source = "disk"
					w.ask("exists@example.com")
					w.memory.source = ""
					continue
				}
				spent := w.state.spent(pair{at1, "example.com"})
				v = w.ask(name)
				settle()
				spent = spent || w.state.spent(pair{at1, "example.com"})
				want := rcptgate.Reject
				switch {
				case refusesUs:
					want = rcptgate.Tempfail
				case step == "exists":
					want = rcptgate.Continue
				}
				if v.Action != want && !(spent && v.Action == rcptgate.Tempfail) {
					fault = fmt.Sprintf("step %d %s: %v %d %s (%s), want %v\n%s", i, step, v.Action, v.Code, v.Text, v.Reason, want, w.log)
					return
				}
				if n := w.state.Stats().Controls - before; n > 3 { // one about each of: the reply, the one with the other sender, the made-up recipient's
					fault = fmt.Sprintf("step %d %s: %d control questions", i, step, n)
					return
				}
			}
		})
		if fault != "" {
			rt.Fatal(fault)
		}
	})
}
