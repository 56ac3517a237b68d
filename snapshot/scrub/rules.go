// Package scrub says what never leaves a host, and why: identity, credentials,
// caches and data, by path and by content. The rules are visible tables (by
// path in tables.go, by content in content.go and the files that it calls, by level in
// levels.go); a user's own patterns come before them. It reads no host.
package scrub

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/stead-env/stead/snapshot"
)

// Rules are the tables with a user's own patterns before them.
type Rules struct {
	keep, drop []glob
	tables     *index
	made       *index
	version    string
	level      Level
	taken      *index // what leaves below the level Standard; nil for all
}

var _ snapshot.Rules = (*Rules)(nil)

// New makes rules of the tables and a user's patterns, absolute paths in which *
// and ? match within a name, ** any number of folders. A pattern that ends in /**
// or names a folder means all below it, too. What matches drop stays on the host.
// What matches keep leaves it, but for
//   - a secret by path, unless the pattern goes as far into the path as the rule
//     does (/etc/openvpn/** but not /etc/**), or names the very path;
//   - a secret by content, unless the pattern names the very path.
func New(keep, drop []string) (*Rules, error) {
	r := &Rules{}
	var err error
	if r.keep, err = globs(keep); err != nil {
		return nil, fmt.Errorf("reading the patterns to keep: %w", err)
	}
	if r.drop, err = globs(drop); err != nil {
		return nil, fmt.Errorf("reading the patterns to drop: %w", err)
	}
	r.tables, r.made = newIndex(append(append([]rule{}, secrets...), noise...)), newIndex(made)
	r.version = version(keep, drop)
	return r, nil
}

// version is a digest of all that a verdict depends on.
func version(keep, drop []string) string {
	h := sha256.New()
	for _, table := range [][]rule{secrets, noise, made} {
		fmt.Fprintf(h, "%+v\n", table)
	}
	for _, s := range shapes {
		fmt.Fprintf(h, "%s %s %s\n", s.literal, s.tail, s.reason)
	}
	for _, p := range patterns() {
		fmt.Fprintln(h, p)
	}
	fmt.Fprintf(h, "%q %q %v %q\n", keep, drop, placeholders, sourceCode)
	return "scrub5:" + hex.EncodeToString(h.Sum(nil))[:16]
}

// Version implements snapshot.Rules.
func (r *Rules) Version() string { return r.version }

func globs(patterns []string) ([]glob, error) {
	var all []glob
	for _, p := range patterns {
		g, err := newGlob(p)
		if err != nil {
			return nil, err
		}
		all = append(all, g)
	}
	return all, nil
}

// Path implements snapshot.Rules.
func (r *Rules) Path(path string, t snapshot.Type) (snapshot.Class, string) {
	if path == "." {
		return "", ""
	}
	for _, g := range r.drop {
		if g.match(path) {
			return snapshot.Noise, "dropped by " + g.pattern
		}
	}
	found := r.tables.find(path, t)
	if found == nil && r.untaken(path, t) {
		return snapshot.Noise, "not taken: --take " + string(r.level)
	}
	if found == nil {
		return "", ""
	}
	reason := found.reason
	for _, g := range r.keep {
		if !g.match(path) {
			continue
		}
		if found.class != snapshot.Secret || g.answers(path, found.pattern) {
			return "", ""
		}
		reason = found.reason + snapshot.TooBroad + g.pattern
	}
	return found.class, reason
}

// kept returns the first pattern to keep that matches a path.
func (r *Rules) kept(path string) (glob, bool) {
	for _, g := range r.keep {
		if g.match(path) {
			return g, true
		}
	}
	return glob{}, false
}

// named reports whether a pattern to keep is the very path.
func (r *Rules) named(path string) bool {
	for _, g := range r.keep {
		if g.names(path) {
			return true
		}
	}
	return false
}

// Place implements snapshot.Rules.
func (r *Rules) Place(path string, t snapshot.Type, parentOwned bool) (snapshot.Class, string, bool) {
	switch t {
	case snapshot.Socket:
		return snapshot.State, "a socket lives as long as its program", false
	case snapshot.Char, snapshot.Block:
		return snapshot.State, "a device node belongs to the machine", false
	}
	if g, ok := r.kept(path); ok {
		return snapshot.Made, "kept by " + g.pattern, false
	}
	top, below, deep := strings.Cut(path, "/")
	if !deep && t == snapshot.Symlink {
		return snapshot.Made, "a link of the root", false
	}
	if homeLike(path) {
		return snapshot.State, "a home", false
	}
	if software(top) {
		return snapshot.Made, "", false
	}
	if found := r.made.find(path, t); found != nil {
		return snapshot.Made, found.reason, false
	}
	return snapshot.State, stateReason(top, below), t == snapshot.Dir && keepFolder(path, deep, parentOwned)
}

// software reports whether a top-level folder holds programs and what configures
// them: lib* are lib32, lib64, libx32 and such.
func software(top string) bool {
	switch top {
	case "usr", "bin", "sbin", "etc", "opt":
		return true
	}
	return strings.HasPrefix(top, "lib")
}

// homeLike finds the homes that administrators put below /opt and /usr.
func homeLike(path string) bool {
	e := strings.SplitN(path, "/", 4)
	if e[0] != "opt" && e[0] != "usr" {
		return false
	}
	return len(e) > 2 && e[1] == "home" || len(e) > 3 && e[0] == "opt" && e[2] == "home"
}

func stateReason(top, below string) string {
	switch top {
	case "home", "root":
		return "people's files"
	case "tmp", "run":
		return "temporary"
	case "srv", "var", "mnt", "media":
		return "data"
	}
	return "outside of where software lives"
}

// standard are the folders of the root that every system has (hier(7)).
var standard = map[string]bool{
	"boot": true, "dev": true, "home": true, "media": true, "mnt": true, "proc": true, "root": true, "run": true,
	"srv": true, "sys": true, "tmp": true, "var": true,
}

// keepFolder keeps the empty folders that a script made for a daemon: right below
// one of a package, in /var, where no folder comes and goes with the data.
func keepFolder(path string, deep, parentOwned bool) bool {
	if !deep {
		return standard[path]
	}
	if !parentOwned || !strings.HasPrefix(path, "var/") {
		return false
	}
	for _, transient := range []string{"var/cache/man/", "var/tmp/", "var/lib/private/", "var/lib/apt/", "var/cache/apt/", "var/mail/"} {
		if strings.HasPrefix(path, transient) {
			return false
		}
	}
	return true
}
