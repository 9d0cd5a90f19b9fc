// SPDX-License-Identifier: BSD-2-Clause

package admin

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/mail"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/kit/exit"
	"rcptgate/unit"
)

// maxMessageFile bounds the message that is checked, in octets.
const maxMessageFile = 64 << 20

// checkStage asks the steps of a stage that is not the recipients', in this process.
func (k commands) checkStage(cmd *cobra.Command, c *unit.Config, f *checkFlags, recipients []string) error {
	q, err := f.stageQuestion(recipients)
	if err != nil {
		return err
	}
	h, err := k.Offline(cmd.Context(), c)
	if err != nil {
		return err
	}
	defer h.Stop()
	v := h.Gate.Ask(cmd.Context(), q)
	result := NewResult(q, &v, time.Now())
	result.Recipient = f.stage
	if err := printResult(cmd.OutOrStdout(), &result, f.json); err != nil {
		return err
	}
	return exit.Quietly(exitCodeOf(&result))
}

// stageQuestion makes the question of a stage.
func (f *checkFlags) stageQuestion(recipients []string) (*rcptgate.Query, error) {
	req := f.about("postmaster") // a question needs one; this one is about nobody
	q, err := req.Query()
	if err != nil {
		return nil, exit.With(exit.Usage, err)
	}
	q.Recipient, q.Target, q.NextHop = rcptgate.Mailbox{}, rcptgate.Mailbox{}, rcptgate.NextHop{}
	q.Session = &rcptgate.Session{Connected: time.Now()}
	switch q.Stage = stageOf(f.stage); {
	case q.Stage == rcptgate.StageRcpt:
		return nil, exit.With(exit.Usage, fmt.Errorf("%q is not a stage: expected connect, helo, mail, rcpt or message", f.stage))
	case q.Stage != rcptgate.StageMessage && f.file != "":
		return nil, exit.With(exit.Usage, errors.New("--file is for --stage message"))
	case q.Stage != rcptgate.StageMessage:
		return q, nil
	case f.file == "":
		return nil, exit.With(exit.Usage, errors.New("--stage message needs a message: --file FILE"))
	}
	raw, err := readMessageFile(f.file, maxMessageFile)
	if err != nil {
		return nil, exit.With(exit.Data, err)
	}
	q.Message = rcptgate.ReadMessage(raw)
	if len(recipients) == 0 {
		if recipients = headerRecipients(q.Message); len(recipients) == 0 {
			return nil, exit.With(exit.Usage, fmt.Errorf("%s names no recipient in To, Cc or Bcc: name one on the command line", f.file))
		}
	}
	for _, r := range recipients {
		q.Message.Recipients = append(q.Message.Recipients, address.Parse(r))
	}
	q.Session.Mail.Recipients = q.Message.Recipients
	q.Accepted, q.QueueID = len(recipients), "check"
	return q, nil
}

// headerRecipients are the addresses of To, Cc and Bcc, each once.
func headerRecipients(m *rcptgate.Message) (list []string) {
	seen := map[string]bool{}
	for i := range m.Fields {
		switch strings.ToLower(m.Fields[i].Name) {
		case "to", "cc", "bcc":
		default:
			continue
		}
		found, err := mail.ParseAddressList(m.Fields[i].Text())
		if err != nil {
			continue // such as "undisclosed-recipients:;"
		}
		for _, a := range found {
			if key := strings.ToLower(a.Address); !seen[key] && len(list) < maxCheck {
				seen[key] = true
				list = append(list, a.Address)
			}
		}
	}
	return list
}

// readMessageFile reads a message of at most so many octets from a file, or from a pipe that the shell has made.
func readMessageFile(name string, most int64) ([]byte, error) {
	f, err := os.Open(name) // #nosec G304 -- the user's own choice
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	var raw bytes.Buffer
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		raw.Grow(int(min(info.Size(), most)) + bytes.MinRead) // to grow while reading would take several times as much
	}
	_, err = raw.ReadFrom(io.LimitReader(f, most+1))
	if err == nil && int64(raw.Len()) > most {
		return nil, fmt.Errorf("%s is larger than %d octets", name, most)
	}
	return raw.Bytes(), err
}

// stageOf gives the stage of a word; StageRcpt if there is none other.
func stageOf(word string) rcptgate.Stage {
	for s := rcptgate.Stage(0); int(s) < rcptgate.StageCount; s++ {
		if s.String() == word {
			return s
		}
	}
	return rcptgate.StageRcpt
}
