package envs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/opencontainers/go-digest"
)

// The files of a project.
const (
	ProjectFile     = "stead.toml"
	ProjectLockFile = "stead.lock"
)

// Project is a source folder and what it wants.
type Project struct {
	Dir    string // absolute, links resolved
	Config ProjectConfig
	// Configured says that there is a stead.toml; without one Config is zero.
	Configured bool
}

// ProjectConfig is stead.toml.
type ProjectConfig struct {
	Fleet   string                   `toml:"fleet"`   // relative to the project
	Targets []string                 `toml:"targets"` // acme, globex:next, initech@2
	Tools   []string                 `toml:"tools"`
	Env     Settings                 `toml:"env"`
	Build   Build                    `toml:"build"`
	Target  map[string]TargetProject `toml:"target"`
}

// Build says how a project is built. Commands are lists of words, for no shell.
type Build struct {
	Fetch     []string `toml:"fetch"`     // with the network, before Command
	Command   []string `toml:"command"`   // without
	Artifacts []string `toml:"artifacts"` // patterns below the project, ** for any folders
	Caches    []string `toml:"caches"`    // folders of the env that are kept between builds
	Trial     []string `toml:"trial"`     // started without tools after a build
}

// TargetProject is what differs for one target; what is absent is the project's.
type TargetProject struct {
	Tools []string `toml:"tools"`
	Env   Settings `toml:"env"`
	Build
}

// For is how the project is built for a target: the project's [build] with what
// [target.NAME] replaces, the tools, and what its sessions have.
func (c ProjectConfig) For(target string) (b Build, tools []string, env Settings) {
	b, tools, env = c.Build, c.Tools, c.Env
	t, ok := c.Target[target]
	if !ok {
		return b, tools, env
	}
	replace := func(to *[]string, by []string) {
		if by != nil {
			*to = by
		}
	}
	replace(&b.Fetch, t.Fetch)
	replace(&b.Command, t.Command)
	replace(&b.Artifacts, t.Artifacts)
	replace(&b.Caches, t.Caches)
	replace(&b.Trial, t.Trial)
	replace(&tools, t.Tools)
	return b, tools, t.Env.replace(env)
}

// OpenProject finds the project around dir: the nearest folder upward with a
// stead.toml, else the git repository around dir, else dir.
func OpenProject(dir string) (*Project, error) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("opening project: %w", err)
	}
	if root, ok := upward(dir, ProjectFile); ok {
		p := &Project{Dir: root, Configured: true}
		return p, p.read()
	}
	if root, ok := upward(dir, ".git"); ok {
		dir = root
	}
	return &Project{Dir: dir}, nil
}

func upward(dir, name string) (string, bool) {
	for {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return dir, true
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", false
		}
		dir = parent
	}
}

func (p *Project) read() error {
	path := filepath.Join(p.Dir, ProjectFile)
	text, err := readBounded(path, maxConfig)
	if err != nil {
		return err
	}
	if err := decodeText(path, text, &p.Config); err != nil {
		return err
	}
	bad := func(err error) error { return fmt.Errorf("reading %s: %w", path, err) }
	seen := map[string]bool{}
	for _, s := range p.Config.Targets {
		ref, err := ParseRef(s)
		if err != nil {
			return bad(err)
		}
		if seen[ref.Target] {
			return bad(fmt.Errorf("targets has %q twice", ref.Target))
		}
		seen[ref.Target] = true
	}
	if err := p.Config.Env.settle(path, string(text), toml.Key{"env"}, p.Dir); err != nil {
		return err
	}
	for name, t := range p.Config.Target {
		if err := CheckName(name); err != nil {
			return bad(err)
		}
		if err := t.Env.settle(path, string(text), toml.Key{"target", name, "env"}, p.Dir); err != nil {
			return err
		}
		p.Config.Target[name] = t
	}
	return nil
}

// Fleet opens the project's fleet: stead.toml's, else FleetDir.
func (p *Project) Fleet() (*Fleet, error) {
	if dir := p.Config.Fleet; dir != "" {
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(p.Dir, dir)
		}
		return OpenFleet(dir)
	}
	dir, err := FleetDir()
	if err != nil {
		return nil, err
	}
	return OpenFleet(dir)
}

// projectLock is stead.lock: what was chosen.
type projectLock struct {
	Version int      `toml:"version"`
	Targets []chosen `toml:"target"`
}

// chosen is the release that a project uses of one target.
type chosen struct {
	Want    string        `toml:"want"` // as stead.toml names it
	Release int           `toml:"release"`
	Lock    digest.Digest `toml:"lock"` // identity
}

const projectLockVersion = 1

func (p *Project) readLock() (projectLock, error) {
	path := filepath.Join(p.Dir, ProjectLockFile)
	data, err := readBounded(path, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return projectLock{Version: projectLockVersion}, nil
	}
	if err != nil {
		return projectLock{}, err
	}
	return parseProjectLock(path, data)
}

func parseProjectLock(path string, data []byte) (l projectLock, err error) {
	if err := decodeText(path, data, &l); err != nil {
		return l, err
	}
	if l.Version != projectLockVersion {
		return l, fmt.Errorf("reading %s: its version is %d, and this stead knows %d", path, l.Version, projectLockVersion)
	}
	for _, c := range l.Targets {
		if _, err := ParseRef(c.Want); err != nil {
			return l, fmt.Errorf("reading %s: %w", path, err)
		}
		if err := c.Lock.Validate(); err != nil || c.Release < 1 {
			return l, fmt.Errorf("reading %s: %s has no release and digest", path, c.Want)
		}
	}
	return l, nil
}

// text is the one spelling of a lock: sorted by target.
func (l projectLock) text() ([]byte, error) {
	slices.SortFunc(l.Targets, func(a, b chosen) int { return strings.Compare(a.Want, b.Want) })
	var b bytes.Buffer
	b.WriteString("# What `stead update` chose. Not for editing.\n")
	enc := toml.NewEncoder(&b)
	enc.Indent = ""
	err := enc.Encode(l)
	return b.Bytes(), err
}

func (l projectLock) find(target string) (chosen, bool) {
	for _, c := range l.Targets {
		if ref, err := ParseRef(c.Want); err == nil && ref.Target == target {
			return c, true
		}
	}
	return chosen{}, false
}

// LockedError says that stead.lock isn't what stead.toml and the fleet ask for.
type LockedError struct{ Target, Reason string }

func (e *LockedError) Error() string {
	return fmt.Sprintf("%s doesn't match for %s: %s", ProjectLockFile, e.Target, e.Reason)
}

// Hint says how to go on.
func (e *LockedError) Hint() string { return "stead update " + e.Target }

// Wanted are the project's targets as stead.toml names them, or those of refs.
// A target alone in refs means what stead.toml says about it.
func (p *Project) Wanted(refs []string) ([]Ref, error) {
	var all, picked []Ref
	for _, s := range p.Config.Targets {
		ref, err := ParseRef(s)
		if err != nil {
			return nil, err
		}
		all = append(all, ref)
	}
	for _, s := range refs {
		ref, err := ParseRef(s)
		if err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(all, func(r Ref) bool { return r.Target == ref.Target }); i >= 0 && s == ref.Target {
			ref = all[i]
		}
		if !slices.Contains(picked, ref) {
			picked = append(picked, ref)
		}
	}
	if len(refs) == 0 {
		return all, nil
	}
	return picked, nil
}

// Choose finds the release of each ref. What stead.toml lists comes from
// stead.lock and is written there when it is new; with locked nothing is written,
// and what stead.lock hasn't got as it is wanted is a *LockedError.
func (p *Project) Choose(f *Fleet, refs []Ref, locked bool) ([]Release, error) {
	l, err := p.readLock()
	if err != nil {
		return nil, err
	}
	var releases []Release
	changed := false
	for _, ref := range refs {
		c, ok := l.find(ref.Target)
		switch {
		case ok && c.Want == ref.String():
			r, err := p.locked(f, ref.Target, c)
			if err != nil {
				return nil, err
			}
			releases = append(releases, r)
			continue
		case locked && ok:
			return nil, &LockedError{ref.Target, fmt.Sprintf("it was made for %s, and %s is wanted", c.Want, ref)}
		case locked:
			return nil, &LockedError{ref.Target, "it isn't in there"}
		}
		r, err := f.Resolve(ref)
		if err != nil {
			return nil, err
		}
		releases = append(releases, r)
		if slices.Contains(p.Config.Targets, ref.String()) {
			changed = true
			if err := l.set(ref, r); err != nil {
				return nil, err
			}
		}
	}
	if !changed {
		return releases, nil
	}
	return releases, p.writeLock(l)
}

// locked is the release that stead.lock names. Where the fleet renumbered it, its
// identity finds it.
func (p *Project) locked(f *Fleet, target string, c chosen) (Release, error) {
	r, err := f.Resolve(Ref{Target: target, Number: c.Release})
	var unknown *UnknownError
	if err == nil {
		id, err := r.Identity()
		if err != nil || id == c.Lock {
			return r, err
		}
	} else if !errors.As(err, &unknown) || unknown.Kind != "release" {
		return Release{}, err
	}
	r, ok, err := f.FindIdentity(target, c.Lock)
	if err == nil && !ok {
		err = &LockedError{target, fmt.Sprintf("the fleet's %s@%d is another release, and none has digest %s", target, c.Release, c.Lock)}
	}
	return r, err
}

func (l *projectLock) set(ref Ref, r Release) error {
	id, err := r.Identity()
	if err != nil {
		return err
	}
	l.Targets = slices.DeleteFunc(l.Targets, func(c chosen) bool {
		old, err := ParseRef(c.Want)
		return err == nil && old.Target == ref.Target
	})
	l.Targets = append(l.Targets, chosen{Want: ref.String(), Release: r.Number, Lock: id})
	return nil
}

func (p *Project) writeLock(l projectLock) error {
	text, err := l.text()
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(p.Dir, ProjectLockFile), text, 0o644)
}

// Update renews stead.lock: for refs, or for all that stead.toml lists where there
// are none. What stead.toml doesn't list any more leaves. It returns what is
// chosen now and what was before, by target.
func (p *Project) Update(f *Fleet, refs []Ref) (now, before map[string]int, err error) {
	l, err := p.readLock()
	if err != nil {
		return nil, nil, err
	}
	now, before = map[string]int{}, map[string]int{}
	var kept projectLock
	kept.Version = projectLockVersion
	listed, err := p.Wanted(nil)
	if err != nil {
		return nil, nil, err
	}
	for _, c := range l.Targets {
		ref, err := ParseRef(c.Want)
		if err != nil {
			return nil, nil, err
		}
		before[ref.Target] = c.Release
		if slices.ContainsFunc(listed, func(r Ref) bool { return r.Target == ref.Target }) {
			kept.Targets = append(kept.Targets, c)
		}
	}
	if len(refs) == 0 {
		refs = listed
	}
	for _, ref := range refs {
		if !slices.Contains(listed, ref) {
			return nil, nil, &UnknownError{Kind: "target", Name: ref.String(), Of: ProjectFile, Known: p.Config.Targets}
		}
		r, err := f.Resolve(ref)
		if err != nil {
			return nil, nil, err
		}
		if err := kept.set(ref, r); err != nil {
			return nil, nil, err
		}
		now[ref.Target] = r.Number
	}
	return now, before, p.writeLock(kept)
}
