package loader

import (
	"debug/elf"
	"path"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/system"
)

// Session follows the starts of many programs on one system, and remembers what they have
// in common. It is safe for concurrent use.
type Session struct {
	system System
	// kernel is the release that the system runs; zero where that isn't known, and then
	// every library's floor counts as met.
	kernel   [3]uint32
	proofs   sync.Map // of what is proved of an object to a *proof
	machines sync.Map // of a loader's path to a *machine
	under    *Session // the one that knows the system without what is laid over it
}

// NewSession makes a session. A kernel of zeros is one that isn't known.
func NewSession(sys System, kernel [3]uint32) *Session {
	return &Session{system: sys, kernel: kernel}
}

// Over is a session for another view of the same system, such as one with the files of an
// artifact laid over it. It knows what is proved of the system's libraries, and takes what
// it learns of the artifact's with it when it goes.
func (s *Session) Over(sys System) *Session {
	return &Session{system: sys, kernel: s.kernel, under: s}
}

// proved are the proofs that there are for an object.
func (s *Session) proved(key proofKey, holds func(*proof) bool) *proof {
	for ; s != nil; s = s.under {
		if p, ok := s.proofs.Load(key); ok && holds(p.(*proof)) {
			return p.(*proof)
		}
	}
	return nil
}

// Load follows one start.
func (s *Session) Load(p Program) *Result {
	o := p.Object
	for _, into := range p.Into {
		f, ok := s.system.Find(into)
		if !ok || f.Object == nil {
			continue
		}
		host, err := f.Object()
		if err != nil {
			continue
		}
		// A library may stand for the program that has it loaded: Java's machine.
		if l, problem := s.loaderOf(host); l != nil && problem == nil {
			return s.machine(l).loadInto(Program{Path: f.Path, Object: host}, p)
		}
	}
	l, problem := s.loaderOf(o)
	if problem == nil && l == nil {
		return &Result{Objects: []*Mapped{{Name: p.Path, Object: o}}}
	}
	if problem != nil {
		m := &Mapped{Name: p.Path, Object: o}
		problem.By = m
		return &Result{Loader: l, Objects: []*Mapped{m}, Problems: []Problem{*problem}}
	}
	return s.machine(l).load(p)
}

// loaderOf is the loader that starts an object: nil for one that starts without.
func (s *Session) loaderOf(o *object.Object) (*system.Loader, *Problem) {
	if o.Interp != "" {
		l, ok := s.system.Loader(o.Interp)
		switch {
		case ok && !s.executable(l.Path):
			return nil, &Problem{Kind: NoLoader, Library: o.Interp, Bad: l.Path, Reason: "it isn't executable"}
		case ok && (l.Class != o.Class || l.Machine != o.Machine):
			return nil, &Problem{Kind: WrongMachine, Library: o.Interp, Bad: l.Path,
				Reason: "the loader there is for " + describe(l.Class, l.Machine)}
		case ok:
			return l, nil
		case !s.runs(o):
			return nil, &Problem{Kind: WrongMachine, Library: o.Interp,
				Reason: "it is for " + describe(o.Class, o.Machine)}
		}
		p := &Problem{Kind: NoLoader, Library: o.Interp}
		if f, ok := s.system.Find(o.Interp); ok {
			p.Bad, p.Reason = f.Path, "what is there is no loader that is known"
		}
		return nil, p
	}
	if o.Type == elf.ET_EXEC || !o.Dynamic || o.PIE && len(o.Needed) == 0 {
		if !s.runs(o) {
			return nil, &Problem{Kind: WrongMachine, Reason: "it is for " + describe(o.Class, o.Machine)}
		}
		return nil, nil
	}
	family := system.GLibC
	for _, n := range o.Needed {
		if n == "libc.so" || len(n) > 10 && n[:10] == "libc.musl-" {
			family = system.Musl
		}
	}
	var found *system.Loader
	for _, l := range s.system.Loaders() {
		if l.Class == o.Class && s.machine(l).takesObject(o) && (found == nil || l.Family == family && found.Family != family) {
			found = l
		}
	}
	if found == nil {
		return nil, &Problem{Kind: WrongMachine, Reason: "no loader there is for " + describe(o.Class, o.Machine)}
	}
	return found, nil
}

func (s *Session) executable(p string) bool {
	f, ok := s.system.Find(p)
	return ok && f.Executable
}

// compatible are the machines whose kernels run the programs of others, too.
var compatible = map[elf.Machine]elf.Machine{
	elf.EM_386:   elf.EM_X86_64,
	elf.EM_ARM:   elf.EM_AARCH64,
	elf.EM_PPC:   elf.EM_PPC64,
	elf.EM_SPARC: elf.EM_SPARCV9,
}

// runs says whether the system's kernel runs such an object, as far as its loaders tell:
// without any, that isn't known, and nothing is held against it.
func (s *Session) runs(o *object.Object) bool {
	all := s.system.Loaders()
	for _, l := range all {
		if l.Machine == o.Machine || compatible[o.Machine] == l.Machine {
			return true
		}
	}
	return len(all) == 0
}

// describe names a machine for people.
func describe(c elf.Class, m elf.Machine) string {
	bits := "64-bit "
	if c == elf.ELFCLASS32 {
		bits = "32-bit "
	}
	name := m.String()
	if len(name) > 3 && name[:3] == "EM_" {
		name = name[3:]
	}
	return bits + name
}

// machine is a loader of the system, with what its searches have found so far.
type machine struct {
	*Session
	loader  *system.Loader
	version [2]int // of its C library; zeros where that isn't known
	file    system.File
	self    *object.Object // the loader's own; nil where it can't be read
	caps    []string       // folders to look into below each folder, in their order; "" is the last

	names   sync.Map // of a name without a slash, to what the system's own folders have by it
	folders sync.Map // of a path, to whether a folder is there
	count   atomic.Int32
}

// remembered bounds what a session keeps of paths that objects name.
const remembered = 1 << 14

func (s *Session) machine(l *system.Loader) *machine {
	if m, ok := s.machines.Load(l.Path); ok {
		return m.(*machine)
	}
	m := &machine{Session: s, loader: l, version: parseVersion(l.Version)}
	if f, ok := s.system.Find(l.Path); ok && f.Object != nil {
		if o, err := f.Object(); err == nil {
			m.file, m.self = f, o
		}
	}
	m.caps = capabilities(l, m.version)
	kept, _ := s.machines.LoadOrStore(l.Path, m)
	return kept.(*machine)
}

// before says whether the C library is known to be older than a version.
func (m *machine) before(major, minor int) bool {
	v := m.version
	return v != [2]int{} && (v[0] < major || v[0] == major && v[1] < minor)
}

// takesObject says whether an object is for the loader's machine.
func (m *machine) takesObject(o *object.Object) bool {
	h, _ := headerOf(o, nil)
	return m.takes(h) && (m.self == nil || o.Data == m.self.Data)
}

func (m *machine) isFolder(p string) bool {
	if known, ok := m.folders.Load(p); ok {
		return known.(bool)
	}
	f, ok := m.system.Find(p)
	is := ok && f.Dir
	if len(p) < 256 && m.count.Add(1) < remembered {
		m.folders.Store(p, is)
	}
	return is
}

// parseVersion takes the first two numbers of a version.
func parseVersion(s string) (v [2]int) {
	i := 0
	for _, c := range s {
		switch {
		case c >= '0' && c <= '9' && v[i] < 1<<20:
			v[i] = v[i]*10 + int(c-'0')
		case c == '.' && i == 0:
			i = 1
		default:
			return v
		}
	}
	return v
}

// load follows the start of a program or, where o has no PT_INTERP, what the loader does
// when it is given a library.
func (m *machine) load(p Program) *Result {
	k := newLink(m)
	main := k.program(p)
	if m.loader.Family == system.Musl {
		k.muslDeps(main)
	} else {
		k.preload(main)
		k.deps(main)
	}
	k.check(k.scope)
	return k.result()
}

// loadInto follows what happens when a running program loads an object: only what that
// brings is judged.
func (m *machine) loadInto(host, p Program) *Result {
	k := newLink(m)
	main := k.program(host)
	if m.loader.Family == system.Musl {
		k.muslDeps(main)
	} else {
		k.preload(main)
		k.deps(main)
	}
	running := k.scope
	k.reset()

	o := p.Object
	mod := &Mapped{Name: p.Path, Object: o}
	k.scope = []*Mapped{mod}
	if o.Class != m.loader.Class || !m.takesObject(o) {
		k.problem(Problem{Kind: WrongMachine, By: mod, Reason: "it is for " + describe(o.Class, o.Machine)})
		return k.result()
	}
	if why := m.refuses(o); why != "" && m.loader.Family == system.GLibC {
		k.problem(Problem{Kind: BadLibrary, By: mod, Library: p.Path, Bad: p.Path, Reason: why})
		return k.result()
	}
	k.into, k.now = true, p.Now
	k.enter(mod, p.Path)
	if m.loader.Family == system.Musl {
		k.muslDeps(mod)
	} else {
		k.deps(mod)
	}
	brought := k.scope
	for _, x := range running {
		if !slices.Contains(brought, x) {
			k.scope = append(k.scope, x)
		}
	}
	k.check(slices.DeleteFunc(slices.Clone(brought), func(x *Mapped) bool { return slices.Contains(running, x) }))
	return k.result()
}

// origin is the folder of a path, as $ORIGIN has it: not cleaned, its links not followed.
func origin(name string) string {
	dir, _ := path.Split(name)
	if len(dir) > 1 {
		return dir[:len(dir)-1]
	}
	return dir
}
