package snapshot

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// maxHops bounds the links that one path may lead through, as Linux does.
const maxHops = 40

// Links resolves folders through the symbolic links of one root: an absolute
// target starts at that root, and ".." stops there. Links are data; nothing is
// looked up on a disk.
type Links struct {
	targets   map[string]string // link → target
	dirs      map[string]string // cache: folder as spelled → canonical
	traversed map[string]bool
}

// NewLinks returns a resolver for links given by path and target.
func NewLinks(targets map[string]string) *Links {
	return &Links{targets: targets, dirs: map[string]string{}, traversed: map[string]bool{}}
}

// Traversed are the links that some answer led through.
func (l *Links) Traversed() map[string]bool { return l.traversed }

// Dir resolves the path of a folder. Links that lead in a circle are an error.
func (l *Links) Dir(p string) (string, error) { return l.dir(p, new(int)) }

// Path resolves the folder part of a path; its last element is left as it is.
func (l *Links) Path(p string) (string, error) {
	dir, err := l.Dir(path.Dir(p))
	if err != nil || p == "." {
		return p, err
	}
	return join(dir, path.Base(p)), nil
}

// Locate gives the path under which a host itself has what a package calls p, as Path
// does; one whose links go in circles is given back as it is.
func (l *Links) Locate(p string) string {
	if real, err := l.Path(p); err == nil {
		return real
	}
	return p
}

// follow is Locate for all of a path, its last element too.
func (l *Links) follow(p string) string {
	if real, err := l.Dir(p); err == nil {
		return real
	}
	return p
}

func (l *Links) dir(p string, hops *int) (string, error) {
	if p == "." {
		return ".", nil
	}
	if c, ok := l.dirs[p]; ok {
		return c, nil
	}
	parent, err := l.dir(path.Dir(p), hops)
	if err != nil {
		return "", err
	}
	c, err := l.step(parent, path.Base(p), hops)
	if err == nil {
		l.dirs[p] = c
	}
	return c, err
}

func (l *Links) step(parent, name string, hops *int) (string, error) {
	switch name {
	case "", ".":
		return parent, nil
	case "..":
		return path.Dir(parent), nil
	}
	c := join(parent, name)
	target, ok := l.targets[c]
	if !ok {
		return c, nil
	}
	if *hops++; *hops > maxHops {
		return "", fmt.Errorf("resolving %q: too many links", "/"+c)
	}
	l.traversed[c] = true
	at := parent
	if strings.HasPrefix(target, "/") {
		at = "."
	}
	for part := range strings.SplitSeq(target, "/") {
		var err error
		if at, err = l.step(at, part, hops); err != nil {
			return "", err
		}
	}
	return at, nil
}

// ErrLinks says that a path leads through more links than Linux follows.
var ErrLinks = errors.New("too many links")

// Follow resolves a path of a host, asking lstat for one entry after the other: for the
// few paths of which the links aren't known beforehand. A link leads where it would lead
// with the host's root as the root. A path that isn't there, for which lstat gives a File
// without a Type, is "".
func Follow(name string, lstat func(path string) (File, error)) (string, error) {
	todo := strings.Split(strings.Trim(name, "/"), "/")
	done := "."
	for hops := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done) // links in done are followed already; the root's parent is the root
			continue
		}
		next := join(done, part)
		f, err := lstat(next)
		switch {
		case err != nil:
			return "", err
		case f.Type == 0:
			return "", nil
		case f.Type != Symlink:
			done = next
			continue
		}
		if hops++; hops > maxHops {
			return "", fmt.Errorf("looking at /%s: %w", name, ErrLinks)
		}
		if strings.HasPrefix(f.Target, "/") {
			done = "."
		}
		todo = slices.Concat(strings.Split(f.Target, "/"), todo)
	}
	return done, nil
}

func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

// Lookup finds the entry of a path.
func (inv *Inventory) Lookup(p string) (Entry, bool) {
	i, ok := slices.BinarySearchFunc(inv.Entries, p, func(e Entry, p string) int { return cmp.Compare(e.Path, p) })
	if !ok {
		return Entry{}, false
	}
	return inv.Entries[i], true
}
