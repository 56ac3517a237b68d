package envs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/BurntSushi/toml"
	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/lock"
)

// projectLock is stead.lock: what was chosen.
type projectLock struct {
	Version int      `toml:"version"`
	Targets []chosen `toml:"target"`
}

// chosen is what a project uses of one target.
type chosen struct {
	Want    string        `toml:"want"` // as stead.toml names it
	Release int           `toml:"release"`
	Lock    digest.Digest `toml:"lock"` // identity
	// Tools are nil where the project asks for none.
	Tools *ChosenTools `toml:"tools"`
}

// ChosenTools are the tools that were chosen for a release.
type ChosenTools struct {
	Wishes   []ChosenWish   `toml:"wishes"`
	Digest   string         `toml:"digest"` // "tree1:sha256:…" of the layer; "" where the base has all of it
	Delta    lock.Delta     `toml:"delta"`  // what the packages' scripts made
	Shadows  []string       `toml:"shadows"`
	Archives []lock.Archive `toml:"archives"`
	Packages []ChosenTool   `toml:"packages"`
}

// ChosenWish is a wish and the package that grants it; none where a file of the base
// does.
type ChosenWish struct {
	Wish         string `toml:"wish"` // as stead.toml spells it
	Package      string `toml:"package"`
	Version      string `toml:"version"`
	Architecture string `toml:"architecture"`
	Base         bool   `toml:"base"` // it is the base's own
}

// ChosenTool is a package that was chosen, and why.
type ChosenTool struct {
	lock.Package
	For []string `toml:"for"` // names of chosen packages that need it
}

// texts are the wishes as stead.toml spells them.
func (t *ChosenTools) texts() []string {
	if t == nil {
		return nil
	}
	texts := make([]string, len(t.Wishes))
	for i, w := range t.Wishes {
		texts[i] = w.Wish
	}
	return texts
}

// Tools are the packages and what their scripts made, without the reasons.
func (t *ChosenTools) Tools() *Tools {
	return &Tools{Wishes: t.texts(), Archives: t.Archives, Packages: t.packages(), Delta: t.Delta, Digest: t.Digest, Shadows: t.Shadows}
}

// projectLockVersion is written; all up to it are read. 1 had no tools.
const projectLockVersion = 2

// The bounds of what a target's tools may be.
const (
	maxTools   = 20_000
	maxShadows = 10_000
	// maxProjectLock bounds stead.lock, in bytes: a package takes a third of a kilobyte.
	maxProjectLock = 64 << 20
)

// readLock reads stead.lock, or of it what it has for some targets: a session has no time
// for those of eight others.
func (p *Project) readLock(targets ...string) (projectLock, error) {
	path := filepath.Join(p.Dir, ProjectLockFile)
	data, err := readBounded(path, maxProjectLock)
	if errors.Is(err, fs.ErrNotExist) {
		return projectLock{Version: projectLockVersion}, nil
	}
	if err != nil {
		return projectLock{}, err
	}
	if err := checkWhole(path, data); err != nil {
		return projectLock{}, err
	}
	if len(targets) > 0 {
		data = onlyTargets(data, targets)
	}
	p.parsed.Lock()
	defer p.parsed.Unlock()
	if !bytes.Equal(p.parsed.text, data) {
		l, err := parseProjectLock(path, data)
		if err != nil {
			return l, err
		}
		p.parsed.text, p.parsed.lock = data, l
	}
	return p.parsed.lock, nil
}

// parsedLock is the stead.lock that was read last.
type parsedLock struct {
	sync.Mutex
	text []byte
	lock projectLock
}

// onlyTargets empties the lines of a stead.lock that are of other targets. One that isn't
// spelled as text does it stays whole.
func onlyTargets(data []byte, targets []string) []byte {
	const begin = "\n[[target]]\nwant = \""
	parts := bytes.Split(data, []byte(begin))
	for i, part := range parts[1:] {
		want, _, ok := bytes.Cut(part, []byte("\"\n"))
		ref, err := ParseRef(string(want))
		if !ok || err != nil {
			return data
		}
		if slices.Contains(targets, ref.Target) {
			parts[i+1] = slices.Concat([]byte(begin), part)
		} else {
			parts[i+1] = bytes.Repeat([]byte("\n"), bytes.Count(part, []byte("\n"))+2)
		}
	}
	return bytes.Join(parts, nil)
}

func parseProjectLock(path string, data []byte) (l projectLock, err error) {
	if v := lockVersion(data); v > projectLockVersion {
		return l, &newerLockError{path, v}
	}
	if err := decodeText(path, data, &l); err != nil {
		return l, &projectLockError{err}
	}
	if l.Version < 1 {
		return l, &projectLockError{fmt.Errorf("reading %s: it has no version", path)}
	}
	seen := map[string]bool{}
	for _, c := range l.Targets {
		if err := c.check(seen); err != nil {
			return l, &projectLockError{fmt.Errorf("reading %s: %w", path, err)}
		}
	}
	return l, nil
}

func (c chosen) check(seen map[string]bool) error {
	ref, err := ParseRef(c.Want)
	if err != nil {
		return err
	}
	if seen[ref.Target] {
		return fmt.Errorf("%s is in it twice", ref.Target)
	}
	seen[ref.Target] = true
	if err := c.Lock.Validate(); err != nil || c.Release < 1 {
		return fmt.Errorf("%s has no release and digest", c.Want)
	}
	if c.Tools == nil {
		return nil
	}
	if err := c.Tools.check(); err != nil {
		return fmt.Errorf("tools of %s: %w", c.Want, err)
	}
	return nil
}

func (t *ChosenTools) check() error {
	seen := map[string]bool{}
	for _, w := range t.Wishes {
		if err := CheckWish(w.Wish); err != nil || seen[w.Wish] {
			return fmt.Errorf("wish %q occurs twice or is none", w.Wish)
		}
		seen[w.Wish] = true
	}
	for _, a := range t.Archives {
		if y := a.Dated.UTC().Year(); y < 1 || y > 9999 {
			return fmt.Errorf("archive %q has an impossible date", a.Name)
		}
	}
	if len(t.Packages) > maxTools || len(t.Shadows) > maxShadows {
		return errors.New("there are too many")
	}
	if len(t.Packages) == 0 {
		if t.Digest != "" || t.Delta != (lock.Delta{}) {
			return errors.New("there is a digest, and no package")
		}
		return nil
	}
	tree, ok := strings.CutPrefix(t.Digest, "tree1:")
	if !ok || digest.Digest(tree).Validate() != nil {
		return fmt.Errorf("%q is no digest", t.Digest)
	}
	if err := t.Delta.Digest().Validate(); err != nil {
		return fmt.Errorf("delta: %w", err)
	}
	return lock.CheckPackages(t.Archives, t.packages())
}

// packages are the chosen ones without the reasons.
func (t *ChosenTools) packages() []lock.Package {
	list := make([]lock.Package, len(t.Packages))
	for i, k := range t.Packages {
		list[i] = k.Package
	}
	return list
}

// lockVersion is what a stead.lock says of its format before all else; 0 where it doesn't.
func lockVersion(data []byte) int {
	var v struct {
		Version int `toml:"version"`
	}
	head, _, _ := bytes.Cut(data, []byte("\n["))
	if _, err := toml.Decode(string(head), &v); err != nil {
		return 0 // who reads all of it finds out why
	}
	return v.Version
}

// newerLockError is a stead.lock of a format to come.
type newerLockError struct {
	path    string
	version int
}

func (e *newerLockError) Error() string {
	return fmt.Sprintf("reading %s: its version is %d, and this stead knows up to %d", e.path, e.version, projectLockVersion)
}

// Hint says how to go on.
func (e *newerLockError) Hint() string { return "get a newer stead: whoever ran stead update has one" }

// conflicts begin the lines that git leaves around what it could not merge.
var conflicts = []string{"<<<<<<<", "=======", ">>>>>>>", "|||||||"}

// conflictError is a stead.lock that a merge left unfinished.
type conflictError struct {
	path string
	line int
}

func (e *conflictError) Error() string {
	return fmt.Sprintf("reading %s:%d: a merge left a conflict in it", e.path, e.line)
}

// Hint says how to go on.
func (e *conflictError) Hint() string {
	return "take one side (git checkout --ours " + ProjectLockFile + ", or --theirs), then stead update"
}

// checkWhole finds what a merge left in a stead.lock, and whether its end is missing: that
// may be in what it has for targets that nobody asks for now.
func checkWhole(path string, data []byte) error {
	for _, mark := range conflicts {
		at := bytes.Index(data, []byte("\n"+mark)) + 1
		if at > 0 || bytes.HasPrefix(data, []byte(mark)) {
			return &conflictError{path, bytes.Count(data[:at], []byte("\n")) + 1}
		}
	}
	text := bytes.TrimRight(data, " \t\r\n")
	last := text[bytes.LastIndexByte(text, '\n')+1:]
	inside := bytes.HasSuffix(last, []byte("["))
	for _, begin := range []string{"  ", "[", "want = ", "release = ", "digest = "} { // more is to follow
		inside = inside || bytes.HasPrefix(last, []byte(begin))
	}
	if inside || !bytes.HasSuffix(data, []byte("\n")) {
		return &projectLockError{fmt.Errorf("reading %s: its end is missing", path)}
	}
	return nil
}

// projectLockError is a stead.lock that nobody could have written so.
type projectLockError struct{ err error }

func (e *projectLockError) Error() string { return e.err.Error() + " (the file is damaged)" }
func (e *projectLockError) Unwrap() error { return e.err }

// Hint says how to go on.
func (e *projectLockError) Hint() string {
	return "git checkout " + ProjectLockFile + " restores it from the project's history; or remove it: stead update writes it anew"
}

// text is the one spelling of a lock: sorted by target, a line for each package, so
// that differences between two are read by line.
func (l projectLock) text() []byte {
	targets := slices.Clone(l.Targets)
	slices.SortFunc(targets, func(a, b chosen) int { return strings.Compare(a.Want, b.Want) })
	var b bytes.Buffer
	fmt.Fprintf(&b, "# What `stead update` chose. Not for editing.\nversion = %d\n", projectLockVersion)
	for _, c := range targets {
		fmt.Fprintf(&b, "\n[[target]]\nwant = %s\nrelease = %d\nlock = %s\n", lock.Quote(c.Want), c.Release, lock.Quote(c.Lock.String()))
		if c.Tools != nil {
			c.Tools.write(&b)
		}
	}
	return b.Bytes()
}

func (t *ChosenTools) write(b *bytes.Buffer) {
	b.WriteString("\n[target.tools]\n")
	wishes := slices.Clone(t.Wishes)
	slices.SortFunc(wishes, func(x, y ChosenWish) int { return strings.Compare(x.Wish, y.Wish) })
	writeLines(b, "wishes", wishes, func(w ChosenWish) string {
		return inline("wish", w.Wish, "package", w.Package, "version", w.Version, "architecture", w.Architecture, "base", w.Base)
	})
	if len(t.Packages) == 0 {
		return
	}
	fmt.Fprintf(b, "digest = %s\ndelta = { sha256 = %s, size = %d, files = %d }\n",
		lock.Quote(t.Digest), lock.Quote(t.Delta.SHA256), t.Delta.Size, t.Delta.Files)
	writeLines(b, "shadows", slices.Sorted(slices.Values(t.Shadows)), lock.Quote)
	archives := slices.Clone(t.Archives)
	slices.SortFunc(archives, func(x, y lock.Archive) int { return strings.Compare(x.Name, y.Name) })
	writeLines(b, "archives", archives, func(a lock.Archive) string {
		return inline("name", a.Name, "uri", a.URI, "suite", a.Suite, "inrelease", a.InRelease.String(),
			"signed-by", a.SignedBy, "dated", a.Dated)
	})
	packages := slices.Clone(t.Packages)
	slices.SortFunc(packages, compareTools)
	writeLines(b, "packages", packages, func(k ChosenTool) string {
		return inline("name", k.Name, "version", k.Version, "architecture", k.Architecture, "archive", k.Archive,
			"path", k.Path, "size", k.Size, "sha256", k.SHA256, "proof", k.Proof, "rootfs", k.Rootfs,
			"for", slices.Sorted(slices.Values(k.For)))
	})
}

func compareTools(a, b ChosenTool) int {
	return strings.Compare(a.Name+" "+a.Architecture+" "+a.Version, b.Name+" "+b.Architecture+" "+b.Version)
}

// find is what was chosen for a target.
func (l projectLock) find(target string) (chosen, bool) {
	for _, c := range l.Targets {
		if ref, err := ParseRef(c.Want); err == nil && ref.Target == target {
			return c, true
		}
	}
	return chosen{}, false
}

// with is the lock with another choice for a target, in place of what it had.
func (l projectLock) with(c chosen) projectLock {
	ref, err := ParseRef(c.Want)
	if err != nil {
		return l
	}
	return projectLock{projectLockVersion, append(l.without(func(target string) bool { return target == ref.Target }).Targets, c)}
}

// without is the lock without some targets.
func (l projectLock) without(leaves func(target string) bool) projectLock {
	next := projectLock{Version: projectLockVersion}
	for _, c := range l.Targets {
		if ref, err := ParseRef(c.Want); err == nil && !leaves(ref.Target) {
			next.Targets = append(next.Targets, c)
		}
	}
	return next
}

// changeLock changes stead.lock while no other process does. What says the same
// afterwards isn't written.
func (p *Project) changeLock(change func(projectLock) projectLock) error {
	return p.exclusive(func() error { return p.writeLock(change) })
}

// writeLock is changeLock for who is exclusive.
func (p *Project) writeLock(change func(projectLock) projectLock) error {
	l, err := p.readLock()
	if err != nil {
		return err
	}
	path := filepath.Join(p.Dir, ProjectLockFile)
	text := change(l).text()
	if old, err := readBounded(path, maxProjectLock); err == nil && bytes.Equal(old, text) {
		return nil
	}
	return writeOver(path, text, 0o644)
}
