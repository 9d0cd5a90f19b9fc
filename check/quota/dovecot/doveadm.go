// SPDX-License-Identifier: BSD-2-Clause

package dovecot

import (
	"bufio"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"rcptgate/check/quota/wire"
	"rcptgate/kit/term"
)

// hello is the first line of the doveadm protocol. Minor version 0 has neither multiplexing
// nor a channel for logs; Dovecot 2.3 and 2.4 take it.
const hello = "VERSION\tdoveadm-server\t1\t0\n"

// readHello reads what the server says to hello: "+" on a socket that asks for no password.
func readHello(r *bufio.Reader) error {
	for left := maxReply; ; {
		line, err := readLine(r, &left)
		switch {
		case err != nil:
			return err
		case line == "+":
			return nil
		case line == "-":
			return errors.New("doveadm asks for a password: use a unix socket of \"service doveadm\"")
		case !strings.HasPrefix(line, "VERSION\t"):
			return fmt.Errorf("doveadm does not speak its protocol: %.40q", line)
		}
	}
}

// AppendQuotaGet adds the command for one user: flags, user and command, separated by tabs.
func AppendQuotaGet(dst []byte, user string) ([]byte, error) {
	if err := wire.CheckUser(user); err != nil { // so there is nothing to escape
		return dst, err
	}
	return fmt.Appendf(dst, "\t%s\tquota get\n", user), nil
}

// ReadQuota reads the reply to the command: a line of rows and a line with the result. Of
// several quota roots the one that is named counts, or the first when root is empty. Limits
// are those of the root, without grace.
func ReadQuota(r *bufio.Reader, root string) (wire.Answer, error) {
	left := maxReply
	rows, err := readLine(r, &left)
	if err != nil {
		return wire.Answer{}, err
	}
	result, err := readLine(r, &left)
	if err != nil {
		return wire.Answer{}, err
	}
	switch word, _, _ := strings.Cut(result, " "); word {
	case "+":
		return parseRows(rows, root)
	case "-NOUSER", "-NOTFOUND": // no such user; quota is not enabled for the user
		return wire.NewAnswer(wire.Unknown), nil
	case "-REFERRAL":
		return wire.Answer{}, errors.New("the mailbox is on another server")
	case "-NOPERM":
		return wire.Answer{}, errors.New("doveadm does not allow the command")
	}
	return wire.Answer{}, fmt.Errorf("doveadm failed: %.40q", result)
}

// rowFields is how many fields a row has, each ended by a tab: root, type, value, limit and
// per cent. Nothing else separates rows.
const rowFields = 5

func parseRows(rows, root string) (wire.Answer, error) {
	fields := strings.Split(rows, "\t")
	if last := len(fields) - 1; fields[last] != "" || last%rowFields != 0 {
		return wire.Answer{}, fmt.Errorf("doveadm's rows have %s, not five each", term.Count(last, "field"))
	}
	a := wire.NewAnswer(wire.Room)
	for ; len(fields) > rowFields; fields = fields[rowFields:] {
		name := unescaper.Replace(fields[0])
		if root == "" {
			root = name
		}
		if name != root {
			continue
		}
		value, limit, err := parseRow(fields[2], fields[3])
		if err != nil {
			return wire.Answer{}, err
		}
		switch fields[1] {
		case "STORAGE":
			a.Used, a.Hard = value<<10, limit<<10
		case "MESSAGE":
			a.Messages, a.Max = value, limit
		}
	}
	if a.Used < 0 {
		return wire.Answer{}, fmt.Errorf("doveadm names no storage of the quota root %q", root)
	}
	return a, nil
}

// unescaper undoes Dovecot's tab escaping.
var unescaper = strings.NewReplacer("\x010", "\x00", "\x011", "\x01", "\x01t", "\t", "\x01r", "\r", "\x01n", "\n")

// parseRow reads value and limit; a limit of "-" is none.
func parseRow(value, limit string) (v, l int64, err error) {
	if v, err = strconv.ParseInt(value, 10, 64); err == nil && limit != "-" {
		l, err = strconv.ParseInt(limit, 10, 64)
	}
	const most = 1 << 50 // KiB
	if err != nil || l < 0 || v > most || l > most {
		return 0, 0, fmt.Errorf("doveadm could not find out a value: %.20q of %.20q", value, limit)
	}
	return max(v, 0), l, nil
}
