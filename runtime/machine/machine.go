// Package machine tells what this machine lets sessions do: what is there, what is
// missing, and what to do about it. It tries rather than guesses where that
// changes nothing.
package machine

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// State is the answer of a check.
type State string

// The states. A warning is about what some will need, or what costs something.
const (
	OK      State = "ok"
	Warning State = "warn"
	Missing State = "missing"
)

// Check is one thing that this machine has or lacks.
type Check struct {
	Name   string `json:"name"`
	State  State  `json:"state"`
	For    string `json:"for"`    // what it is good for, a sentence
	Found  string `json:"found"`  // what is there, or why it isn't
	Remedy string `json:"remedy"` // "" where there is nothing to do
}

// with completes a check by what was found.
func (c Check) with(state State, found string, args ...any) Check {
	c.State, c.Found = state, fmt.Sprintf(found, args...)
	return c
}

// or is c without its remedy where err is nil, else with what err says.
func (c Check) or(err error, found string, bad State) Check {
	if err == nil {
		c.Remedy = ""
		return c.with(OK, "%s", found)
	}
	if hinted, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); ok && hinted.Hint() != "" {
		c.Remedy = hinted.Hint()
	}
	return c.with(bad, "%s", oneLine(err.Error()))
}

func oneLine(s string) string { return strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ") }

// FromError is a check that an error of another package answers.
func FromError(name, what, found string, err error, bad State) Check {
	return Check{Name: name, For: what}.or(err, found, bad)
}

// setting is a value below /proc/sys; "" where there is none.
func setting(name string) string {
	text, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// release is this machine's kernel, by uname(2).
func release() (release, processor string) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", ""
	}
	return unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:])
}
