// SPDX-License-Identifier: BSD-2-Clause

package quotad

import (
	"net/http"
	"net/netip"
	"strings"

	"rcptgate/check/quota/wire"
	"rcptgate/config/setting"
	"rcptgate/front/listen"
	"rcptgate/metric/exposition"
)

// handler serves the CGI's path, the JSON form, metrics and health.
func (a *Agent) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /cgi-bin/quota.cgi", a.cgi)
	mux.HandleFunc("GET /v1/quota", a.json)
	mux.Handle("GET /metrics", exposition.Handler(a.counts.metrics))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		plainText(w, http.StatusOK, "ok\n")
	})
	return mux
}

func plainText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text))
}

// welcome reports whether the request may have an answer, and says why not.
func (a *Agent) welcome(w http.ResponseWriter, r *http.Request) bool {
	listen.Working(r.Context())
	s := a.active.Load()
	from, _ := netip.ParseAddrPort(r.RemoteAddr) // the server's own words
	client := from.Addr().Unmap()
	token, has := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	private := r.TLS != nil || client.IsLoopback() // where nobody reads the key itself on its way
	genuine := has && (s.keys.Accepts(token) || private && s.keys.Holds(token))
	if !a.within(asker{client, genuine}, s.config.Listen.Rate) {
		a.drop(client, dropRate)
		plainText(w, http.StatusTooManyRequests, "too many questions\n")
		return false
	}
	switch {
	case genuine:
		return true
	case has && s.keys != nil:
		a.drop(client, dropMAC)
	case s.plainFor(client):
		return true
	default:
		a.drop(client, dropUnsigned)
	}
	w.Header().Set("WWW-Authenticate", "Bearer")
	plainText(w, http.StatusUnauthorized, "a token is needed\n")
	return false
}

// cgi answers GET /cgi-bin/quota.cgi?u=USER as the CGI of that name does.
func (a *Agent) cgi(w http.ResponseWriter, r *http.Request) {
	if !a.welcome(w, r) {
		return
	}
	user := r.URL.Query().Get("u")
	if user == "" {
		plainText(w, http.StatusOK, "")
		return
	}
	answer := a.Ask(r.Context(), user, 0)
	a.counts.question(frontHTTP, answer.State)
	body, err := wire.AppendCGI(nil, user, &answer)
	if err != nil {
		plainText(w, http.StatusServiceUnavailable, "could not find out\n")
		return
	}
	plainText(w, http.StatusOK, string(body))
}

// json answers GET /v1/quota?user=USER&size=SIZE.
func (a *Agent) json(w http.ResponseWriter, r *http.Request) {
	if !a.welcome(w, r) {
		return
	}
	query := r.URL.Query()
	user, size := query.Get("user"), setting.Size(0)
	err := wire.CheckUser(user)
	if text := query.Get("size"); err == nil && text != "" {
		size, err = setting.ParseSize(text)
	}
	if err != nil {
		a.counts.dropped[dropMalformed].Add(1)
		plainText(w, http.StatusBadRequest, err.Error()+"\n")
		return
	}
	answer := a.Ask(r.Context(), user, int64(size))
	a.counts.question(frontHTTP, answer.State)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(wire.AppendJSON(nil, user, &answer))
}
