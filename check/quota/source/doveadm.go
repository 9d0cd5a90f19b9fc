// SPDX-License-Identifier: BSD-2-Clause

package source

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"rcptgate/check/quota/room"
)

// doveadm asks Dovecot's HTTP API with the command quotaGet (Dovecot's manual, "Doveadm HTTP
// API"). It has numbers; the limit is the nominal one, without grace.
type doveadm struct {
	set *Set
	url string
}

// Ask posts one command.
func (d *doveadm) Ask(ctx context.Context, m Mailbox, size int64) (room.Answer, error) {
	if strings.ContainsAny(m.User, "*?") { // a pattern to doveadm: it would answer for every user that matches
		return room.Of(room.Unknown), nil
	}
	body, err := json.Marshal([]any{[]any{"quotaGet", map[string]string{"user": m.User}, "q"}})
	if err != nil {
		return room.Answer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(d.url, "/")+"/doveadm/v1", bytes.NewReader(body))
	if err != nil {
		return room.Answer{}, errors.New("the URL cannot be used")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Close = true // Dovecot closes after each request
	switch key := d.set.settings.Load().Doveadm; {
	case key == "":
	case strings.Contains(key, ":"):
		user, password, _ := strings.Cut(key, ":")
		req.SetBasicAuth(user, password)
	default:
		req.Header.Set("Authorization", "X-Dovecot-API "+base64.StdEncoding.EncodeToString([]byte(key)))
	}
	reply, err := d.set.do(req)
	if err != nil {
		return room.Answer{}, err
	}
	return readDoveadm(reply, size, d.set.settings.Load().Root)
}

// quotaRow is one resource of one quota root. All values are strings.
type quotaRow struct {
	Root, Type, Value, Limit string
}

// Exit codes of doveadm (sysexits.h and its own).
const (
	exitNoUser  = 67
	exitNoQuota = 68
)

// readDoveadm reads the reply to one quotaGet. Of several quota roots the one that is named
// counts; the first, as for quota_clone, if none is.
func readDoveadm(reply []byte, size int64, root string) (room.Answer, error) {
	var list [][3]json.RawMessage
	if err := json.Unmarshal(reply, &list); err != nil || len(list) != 1 {
		return room.Answer{}, errors.New("the reply is not one of doveadm's")
	}
	var kind string
	if err := json.Unmarshal(list[0][0], &kind); err != nil {
		return room.Answer{}, errors.New("the reply is not one of doveadm's")
	}
	if kind != "doveadmResponse" {
		return doveadmError(list[0][1])
	}
	var rows []quotaRow
	if err := json.Unmarshal(list[0][1], &rows); err != nil {
		return room.Answer{}, fmt.Errorf("rows of quotas: %w", err)
	}
	a := room.Of(room.Room)
	if root == "" && len(rows) > 0 {
		root = rows[0].Root
	}
	found := false
	for _, r := range rows {
		if r.Root != root {
			continue
		}
		found = true
		value, limit, err := r.numbers()
		switch {
		case err != nil:
			return room.Answer{}, err
		case r.Type == "STORAGE":
			a.Used, a.Hard = value*1024, limit*1024
		case r.Type == "MESSAGE":
			a.Count, a.MaxCount = value, limit
		}
	}
	switch {
	case len(rows) > 0 && !found:
		return room.Answer{}, fmt.Errorf("doveadm names no quota root %q", root)
	case len(rows) == 0:
		a.Hard, a.Used, a.Note = 0, 0, "no quota root"
	}
	if a.HasNumbers() {
		a.State = judge(a.Used, a.Hard, size)
	}
	if a.MaxCount > 0 && a.Count >= a.MaxCount {
		a.State = room.Full
	}
	return a, nil
}

// numbers are KiB, or messages; a limit of 0 is none.
func (r *quotaRow) numbers() (value, limit int64, err error) {
	const most = 1 << 50
	value, err = strconv.ParseInt(r.Value, 10, 64)
	if r.Limit != "-" && err == nil {
		limit, err = strconv.ParseInt(r.Limit, 10, 64)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("quota of %s: value %q, limit %q", r.Type, r.Value, r.Limit)
	}
	return min(value, most), min(max(limit, 0), most), nil
}

func doveadmError(detail json.RawMessage) (room.Answer, error) {
	var e struct {
		Type     string
		ExitCode int
	}
	if err := json.Unmarshal(detail, &e); err != nil {
		return room.Answer{}, errors.New("the reply is not one of doveadm's")
	}
	switch {
	case e.Type == "exitCode" && e.ExitCode == exitNoUser:
		return room.Of(room.Unknown), nil
	case e.Type == "exitCode" && e.ExitCode == exitNoQuota:
		a := room.Of(room.Room)
		a.Used, a.Hard, a.Note = 0, 0, "the user has no quota"
		return a, nil
	}
	return room.Answer{}, fmt.Errorf("doveadm says %s, exit code %d", e.Type, e.ExitCode)
}
