package envs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/sys/unix"
)

// ArtifactError says that a pattern of stead.toml brings nothing, or nothing that
// may be taken.
type ArtifactError struct {
	Target, Pattern, Reason string

	Missing bool // it names no file
	hint    string
}

func (e *ArtifactError) Error() string {
	return fmt.Sprintf("collecting artifacts for %s: pattern %q %s", e.Target, e.Pattern, e.Reason)
}

// Hint says how to go on.
func (e *ArtifactError) Hint() string {
	if e.Missing {
		return "stead enter --view " + e.Target + " shows what the build left"
	}
	return e.hint
}

// checkPatterns finds what is wrong with patterns by themselves, before anything is
// built for them.
func checkPatterns(target string, patterns []string) error {
	for _, pattern := range patterns {
		bad := func(reason, hint string) error {
			return &ArtifactError{Target: target, Pattern: pattern, Reason: reason, hint: hint}
		}
		clean := path.Clean(pattern)
		switch {
		case !doublestar.ValidatePattern(clean):
			return bad("is no pattern", `a [ needs its ], a { its }; \[ is the character itself`)
		case !filepath.IsLocal(clean) || clean == ".":
			return bad("is no path below the project", "patterns begin at the project's folder: build/app, build/*.so, out/**")
		case clean == ".git" || strings.HasPrefix(clean, ".git/"):
			return bad("is in .git, which is git's own and none of a build", "")
		}
	}
	return nil
}

// gatherer finds artifacts in a view.
type gatherer struct {
	view   *os.Root
	target string
	found  map[string]string // destination below dist/TARGET to path in the view
	by     map[string]string // destination to the pattern that brought it
	left   leftOut           // of the pattern at hand
	note   func(text string)

	pattern string
	matched int
}

// leftOut is what a note tells of, such as what a wildcard matches and nobody can take:
// the first few by name.
type leftOut struct {
	first []string
	count int
}

func (l *leftOut) add(text string) {
	if l.count++; len(l.first) < 3 {
		l.first = append(l.first, text)
	}
}

func (l *leftOut) String() string {
	s := strings.Join(l.first, "; ")
	if more := l.count - len(l.first); more > 0 {
		s += fmt.Sprintf("; and %d more", more)
	}
	return s
}

// collect finds the files that the patterns name in a view: destination below
// dist/TARGET to path in the view. A pattern's folders before its first wildcard
// are left out of the destination. note is told of what wildcards match in vain.
func collect(ctx context.Context, view *os.Root, target string, patterns []string, note func(string)) (map[string]string, error) {
	if err := checkPatterns(target, patterns); err != nil {
		return nil, err
	}
	c := &gatherer{view: view, target: target, found: map[string]string{}, by: map[string]string{}, note: note}
	for _, pattern := range patterns {
		c.pattern, c.matched, c.left = pattern, 0, leftOut{}
		if err := c.match(ctx, path.Clean(pattern)); err != nil {
			return nil, err
		}
		switch {
		case c.matched == 0 && c.left.count > 0:
			return nil, &ArtifactError{Target: target, Pattern: pattern, Reason: "matches no file that can be taken: " + c.left.String(), Missing: true}
		case c.matched == 0:
			return nil, &ArtifactError{Target: target, Pattern: pattern, Reason: "matches no file that the build left", Missing: true}
		case c.left.count > 0:
			note(fmt.Sprintf("pattern %q leaves out %s", pattern, &c.left))
		}
	}
	return c.found, c.nested()
}

func (c *gatherer) bad(reason, hint string) error {
	return &ArtifactError{Target: c.target, Pattern: c.pattern, Reason: reason, hint: hint}
}

// match adds the regular files, and links to such, that a pattern names; a folder that
// it names stands for all that is in it. os.Root lets no link lead out of the view.
func (c *gatherer) match(ctx context.Context, pattern string) error {
	base, _ := doublestar.SplitPattern(pattern)
	if _, err := c.view.Stat(base); err != nil && !absent(err) && !errors.Is(err, fs.ErrPermission) {
		return c.bad(fmt.Sprintf("begins with %s, which leads out of the project", base), "artifacts are what the build left in the project")
	}
	return fs.WalkDir(c.view.FS(), base, func(p string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if absent(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if p == ".git" {
			return fs.SkipDir
		}
		named := matches(pattern, p)
		if !utf8.ValidString(p) {
			return c.unspeakable(p, d, named)
		}
		if d.IsDir() || !named {
			return nil
		}
		dest, err := filepath.Rel(base, p)
		if err != nil {
			return err
		}
		return c.take(dest, p, p == pattern)
	})
}

// unspeakable is for names that JSON, and so artifacts.json, can't have.
func (c *gatherer) unspeakable(p string, d fs.DirEntry, named bool) error {
	if named {
		return c.bad(fmt.Sprintf("brings %q, whose name is not UTF-8: artifacts.json can't name it", p), "have the build give it another name")
	}
	if d.IsDir() {
		if strings.Contains(c.pattern, "**") {
			c.left.add(fmt.Sprintf("%q, whose name is not UTF-8", p))
		}
		return fs.SkipDir
	}
	return nil
}

// take adds a file. What is none is an error where the pattern is its very name.
func (c *gatherer) take(dest, source string, exact bool) error {
	what, err := c.unfit(source)
	switch {
	case err != nil:
		return err
	case what != "" && exact:
		return c.bad("is "+what, "name a regular file, or have the build make one there, as by cp -L")
	case what != "":
		c.left.add(source + ", " + what)
		return nil
	}
	if first, _, _ := strings.Cut(dest, "/"); slices.Contains(ownFiles, first) {
		return c.bad("brings a file by the name of "+first+", which stead writes itself", "")
	}
	if other, ok := c.found[dest]; ok && other != source {
		return c.bad(fmt.Sprintf("brings %s to %s, where %s goes too, by pattern %q", source, path.Join("dist", c.target, dest), other, c.by[dest]), "")
	}
	if _, ok := c.found[dest]; !ok {
		c.found[dest], c.by[dest] = source, c.pattern
	}
	c.matched++
	return nil
}

// unfit says what a path is instead of a regular file in the project.
func (c *gatherer) unfit(p string) (string, error) {
	fi, err := c.view.Lstat(p)
	if err != nil {
		return "", fmt.Errorf("collecting artifact %s: %w", p, cause(err))
	}
	if fi.Mode().IsRegular() {
		return "", nil
	}
	if fi.Mode()&fs.ModeSymlink == 0 {
		return kindOf(fi.Mode()) + ", not a regular file", nil
	}
	to, err := c.view.Readlink(p)
	if err != nil {
		return "", fmt.Errorf("collecting artifact %s: %w", p, cause(err))
	}
	fi, err = c.view.Stat(p)
	switch {
	case absent(err):
		return fmt.Sprintf("a link to %s, where nothing is", to), nil
	case errors.Is(err, fs.ErrPermission):
		return "", fmt.Errorf("collecting artifact %s: %w", p, cause(err))
	case errors.Is(err, unix.ELOOP):
		return fmt.Sprintf("a link to %s, which leads to links without end", to), nil
	case err != nil:
		return fmt.Sprintf("a link to %s, which leads out of the project", to), nil
	case !fi.Mode().IsRegular():
		return fmt.Sprintf("a link to %s, which is %s", to, kindOf(fi.Mode())), nil
	}
	return "", nil
}

// absent reports whether nothing is there, be it that a folder is a file.
func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) }

// kindOf names a kind of file for people.
func kindOf(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a folder"
	case mode&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	}
	return "a device"
}

// nested looks for an artifact that would be a folder of another.
func (c *gatherer) nested() error {
	for _, dest := range slices.Sorted(maps.Keys(c.found)) {
		for dir := path.Dir(dest); dir != "."; dir = path.Dir(dir) {
			if other, ok := c.found[dir]; ok {
				c.pattern = c.by[dest]
				return c.bad(fmt.Sprintf("brings %s to %s, where %s is a file by pattern %q", c.found[dest], path.Join("dist", c.target, dest), other, c.by[dir]), "")
			}
		}
	}
	return nil
}

// matches reports whether a pattern names p or a folder around it.
func matches(pattern, p string) bool {
	for ; p != "."; p = path.Dir(p) {
		if doublestar.MatchUnvalidated(pattern, p) {
			return true
		}
	}
	return false
}
