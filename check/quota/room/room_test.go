// SPDX-License-Identifier: BSD-2-Clause

package room

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"rcptgate/kit/testkit"
)

const (
	kb = int64(1000)
	mb = 1000 * kb
	gb = 1000 * mb
)

var rules = Rules{Soft: 0.9, Keep: time.Hour, FullKeep: 5 * time.Minute}

// numbers is what a store says about a message of size.
func numbers(used, hard, size int64) Answer {
	a := Of(Room)
	a.Used, a.Hard = used, hard
	if hard > 0 && used+max(size, 1) > hard {
		a.State = Full
	}
	return a
}

// box is an entry with a clock.
type box struct {
	Entry
	now Tick
}

func (b *box) after(d time.Duration) *box { b.now += ticks(d); return b }

// learn has the store say a, about a message of size.
func (b *box) learn(a Answer, size int64) Learnt { return b.Learn(a, size, b.now, 1, &rules) }

// says asks memory about a message, and takes it if there is room.
func (b *box) says(size int64) Use {
	use := b.Serve(b.now, size)
	if use == UseRoom {
		b.Debit(b.now, size)
	}
	return use
}

func newBox() *box { return &box{now: 100} }

// TestLifeOfRoom: a mailbox far from full is asked about once an hour, one that is nearly
// full or fills fast sooner, and one above its soft limit for every message.
func TestLifeOfRoom(t *testing.T) {
	for name, c := range map[string]struct {
		before, used int64         // two answers
		apart        time.Duration // between them
		holds        time.Duration // the second
	}{
		"empty":                       {0, 0, time.Hour, time.Hour},
		"30 MB a day":                 {0, 30 * mb, 24 * time.Hour, time.Hour},
		"half full, fills in minutes": {0, 500 * mb, 10 * time.Minute, 2 * time.Minute},
		"85 %, 1 MB a second":         {790 * mb, 850 * mb, time.Minute, 12500 * time.Millisecond},
		"fast, just below":            {0, 899 * mb, 10 * time.Second, 10 * time.Second},
		"shrinks":                     {800 * mb, 100 * mb, time.Hour, time.Hour},
		"89 %, does not grow":         {890 * mb, 890 * mb, time.Hour, time.Hour},
	} {
		b := newBox()
		b.learn(numbers(c.before, gb, 1), 1)
		b.after(c.apart).learn(numbers(c.used, gb, 1), 1)
		if b.after(c.holds-200*time.Millisecond).Serve(b.now, 1) != UseRoom {
			t.Errorf("%s: does not hold for %v", name, c.holds)
		}
		if b.after(400*time.Millisecond).Serve(b.now, 1) != Ask {
			t.Errorf("%s: holds longer than %v", name, c.holds)
		}
	}
}

func TestAboveSoftEveryMessageAsks(t *testing.T) {
	b := newBox()
	b.learn(numbers(950*mb, gb, 1), 1)
	for range 5 {
		if use := b.after(gap.duration()).says(1); use != Ask {
			t.Fatalf("%v", use)
		}
		b.learn(numbers(950*mb, gb, 1), 1)
	}
}

func (t Tick) duration() time.Duration { return time.Duration(t) * 100 * time.Millisecond }

// TestBySize: 100 kB are left.
func TestBySize(t *testing.T) {
	b := newBox()
	if l := b.learn(numbers(99_900*kb, 100*mb, 50*kb), 50*kb); l.Use != UseRoom {
		t.Fatal(l.Use)
	}
	if l := b.after(3*time.Second).learn(numbers(99_900*kb, 100*mb, 200*kb), 200*kb); l.Use != UseFull {
		t.Fatal(l.Use)
	}
	if use := b.says(200 * kb); use != UseFull {
		t.Error("the refusal is not remembered: ", use)
	}
	if use := b.says(50 * kb); use != UseRoom {
		t.Error("50 kB: ", use)
	}
	if use := b.says(60 * kb); use != Ask { // after the 50 kB
		t.Error("60 kB: ", use)
	}
}

// TestAnswer: what one answer means for the size it was asked about.
func TestAnswer(t *testing.T) {
	word := func(s State, used, hard int64) Answer { a := Of(s); a.Used, a.Hard = used, hard; return a }
	count := func(n, most int64) Answer {
		a := numbers(mb, gb, 1)
		a.Count, a.MaxCount = n, most
		return a
	}
	large := Of(Full)
	large.TooLarge = true
	for name, c := range map[string]struct {
		answer Answer
		size   int64
		use    Use
	}{
		"fits":                             {numbers(50*mb, 100*mb, mb), mb, UseRoom},
		"fits exactly":                     {numbers(99*mb, 100*mb, mb), mb, UseRoom},
		"one octet too many":               {numbers(99*mb, 100*mb, mb+1), mb + 1, UseFull},
		"exactly at the limit":             {numbers(100*mb, 100*mb, 1), 0, UseFull},
		"twice the limit (Trash)":          {numbers(200*mb, 100*mb, 1), 1, UseFull},
		"larger than the mailbox":          {numbers(0, 10*mb, 20*mb), 20 * mb, UseTooLarge},
		"tiny limit, larger: doubted":      {numbers(0, 500*kb, 600*kb), 600 * kb, UseRoom},
		"tiny limit, above it":             {numbers(600*kb, 500*kb, 1), 1, UseFull},
		"tiny limit, at it":                {numbers(500*kb, 500*kb, 1), 1, UseFull},
		"tiny limit, at it, larger":        {numbers(500*kb, 500*kb, 600*kb), 600 * kb, UseRoom},
		"tiny limit, above it, larger":     {numbers(501*kb, 500*kb, 600*kb), 600 * kb, UseFull},
		"tiny limit, fits":                 {numbers(200*kb, 300*kb, 100*kb), 100 * kb, UseRoom},
		"tiny limit, does not fit":         {numbers(200*kb, 300*kb, 200*kb), 200 * kb, UseFull},
		"hundredfold":                      {numbers(200*gb, gb, 2*gb), 2 * gb, UseFull},
		"no limit":                         {numbers(50*mb, 0, 20*gb), 20 * gb, UseRoom},
		"limit not known":                  {word(Room, 50*mb, NotKnown), mb, UseRoom},
		"negative":                         {word(Room, -50*mb, 100*mb), mb, UseRoom},
		"the word against the numbers":     {word(Full, mb, 100*mb), mb, UseFull},
		"the numbers against the word":     {word(Room, 100*mb, 100*mb), mb, UseRoom},
		"count reached":                    {count(1000, 1000), 1, UseFull},
		"one more message":                 {count(999, 1000), 1, UseRoom},
		"yes":                              {Of(Room), mb, UseRoom},
		"no":                               {Of(Full), mb, UseFull},
		"too large, by the store":          {large, mb, UseTooLarge},
		"unknown":                          {Of(Unknown), mb, UseUnknown},
		"absurd size":                      {numbers(0, gb, 1<<62), 1 << 62, UseTooLarge},
		"absurd numbers":                   {numbers(1<<62, 1<<62, 1), 1, UseFull},
		"limit not known, word full":       {word(Full, 50*mb, NotKnown), mb, UseFull},
		"no limit, word full":              {word(Full, 50*mb, 0), mb, UseFull},
		"tiny limit, word full but unused": {word(Full, 0, 500*kb), 600 * kb, UseRoom},
	} {
		b := newBox()
		if l := b.learn(c.answer, c.size); l.Use != c.use {
			t.Errorf("%s: %d, want %d", name, l.Use, c.use)
		}
		if use := b.Serve(b.now, c.size); use != c.use && use != Ask {
			t.Errorf("%s: memory says %d, want %d", name, use, c.use)
		}
	}
}

// TestLifeOfFull: a mailbox that is newly full is asked about after 25 s, one that has been
// for long after five minutes. One that is emptied is let in when it is next asked about.
func TestLifeOfFull(t *testing.T) {
	for _, c := range []struct{ since, holds time.Duration }{
		{0, 25 * time.Second}, {4 * time.Minute, 25 * time.Second}, {20 * time.Minute, 2 * time.Minute}, {10 * time.Hour, 5 * time.Minute},
	} {
		for name, a := range map[string]Answer{"numbers": numbers(gb, gb, 1), "word": Of(Full)} {
			b := newBox()
			b.learn(a, 1)
			b.after(c.since).learn(a, 1)
			if b.after(c.holds-200*time.Millisecond).Serve(b.now, 1) != UseFull {
				t.Errorf("%s, full for %v: forgotten before %v", name, c.since, c.holds)
			}
			if b.after(400*time.Millisecond).Serve(b.now, 1) != Ask {
				t.Errorf("%s, full for %v: refuses after %v without asking", name, c.since, c.holds)
			}
			if l := b.learn(numbers(gb/2, gb, 1), 1); l.Use != UseRoom || b.Serve(b.now, mb) != UseRoom {
				t.Errorf("%s: emptied, and still %v", name, l.Use)
			}
		}
	}
}

// TestDebitNeverRefuses: what was let through makes the mailbox ask, and never refuses.
func TestDebitNeverRefuses(t *testing.T) {
	b := newBox()
	b.learn(numbers(0, 100*mb, 1), 1)
	took := 0
	for b.says(mb) == UseRoom {
		if took++; took > 1000 {
			t.Fatal("debits do not count")
		}
	}
	if took != 100 { // within 2 s of the answer, all of the room; never more
		t.Errorf("took %d MB of 100 without asking", took)
	}
	if use := b.Serve(b.now, mb); use != Ask {
		t.Errorf("a debit has refused: %v", use)
	}
	if use := b.Serve(b.now, 1<<50); use != UseTooLarge {
		t.Errorf("%v", use)
	}
	b.after(3*time.Second).learn(numbers(10*mb, 100*mb, mb), mb) // 90 MB are on their way
	if use := b.Serve(b.after(3*time.Second).now, mb); use != Ask {
		t.Errorf("what was on its way is forgotten: %v", use)
	}
	b.after(3*time.Minute).learn(numbers(10*mb, 100*mb, mb), mb)
	if use := b.Serve(b.after(3*time.Second).now, mb); use != UseRoom {
		t.Errorf("what never came is held against it: %v", use)
	}
}

// TestHugeSizesDoNotForceQuestions: whoever says huge sizes and sends nothing makes two
// questions within the two seconds that questions share an answer.
func TestHugeSizesDoNotForceQuestions(t *testing.T) {
	b := newBox()
	asked := 0
	for range 1000 { // in a second and a half
		if b.says(90*mb) == Ask {
			asked++
			b.learn(numbers(10*mb, 100*mb, 90*mb), 90*mb)
		}
		if asked > 0 && b.now < 115 {
			b.now++
		}
	}
	if asked > 2 {
		t.Errorf("%d questions", asked)
	}
}

// TestBounds: a source without numbers says of which size it speaks, and nothing of larger
// ones.
func TestBounds(t *testing.T) {
	b := newBox()
	b.learn(Of(Room), mb)
	for size, want := range map[int64]Use{1: UseRoom, mb: UseRoom, mb + 1: Ask} {
		if use := b.Serve(b.now, size); use != want {
			t.Errorf("room for 1 MB: %d is %v", size, use)
		}
	}
	b.learn(Of(Full), 20*mb)
	for size, want := range map[int64]Use{1: UseRoom, mb: UseRoom, 10 * mb: Ask, 20 * mb: UseFull, 30 * mb: UseFull} {
		if use := b.Serve(b.now, size); use != want {
			t.Errorf("room for 1 MB, not for 20 MB: %d is %v", size, use)
		}
	}
	b.after(31 * time.Second) // the refusal has ended, the room has not
	for size, want := range map[int64]Use{mb: UseRoom, 20 * mb: Ask} {
		if use := b.Serve(b.now, size); use != want {
			t.Errorf("later: %d is %v", size, use)
		}
	}
	b.learn(Of(Full), 500*kb) // it filled up
	for size, want := range map[int64]Use{1: Ask, 500 * kb: UseFull, mb: UseFull} {
		if use := b.Serve(b.now, size); use != want {
			t.Errorf("filled up: %d is %v", size, use)
		}
	}
}

// TestLifeOfBounds: a minute, doubled up to ten while nothing is refused for a day.
func TestLifeOfBounds(t *testing.T) {
	b := newBox()
	holds := func() (d time.Duration) {
		for b.Serve(b.now, 1) == UseRoom {
			b.now += 10
			d += time.Second
		}
		return d
	}
	for i, want := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 10 * time.Minute, 10 * time.Minute} {
		b.learn(Of(Room), 1)
		if d := holds(); d != want {
			t.Errorf("answer %d holds for %v, want %v", i, d, want)
		}
	}
	b.learn(Of(Full), 1)
	b.after(time.Minute)
	for range 3 {
		b.learn(Of(Room), 1)
		if d := holds(); d != time.Minute {
			t.Errorf("after a refusal it holds for %v", d)
		}
	}
	b.after(25 * time.Hour)
	b.learn(Of(Room), 1)
	if d := holds(); d != 2*time.Minute {
		t.Errorf("a day after the refusal it holds for %v", d)
	}
}

// TestSourceLimitsKeeping: age and keep of the source shorten what is kept.
func TestSourceLimitsKeeping(t *testing.T) {
	for name, c := range map[string]struct {
		age, keep, holds time.Duration
	}{
		"keep": {0, 30 * time.Second, 30 * time.Second}, "age": {50 * time.Minute, 0, 10 * time.Minute}, "old": {2 * time.Hour, 0, 0},
	} {
		b := newBox()
		a := numbers(0, gb, 1)
		a.Age, a.Keep = c.age, c.keep
		b.learn(a, 1)
		b.after(gap.duration())
		var d time.Duration
		for b.Serve(b.now, 1) == UseRoom {
			b.now += 10
			d += time.Second
		}
		if d += gap.duration(); d > max(c.holds, gap.duration())+time.Second || d < c.holds {
			t.Errorf("%s: holds for %v, want %v", name, d, c.holds)
		}
	}
}

// TestMessageCount: near the greatest number of messages nothing is kept.
func TestMessageCount(t *testing.T) {
	b := newBox()
	a := numbers(mb, gb, 1)
	a.Count, a.MaxCount = 950, 1000
	b.learn(a, 1)
	if use := b.Serve(b.after(gap.duration()).now, 1); use != Ask {
		t.Errorf("%v", use)
	}
	a.Count = 800 // a hundred messages to the soft limit
	b.learn(a, 1)
	if b.Serve(b.after(99*time.Second).now, 1) != UseRoom || b.Serve(b.after(2*time.Second).now, 1) != Ask {
		t.Error("100 messages to the soft limit: kept for another time than 100 s")
	}
}

// TestShrink: a limit that fell below a tenth is believed at the second answer, a minute
// later.
func TestShrink(t *testing.T) {
	b := newBox()
	b.learn(numbers(50*mb, gb, 1), 1)
	small := numbers(50*mb, 10*mb, 1)
	b.after(time.Hour)
	for _, at := range []time.Duration{0, 20 * time.Second, 30 * time.Second} {
		if l := b.after(at).learn(small, 1); l.Use != UseDoubted || !l.Shrunk || b.Serve(b.after(gap.duration()).now, 1) != Ask {
			t.Fatalf("believed after %v: %+v", at, l)
		}
	}
	if l := b.after(10*time.Second).learn(small, 1); l.Use != UseFull || l.Shrunk {
		t.Errorf("not believed after a minute: %+v", l)
	}
	b = newBox()
	b.learn(numbers(50*mb, gb, 1), 1)
	b.learn(small, 1)
	b.after(2*time.Minute).learn(numbers(50*mb, gb, 1), 1) // a slip
	if l := b.learn(small, 1); !l.Shrunk {
		t.Error("a slip was believed later")
	}
	b = newBox()
	b.learn(numbers(50*mb, gb, 1), 1)
	if l := b.learn(numbers(150*mb, 120*mb, 1), 1); l.Use != UseFull {
		t.Error("an ordinary change of the limit is not believed")
	}
	if l := b.Learn(numbers(5*mb, 2*mb, 1), 1, b.now, 2, &rules); l.Shrunk {
		t.Error("two sources were compared")
	}
}

func TestUnknown(t *testing.T) {
	b := newBox()
	b.learn(Of(Unknown), 1)
	if b.Serve(b.now, 1) != UseUnknown || b.Serve(b.after(61*time.Second).now, 1) != Ask {
		t.Error("not kept for a minute")
	}
}

// TestStorm: when many mailboxes are newly full at once, refusals are held back, and go on
// being so while that lasts.
func TestStorm(t *testing.T) {
	var s Storm
	now := Tick(100)
	boxes := make([]*box, 100)
	began := 0
	say := func(a Answer, n int, d time.Duration) (holds bool) {
		now += ticks(d)
		for _, b := range boxes[:n] {
			b.now = now
			l := b.learn(a, 1)
			holds = s.Note(&b.Entry, &l, b.now, 0.2)
			s.Turned(func(holds bool) {
				if !holds {
					t.Error("reported to be over")
				}
				began++
			})
		}
		return holds
	}
	for i := range boxes {
		boxes[i] = newBox()
	}
	well, mad := numbers(10*mb, gb, 1), numbers(600*mb, 500*mb, 1)
	if say(well, 100, 0) || say(well, 100, 20*time.Minute) {
		t.Fatal("held before anything has happened")
	}
	if say(mad, 19, 20*time.Minute) {
		t.Error("held for 19 mailboxes")
	}
	if !say(mad, 100, time.Minute) || began != 1 {
		t.Errorf("not held for a hundred, begun %d times", began)
	}
	for range 20 { // hours: nobody has mended it
		if !say(mad, 100, 10*time.Minute) {
			t.Fatal("ended although all are still full")
		}
	}
	say(well, 100, time.Minute)
	if !s.Holds(now, 0.2) || s.Holds(now+ticks(2*time.Hour), 0.2) {
		t.Error("does not end an hour after it was mended")
	}
	if s.Holds(now, 1) {
		t.Error("held with 100 %")
	}
}

// TestNoStorm: mailboxes that fill by what the gate lets through, and those that were nearly
// full, are nobody's mistake.
func TestNoStorm(t *testing.T) {
	var s Storm
	for range 100 {
		b := newBox()
		l := b.learn(numbers(0, 100*mb, 1), 1)
		s.Note(&b.Entry, &l, b.now, 0.2)
		for range 100 {
			b.Debit(b.now, mb)
		}
		l = b.after(time.Minute).learn(numbers(100*mb, 100*mb, 1), 1)
		if s.Note(&b.Entry, &l, b.now, 0.2) {
			t.Fatal("held: debits do not count")
		}
	}
}

func key(i int) string { return fmt.Sprintf("firstname.%06d@example.org", i) }

func TestTable(t *testing.T) {
	table := NewTable(1000)
	learn := func(k string, now Tick) {
		table.Update(k, func(e *Entry) { e.Learn(numbers(0, gb, 1), 1, now, 1, &rules) })
	}
	for i := range 5000 {
		learn(key(i), Tick(i+1))
		learn("often@example.org", Tick(i+1))
		if use, _ := table.Serve("often@example.org", Tick(i+1), 1); use != UseRoom {
			t.Fatalf("%d: a mailbox in use is gone", i)
		}
		if use, _ := table.Serve(key(i), Tick(i+1), 1); use != UseRoom {
			t.Fatalf("%d is not there", i)
		}
	}
	if n := table.Len(); n > 1024 || n < 900 {
		t.Errorf("%d mailboxes in a table for 1,000", n)
	}
	there := 0
	for i := range 5000 {
		if e, ok := table.Get(key(i)); ok {
			there++
			if known := e.Known(); known.Hard != gb {
				t.Fatalf("%d: %+v", i, known)
			}
		}
	}
	if there != table.Len()-1 {
		t.Errorf("%d found, %d there", there, table.Len())
	}
	table.Remove("often@example.org")
	if _, ok := table.Get("often@example.org"); ok {
		t.Error("removed, and there")
	}
	if n := table.Forget(func(string) bool { return true }); n != there || table.Len() != 0 {
		t.Errorf("%d forgotten, %d left", n, table.Len())
	}
	for i := range 5000 {
		if use, _ := table.Serve(key(i), 1, 1); use != Ask {
			t.Fatal("forgotten, and there")
		}
		learn(key(i), 1)
	}
}

// What a table says of a mailbox is what was put there last, through evictions, removals and
// names of every length.
func TestTableKeepsMailboxesApart(t *testing.T) {
	for limit, names := range map[int]int{1000: 20_000, 50_000: 20_000} {
		table, last := NewTable(limit), make(map[string]int64)
		random := rand.New(rand.NewPCG(1, uint64(limit)))
		name := func() string {
			i := random.IntN(names)
			return strings.Repeat("x", i*i%330) + fmt.Sprint(i)
		}
		for i := range int64(testkit.Rounds(60_000, 2_000_000)) {
			switch k := name(); random.IntN(6) {
			case 0:
				table.Remove(k)
				delete(last, k)
			case 1, 2:
				e, ok := table.Get(k)
				want, put := last[k]
				if ok && (!put || e.Known().Used != want) || !ok && put && limit > names {
					t.Fatalf("%.20s: %+v, %v; want %d, %v", k, e.Known(), ok, want, put)
				}
				if use, known := table.Serve(k, 100, gb); ok != (use != Ask) || ok && known.Known().Used != want {
					t.Fatalf("%.20s: %d, %+v", k, use, known.Known())
				}
			default:
				table.Update(k, func(e *Entry) { *e = Entry{}; e.Learn(numbers(gb+i, gb, 1), 1, 100, 1, &rules) })
				last[k] = gb + i
			}
		}
		n := 0
		table.Range(func(key []byte, e *Entry) {
			if n++; e.Known().Used != last[string(key)] {
				t.Fatalf("%.20s: %+v, want %d", key, e.Known(), last[string(key)])
			}
		})
		if n != table.Len() || limit > names && n != len(last) || n > limit+shardCount {
			t.Errorf("%d listed, %d there, %d put", n, table.Len(), len(last))
		}
	}
}

func TestServeDoesNotAllocate(t *testing.T) {
	table := NewTable(1000)
	table.Update("a@example.org", func(e *Entry) { e.Learn(numbers(0, gb, 1), 1, 100, 1, &rules) })
	full := "the-longest-name-that-people-have.in-the-department@students.example.org"
	table.Update(full, func(e *Entry) { e.Learn(numbers(gb, gb, 1), 1, 100, 1, &rules) })
	for key, want := range map[string]Use{"a@example.org": UseRoom, full: UseFull} {
		if use, _ := table.Serve(key, 100, 1); use != want {
			t.Errorf("%s: %d", key, use)
		}
		if n := testing.AllocsPerRun(100, func() { table.Serve(key, 100, 1) }); n > 0 {
			t.Errorf("%s: %v allocations", key, n)
		}
	}
}

// A mailbox takes at most 128 octets, also one with a name of 64 octets.
func TestBytesPerMailbox(t *testing.T) {
	if testing.Short() {
		t.Skip("fills a table")
	}
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	// What a table takes by itself counts too: names that are near the limit need a large one.
	for length, n := range map[int]int{20: testkit.Rounds(50_000, 1_000_000), 42: testkit.Rounds(50_000, 1_000_000), 64: testkit.Rounds(200_000, 1_000_000)} {
		before := heap()
		table := NewTable(n)
		for i := range n {
			name := fmt.Sprintf("first-name%d.lastname.of-the-department-of-physics", i)[:length-20] // as people have
			table.Update(fmt.Sprintf("%s%08d@example.org", name, i), func(e *Entry) { e.Learn(numbers(0, gb, 1), 1, 100, 1, &rules) })
		}
		each := float64(heap()-before) / float64(table.Len())
		t.Logf("%.1f octets each for names of %d octets, %d mailboxes", each, length, table.Len())
		if each > 128 {
			t.Errorf("%.1f octets each for names of %d", each, length)
		}
		runtime.KeepAlive(table)
	}
}

func BenchmarkServe(b *testing.B) {
	table := NewTable(200_000)
	keys := make([]string, 1<<10)
	for i := range keys {
		keys[i] = key(i)
		table.Update(keys[i], func(e *Entry) { e.Learn(numbers(0, gb, 1), 1, 100, 1, &rules) })
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			table.Serve(keys[i&(1<<10-1)], 100, 1)
		}
	})
}
