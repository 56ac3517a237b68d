package envs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stead-env/stead/snapshot"
)

// dpkgLog follows what dpkg says, and keeps its last words.
type dpkgLog struct {
	progress             snapshot.Progress
	total                int64
	unpacked, configured int64
	line                 []byte
	last                 []string
}

// The bounds of what is kept of dpkg's words.
const (
	maxLogLine  = 500
	maxLogLines = 25
)

func (d *dpkgLog) Write(p []byte) (int, error) {
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
	}
	return len(p), nil
}

func (d *dpkgLog) report(stage, line string, done int64) {
	words := strings.Fields(line)
	item := words[min(1, len(words)-1)]
	if stage == "configuring" {
		item = words[min(2, len(words)-1)]
	}
	d.progress.Report(snapshot.Event{Stage: stage, Item: item, Done: min(done, d.total), Total: d.total, Unit: "packages"})
}

// InstallError says that packages of a list could not be installed.
type InstallError struct {
	What string
	Code int
	Last []string // what dpkg said
}

func (e *InstallError) Error() string {
	return fmt.Sprintf("%s: dpkg ended with exit code %d; its last words:\n%s", e.What, e.Code, strings.Join(e.Last, "\n"))
}

// Hint says how to go on.
func (e *InstallError) Hint() string { return "--without NAME leaves a package out" }

func (d *dpkgLog) fail(what string, code int) error {
	return &InstallError{What: what, Code: code, Last: d.last}
}
