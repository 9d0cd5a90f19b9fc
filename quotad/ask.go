// SPDX-License-Identifier: BSD-2-Clause

package quotad

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"rcptgate/check/quota/room"
	"rcptgate/check/quota/source"
	"rcptgate/check/quota/wire"
)

// inquiry is one question of a person's.
type inquiry struct {
	user  string
	size  int64
	plain bool
	keys  *wire.Keys // nil: not signed
	// doveadm is the key of a doveadm: source, or user:password.
	doveadm string
}

var errSource = errors.New("the source cannot be asked")

// ask puts the question to an agent, or to another source of a gateway's.
func (q *inquiry) ask(ctx context.Context, at string) (wire.Answer, error) {
	spec, err := source.ParseSpec(at)
	if err == nil && spec.At(new(source.Mailbox)) == "" {
		err = errors.New("write the host instead of {backend} or {mailhost}")
	}
	if err != nil {
		return wire.Answer{}, fmt.Errorf("%w: %w", errSource, err)
	}
	network, address, _ := strings.Cut(at, ":")
	switch {
	case network == "udp", network == "tcp":
		return q.line(ctx, network, address)
	case strings.HasPrefix(network, "http") && !strings.Contains(at, "{user}"):
		return q.http(ctx, at)
	}
	return q.other(ctx, at)
}

// other asks a source that is not an agent, as a gateway does.
func (q *inquiry) other(ctx context.Context, at string) (wire.Answer, error) {
	set := source.NewSet(nil)
	defer set.Close()
	set.Configure(source.Settings{Keys: q.keys, Doveadm: q.doveadm})
	one, err := set.Get(at)
	if err != nil {
		return wire.Answer{}, err
	}
	m := source.Mailbox{User: q.user, Address: q.user, Local: q.user}
	if i := strings.LastIndexByte(q.user, '@'); i > 0 {
		m.Local, m.Domain = q.user[:i], q.user[i+1:]
	}
	a, err := one.Ask(ctx, m, max(q.size, 1), time.Hour) // ctx bounds it
	if err != nil {
		return wire.Answer{}, cmp.Or(errors.Unwrap(err), err) // the caller names the source
	}
	states := map[room.State]wire.State{room.Room: wire.Room, room.Full: wire.Full, room.Unknown: wire.Unknown}
	return wire.Answer{State: states[a.State], TooLarge: a.TooLarge, Used: a.Used, Soft: a.Soft, Hard: a.Hard, Messages: a.Count, Max: a.MaxCount, Age: a.Age, Keep: a.Keep}, nil
}

func (q *inquiry) line(ctx context.Context, network, address string) (wire.Answer, error) {
	r := wire.Request{User: q.user, Size: q.size}
	var text []byte
	var err error
	switch {
	case q.keys != nil:
		text, err = r.Sign(nil, q.keys, time.Now())
	case q.size > 0:
		text, err = r.AppendFields(nil)
	default:
		text, err = r.AppendPlain(nil)
	}
	if err != nil {
		return wire.Answer{}, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return wire.Answer{}, err
	}
	defer func() { _ = conn.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	if network == "tcp" {
		text = append(text, '\n')
	}
	if _, err = conn.Write(text); err != nil {
		return wire.Answer{}, err
	}
	in := bufio.NewReaderSize(conn, 4*wire.MaxLine)
	for {
		var reply []byte
		if network == "tcp" {
			reply, err = in.ReadSlice('\n')
		} else {
			buf := make([]byte, 2*wire.MaxLine)
			var n int
			n, err = conn.Read(buf)
			reply = buf[:n]
		}
		if errors.Is(err, io.EOF) && q.keys == nil {
			return wire.Answer{}, errors.New("the agent gave no answer: it could not find out, or may not answer us (its log says which)")
		}
		if err != nil && q.keys != nil {
			err = fmt.Errorf("no answer: %w", wire.Silent(err))
		}
		if err != nil {
			return wire.Answer{}, err
		}
		answer, err := q.judge(reply, &r)
		if err == nil || network == "tcp" {
			return answer, err
		}
	}
}

// judge reads a reply, which must be to this question.
func (q *inquiry) judge(text []byte, r *wire.Request) (wire.Answer, error) {
	reply, err := wire.ParseReply(text)
	if err == nil && q.keys != nil {
		err = q.keys.VerifyReply(reply, r)
	}
	if err != nil {
		return wire.Answer{}, fmt.Errorf("the reply is not believed: %w", err)
	}
	return reply.Answer, nil
}

func (q *inquiry) http(ctx context.Context, agent string) (wire.Answer, error) {
	at, err := url.Parse(agent)
	if err != nil {
		return wire.Answer{}, err
	}
	at.Path, at.RawQuery = "/v1/quota", url.Values{"user": {q.user}, "size": {strconv.FormatInt(q.size, 10)}}.Encode()
	if q.plain {
		at.Path, at.RawQuery = "/cgi-bin/quota.cgi", url.Values{"u": {q.user}}.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return wire.Answer{}, err
	}
	if token := q.keys.Token(); token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		return wire.Answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, wire.MaxJSON))
	if err != nil {
		return wire.Answer{}, err
	}
	if resp.StatusCode != http.StatusOK {
		return wire.Answer{}, fmt.Errorf("the agent says %s: %.200q", resp.Status, body)
	}
	if q.plain {
		return wire.ParseCGI(body, q.user)
	}
	return wire.ParseJSON(body, q.user)
}
