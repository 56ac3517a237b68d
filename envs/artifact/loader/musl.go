package loader

import "strings"

const maxName = 255 // bytes: musl looks for no longer name

// muslReserved are names that mean musl itself, whatever follows their dot.
var muslReserved = []string{"libc.", "libpthread.", "librt.", "libm.", "libdl.", "libutil.", "libxnet."}

// muslDeps loads what an object and all that it brings need. musl has one list: of what is
// loaded, in that order.
func (k *link) muslDeps(from *Mapped) {
	in := make(map[*Mapped]bool, 64)
	for _, m := range k.scope {
		in[m] = true
	}
	at := 0
	for i, m := range k.scope {
		if m == from {
			at = i
		}
	}
	for ; at < len(k.scope); at++ {
		by := k.scope[at]
		for _, name := range by.Object.Needed {
			if m := k.muslNeed(by, name); m != nil && !in[m] {
				in[m] = true
				k.scope = append(k.scope, m)
			}
		}
	}
}

// muslNeed is the object that a DT_NEEDED gets, or nil.
func (k *link) muslNeed(by *Mapped, name string) *Mapped {
	if k.spent(by) {
		return nil
	}
	if name == "" {
		k.miss(Problem{Kind: MissingLibrary, By: by, Reason: "a name is empty"})
		return nil
	}
	for _, r := range muslReserved {
		if strings.HasPrefix(name, r) {
			return k.loaderItself(name, by)
		}
	}
	if name == k.loader.Path || name == k.main.Object.Interp {
		return k.loaderItself(name, by)
	}
	var c cand
	if strings.Contains(name, "/") {
		k.muslTry(&c, by, name)
	} else {
		if m := k.byName[name]; m != nil {
			return m
		}
		if len(name) <= maxName {
			k.muslSearch(&c, by, name)
		}
	}
	switch {
	case c.bad != "":
		k.miss(Problem{Kind: BadLibrary, By: by, Library: name, Bad: c.name, Reason: c.bad})
		return nil
	case c.object == nil:
		if !k.over {
			k.miss(Problem{Kind: MissingLibrary, By: by, Library: name, Bad: c.skipped, Reason: c.why})
		}
		return nil
	case isLibc(&c):
		return k.loaderItself(name, by)
	}
	if m := k.byFile[c.file.Path]; m != nil {
		if !strings.Contains(name, "/") && len(m.names) == 0 {
			k.enterName(m, name)
		}
		return m
	}
	m := &Mapped{Name: c.name, File: c.file, Object: c.object, By: by, parent: by}
	k.all = append(k.all, m)
	k.byFile[c.file.Path] = m
	if !strings.Contains(name, "/") { // what a path named has no short name
		k.enterName(m, name)
	}
	return m
}

// isLibc says whether a file is a C library of its own: musl puts itself in its place.
func isLibc(c *cand) bool {
	return muslHas(c.object, "__libc_start_main") && muslHas(c.object, "stdin")
}

// muslSearch looks for a name in the paths of an object and of those that brought it, then
// in the system's. The first file of that name counts, whatever it is.
func (k *link) muslSearch(c *cand, by *Mapped, name string) {
	for m := by; m != nil && !c.found(); m = m.parent {
		for _, d := range k.muslPaths(m).rpath {
			if k.muslTry(c, by, join(d, name)); c.found() {
				return
			}
		}
	}
	if c.found() || k.over {
		return
	}
	if known, ok := k.names.Load(name); ok {
		*c = *known.(*cand)
		return
	}
	for _, d := range k.loader.SystemDirs {
		if k.muslTry(c, by, join(d, name)); c.found() {
			break
		}
	}
	if c.found() {
		kept := *c
		k.names.Store(name, &kept)
	}
}

// muslPaths expands an object's RUNPATH, else its RPATH. Where it has any other token than
// $ORIGIN, the whole of it is void.
func (k *link) muslPaths(m *Mapped) *Mapped {
	if m.expanded {
		return m
	}
	m.expanded = true
	raw := m.Object.RunPath
	if raw == nil {
		raw = m.Object.RPath
	}
	var dirs []string
	for _, r := range raw {
		bare := strings.ReplaceAll(strings.ReplaceAll(r, "${ORIGIN}", ""), "$ORIGIN", "")
		if strings.Contains(bare, "$") {
			return m
		}
		at := origin(m.Name)
		if len(r)+strings.Count(r, "$")*len(at) > maxPath {
			continue
		}
		d := strings.ReplaceAll(strings.ReplaceAll(r, "${ORIGIN}", at), "$ORIGIN", at)
		for _, one := range strings.Split(d, "\n") {
			if strings.HasPrefix(one, "/") {
				dirs = append(dirs, one)
			}
		}
	}
	m.rpath = dirs
	return m
}

// muslTry opens a path as musl does: what is there is taken, or ends the start.
func (k *link) muslTry(c *cand, by *Mapped, p string) {
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
	c.name, c.file = p, f
	if f.Dir || f.Object == nil {
		c.bad = "it is a folder"
		return
	}
	o, err := f.Object()
	h, ok := headerOf(o, err)
	switch {
	case ok && (h.class != k.loader.Class || h.machine != k.loader.Machine):
		c.bad = "it is for " + describe(h.class, h.machine)
	case err != nil:
		c.bad = err.Error()
	case !o.Dynamic:
		c.bad = "it has no dynamic section"
	default:
		c.object = o
	}
}
