package envs

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/BurntSushi/toml"
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

	text   []byte // of stead.toml, as Config has it
	parsed parsedLock
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
	Dlopen    []string `toml:"dlopen"`    // libraries that artifacts load by name; empty: none
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
	replace(&b.Dlopen, t.Dlopen)
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
	p.text, p.Config = text, ProjectConfig{}
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
	if err := checkWishes(path, string(text), nil, p.Config.Tools); err != nil {
		return err
	}
	if err := p.Config.Env.settle(path, string(text), toml.Key{"env"}, p.Dir); err != nil {
		return err
	}
	for name, t := range p.Config.Target {
		if err := CheckName(name); err != nil {
			return bad(err)
		}
		if err := checkWishes(path, string(text), toml.Key{"target", name}, t.Tools); err != nil {
			return err
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

// Strays say of each table [target.NAME] of stead.toml that it is for no target: neither
// stead.toml nor the fleet has one of that name, which may be misspelt.
func (p *Project) Strays(f *Fleet) (notes []string) {
	refs, err := p.Wanted(nil)
	if err != nil {
		return nil
	}
	var listed []string
	for _, r := range refs {
		listed = append(listed, r.Target)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Config.Target)) {
		if slices.Contains(listed, name) {
			continue
		}
		if known, err := f.Targets(); err != nil || slices.Contains(known, name) {
			continue // commands may name it, too
		}
		note := fmt.Sprintf("%s has [target.%s], and targets has no %s", ProjectFile, name, name)
		if i := slices.IndexFunc(listed, func(l string) bool { return near(name, l) }); i >= 0 {
			note += ": perhaps " + listed[i]
		}
		notes = append(notes, note)
	}
	return notes
}
