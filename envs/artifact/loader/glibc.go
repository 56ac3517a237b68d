package loader

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/system"
)

// preload loads what /etc/ld.so.preload names. What isn't there is passed over with a
// message.
func (k *link) preload(main *Mapped) {
	for _, name := range k.loader.Preload {
		if k.byName[name] != nil {
			continue
		}
		var c cand
		if strings.Contains(name, "/") {
			k.try(&c, main, expand(name, main, k.loader))
		} else {
			k.search(&c, main, name)
		}
		switch {
		case c.object == nil:
			k.problem(Problem{Kind: MissingLibrary, By: main, Library: name,
				Bad: c.file.Path, Reason: "/etc/ld.so.preload names it", Harmless: true})
		case k.byFile[c.file.Path] == nil:
			m := k.mapped(&c, name, main)
			m.By = nil
			k.scope = append(k.scope, m)
		}
	}
}

// deps loads what the objects of the scope need, breadth first, from one of them on. A
// filter comes before the object that names it.
func (k *link) deps(from *Mapped) {
	in, done := make(map[*Mapped]bool, 64), make(map[*Mapped]bool, 64)
	for _, m := range k.scope {
		in[m] = true
	}
	for at := slices.Index(k.scope, from); at < len(k.scope); {
		by := k.scope[at]
		if done[by] {
			at++
			continue
		}
		done[by] = true
		for _, name := range by.Object.Needed {
			if m := k.need(by, name); m != nil && !in[m] {
				in[m] = true
				k.scope = append(k.scope, m)
			}
		}
		before := at
		for _, f := range by.Object.Filters {
			if m := k.filter(by, f); m != nil && !in[m] {
				in[m] = true
				k.scope = slices.Insert(k.scope, before, m)
				before++
			}
		}
	}
}

// filter is the object that a DT_FILTER or DT_AUXILIARY gets, or nil. What is wrong with the
// second is passed over in silence.
func (k *link) filter(by *Mapped, f object.Filter) *Mapped {
	if !f.Auxiliary {
		return k.need(by, f.Name)
	}
	kept, missing := k.problems, k.missing
	k.missing = map[string]bool{}
	m := k.need(by, f.Name)
	if !k.over {
		k.problems = kept
	}
	k.missing = missing
	return m
}

// need is the object that a DT_NEEDED gets, or nil.
func (k *link) need(by *Mapped, raw string) *Mapped {
	name := expand(raw, by, k.loader)
	if name == "" || k.spent(by) { // an empty expansion is passed over in silence
		return nil
	}
	if m := k.byName[name]; m != nil {
		if !m.isNamed(name) { // it was its soname that matched: from now on it goes by it
			k.enterName(m, name)
		}
		return m
	}
	if k.self != nil && (name == k.main.Object.Interp || name == k.self.Soname) {
		return k.loaderItself(name, by)
	}
	var c cand
	if strings.Contains(name, "/") {
		k.try(&c, by, name)
	} else {
		k.search(&c, by, name)
	}
	switch {
	case c.bad != "":
		k.miss(Problem{Kind: BadLibrary, By: by, Library: name, Bad: c.name, Reason: c.bad})
	case c.object != nil:
		return k.mapped(&c, name, by)
	case k.over:
	default:
		k.miss(Problem{Kind: MissingLibrary, By: by, Library: name, Bad: c.skipped, Reason: c.why})
	}
	return nil
}

// search looks for a name without a slash, everywhere in the loader's order.
func (k *link) search(c *cand, by *Mapped, name string) {
	if len(name) > maxPath {
		return
	}
	k.paths(by)
	if by.Object.RunPath == nil {
		main := false
		for m := by; m != nil && !c.found(); m = m.parent {
			main = main || m == k.main
			k.inAll(c, by, k.paths(m).rpath, name)
		}
		if !main && !c.found() {
			k.inAll(c, by, k.paths(k.main).rpath, name)
		}
	}
	if !c.found() {
		k.inAll(c, by, by.runpath, name)
	}
	if !c.found() && !k.over {
		k.default_(c, by, name)
	}
}

// paths expands an object's RPATH and RUNPATH. The first is void beside the second.
func (k *link) paths(m *Mapped) *Mapped {
	if m.expanded {
		return m
	}
	m.expanded = true
	m.runpath = k.expandAll(m, m.Object.RunPath)
	if m.Object.RunPath == nil {
		m.rpath = k.expandAll(m, m.Object.RPath)
	}
	return m
}

// expandAll leaves out what depends on the folder that a program is started in.
func (k *link) expandAll(m *Mapped, raw []string) (dirs []string) {
	for _, r := range raw {
		d := expand(r, m, k.loader)
		if strings.HasPrefix(d, "/") && len(d) < maxPath {
			dirs = append(dirs, d)
		}
	}
	return dirs
}

// inAll looks for a name in each folder of a list.
func (k *link) inAll(c *cand, by *Mapped, dirs []string, name string) {
	for _, d := range dirs {
		if c.found() || k.over {
			return
		}
		k.in(c, by, d, name)
	}
}

// in looks for a name in a folder: first below it, where files for this processor are.
func (k *link) in(c *cand, by *Mapped, dir, name string) {
	if k.spent(by) || !k.isFolder(dir) {
		return
	}
	for _, sub := range k.caps {
		if sub != "" && !k.isFolder(join(dir, sub)) {
			continue
		}
		if k.try(c, by, join(join(dir, sub), name)); c.found() {
			return
		}
	}
}

// default_ looks where the system has its libraries: the cache, then the system folders.
// What is found there depends on nothing but the name.
func (k *link) default_(c *cand, by *Mapped, name string) {
	none := by.Object.NoDefaultLibs
	if !none {
		if known, ok := k.names.Load(name); ok {
			hit := known.(*cand)
			c.name, c.file, c.object, c.bad = hit.name, hit.file, hit.object, hit.bad
			return
		}
	}
	if p := k.cached(name); p != "" && !(none && k.isSystem(p)) {
		k.try(c, by, p)
	}
	if !none && !c.found() {
		k.inAll(c, by, k.loader.SystemDirs, name)
	}
	if !none && c.found() {
		k.names.Store(name, &cand{name: c.name, file: c.file, object: c.object, bad: c.bad})
	}
}

// isSystem says whether a path begins like one of the system folders.
func (k *link) isSystem(p string) bool {
	for _, d := range k.loader.SystemDirs {
		if strings.HasPrefix(p, join(d, "")) {
			return true
		}
	}
	return false
}

// cached is the path that ld.so.cache has for a name: the entry for the best of this
// processor's capabilities, else the first one for this loader.
func (k *link) cached(name string) string {
	best, rank := "", 0
	for _, e := range k.system.Cached(name) {
		if !k.takesFlags(e.Flags) {
			continue
		}
		if e.HWCap != "" {
			r := k.rank(e.HWCap)
			if r > 0 && (rank == 0 || r < rank) {
				best, rank = e.Path, r
			}
			continue
		}
		if rank > 0 {
			break
		}
		if !k.takesOldHWCap(e.OldHWCap) {
			continue
		}
		if exact := e.Flags == cacheFlags(k.loader); exact || best == "" {
			best = e.Path
			if exact {
				break
			}
		}
	}
	return best
}

// rank is the place of a folder below glibc-hwcaps/, from 1; 0 for one that isn't active.
func (k *link) rank(hwcap string) int {
	if k.before(2, 33) {
		return 0
	}
	for i, h := range k.loader.HWCaps {
		if h == hwcap {
			return i + 1
		}
	}
	return 0
}

// try opens a path as the loader does. What is for another machine is passed over; what is
// nothing that it knows ends the start, even if a good file comes later.
func (k *link) try(c *cand, by *Mapped, p string) {
	if k.spent(by) {
		return
	}
	if !strings.HasPrefix(p, "/") {
		c.pass(p, "it is looked for in the folder that the program is started in")
		return
	}
	f, ok := k.system.Find(p)
	if !ok {
		return
	}
	k.open(c, p, f)
}

// open judges a file that is there, in the loader's order.
func (k *link) open(c *cand, p string, f system.File) {
	c.name, c.file = p, f
	if f.Dir || f.Object == nil {
		c.bad = "it is a folder"
		return
	}
	o, err := f.Object()
	h, ok := headerOf(o, err)
	switch {
	case !ok:
		c.bad = err.Error()
	case h.class != k.loader.Class:
		c.pass(p, "it is for "+describe(h.class, h.machine))
	case k.refusesHeader(h) != "":
		c.bad = k.refusesHeader(h)
	case !k.takes(h):
		c.pass(p, "it is for "+describe(h.class, h.machine))
	case err != nil:
		c.bad = err.Error()
	case k.before(2, 36) && k.kernel != [3]uint32{} && newer(o.Kernel, k.kernel):
		c.pass(p, fmt.Sprintf("it is for Linux %d.%d.%d and later", o.Kernel[0], o.Kernel[1], o.Kernel[2]))
	case k.refuses(o) != "":
		c.bad = k.refuses(o)
	default:
		c.object = o
	}
}

// pass records the first file that was passed over.
func (c *cand) pass(p, why string) {
	if c.skipped == "" {
		c.skipped, c.why = p, why
	}
}

// newer says whether one kernel's release is newer than another.
func newer(a, b [3]uint32) bool {
	for i := range a {
		if a[i] != b[i] {
			return a[i] > b[i]
		}
	}
	return false
}
