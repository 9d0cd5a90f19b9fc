// SPDX-License-Identifier: BSD-2-Clause

package quotad

import (
	"bufio"
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

	"rcptgate/check/quota/wire"
)

// inquiry is one question of a person's.
type inquiry struct {
	user  string
	size  int64
	plain bool
	keys  *wire.Keys // nil: not signed
}

var errSource = errors.New("the source is not udp:HOST:PORT, tcp:HOST:PORT or http://HOST:PORT")

// ask puts the question to an agent.
func (q *inquiry) ask(ctx context.Context, source string) (wire.Answer, error) {
	network, address, _ := strings.Cut(source, ":")
	switch network {
	case "udp", "tcp":
		return q.line(ctx, network, address)
	case "http", "https":
		return q.http(ctx, source)
	}
	return wire.Answer{}, errSource
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

func (q *inquiry) http(ctx context.Context, source string) (wire.Answer, error) {
	at, err := url.Parse(source)
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
