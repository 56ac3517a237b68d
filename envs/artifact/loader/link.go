package loader

import (
	"path"
	"strings"

	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/system"
)

// The bounds of one start: what lies beyond is no program, but made to be followed for ever.
const (
	maxMapped   = 4096    // objects
	maxTried    = 1 << 18 // needs, folders and paths to look at
	maxLooked   = 1 << 26 // objects to look for symbols in, one by one
	maxProblems = 4096    // of a kind
	maxPath     = 4096    // bytes: kernels open none that is longer
)

// kindOf tells problems apart of which a bounded number is kept each.
type kindOf struct {
	kind            Kind
	later, harmless bool
}

// link is the link map of one start while it grows.
type link struct {
	*machine
	main     *Mapped
	all      []*Mapped          // in the order in which they were loaded
	byName   map[string]*Mapped // what a further need of that name gets
	named    map[string]*Mapped // what a version's file name means: sonames only once they were asked for
	byFile   map[string]*Mapped // by path without links
	missing  map[string]bool    // names that nothing was found for
	scope    []*Mapped
	of       map[*object.Object]*Mapped // the scope by object
	problems []Problem
	now      bool // all symbols are bound at once
	into     bool // a program that runs loads what is judged
	tried    int
	looked   int
	over     bool // a bound was reached
	kinds    map[kindOf]int
}

func newLink(m *machine) *link {
	return &link{machine: m, byName: map[string]*Mapped{}, named: map[string]*Mapped{},
		byFile: map[string]*Mapped{}, missing: map[string]bool{}, kinds: map[kindOf]int{}}
}

// program enters the program itself, and the loader beside it.
func (k *link) program(p Program) *Mapped {
	k.main = &Mapped{Name: k.realName(p), Object: p.Object}
	k.now = p.Now
	k.all = append(k.all, k.main)
	k.scope = append(k.scope, k.main)
	if p.Object.Interp == "" { // a library is known by its name; a running program isn't
		k.enterName(k.main, p.Path)
	}
	if k.loader.Family == system.GLibC && p.Object.Soname != "" {
		k.byName[p.Object.Soname] = k.main
	}
	return k.main
}

// realName is where the program itself is: its $ORIGIN comes from the kernel, which has
// followed all links.
func (k *link) realName(p Program) string {
	if f, ok := k.system.Find(p.Path); ok && !f.Dir {
		return f.Path
	}
	if f, ok := k.system.Find(origin(p.Path)); ok && f.Dir {
		return path.Join(f.Path, path.Base(p.Path))
	}
	return p.Path
}

// enter takes an object into the link map.
func (k *link) enter(m *Mapped, asked string) {
	k.all = append(k.all, m)
	k.enterName(m, asked)
	if k.loader.Family == system.GLibC {
		k.enterName(m, m.Name)
		if s := m.Object.Soname; s != "" && k.byName[s] == nil {
			k.byName[s] = m
		}
	}
	if m.File.Path != "" {
		k.byFile[m.File.Path] = m
	}
}

// enterName takes a further name of an object.
func (k *link) enterName(m *Mapped, name string) {
	m.names = append(m.names, name)
	if k.byName[name] == nil {
		k.byName[name] = m
	}
	if k.named[name] == nil {
		k.named[name] = m
	}
}

// isNamed says whether an object goes by a name.
func (m *Mapped) isNamed(name string) bool {
	for _, n := range m.names {
		if n == name {
			return true
		}
	}
	return false
}

// loaderItself is the loader as an object that others may need.
func (k *link) loaderItself(asked string, by *Mapped) *Mapped {
	if k.self == nil {
		return nil
	}
	if m := k.byFile[k.file.Path]; m != nil {
		return m
	}
	m := &Mapped{Name: k.loader.Path, File: k.file, Object: k.self, By: by, parent: by, itself: true}
	if k.main.Object.Interp != "" {
		m.Name = k.main.Object.Interp
	}
	k.enter(m, asked)
	return m
}

// reset forgets what was found so far, but not what is loaded.
func (k *link) reset() {
	k.scope, k.problems, k.kinds, k.missing = nil, nil, map[kindOf]int{}, map[string]bool{}
	k.tried, k.looked, k.over = 0, 0, false
}

// problem records one. Of very many that are alike, some do.
func (k *link) problem(p Problem) {
	kind := kindOf{p.Kind, p.Later, p.Harmless}
	if k.kinds[kind]++; k.kinds[kind] <= maxProblems {
		k.problems = append(k.problems, p)
	}
}

// miss records that nothing was found for a name, once.
func (k *link) miss(p Problem) {
	if !k.missing[p.Library] {
		k.missing[p.Library] = true
		k.problem(p)
	}
}

// spent counts what is looked at, and ends a start that goes on for ever.
func (k *link) spent(by *Mapped) bool {
	if k.tried++; k.tried >= maxTried || len(k.all) >= maxMapped {
		k.end(by, "its libraries have no end")
	}
	return k.over
}

// end gives up on a start.
func (k *link) end(by *Mapped, why string) {
	if !k.over {
		k.over = true
		k.problem(Problem{Kind: BadLibrary, By: by, Bad: by.Name, Reason: why})
	}
}

// cand is what the search for a name came to.
type cand struct {
	name    string // the path by which it was found
	file    system.File
	object  *object.Object
	bad     string // why the loader gives up on it
	skipped string // the first file that was passed over
	why     string // and why
}

func (c *cand) found() bool { return c.object != nil || c.bad != "" }

// mapped is the object of what a search found, new or known.
func (k *link) mapped(c *cand, asked string, by *Mapped) *Mapped {
	if m := k.byFile[c.file.Path]; m != nil {
		k.enterName(m, asked)
		return m
	}
	if k.self != nil && c.file.Path == k.file.Path {
		return k.loaderItself(asked, by)
	}
	m := &Mapped{Name: c.name, File: c.file, Object: c.object, By: by, parent: by}
	k.enter(m, asked)
	return m
}

func (k *link) result() *Result {
	return &Result{Loader: k.loader, Objects: k.scope, Problems: k.problems}
}

// join puts a name into a folder without cleaning either.
func join(dir, name string) string {
	if strings.HasSuffix(dir, "/") {
		return dir + name
	}
	return dir + "/" + name
}
