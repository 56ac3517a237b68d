package artifact

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/stead-env/stead/envs/artifact/content"
	"github.com/stead-env/stead/envs/artifact/loader"
	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/system"
)

// The kinds of files that have an answer.
const (
	Program       = "program"
	Library       = "library"
	Module        = "module" // a library that an interpreter or another program loads
	StaticProgram = "static program"
	Script        = "script"
	PackageFile   = "package"
	Other         = "other"
)

// Judge answers for each file of a set that can have a verdict, in the set's order, and
// then for its packages. It is safe for concurrent use, and a target that is asked again
// remembers what it looked up: the set's objects and the target must not change. The error
// is ctx's alone.
func (t *Target) Judge(ctx context.Context, set *Set) ([]Answer, error) {
	v := newView(t, set)
	answers := make([]*Answer, len(set.Files))
	var next atomic.Int64
	group, groupCtx := errgroup.WithContext(ctx)
	for range min(runtime.GOMAXPROCS(0), len(set.Files)) {
		group.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(set.Files) {
					return nil
				}
				if err := groupCtx.Err(); err != nil {
					return err
				}
				answers[i] = v.judge(&set.Files[i])
			}
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var all []Answer
	for _, a := range answers {
		if a != nil {
			all = append(all, *a)
		}
	}
	for i := range set.Packages {
		all = append(all, v.judgePackage(&set.Packages[i]))
	}
	return all, ctx.Err()
}

// view is a target with a set laid over it.
type view struct {
	*Target
	set  *Set
	over *overlay // nil where the files don't travel together
	sys  loader.System
	load func(loader.Program) *loader.Result

	hosts sync.Map // of programs of the set that load modules: whether they fail
}

func newView(t *Target, set *Set) *view {
	t.once.Do(t.prepare)
	if set.Alone || len(set.Files) == 1 && len(set.Packages) == 0 {
		return &view{Target: t, set: set, sys: t.System, load: t.session.Load}
	}
	over := lay(t.System, set.Files, len(set.Packages) > 0)
	over.replace(set.Packages)
	return &view{Target: t, set: set, over: over, sys: over, load: t.session.Over(over).Load}
}

// prepare makes what all of a target's judgements share.
func (t *Target) prepare() {
	kernel, _ := kernelVersion(t.Host.Kernel)
	t.session = loader.NewSession(t.System, kernel)
	t.versions = make(map[string][]system.Package, len(t.Facts.Packages))
	for _, p := range t.Facts.Packages {
		t.versions[p.Name] = append(t.versions[p.Name], p)
	}
	t.providers = map[string][]int{}
	for i, p := range t.Facts.Packages {
		for _, provided := range p.Provides {
			for _, format := range []content.Format{content.Deb, content.RPM} {
				name := parseRelation(format, provided).name
				if !slices.Contains(t.providers[name], i) {
					t.providers[name] = append(t.providers[name], i)
				}
			}
		}
	}
}

// judge answers for one file, or not at all: most files of an artifact don't start.
func (v *view) judge(f *File) *Answer {
	only := f.Asked || len(v.set.Files) == 1
	var c *check
	switch {
	case f.Link != "" || f.Dir:
		return nil
	case f.Object != nil:
		if f.Object.Type == elf.ET_REL || f.Object.Type == elf.ET_CORE || separateDebug(f.Path) {
			if !only {
				return nil
			}
			c = v.check(f, Other)
			c.unproven("not-started", "%s is not started by anyone: it is for a linker or a debugger", c.name)
			break
		}
		c = v.checkObject(f)
	case f.Err != nil && (isELF(f) || len(f.Head) == 0):
		var bad *object.Error
		if !only && (separateDebug(f.Path) || errors.As(f.Err, &bad) && bad.Reason == object.NotLoadable) {
			return nil
		}
		c = v.check(f, Other)
		c.unreadable()
	default:
		c = v.checkText(f, only)
		if class := classVersion(f.Head) > 0; c == nil && (class || len(f.Members) > 0) {
			c = v.checkArchive(f)
			if class && !only && len(c.answer.Reasons) == 0 {
				return nil // one of many
			}
		}
		if c == nil && only {
			c = v.check(f, Other)
			c.unproven("not-started", "%s is neither a program, a library nor a script", c.name)
		}
	}
	if c == nil {
		return nil
	}
	return c.done()
}

// isELF tells files that claim to be ELF.
func isELF(f *File) bool {
	var bad *object.Error
	return !errors.As(f.Err, &bad) || bad.Reason != object.NotELF && bad.Reason != object.TooShort ||
		bytes.HasPrefix(f.Head, []byte("\x7fELF"))
}

// separateDebug tells files that hold nothing but another one's symbols for debuggers.
func separateDebug(name string) bool {
	return strings.HasPrefix(name, "/usr/lib/debug/") || strings.HasSuffix(name, ".debug")
}

// check is one file's way to its answer.
type check struct {
	*view
	file   *File
	name   string // short, for sentences
	answer Answer
	into   []string // programs that load it
	// whole says that nobody else brings symbols to a module than the program that loads it.
	whole bool
	now   bool // that program binds all of its symbols at once
	// loaded are the objects of its start.
	loaded []*loader.Mapped
}

func (v *view) check(f *File, kind string) *check {
	return &check{view: v, file: f, name: path.Base(f.Path),
		answer: Answer{Target: v.Name, File: f.Name, Kind: kind}}
}

// done draws the verdict from the reasons: the worst counts.
func (c *check) done() *Answer {
	c.settle()
	c.answer.Verdict = Starts
	for _, r := range c.answer.Reasons {
		if r.Verdict == Fails || r.Verdict == Unproven && c.answer.Verdict == Starts {
			c.answer.Verdict = r.Verdict
		}
	}
	return &c.answer
}

// settle takes what is wrong with a package's file on the very target that has it so for
// what it is: those who installed it there live with it.
func (c *check) settle() {
	fails := func(r Reason) bool { return r.Verdict == Fails }
	if !slices.ContainsFunc(c.answer.Reasons, fails) {
		return
	}
	there, ok := c.System.Find(c.file.Path)
	if !ok || there.Package == "" || !c.unchanged(c.file.Object, c.file) {
		return
	}
	for i := range c.answer.Reasons {
		if r := &c.answer.Reasons[i]; fails(*r) && c.failsAlone(*r) {
			r.Verdict = Unproven
			r.Text += "; it is " + c.brought(there) + "'s own file, as it is installed there"
		}
	}
}

// failsAlone tells whether a file that the target has fails there for the same reason, and
// not for what the artifact lays beside it.
func (c *check) failsAlone(r Reason) bool {
	if c.over == nil {
		return true
	}
	set := &Set{Files: []File{*c.file}, Alone: true}
	alone := newView(c.Target, set).judge(&set.Files[0])
	return alone != nil && slices.ContainsFunc(alone.Reasons, func(o Reason) bool {
		return o.Verdict == Unproven && o.Kind == r.Kind && o.By == r.By && o.Library == r.Library &&
			o.Symbol == r.Symbol && o.Version == r.Version
	})
}

// checkObject judges an ELF file.
func (v *view) checkObject(f *File) *check {
	o := f.Object
	c := v.check(f, objectKind(o))
	if c.answer.Kind != Library && !f.Executable && !strings.Contains(c.name, ".so") {
		c.unproven("mode", "%s may not be executed: its mode says so", c.name).way("chmod +x %s", c.name)
	}
	if c.answer.Kind != Library && o.NoEntry {
		c.fails("bad-file", "%s has no code where it is entered: it is damaged", c.name).When = atLoad
	}
	if c.answer.Kind == StaticProgram {
		if o.ABIVersion == appImage {
			c.carries()
		}
		c.checkMachine()
		c.checkKernel([]*object.Object{o}, nil)
		c.checkCPU([]*object.Object{o}, nil)
		return c
	}
	if c.answer.Kind == Library && !c.findInto() {
		return c // no interpreter of the target takes it
	}
	if !o.Dynamic {
		c.unproven("bad-file", "%s asks to be started by %s, and has nothing that a loader reads (PT_DYNAMIC)", c.name, o.Interp)
	}
	res := v.load(loader.Program{Path: f.Path, Object: o, Into: c.into, Now: c.now})
	if host := c.hostOf(res); host != "" {
		c.answer.Kind, c.into = Module, []string{host}
		res = v.load(loader.Program{Path: f.Path, Object: o, Into: c.into})
	}
	if o.ABIVersion == appImage {
		c.carries()
	}
	if len(c.into) > 0 {
		c.answer.Into, c.answer.Now = c.into[0], c.now
	}
	c.loaded = res.Objects
	c.problems(res)
	c.checkHost()
	if own := c.ownLoader(res); own != nil && !c.unchanged(own.Object, own) {
		c.unproven(string(loader.NoLoader), "the artifact brings a loader for %s in place of %s's: what that finds isn't known",
			c.name, c.Name)
	}
	own := c.ownObjects(res)
	c.checkKernel(own, res.Loader)
	c.checkCPU(own, res.Loader)
	c.checkStack(own, res.Loader)
	c.checkSetuid(res)
	c.checkPlugins(res)
	c.checkDlopen(res)
	c.travels(res)
	c.needs(res)
	return c
}

// ownLoader is the artifact's file that takes the place of the target's loader, if there is one.
func (c *check) ownLoader(res *loader.Result) *File {
	if c.over == nil || res.Loader == nil {
		return nil
	}
	return c.over.files[res.Loader.Path]
}

// appImage is what an AppImage has for the version of its ABI: the first letter of its mark.
const appImage = 'A'

func (c *check) carries() {
	c.unproven("bundle", "%s carries files in itself, as AppImages do: what those need isn't looked at", c.name).
		way("unpack it with --appimage-extract, and check the folder")
}

// hostOf finds the program of the artifact that has what one of its libraries lacks: it is
// the one that loads it, as a plugin. It is "" where nothing lacks, or no program has it.
func (c *check) hostOf(res *loader.Result) string {
	if c.over == nil || c.answer.Kind != Library || len(c.over.hosts) == 0 {
		return ""
	}
	for _, p := range res.Problems {
		if p.Kind != loader.MissingSymbol || p.Harmless || p.Version != "" {
			continue
		}
		for _, name := range c.over.hosts[:min(len(c.over.hosts), maxHosts)] {
			if exports(c.over.files[name].Object, p.Symbol) {
				return name
			}
		}
		return ""
	}
	return ""
}

// maxHosts bounds the programs that are looked through for what a plugin lacks.
const maxHosts = 100

// checkHost judges the artifact's own program that loads a module: it has to start first.
func (c *check) checkHost() {
	if c.over == nil || len(c.into) == 0 {
		return
	}
	f, _, ok := c.over.at(c.into[0])
	if !ok || f == c.file || f.Object == nil {
		return
	}
	lacks, known := c.hosts.Load(f)
	if !known {
		host := c.check(f, Program)
		host.problems(c.load(loader.Program{Path: c.into[0], Object: f.Object}))
		lacks = slices.ContainsFunc(host.answer.Reasons, func(r Reason) bool { return r.Verdict == Fails && r.When == atLoad })
		c.hosts.Store(f, lacks)
	}
	if lacks == true {
		c.fails("interpreter", "%s is loaded by %s of the artifact, which doesn't start on %s itself", c.name, c.into[0],
			c.Name).When = atLoad
	}
}

// objectKind tells programs from libraries. Some libraries can be started too, as libc
// itself can: they count as libraries.
func objectKind(o *object.Object) string {
	switch {
	case !o.Dynamic && o.Interp == "":
		return StaticProgram
	case !o.Dynamic, o.Type == elf.ET_EXEC:
		return Program
	case o.PIE && o.Interp == "":
		return StaticProgram
	case o.Interp != "" && o.Soname == "":
		return Program
	}
	return Library
}

// own tells whether a loaded object is the artifact's, and which file.
func (c *check) own(m *loader.Mapped) *File {
	if m.Object == c.file.Object {
		return c.file
	}
	if c.over != nil && m.File.Path != "" {
		return c.over.files[m.File.Path]
	}
	return nil
}

// ownObjects are the artifact's among those that a start loads.
func (c *check) ownObjects(res *loader.Result) []*object.Object {
	var own []*object.Object
	for _, m := range res.Objects {
		if c.own(m) != nil {
			own = append(own, m.Object)
		}
	}
	return own
}

// travels lists the artifact's own files that are loaded along.
func (c *check) travels(res *loader.Result) {
	for _, m := range res.Objects {
		if f := c.own(m); f != nil && f != c.file {
			c.answer.Travels = append(c.answer.Travels, f.Name)
		}
	}
}
