package envs

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/stead-env/stead/snapshot"
)

// dpkgLog follows what dpkg says, and keeps its last words.
type dpkgLog struct {
	progress             snapshot.Progress
	total                int64
	all                  io.Writer // takes everything; nil for nothing
	unpacked, configured int64
	line                 []byte
	last                 []string
	first                []string // the last words when something failed for the first time
	subject              string   // what failed then
	reason               bool     // the next line tells why
}

// The bounds of what is kept of dpkg's words.
const (
	maxLogLine  = 500
	maxLogLines = 25
)

func (d *dpkgLog) Write(p []byte) (int, error) {
	if d.all != nil {
		if _, err := d.all.Write(p); err != nil {
			return 0, err
		}
	}
	for _, c := range p {
		if c != '\n' {
			if len(d.line) < maxLogLine {
				d.line = append(d.line, c)
			}
			continue
		}
		line := string(d.line)
		d.line = d.line[:0]
		switch {
		case strings.HasPrefix(line, "Unpacking "):
			d.unpacked++
			d.report("unpacking", line, d.unpacked)
			continue
		case strings.HasPrefix(line, "Setting up "):
			d.configured++
			d.report("configuring", line, d.configured)
		}
		d.last = append(d.last, line)
		if len(d.last) > maxLogLines {
			d.last = slices.Clone(d.last[1:])
		}
		d.notice(line)
	}
	return len(p), nil
}

// notice waits for what fails first: all that needs it fails, too, and says more.
func (d *dpkgLog) notice(line string) {
	if d.reason {
		d.first, d.reason = slices.Clone(d.last), false
	}
	failed, ok := strings.CutPrefix(line, "dpkg: error processing ")
	if !ok || d.subject != "" {
		return
	}
	failed = strings.TrimPrefix(strings.TrimPrefix(failed, "package "), "archive ")
	d.subject, _, _ = strings.Cut(failed, " ")
	d.subject = strings.TrimSuffix(d.subject, ":")
	d.first, d.reason = slices.Clone(d.last), true
}

// failure names what failed first, a package or its file, and what was said then.
func (d *dpkgLog) failure() (subject string, words []string) { return d.subject, d.first }

func (d *dpkgLog) report(stage, line string, done int64) {
	words := strings.Fields(line)
	item := words[min(1, len(words)-1)]
	if stage == "configuring" {
		item = words[min(2, len(words)-1)]
	}
	d.progress.Report(snapshot.Event{Stage: stage, Item: item, Done: min(done, d.total), Total: d.total, Unit: "packages"})
}

// InstallError says that packages could not be installed.
type InstallError struct {
	What string
	Code int
	Last []string // what dpkg said
	Log  string   // file with all that it said; "" where it isn't kept
	hint string
}

func (e *InstallError) Error() string {
	text := fmt.Sprintf("%s: dpkg ended with exit code %d; its last words:\n%s", e.What, e.Code, strings.Join(e.Last, "\n"))
	if e.Log != "" {
		text += "\nall of it is in " + e.Log
	}
	return text
}

// Hint says how to go on.
func (e *InstallError) Hint() string {
	if e.hint != "" {
		return e.hint
	}
	return "--without NAME leaves a package out"
}

func (d *dpkgLog) fail(what string, code int) error {
	return &InstallError{What: what, Code: code, Last: d.last}
}
