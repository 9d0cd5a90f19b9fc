// SPDX-License-Identifier: BSD-2-Clause

package star

import (
	"errors"
	"fmt"
	"strings"

	"go.starlark.net/starlark"

	"rcptgate"
	"rcptgate/kit/smtpcode"
)

// Source is what verdicts of the script come from, and Reason why they are what they are.
const (
	Source = "script"
	Reason = rcptgate.Reason("script")
)

// Texts for the sender where the script gives none.
const (
	textReject   = "Not permitted by local policy"
	textTempfail = "Not accepted at the moment, try again later"
	textHold     = "held by the script"
)

// Verdict is what a function of the script gives back.
type Verdict struct {
	object
	Verdict rcptgate.Verdict
}

var verdictClass = newClass("verdict", "the result of accept(), reject(), tempfail(), discard() and hold(), for a function to return",
	member[*Verdict]{name: "action", sign: "string", doc: "\"accept\", \"reject\", \"tempfail\", \"discard\" or \"hold\"", get: (*Verdict).action},
	member[*Verdict]{name: "code", sign: "int", doc: "the reply code; 0 if there is none", get: func(x *Verdict) starlark.Value { return starlark.MakeInt(x.Verdict.Code) }},
	member[*Verdict]{name: "enhanced", sign: "string", doc: "the enhanced status code", get: func(x *Verdict) starlark.Value { return text(x.Verdict.Enhanced) }},
	member[*Verdict]{name: "text", sign: "string", doc: "the text for the sender, or the reason of hold()", get: func(x *Verdict) starlark.Value { return text(x.Verdict.Text) }},
)

func (x *Verdict) action() starlark.Value {
	if x.Verdict.Action == rcptgate.Discard {
		return starlark.String("discard")
	}
	return text(x.Verdict.Action.String())
}

// String and the rest make Verdict a value.
func (x *Verdict) String() string {
	words := []string{string(x.action().(starlark.String))}
	if x.Verdict.Code != 0 {
		words = append(words, fmt.Sprint(x.Verdict.Code), x.Verdict.Enhanced)
	}
	if x.Verdict.Text != "" {
		words = append(words, x.Verdict.Text)
	}
	return strings.Join(words, " ")
}
func (*Verdict) Type() string                               { return verdictClass.name }
func (*Verdict) Hash() (uint32, error)                      { return unhashable("a verdict") }
func (x *Verdict) AttrNames() []string                      { return verdictClass.names }
func (x *Verdict) Attr(name string) (starlark.Value, error) { return verdictClass.attr(x, name) }

// Result reads what a function gave back at a stage. The error says what it should have
// been.
func Result(v starlark.Value, at rcptgate.Stage) (rcptgate.Verdict, error) {
	switch v := v.(type) {
	case starlark.NoneType:
		return rcptgate.Verdict{}, nil
	case *Verdict:
		out := v.Verdict
		if out.Action == rcptgate.Discard && at == rcptgate.StageRcpt {
			out.Action = rcptgate.DiscardRecipient
		}
		return out, nil
	case *starlark.Builtin, *starlark.Function:
		return rcptgate.Verdict{}, fmt.Errorf("returned %s itself, and not what it makes: write %s()", v.(starlark.Callable).Name(), v.(starlark.Callable).Name())
	}
	return rcptgate.Verdict{}, fmt.Errorf("returned a value of type %s: expected None, or accept(), reject(), tempfail(), discard() or hold()", v.Type())
}

// refusal makes reject and tempfail.
func refusal(action rcptgate.Action, class, code int, enhanced, words string) builtin {
	return func(_ *Call, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		v := &Verdict{Verdict: rcptgate.Verdict{Action: action, Code: code, Enhanced: enhanced, Text: words, Reason: Reason, Source: Source}}
		if err := starlark.UnpackArgs(b.Name(), args, kwargs, "text?", &v.Verdict.Text, "code?", &v.Verdict.Code, "enhanced?", &v.Verdict.Enhanced); err != nil {
			return nil, err
		}
		switch c, e := v.Verdict.Code, v.Verdict.Enhanced; {
		case c/100 != class || c%100 > 59:
			return nil, fmt.Errorf("code %d: expected %d00 to %d59", c, class, class)
		case c == 421 || c == 521 || c == 556:
			return nil, fmt.Errorf("code %d would end the client's session, and concern its other recipients", c)
		case !smtpcode.Is(e) || int(e[0]-'0') != class:
			return nil, fmt.Errorf("enhanced %q is not a status code such as \"%d.7.1\"", e, class)
		}
		if v.Verdict.Text = strings.TrimSpace(rcptgate.CleanText(v.Verdict.Text)); v.Verdict.Text == "" {
			v.Verdict.Text = words
		}
		return v, nil
	}
}

func plain(action rcptgate.Action) builtin {
	return func(_ *Call, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		if err := starlark.UnpackArgs(b.Name(), args, kwargs); err != nil {
			return nil, err
		}
		return &Verdict{Verdict: rcptgate.Verdict{Action: action, Reason: Reason, Source: Source}}, nil
	}
}

func hold(_ *Call, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	reason := textHold
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "reason?", &reason); err != nil {
		return nil, err
	}
	if reason = strings.TrimSpace(rcptgate.CleanText(reason)); reason == "" {
		return nil, errors.New("the reason is empty")
	}
	return &Verdict{Verdict: rcptgate.Verdict{Action: rcptgate.Hold, Text: reason, Reason: Reason, Source: Source}}, nil
}
