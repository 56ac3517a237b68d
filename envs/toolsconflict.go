package envs

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/stead-env/stead/snapshot"
)

// TakesError says that a tool would take over what packages of the release own.
type TakesError struct {
	Package, Version string
	Path, Owner      string
	More             int // further paths
	diverts          bool
}

func (e *TakesError) Error() string {
	verb := "brings"
	if e.diverts {
		verb = "diverts"
	}
	text := fmt.Sprintf("%s %s %s /%s, which is of the release's own package %s", e.Package, e.Version, verb, e.Path, e.Owner)
	if e.Owner == "" {
		text = fmt.Sprintf("%s %s %s /%s, which the release has", e.Package, e.Version, verb, e.Path)
	}
	if e.More > 0 {
		text += fmt.Sprintf(", and %d more like it", e.More)
	}
	return text
}

// Hint says how to go on.
func (e *TakesError) Hint() string {
	return "nothing of a release may change: leave out the tool that needs " + e.Package + ", or ask for another version"
}

// brought is a path that a tool brings.
type brought struct {
	tool int // package
	link bool
}

// checkConflicts refuses tools that bring paths of the release's packages, before
// anything runs: dpkg would refuse some, too, and let others replace the release's.
func (m *toolMaker) checkConflicts(ctx context.Context) error {
	links := snapshot.NewLinks(m.below.Links())
	for _, p := range []string{"var/lib/dpkg/status", "var/cache/x", "etc/alternatives/x"} {
		if at := links.Locate(p); at != p { // what may be shadowed is told by its path
			return fmt.Errorf("the release has /%s behind a link, at /%s, and tools can't be installed over that", path.Dir(p), path.Dir(at))
		}
	}
	packages := m.pull.packages()
	paths := map[string]brought{}
	for i, t := range m.trees {
		for _, f := range t.Manifest {
			if f.Type != snapshot.Dir {
				paths[links.Locate(f.Path)] = brought{i, f.Type == snapshot.Symlink}
			}
		}
	}
	root, err := os.OpenRoot(m.base.Path)
	if err != nil {
		return err
	}
	defer root.Close()
	var found []TakesError
	err = eachList(ctx, root, func(owner, p string) {
		p = links.Locate(p)
		b, ok := paths[p]
		if !ok || b.shares(packages[b.tool].Name, owner) {
			return
		}
		if f, ok := m.below.Manifest.Lookup(p); ok && f.Type == snapshot.Dir && b.link {
			return // dpkg leaves a folder where a package has a link to one
		}
		found = append(found, TakesError{Package: packages[b.tool].Name, Version: packages[b.tool].Version, Path: p, Owner: owner})
	})
	if err != nil || len(found) == 0 {
		return err
	}
	slices.SortFunc(found, func(a, b TakesError) int {
		return cmp.Or(cmp.Compare(a.Package, b.Package), cmp.Compare(a.Path, b.Path))
	})
	found[0].More = len(found) - 1
	return &found[0]
}

// shares reports whether a package of the release is the tool's for another architecture,
// or what was left of the tool when it was removed: dpkg compares what they share.
func (brought) shares(tool, owner string) bool {
	name, _, _ := strings.Cut(owner, ":")
	return name == tool
}

// The bounds of dpkg's lists.
const (
	maxLists    = 100_000
	maxListLine = 4096 + 2
)

// eachList calls fn for each path that a package of a root has: dpkg-query(1), --listfiles.
func eachList(ctx context.Context, root *os.Root, fn func(owner, p string)) error {
	const dir = "var/lib/dpkg/info"
	d, err := root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading /%s: %w", dir, err)
	}
	defer d.Close()
	names, err := d.Readdirnames(maxLists)
	if err != nil && err != io.EOF {
		return fmt.Errorf("reading /%s: %w", dir, err)
	}
	for _, name := range names {
		owner, ok := strings.CutSuffix(name, ".list")
		if !ok {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := readList(root, dir+"/"+name, func(p string) { fn(owner, p) }); err != nil {
			return fmt.Errorf("reading /%s/%s: %w", dir, name, err)
		}
	}
	return nil
}

func readList(root *os.Root, name string, fn func(p string)) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(make([]byte, 0, maxListLine), maxListLine)
	for lines.Scan() {
		if p := strings.TrimPrefix(lines.Text(), "/"); p != "." && snapshot.ValidPath(p) {
			fn(p)
		}
	}
	return lines.Err()
}

// checkDiversions refuses what tools' scripts diverted of the release's.
func (m *toolMaker) checkDiversions(ctx context.Context) error {
	const name = "/var/lib/dpkg/diversions"
	was, err := viewRoot(m.base.Path, "")
	if err != nil {
		return err
	}
	defer was.close()
	is, err := viewRoot(m.base.Path, m.spec.Upper)
	if err != nil {
		return err
	}
	defer is.close()
	links := snapshot.NewLinks(m.below.Links())
	old := diversions(was.read(name))
	for from, by := range diversions(is.read(name)) {
		p := links.Locate(strings.TrimPrefix(from, "/"))
		if _, there := m.below.Manifest.Lookup(p); !there || old[from] == by {
			continue
		}
		e := &TakesError{Package: by, Path: p, diverts: true}
		for _, t := range m.tools.Packages {
			if t.Name == by {
				e.Version = t.Version
			}
		}
		err := eachList(ctx, was.root, func(owner, listed string) {
			if links.Locate(listed) == p {
				e.Owner = owner
			}
		})
		return errors.Join(e, err)
	}
	return nil
}

// diversions reads dpkg's file of them, three lines for each: what is diverted, to where,
// and by which package.
func diversions(text []byte) map[string]string {
	all := map[string]string{}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	for i := 0; i+2 < len(lines); i += 3 {
		all[lines[i]] = lines[i+2]
	}
	return all
}
