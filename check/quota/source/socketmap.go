// SPDX-License-Identifier: BSD-2-Clause

package source

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"rcptgate/check/quota/room"
)

// socketmap asks Cyrus' smmapd, or another server of Sendmail's socketmap protocol (netstrings:
// "len:name key,"): OK is room, TEMP or PERM with "quota" in its text is full, NOTFOUND says
// nothing.
type socketmap struct{ network, address, name string }

const (
	// smmapd does not check the length of its buffer of 1,024 octets.
	socketmapRequest = 1000
	socketmapReply   = 4096
)

// Ask asks on a connection of its own.
func (s *socketmap) Ask(ctx context.Context, m Mailbox, _ int64) (room.Answer, error) {
	body := s.name + " " + m.User
	if len(body) > socketmapRequest || strings.ContainsAny(m.User, "\x00\r\n") {
		return room.Of(room.Unknown), nil
	}
	conn, err := dial(ctx, s.network, s.address)
	if err != nil {
		return room.Answer{}, err
	}
	defer conn.Close()
	defer endWith(ctx, conn)()
	if _, err := io.WriteString(conn, strconv.Itoa(len(body))+":"+body+","); err != nil {
		return room.Answer{}, err
	}
	reply, err := readNetstring(bufio.NewReader(io.LimitReader(conn, socketmapReply+8)))
	if err != nil {
		return room.Answer{}, err
	}
	return readSocketmap(reply)
}

func readNetstring(r *bufio.Reader) (string, error) {
	n := 0
	for i := 0; ; i++ {
		c, err := r.ReadByte()
		switch {
		case err != nil:
			return "", fmt.Errorf("no reply: %w", err)
		case c == ':' && i > 0:
			buf := make([]byte, n+1)
			if _, err := io.ReadFull(r, buf); err != nil {
				return "", fmt.Errorf("half a reply: %w", err)
			}
			if buf[n] != ',' {
				return "", errors.New("the reply is not a netstring")
			}
			return string(buf[:n]), nil
		case c < '0' || c > '9' || i > 5:
			return "", errors.New("the reply is not a netstring")
		}
		if n = 10*n + int(c-'0'); n > socketmapReply {
			return "", fmt.Errorf("the reply has more than %d octets", socketmapReply)
		}
	}
}

func readSocketmap(reply string) (room.Answer, error) {
	word, text, _ := strings.Cut(reply, " ")
	full := strings.Contains(strings.ToLower(text), "quota")
	switch {
	case word == "OK" && text != "":
		return room.Of(room.Room), nil
	case word == "NOTFOUND":
		return room.Of(room.Unknown), nil
	case (word == "TEMP" || word == "PERM") && full:
		return room.Of(room.Full), nil
	case word == "PERM":
		return room.Of(room.Unknown), nil
	case word == "OK":
		return room.Answer{}, errors.New("the reply is empty")
	case word == "TEMP" || word == "TIMEOUT":
		return room.Answer{}, fmt.Errorf("%s %s", word, text)
	}
	return room.Answer{}, errors.New("the reply is not one of the protocol")
}
