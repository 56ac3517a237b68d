package artifact

import (
	"debug/elf"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/artifact/content"
	"github.com/stead-env/stead/envs/artifact/loader"
	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/system"
)

// When a problem shows.
const (
	atLoad = "load"
	atCall = "call"
)

// problems turns what a start runs into into reasons.
func (c *check) problems(res *loader.Result) {
	var symbols []loader.Problem
	told := toldAlready(res.Problems)
	for _, p := range res.Problems {
		switch p.Kind {
		case loader.NoLoader:
			c.noLoader(res)
		case loader.WrongMachine:
			c.wrongMachine()
		case loader.MissingLibrary:
			c.missingLibrary(p)
		case loader.BadLibrary:
			c.badLibrary(p)
		case loader.MissingVersion:
			c.missingVersion(p)
		case loader.MissingSymbol:
			if !p.Harmless && !told(p) {
				symbols = append(symbols, p)
			}
		case loader.CopySize:
			c.copySize(p)
		case loader.BadRELR:
			c.badRELR(p, res)
		}
	}
	c.missingSymbols(symbols, res)
}

// toldAlready finds the missing symbols whose reason is told without them: their version
// is missing, or a library that may have them.
func toldAlready(problems []loader.Problem) func(p loader.Problem) bool {
	type need struct {
		by           *loader.Mapped
		lib, version string
	}
	versions := map[need]bool{}
	libraries := map[*loader.Mapped]bool{}
	for _, p := range problems {
		switch {
		case p.Kind == loader.MissingVersion && !p.Harmless:
			versions[need{p.By, p.Library, p.Version}] = true
		case p.Kind == loader.MissingLibrary || p.Kind == loader.BadLibrary:
			libraries[p.By] = true
		}
	}
	return func(p loader.Problem) bool {
		return p.Version != "" && versions[need{p.By, p.Library, p.Version}] ||
			p.Found == nil && libraries[p.By]
	}
}

// by names whose need a problem is, for sentences.
func (c *check) by(m *loader.Mapped) string {
	if m == nil || m.Object == c.file.Object {
		return c.name
	}
	if f := c.own(m); f != nil {
		return path.Base(f.Path)
	}
	return m.Name + c.inPackage(m.File)
}

// reasonOf fills in what a problem tells beside its text.
func (c *check) reasonOf(r *Reason, p loader.Problem) *Reason {
	if p.By != nil {
		r.By = p.By.Name
		if f := c.own(p.By); f != nil {
			r.By = f.Name
		}
	}
	r.Library, r.Symbol, r.Version, r.When = p.Library, p.Symbol, p.Version, atLoad
	if p.Later {
		r.When = atCall
	}
	if p.Found != nil {
		r.Found = p.Found.Name
		r.Package = c.brought(p.Found.File)
	}
	return r
}

func (c *check) noLoader(res *loader.Result) {
	o := c.file.Object
	if o.Interp == "" {
		r := c.unproven(string(loader.NoLoader), "no loader is known on %s that takes %s, which is for %s",
			c.Name, c.name, machineName(o))
		r.When = atLoad
		return
	}
	if c.over != nil {
		if _, _, ok := c.over.at(o.Interp); ok {
			c.unproven(string(loader.NoLoader), "%s is started by a loader of its own, %s: what that finds isn't known",
				c.name, o.Interp)
			return
		}
	}
	if !path.IsAbs(o.Interp) {
		c.unproven(string(loader.NoLoader), "%s is started by %s, which is looked for in the folder that it is started in",
			c.name, o.Interp)
		return
	}
	text := "%s has no %s, which starts %s"
	if there, ok := c.sys.Find(o.Interp); ok && !there.Dir {
		text = "%s's %s is no loader that is known, and starts %s"
	}
	r := c.fails(string(loader.NoLoader), text, c.Name, o.Interp, c.name)
	r.Library, r.When = o.Interp, atLoad
	if strings.Contains(o.Interp, "ld-musl") {
		r.way("link it statically: musl's libraries need nothing else")
	}
	if strings.Contains(o.Interp, "/nix/store/") || strings.Contains(o.Interp, "/gnu/store/") {
		r.way("build it outside of %s's store", strings.Split(o.Interp, "/")[1])
	}
	r.buildIn(c.Target)
}

func (c *check) wrongMachine() {
	have := c.Host.Architecture
	if have == "" {
		var names []string
		for _, l := range c.System.Loaders() {
			names = append(names, strings.TrimPrefix(l.Machine.String(), "EM_"))
		}
		have = and(names)
	}
	r := c.fails(string(loader.WrongMachine), "%s is for %s, and %s is %s", c.name, machineName(c.file.Object),
		c.Name, have)
	r.When = atLoad
	r.way("build it for %s", have)
}

func (c *check) missingLibrary(p loader.Problem) {
	by := c.by(p.By)
	lib := path.Base(p.Library)
	if f := c.shipped(lib); f != nil {
		c.unled(p, by, f)
		return
	}
	there := c.elsewhere(lib, p.By)
	if len(there) > 0 && c.isLibrary() && !strings.Contains(p.Library, "/") {
		r := c.reasonOf(c.unproven(string(p.Kind), "%s needs %s, which %s has at %s%s, where %s doesn't look:"+
			" whoever loads it must have loaded that before", by, p.Library, c.Name, there[0].Path,
			c.inPackage(there[0]), by), p)
		r.Found, r.Package = there[0].Path, c.brought(there[0])
		return
	}
	text := fmt.Sprintf("%s has no %s, which %s needs", c.Name, p.Library, by)
	near := c.near(lib)
	switch {
	case len(there) > 0:
		near = there
		text = fmt.Sprintf("%s needs %s, which %s has at %s%s, where %s doesn't look", by, p.Library,
			c.Name, there[0].Path, c.inPackage(there[0]), by)
	case len(near) > 0:
		text += fmt.Sprintf("; it has %s%s", path.Base(near[0].Path), c.inPackage(near[0]))
	}
	r := c.reasonOf(c.fails(string(p.Kind), "%s", text), p)
	if len(near) > 0 {
		r.Found, r.Package = near[0].Path, c.brought(near[0])
	}
	r.buildIn(c.Target)
	if c.own(p.By) != nil || p.By == nil {
		r.way("add %s to the artifact, with a RUNPATH of $ORIGIN", lib)
	}
}

// unled tells of a library that the artifact has where nobody looks for it, or only from
// the folder that the program happens to be started in.
func (c *check) unled(p loader.Problem, by string, f *File) {
	place := strings.TrimPrefix(f.Path, content.DefaultAt+"/")
	if strings.Contains(p.Library, "/") {
		r := c.reasonOf(c.unproven(string(p.Kind), "%s needs %s by that path, which depends on the folder that it is started"+
			" in; the artifact has %s", by, p.Library, place), p)
		if path.IsAbs(p.Library) {
			r.Verdict = Fails
			r.Text = fmt.Sprintf("%s needs %s by that path, and the artifact has it at %s", by, p.Library, place)
		}
		r.way("give %s a soname, and link again: -Wl,-soname,%s", path.Base(f.Path), path.Base(f.Path))
		return
	}
	if with := c.loadsBoth(p); with != nil {
		c.reasonOf(c.remark(string(p.Kind), "%s needs %s, and nothing leads it to %s but %s, which loads both", by, p.Library,
			place, path.Base(with.Path)), p)
		return
	}
	r := c.reasonOf(c.fails(string(p.Kind), "%s needs %s, and nothing leads it to %s, which the artifact has",
		by, p.Library, place), p)
	if c.isLibrary() {
		r.Verdict = Unproven
		r.Text += ": whoever loads it must have loaded that before"
	}
	if p.By != nil && slices.ContainsFunc(slices.Concat(p.By.Object.RunPath, p.By.Object.RPath), hereOnly) {
		r.Verdict = Unproven
		r.Text = fmt.Sprintf("%s needs %s, and looks for it in the folder that it is started in; the artifact has %s",
			by, p.Library, place)
	}
	r.way("give %s a RUNPATH: -Wl,-rpath,'%s'", by, strings.TrimSuffix("$ORIGIN/"+relative(c.byPath(p.By), f.Path), "/"))
	r.way("install %s into a folder that %s's ld.so.conf names", path.Base(p.Library), c.Name)
}

// maxLoaders bounds the programs of an artifact that are asked for one of its libraries.
const maxLoaders = 64

// loadsBoth finds a program of the artifact that loads a library of it, and what nothing
// leads that to; nil for none.
func (c *check) loadsBoth(p loader.Problem) *File {
	if !c.isLibrary() || p.By == nil {
		return nil
	}
	asked := 0
	for i := range c.set.Files {
		f := &c.set.Files[i]
		if f.Object == nil || objectKind(f.Object) != Program {
			continue
		}
		if asked++; asked > maxLoaders {
			return nil
		}
		res := c.load(loader.Program{Path: f.Path, Object: f.Object})
		loads := slices.ContainsFunc(res.Objects, func(m *loader.Mapped) bool { return m.Object == p.By.Object })
		lacks := slices.ContainsFunc(res.Problems, func(q loader.Problem) bool { return q.Kind == p.Kind && q.Library == p.Library })
		if loads && !lacks {
			return f
		}
	}
	return nil
}

// hereOnly tells folders of a search path that depend on where a program is started.
func hereOnly(dir string) bool { return !strings.HasPrefix(dir, "/") && !strings.HasPrefix(dir, "$") }

func (c *check) isLibrary() bool { return c.answer.Kind == Library || c.answer.Kind == Module }

func (c *check) byPath(m *loader.Mapped) string {
	if f := c.own(m); f != nil {
		return f.Path
	}
	return c.file.Path
}

// shipped finds a library among the artifact's own files, by its name or soname.
func (c *check) shipped(lib string) *File {
	if c.over == nil {
		return nil
	}
	if f := c.over.libraries[lib]; f != c.file {
		return f
	}
	return nil
}

// relative is the way from a file's folder to another file's.
func relative(from, to string) string {
	a := strings.Split(path.Dir(from), "/")
	b := strings.Split(path.Dir(to), "/")
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	return strings.Join(append(slices.Repeat([]string{".."}, len(a)), b...), "/")
}

func (c *check) badLibrary(p loader.Problem) {
	if f, ok := c.sys.Find(p.Bad); ok && f.Object != nil {
		var bad *object.Error
		if _, err := f.Object(); err != nil && !errors.As(err, &bad) {
			c.reasonOf(c.unproven(string(p.Kind), "%s needs %s, and what is known of %s can't be read: %v", c.by(p.By),
				p.Library, p.Bad, err), p)
			return
		}
	}
	r := c.reasonOf(c.fails(string(p.Kind), "%s needs %s and comes upon %s: %s, and the loader gives up",
		c.by(p.By), p.Library, p.Bad, p.Reason), p)
	r.Found = p.Bad
	if f, ok := c.sys.Find(p.Bad); ok {
		r.Package = c.brought(f)
	}
	r.way("take %s away, or mend it", p.Bad)
}

func (c *check) missingVersion(p loader.Problem) {
	if p.Harmless && c.own(p.By) == nil {
		return // the target's own libraries warn its own programs, too
	}
	if p.Harmless {
		c.reasonOf(c.remark(string(p.Kind), "%s asks for %s of %s, which %s lacks; the loader only warns",
			c.by(p.By), p.Version, p.Library, c.Name), p)
		return
	}
	text := fmt.Sprintf("%s needs %s of %s", c.by(p.By), p.Version, p.Library)
	if p.By != nil {
		if uses := usedOf(p.By.Object, p.Library, p.Version); len(uses) > 0 {
			text += ", for " + some(uses)
		}
	}
	if p.Found != nil {
		text += fmt.Sprintf("; %s on %s%s", p.Found.Name, c.Name, c.inPackage(p.Found.File))
		if f := c.own(p.Found); f != nil {
			text += "; " + f.Name
		}
		if newest := lastLike(p.Found.Object, p.Version); newest != "" {
			text += " goes up to " + newest
		} else {
			text += " lacks it"
		}
	}
	r := c.reasonOf(c.fails(string(p.Kind), "%s", text), p)
	r.buildIn(c.Target)
	if c.own(p.By) != nil && mayTravel(p.Library) {
		r.way("add a %s that has it to the artifact, with a RUNPATH of $ORIGIN", p.Library)
	}
}

// mayTravel tells libraries that can be shipped beside a program from those of the C
// library, which belong to their loader.
func mayTravel(lib string) bool {
	switch base, _, _ := strings.Cut(lib, ".so"); base {
	case "libc", "libm", "libpthread", "libdl", "librt", "libresolv", "libutil", "libnsl", "libanl",
		"libmvec", "libthread_db", "ld-linux-x86-64", "ld-linux", "ld-linux-aarch64", "ld-linux-armhf":
		return false
	}
	return true
}

// usedOf are the symbols that an object takes from a library at a version.
func usedOf(o *object.Object, lib, version string) []string {
	var names []string
	for i := range o.Imports {
		if im := &o.Imports[i]; im.Version == version && (im.File == "" || im.File == lib) {
			names = append(names, im.Name)
		}
	}
	return names
}

// lastLike is the last version that a library defines in the series of another: for people
// alone, since versions have no order.
func lastLike(o *object.Object, version string) string {
	series, _, ok := strings.Cut(version, "_")
	if !ok {
		return ""
	}
	last := ""
	for _, d := range o.Definitions {
		rest, in := strings.CutPrefix(d.Name, series+"_")
		if in && !d.Base && rest != "" && rest[0] >= '0' && rest[0] <= '9' &&
			(last == "" || compareNumbers(last, d.Name) < 0) {
			last = d.Name
		}
	}
	return last
}

func (c *check) copySize(p loader.Problem) {
	r := c.reasonOf(c.unproven(string(p.Kind), "%s keeps a copy of %s: %d bytes in %s, %d in %s on %s:"+
		" the loader goes on, and what it reads or writes beyond is something else", c.by(p.By), p.Symbol, p.Want,
		c.by(p.By), p.Have, p.Library, c.Name), p)
	r.buildIn(c.Target)
}

func (c *check) badRELR(p loader.Problem, res *loader.Result) {
	libc := "the C library"
	if res.Loader != nil {
		libc = strings.TrimSpace(string(res.Loader.Family) + " " + res.Loader.Version)
	}
	r := c.reasonOf(c.fails(string(p.Kind), "%s has packed relocations (DT_RELR), which %s of %s doesn't apply",
		c.by(p.By), libc, c.Name), p)
	r.way("link with -Wl,-z,nopack-relative-relocs")
	r.buildIn(c.Target)
}

// unreadable answers for a file that begins as ELF does and can't be read as such.
func (c *check) unreadable() {
	var bad *object.Error
	if errors.As(c.file.Err, &bad) {
		r := c.fails("bad-file", "no kernel or loader takes %s: %v", c.name, bad)
		r.When = atLoad
		r.way("build or copy it again")
		return
	}
	c.unproven("bad-file", "%s could not be read: %v", c.name, c.file.Err)
}

// machineName is what an object is for: "aarch64", "i386".
func machineName(o *object.Object) string {
	if isX32(o) {
		return "x32"
	}
	if a, ok := architectures[o.Machine]; ok {
		if o.Data == elf.ELFDATA2MSB && !bigEndian(a[0]) {
			return "big-endian " + a[0]
		}
		return a[0]
	}
	return strings.ToLower(strings.TrimPrefix(o.Machine.String(), "EM_"))
}

// nameLister are systems that can tell which of their files have a name.
type nameLister interface {
	// Named are the libraries whose file name begins with a prefix, in the order of their
	// paths; links count by their own names.
	Named(prefix string) []string
}

// elsewhere finds libraries of the target by their file name, wherever they are: beside
// the one that needs them at least.
func (c *check) elsewhere(lib string, by *loader.Mapped) []system.File {
	paths := []string{path.Join(path.Dir(c.byPath(by)), lib)}
	if by != nil && by.File.Path != "" {
		paths[0] = path.Join(path.Dir(by.File.Path), lib)
	}
	paths = append(paths, c.like(lib, true)...)
	var found []system.File
	for _, p := range paths {
		if f, ok := c.sys.Find(p); ok && !f.Dir {
			f.Path = p
			found = append(found, f)
		}
	}
	return found
}

// near finds other versions of a library: libssl.so.1.1 for libssl.so.3.
func (c *check) near(lib string) []system.File {
	stem, _, ok := strings.Cut(lib, ".so")
	if !ok {
		return nil
	}
	var found []system.File
	for _, p := range c.like(stem+".so.", false) {
		if f, ok := c.sys.Find(p); ok && !f.Dir && c.sameMachine(f) {
			f.Path = p
			found = append(found, f)
		}
	}
	return found
}

// like finds paths of the target by the beginning of their file name, or by the whole.
func (c *check) like(name string, whole bool) []string {
	l, ok := c.System.(nameLister)
	if !ok {
		return nil
	}
	all := l.Named(name)
	if whole {
		all = slices.DeleteFunc(all, func(p string) bool { return path.Base(p) != name })
	}
	return all
}

// sameMachine tells whether a file of the target is for the machine of the one that is
// judged.
func (c *check) sameMachine(f system.File) bool {
	if f.Object == nil {
		return false
	}
	o, err := f.Object()
	return err == nil && o.Machine == c.file.Object.Machine && o.Class == c.file.Object.Class
}
