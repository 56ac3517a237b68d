// Package pkgdb reads the databases of package managers out of their own files,
// without running any of their programs: what is installed, in which state, and
// which paths it owns. It neither reaches a host nor looks at the files owned.
package pkgdb

import (
	"fmt"
	"strings"

	"github.com/stead-env/stead/snapshot"
)

// Readers are the databases that can be read.
var Readers = []snapshot.Reader{Dpkg{}}

// Brief tell which packages there are and what they say of each other, and leave out the
// files that they own: those are most of a database.
var Brief = []snapshot.Reader{Dpkg{Brief: true}}

// Bounds for what a database can make us allocate. The largest real ones stay
// below a tenth of them.
const (
	maxPackages  = 100_000
	maxFiles     = 10_000_000 // of all packages
	maxLine      = 1 << 20    // bytes
	maxPathBytes = 4096       // PATH_MAX
)

// ParseError names the place in a database that can't be understood.
type ParseError struct {
	File string // without the leading slash
	Line int
	What string
}

func (e *ParseError) Error() string {
	return fmt.Sprintf("reading /%s: line %d: %s", e.File, e.Line, e.What)
}

// Hint says what to do about it.
func (e *ParseError) Hint() string {
	return "the database is damaged or being written: try again when no package manager is running there"
}

// lines calls fn with each line of a file, numbered from one.
func lines(file string, content []byte, fn func(n int, line string) error) error {
	rest := string(content) // one string, so that lines and paths share its memory
	for n := 1; rest != ""; n++ {
		line, after, _ := strings.Cut(rest, "\n")
		rest = after
		if len(line) > maxLine {
			return &ParseError{file, n, "the line is too long"}
		}
		if strings.IndexByte(line, 0) >= 0 {
			return &ParseError{file, n, "the line holds a NUL byte"}
		}
		if err := fn(n, line); err != nil {
			return err
		}
	}
	return nil
}

// cleanPath brings an absolute path of a database to the form of snapshot.File:
// no leading slash, no empty or "." element. The root itself is "". It answers
// false for a path that climbs with "..".
func cleanPath(p string) (string, bool) {
	p = strings.TrimLeft(p, "/")
	if plain(p) {
		return p, len(p) <= maxPathBytes
	}
	var kept []string
	for e := range strings.SplitSeq(p, "/") {
		switch e {
		case "", ".":
		case "..":
			return "", false
		default:
			kept = append(kept, e)
		}
	}
	p = strings.Join(kept, "/")
	return p, len(p) <= maxPathBytes
}

// plain reports whether a path has nothing to clean.
func plain(p string) bool {
	if p == "" || p[len(p)-1] == '/' || p[0] == '.' && (p == "." || p == ".." || p[1] == '/' || strings.HasPrefix(p, "../")) {
		return false
	}
	for i := 0; ; {
		j := strings.IndexByte(p[i:], '/')
		if j < 0 {
			return p[i:] != "." && p[i:] != ".."
		}
		i += j + 1
		if p[i] == '/' || p[i] == '.' && (strings.HasPrefix(p[i:], "./") || strings.HasPrefix(p[i:], "../")) {
			return false
		}
	}
}
