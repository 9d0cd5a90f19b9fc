// SPDX-License-Identifier: BSD-2-Clause

package dovecot

import (
	"bufio"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"rcptgate/check/quota/wire"
	"rcptgate/kit/smtpcode"
)

// AppendPolicy adds the question of one recipient to quota-status. The size is always sent:
// Dovecot keeps that of the question before on the same connection.
func AppendPolicy(dst []byte, recipient string, size int64) ([]byte, error) {
	if err := wire.CheckUser(recipient); err != nil {
		return dst, err
	}
	return fmt.Appendf(dst, "request=smtpd_access_policy\nprotocol_state=RCPT\nrecipient=%s\nsize=%d\n\n", recipient, max(size, 0)), nil
}

// ReadPolicy reads a reply: lines of name=value up to an empty one.
func ReadPolicy(r *bufio.Reader) (wire.Answer, error) {
	action, found := "", false
	for left := maxReply; ; {
		line, err := readLine(r, &left)
		if err != nil {
			return wire.Answer{}, err
		}
		if line == "" {
			break
		}
		if value, ok := strings.CutPrefix(line, "action="); ok && !found {
			action, found = value, true
		}
	}
	if !found {
		return wire.Answer{}, errors.New("the reply has no action")
	}
	return ParseAction(action)
}

// ParseAction says what an action (access(5)) means for the mailbox: full for this size, or too
// large for ever (5.2.3, which Dovecot says only where quota_status_toolarge has it), room, or
// unknown where it refuses for another reason: whether a mailbox exists is not the matter
// of this service. An action that defers for another reason is an error.
func ParseAction(action string) (wire.Answer, error) {
	word, text, _ := strings.Cut(strings.TrimSpace(action), " ")
	word = strings.ToUpper(word)
	switch word {
	case "", "OK", "DUNNO", "PERMIT":
		return wire.NewAnswer(wire.Room), nil
	}
	code, err := strconv.Atoi(word)
	isCode := err == nil && len(word) == 3 && code >= 400 && code < 600
	deferred := strings.HasPrefix(word, "DEFER") || (isCode && code < 500)
	if !isCode && !deferred && word != "REJECT" {
		return wire.Answer{}, fmt.Errorf("the action %q is not one of a quota service", word)
	}
	text = strings.TrimSpace(text)
	switch {
	case saysFull(code, text):
		a := wire.NewAnswer(wire.Full)
		e, _, ok := smtpcode.Cut(text)
		a.TooLarge = !deferred && ok && e.Detail == 3
		return a, nil
	case deferred:
		return wire.Answer{}, errors.New("the service defers: it could not find out")
	}
	return wire.NewAnswer(wire.Unknown), nil
}

// saysFull goes by the enhanced status code (RFC 3463, section 3.3: x.2.2 full, x.2.3 too
// large), then by the reply code, then by words. The code x.0.0 says nothing.
func saysFull(code int, text string) bool {
	if e, _, ok := smtpcode.Cut(text); ok && (e.Subject != 0 || e.Detail != 0) {
		return e.Subject == 2 && (e.Detail == 2 || e.Detail == 3)
	}
	if code == 452 || code == 552 {
		return true
	}
	text = strings.ToLower(text)
	return strings.Contains(text, "quota") || (strings.Contains(text, "mailbox") && strings.Contains(text, "full"))
}
