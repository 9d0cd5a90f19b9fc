// SPDX-License-Identifier: BSD-2-Clause

// Package cases runs scripted cases: one text file says what the servers behind do and what each recipient is answered,
// and the same file runs through a real Sendmail, a real Postfix and the bare milter protocol.
//
// A file NAME.case holds lines. "#" begins a comment, the first one says what the case shows. Indented lines after
// "config:" are the gate's configuration; $pf, $dc and $sim in it stand for the servers' [host]:port. All other lines
// are steps. Lines after "aliases:" are the alias database that the front's own tool makes before the case begins;
// $aliases in the configuration is its table, $virtual the setting that names the front's virtual users, $routes that of its next hops;
// $access, $relayed and $relaydomains are maps that only the gate reads (run.go), $quotas is a list of quotas, $policy the
// address of a quota service.
//
//	rcpt ADDRESS CODE [ENHANCED] [/REGEXP/] [<DURATION]   what RCPT is answered, and how soon at the latest
//	until DURATION rcpt ...                               the same, asked again until it holds
//	mail ADDRESS                                          a new transaction with this reverse-path ("<>" for the null one)
//	session                                               a new connection
//	cut|join SERVER                                       stop the server behind, start it again
//	stage STAGE|ADDRESS REPLY                             what the scripted server says from now on; see lab.Scripted
//	usual                                                 the scripted server is an ordinary one again
//	asked SERVER ADDRESS N                                how often the server was asked for the address since "count"; control questions count
//	records N                                             wait until the gate remembers N answers, what it found out about servers included
//	connections SERVER N                                  how many connections at most it has had
//	count                                                 counting begins anew
//	run CODE ARGUMENTS... [/REGEXP/]                      the command of that name: its exit code and output
//	logged /REGEXP/                                       the gate's log has (soon) such a line
//	alias NAME [TARGET...]                                the alias is added or, without a target, removed; the database is made anew
//	quota ADDRESS USED LIMIT                              the list has these octets from now on
//	policy ADDRESS ACTION                                 what the quota service says of the recipient; usually DUNNO
//	policy mute|speaks                                    the quota service does not answer, answers again
//	restart|crash                                         of the gate: SIGTERM, kill -9
//	pause DURATION                                        for what has no sign to wait for
//
// A step that begins with "[sendmail]", "[postfix]" or "[bare]" is for that front alone; two may stand together, as in
// "[sendmail postfix]". Limits: one client, one message at a time, nothing is sent after RCPT.
package cases

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A Case is one file.
type Case struct {
	Name   string // the file's name
	About  string // the first comment
	Config string // of the gate
	// Aliases are the lines of the alias database, nil when the case has none.
	Aliases []string
	Steps   []Step
}

// A Step is one line.
type Step struct {
	Line   int      // in the file, from 1
	Fronts []string // that run it; empty for all
	Verb   string
	Args   []string // quoted words are one argument, quotes kept
	Want   Want     // for rcpt and until
	Expr   *regexp.Regexp
	Until  time.Duration // for until
}

// Want is what a reply has to be.
type Want struct {
	Code     int
	Enhanced string         // empty: any
	Text     *regexp.Regexp // nil: any
	Within   time.Duration  // 0: any time
}

// arguments is how many words each verb takes at least and at most, besides /REGEXP/.
var arguments = map[string][2]int{
	"rcpt": {2, 4}, "until": {4, 6}, "mail": {1, 1}, "session": {0, 0}, "cut": {1, 1}, "join": {1, 1}, "stage": {2, 40},
	"usual": {0, 0}, "asked": {3, 3}, "records": {1, 1}, "connections": {2, 2}, "count": {0, 0}, "run": {2, 20}, "logged": {0, 0},
	"alias": {1, 20}, "quota": {3, 3}, "policy": {1, 20}, "restart": {0, 0}, "crash": {0, 0}, "pause": {1, 1},
}

// Load reads a case file.
func Load(path string) (*Case, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c, err := Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s:%w", path, err)
	}
	c.Name = strings.TrimSuffix(path[strings.LastIndexByte(path, '/')+1:], ".case")
	return c, nil
}

// Parse reads the text of a case. Its errors begin with the line number.
func Parse(text string) (*Case, error) {
	c := &Case{}
	block := ""
	for n, line := range strings.Split(text, "\n") {
		indented := strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t")
		line = strings.TrimSpace(line)
		switch {
		case line == "":
		case block == "config" && indented:
			c.Config += line + "\n"
		case block == "aliases" && indented:
			c.Aliases = append(c.Aliases, line)
		case strings.HasPrefix(line, "#"):
			if c.About == "" {
				c.About = strings.TrimSpace(line[1:])
			}
		case line == "config:", line == "aliases:":
			block = strings.TrimSuffix(line, ":")
		default:
			block = ""
			step, err := parseStep(line)
			if err != nil {
				return nil, fmt.Errorf("%d: %w", n+1, err)
			}
			step.Line = n + 1
			c.Steps = append(c.Steps, step)
		}
	}
	if c.About == "" || len(c.Steps) == 0 {
		return nil, fmt.Errorf("1: a case needs a comment that says what it shows, and steps")
	}
	return c, nil
}

// word splits a line into words; a double-quoted part may hold spaces and keeps its quotes.
var word = regexp.MustCompile(`(?:"[^"]*"|[^\s"])+`)

func parseStep(line string) (Step, error) {
	var s Step
	if rest, ok := strings.CutPrefix(line, "["); ok {
		fronts, after, _ := strings.Cut(rest, "]")
		s.Fronts, line = strings.Fields(fronts), strings.TrimSpace(after)
		for _, f := range s.Fronts {
			if f != "sendmail" && f != "postfix" && f != "bare" {
				return s, fmt.Errorf("front %q: sendmail, postfix and bare are allowed", f)
			}
		}
	}
	if at := strings.Index(line, " /"); at >= 0 {
		expr, after, ok := cutLast(line[at+2:], "/")
		if !ok {
			return s, fmt.Errorf("a /REGEXP/ without its end")
		}
		re, err := regexp.Compile(expr)
		if err != nil {
			return s, err
		}
		s.Expr, line = re, line[:at]+" "+after
	}
	words := word.FindAllString(line, -1)
	if len(words) == 0 {
		return s, fmt.Errorf("a front without a step")
	}
	s.Verb, s.Args = words[0], words[1:]
	limits, ok := arguments[s.Verb]
	if !ok {
		return s, fmt.Errorf("no step is called %q", s.Verb)
	}
	if len(s.Args) < limits[0] || len(s.Args) > limits[1] {
		return s, fmt.Errorf("%s takes %d to %d arguments", s.Verb, limits[0], limits[1])
	}
	return s, s.wants()
}

// wants reads what a reply has to be.
func (s *Step) wants() error {
	args := s.Args
	switch s.Verb {
	case "until":
		d, err := time.ParseDuration(args[0])
		if err != nil {
			return err
		}
		if args[1] != "rcpt" {
			return fmt.Errorf("until takes rcpt, not %q", args[1])
		}
		s.Until, args = d, args[2:]
	case "rcpt":
	case "logged":
		if s.Expr == nil {
			return fmt.Errorf("logged takes /REGEXP/")
		}
		return nil
	default:
		return nil
	}
	s.Args = args[:1]
	code, err := strconv.Atoi(args[1])
	if err != nil {
		return fmt.Errorf("reply code %q: %w", args[1], err)
	}
	s.Want = Want{Code: code, Text: s.Expr}
	for _, arg := range args[2:] {
		if limit, ok := strings.CutPrefix(arg, "<"); ok {
			if s.Want.Within, err = time.ParseDuration(limit); err != nil {
				return err
			}
			continue
		}
		s.Want.Enhanced = arg
	}
	return nil
}

// cutLast is strings.Cut at the last separator.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// runs reports whether the front runs the step.
func (s *Step) runs(front string) bool {
	for _, f := range s.Fronts {
		if f == front {
			return true
		}
	}
	return len(s.Fronts) == 0
}
