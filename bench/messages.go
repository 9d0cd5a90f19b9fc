// SPDX-License-Identifier: BSD-2-Clause

package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rcptgate"
	"rcptgate/config/setting"
	"rcptgate/front/milter"
	"rcptgate/front/milter/mta"
)

// bodySize is the size of the messages, in octets.
const bodySize = 10_000

const wantsMessages = rcptgate.WantMessage | rcptgate.WantHeader | rcptgate.WantBody

// takesMessages is a gate whose message step looks at nothing: what is measured is what handing it the message costs.
type takesMessages struct{}

func (takesMessages) Wants() rcptgate.Wants { return wantsMessages }

func (takesMessages) Ask(_ context.Context, q *rcptgate.Query) rcptgate.Verdict {
	return rcptgate.Verdict{}
}

// messages measures whole messages: the milter front, which keeps them for a step, beside an echo milter that takes the
// same frames. Both run in this process, one at a time.
func messages(ctx context.Context, b *bench, t *Table) error {
	sides := []struct {
		name  string
		serve func(context.Context, net.Listener) error
		rates []float64
	}{
		{name: "echo", serve: milter.NewEcho(wantsMessages).Serve},
		{name: "front", serve: milter.New(takesMessages{}, milter.Config{}, slog.New(slog.DiscardHandler)).Serve},
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var serving sync.WaitGroup
	defer serving.Wait()
	defer cancel()
	sockets := make([]setting.Socket, len(sides))
	for i := range sides {
		dir, err := b.newDir(sides[i].name)
		if err != nil {
			return err
		}
		sockets[i] = setting.Socket{Network: "unix", Address: filepath.Join(dir, "milter.sock")}
		ln, err := milter.Listen(ctx, sockets[i], 0, "")
		if err != nil {
			return err
		}
		serving.Go(func() { _ = sides[i].serve(ctx, ln) }) // whoever measures sees that it has ended
	}
	if err := InTurns(b.Rounds, []int{0, 1}, func(_, i int) error {
		rate, err := SendMessages(ctx, sockets[i], b.Connections, b.Each, sendUsual)
		if err != nil {
			return fmt.Errorf("%s: %w", sides[i].name, err)
		}
		sides[i].rates = append(sides[i].rates, rate)
		return nil
	}); err != nil {
		return err
	}
	echo, front := sides[0].rates, sides[1].rates
	ratio := MedianRatio(front, echo)
	t.Bar(fmt.Sprintf("messages of %d octets kept for a step, %d MTA connections", bodySize, b.Connections),
		fmt.Sprintf("%.0f messages/s, echo milter %.0f: %.2f", Median(front), Median(echo), ratio), "0.70 of an echo milter that takes bodies",
		ratio >= 0.70, map[string]float64{"front": Median(front), "echo": Median(echo), "ratio": ratio})
	return nil
}

// SendMessages sends messages over a number of connections to a milter until the time is over, and gives their rate. Send
// sends number n of its connection.
func SendMessages(ctx context.Context, socket setting.Socket, connections int, length time.Duration, send func(c *mta.Client, n int) error) (rate float64, err error) {
	var sent atomic.Int64
	var senders sync.WaitGroup
	failed := make([]error, connections)
	start := time.Now()
	for i := range failed {
		senders.Go(func() {
			c, err := mta.Dial(ctx, socket, mta.Options{})
			if err != nil {
				failed[i] = err
				return
			}
			defer c.Close() //nolint:errcheck // it has quit
			if _, failed[i] = c.Connect("client.example.net", netip.MustParseAddrPort("192.0.2.25:45678")); failed[i] != nil {
				return
			}
			for n := 0; time.Since(start) < length && failed[i] == nil && ctx.Err() == nil; n++ {
				failed[i] = send(c, n)
				sent.Add(1)
			}
		})
	}
	senders.Wait()
	return float64(sent.Load()) / time.Since(start).Seconds(), errors.Join(failed...)
}

// SendMessage sends one message, and gives the answer at its end. A refusal before that is an error.
func SendMessage(c *mta.Client, header [][2]string, body []byte) (end mta.Response, err error) {
	say := func(r mta.Response, failed error) {
		if failed == nil && r.Action.Refuses() {
			failed = fmt.Errorf("refused with %d %s", r.Code, r.Text)
		}
		err = errors.Join(err, failed)
	}
	say(c.Mail("s@example.net", nil))
	say(c.Rcpt("a@example.com"))
	say(c.Data())
	for _, f := range header {
		say(c.Header(f[0], f[1]))
	}
	say(c.EndOfHeader())
	say(c.Body(body))
	end, failed := c.EndOfMessage()
	return end, errors.Join(err, failed)
}

var (
	body   = []byte(strings.Repeat(strings.Repeat("x", 98)+"\r\n", bodySize/100))
	header = [][2]string{
		{"Received", " from a.example by b.example; Sat, 28 Nov 2026 15:00:00 +0000"}, {"From", " s@example.net"}, {"To", " a@example.com"},
		{"Subject", " a message like others"}, {"Message-Id", " <1@example.net>"}, {"Date", " Sat, 28 Nov 2026 15:00:00 +0000"}, {"Mime-Version", " 1.0"},
		{"Content-Type", " text/plain; charset=utf-8"}, {"X-Mailer", " bench"}, {"List-Id", " <list.example.net>"},
	}
)

func sendUsual(c *mta.Client, _ int) error {
	end, err := SendMessage(c, header, body)
	if err == nil && end.Action.Refuses() {
		err = fmt.Errorf("refused with %d %s", end.Code, end.Text)
	}
	return err
}
