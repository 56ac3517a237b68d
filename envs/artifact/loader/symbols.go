package loader

import (
	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/system"
)

// check finds what the objects of a start lack, in those of them that are judged.
func (k *link) check(judged []*Mapped) {
	if k.loader.Family == system.GLibC {
		for _, m := range judged {
			k.versions(m)
		}
	}
	for _, m := range judged {
		k.relr(m)
	}
	k.of = make(map[*object.Object]*Mapped, len(k.scope))
	for _, m := range k.scope {
		k.of[m.Object] = m
	}
	for _, m := range judged {
		k.symbols(m)
		if m == k.main {
			k.copies(m)
		}
	}
}

// proof is what is known of an object's imports: that a few objects have all of them but
// some. In a scope with more objects they are still there, since a look-up goes on until
// it finds something.
type proof struct {
	files   []fileIs         // what the names of its imports' files mean
	from    []*object.Object // where the others were found
	lacking []int            // imports that nothing had
}

type fileIs struct {
	name   string
	object *object.Object
}

type proofKey struct {
	object  *object.Object
	family  system.Family
	version [2]int
}

// symbols looks up all that an object imports.
func (k *link) symbols(by *Mapped) {
	if len(by.Object.Imports) == 0 {
		return
	}
	if by == k.main || by.File.Object == nil { // nobody else has it
		p := k.prove(by)
		k.report(by, p.lacking)
		return
	}
	key := proofKey{by.Object, k.loader.Family, k.version}
	p := k.proved(key, k.holds)
	if p == nil {
		if p = k.prove(by); k.over {
			return
		}
		k.proofs.Store(key, p)
	}
	k.report(by, p.lacking)
}

// holds says whether what was proved in another scope holds in this one. What was lacking
// there may be here.
func (k *link) holds(p *proof) bool {
	for _, f := range p.files {
		m := k.named[f.name]
		if m == nil && f.object != nil || m != nil && m.Object != f.object {
			return false
		}
	}
	for _, o := range p.from {
		if k.of[o] == nil {
			return false
		}
	}
	return true
}

// prove looks up all imports of an object in the scope.
func (k *link) prove(by *Mapped) *proof {
	p := &proof{}
	file, named := "", (*Mapped)(nil)
	for i := range by.Object.Imports {
		imp := &by.Object.Imports[i]
		if imp.Weak && !k.byFileOnly() {
			continue
		}
		if imp.File != "" && imp.File != file {
			file, named = imp.File, k.named[imp.File]
			p.fileIs(file, named)
		}
		in := named
		if imp.File == "" {
			in = nil
		}
		switch m := k.bind(imp, in, p.from); {
		case m != nil:
			p.foundIn(m.Object)
		default:
			p.lacking = append(p.lacking, i)
		}
	}
	return p
}

func (p *proof) fileIs(name string, m *Mapped) {
	for _, f := range p.files {
		if f.name == name {
			return
		}
	}
	f := fileIs{name: name}
	if m != nil {
		f.object = m.Object
	}
	p.files = append(p.files, f)
}

func (p *proof) foundIn(o *object.Object) {
	for _, f := range p.from {
		if f == o {
			return
		}
	}
	p.from = append(p.from, o)
}

// byFileOnly says whether the loader looks for a version in the very file that it is needed
// of, and gives up when that lacks it: glibc before 2.30, weak or not.
func (k *link) byFileOnly() bool {
	return k.loader.Family == system.GLibC && k.before(2, 30)
}

// bind is an object that has what is imported, nil for none. Which one it is that the
// loader would take is not asked: the ones that are likely come first.
func (k *link) bind(imp *object.Import, file *Mapped, likely []*object.Object) *Mapped {
	hash := object.Hash(imp.Name)
	if k.loader.Family == system.Musl {
		return k.muslBind(hash, imp.Name)
	}
	versioned := imp.Version != ""
	if file != nil && versioned && file.Object.Versioned && has(file.Object, hash, imp) {
		return file
	}
	if !versioned {
		for _, o := range likely {
			if has(o, hash, imp) {
				return k.of[o]
			}
		}
	}
	if k.looked += len(k.scope); k.looked > maxLooked {
		k.end(k.main, "its symbols have no end")
		return nil
	}
	for _, m := range k.scope {
		if file == m && versioned && (k.byFileOnly() || !m.Object.Versioned && k.before(2, 41) && hasName(m.Object, imp.Name)) {
			return nil // it gives up here
		}
		if has(m.Object, hash, imp) {
			return m
		}
	}
	return nil
}

func hasName(o *object.Object, name string) bool {
	return len(o.Named(name)) > 0
}

// has says whether glibc finds an import in an object.
func has(o *object.Object, hash uint64, imp *object.Import) bool {
	return lookup(o, hash, imp.Name, imp.Version) != nil
}

// lookup is the symbol of an object that a reference binds to. One with a version takes
// that version, else a symbol without any; one without takes the base or the oldest
// version, else the only default one.
func lookup(o *object.Object, hash uint64, name, version string) *object.Export {
	all := o.NamedHash(hash, name)
	var byDefault *object.Export
	defaults := 0
	for i := range all {
		e := &all[i]
		switch {
		case !o.Versioned:
			return e
		case version != "":
			if e.Version == version || e.Version == "" && !e.Hidden {
				return e
			}
		case e.Version == "" || isOldest(o, e.Version):
			return e
		case !e.Hidden:
			byDefault = e
			defaults++
		}
	}
	if defaults == 1 {
		return byDefault
	}
	return nil
}

// isOldest says whether a version is the one that an object defines first.
func isOldest(o *object.Object, version string) bool {
	for i := range o.Definitions {
		if d := &o.Definitions[i]; !d.Base && d.Index <= 2 {
			return d.Name == version
		}
	}
	return false
}

// report tells of the imports that were lacking when they were proved, and still are.
func (k *link) report(by *Mapped, lacking []int) {
	for _, i := range lacking {
		imp := &by.Object.Imports[i]
		if k.unknown(imp.File) {
			continue
		}
		found := k.byVersionOf(imp.File)
		if k.bind(imp, found, nil) != nil || imp.Weak && found == nil {
			continue
		}
		k.problem(Problem{Kind: MissingSymbol, By: by, Library: imp.File,
			Symbol: imp.Name, Version: imp.Version, Found: found,
			Later: imp.Lazy && !by.Object.BindNow && !k.now && (k.into || k.loader.Family == system.GLibC)})
	}
}

// copies compares the data that a program keeps copies of with that of its libraries.
func (k *link) copies(main *Mapped) {
	for _, c := range main.Object.Copies {
		if k.looked += len(k.scope); k.looked > maxLooked {
			k.end(main, "its symbols have no end")
			return
		}
		hash := object.Hash(c.Name)
		var e *object.Export
		var in *Mapped
		for _, m := range k.scope {
			if m == main {
				continue
			}
			if k.loader.Family == system.Musl {
				e = muslLookup(m.Object, hash, c.Name)
			} else {
				e = lookup(m.Object, hash, c.Name, c.Version)
			}
			if e != nil {
				in = m
				break
			}
		}
		switch {
		case in == nil && (c.Weak || k.unknown(c.File)):
		case in == nil:
			k.problem(Problem{Kind: MissingSymbol, By: main, Library: c.File,
				Symbol: c.Name, Version: c.Version, Found: k.byVersionOf(c.File)})
		case e.Size != c.Size:
			k.problem(Problem{Kind: CopySize, By: main, Library: in.Object.Soname,
				Symbol: c.Name, Version: c.Version, Found: in, Want: c.Size, Have: e.Size, Harmless: true})
		}
	}
}

// unknown says whether a symbol may be in a library that isn't there: of that, it was told
// already.
func (k *link) unknown(file string) bool {
	return k.missing[file] || file == "" && len(k.missing) > 0
}

// byVersionOf is the object that a version's file name means; nil for none.
func (k *link) byVersionOf(file string) *Mapped {
	if file == "" {
		return nil
	}
	return k.named[file]
}
