// SPDX-License-Identifier: BSD-2-Clause

package source

import (
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
	"rcptgate/check/quota/wire"
)

// maxBody bounds an HTTP answer, in octets.
const maxBody = 16 << 10

// newClient makes a client that follows no redirects and takes no proxy from the
// environment.
func newClient() *http.Client {
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext, MaxIdleConnsPerHost: 8, MaxConnsPerHost: 64, IdleConnTimeout: 30 * time.Second,
			TLSHandshakeTimeout: 5 * time.Second, MaxResponseHeaderBytes: 64 << 10, DisableCompression: true,
		},
	}
}

// web asks over HTTP: a CGI whose URL has {user}, or the agent's JSON API.
type web struct {
	set *Set
	url string
}

// Ask asks with GET.
func (w *web) Ask(ctx context.Context, m Mailbox, size int64) (room.Answer, error) {
	if strings.Contains(w.url, userName) {
		body, err := w.set.get(ctx, strings.ReplaceAll(w.url, userName, url.QueryEscape(m.User)), "")
		if err != nil {
			return room.Answer{}, err
		}
		return readCGI(body, m.User, size)
	}
	at, err := url.Parse(w.url)
	if err != nil {
		return room.Answer{}, err
	}
	if at.Path == "" || at.Path == "/" {
		at.Path = "/v1/quota"
	}
	q := at.Query()
	q.Set("user", m.User)
	q.Set("size", strconv.FormatInt(size, 10))
	at.RawQuery = q.Encode()
	token := ""
	if keys := w.set.settings.Load().Keys; keys != nil {
		token = keys.Token()
	}
	body, err := w.set.get(ctx, at.String(), token)
	if err != nil {
		return room.Answer{}, err
	}
	answer, err := wire.ParseJSON(body, m.User)
	if err != nil {
		return room.Answer{}, err
	}
	return fromWire(&answer)
}

// readCGI judges a CGI's numbers by size: its own words do not know of it.
func readCGI(body []byte, user string, size int64) (room.Answer, error) {
	answer, err := wire.ParseCGI(body, user)
	if err != nil {
		return room.Answer{}, err
	}
	a, err := fromWire(&answer)
	if err == nil && a.HasNumbers() && a.Hard > 0 && a.State != room.Unknown {
		a.State = judge(a.Used, a.Hard, size)
	}
	return a, err
}

// judge is the state by numbers.
func judge(used, hard, size int64) room.State {
	if hard > 0 && size > hard-used {
		return room.Full
	}
	return room.Room
}

// get gives the body of a 200 answer.
func (s *Set) get(ctx context.Context, at, token string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, errors.New("the URL cannot be used")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return s.do(req)
}

func (s *Set) do(req *http.Request) ([]byte, error) {
	rep, err := s.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL: it holds the user
		}
		return nil, err
	}
	defer rep.Body.Close()
	if rep.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP status %d", rep.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(rep.Body, maxBody+1))
	if err == nil && len(body) > maxBody {
		err = fmt.Errorf("the answer has more than %d octets", maxBody)
	}
	return body, err
}
