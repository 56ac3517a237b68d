package artifact

import (
	"path"
	"strings"
	"sync"

	"github.com/stead-env/stead/envs/artifact/content"
	"github.com/stead-env/stead/envs/artifact/loader"
	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/system"
)

// maxLinks is how many links a path may lead through, as in the kernel.
const maxLinks = 40

// overlay is a target with an artifact's files laid over it, at the places that they are
// going to have. A folder of the target stays what it is, also where it is a link, as
// package managers keep it.
type overlay struct {
	base  loader.System
	files map[string]*File // by path, without links in its folders
	dirs  map[string]bool  // that files lie in
	// libraries are by file name and by soname, the first in the order of the set.
	libraries map[string]*File
	// programs are paths of interpreters that the artifact brings, by language.
	programs map[string][]string
	// hosts are programs of the artifact that others can bind to: they may load its plugins.
	hosts  []string
	cached map[string][]system.CacheEntry // of libraries that a package brings
	// replaced are the architectures of packages that take the place of the target's, by name.
	replaced map[string]string

	laid    bool     // all files are in their places
	folders sync.Map // what resolve found then: path to path
}

// lay puts files over a system, as they are copied, or as a package manager installs them.
func lay(base loader.System, files []File, installed bool) *overlay {
	o := &overlay{base: base, files: map[string]*File{}, dirs: map[string]bool{}, libraries: map[string]*File{},
		programs: map[string][]string{}, cached: map[string][]system.CacheEntry{}}
	// Links first: they decide where the others lie.
	for _, links := range []bool{true, false} {
		for i := range files {
			f := &files[i]
			if f.Link != "" != links || !path.IsAbs(f.Path) {
				continue
			}
			o.put(f)
		}
	}
	o.laid = true
	if installed {
		o.ldconfig()
	}
	return o
}

func (o *overlay) put(f *File) {
	name := path.Clean(f.Path)
	if dir, ok := o.resolve(path.Dir(name), 0); ok {
		name = path.Join(dir, path.Base(name))
	}
	if f.Dir {
		if _, there := o.base.Find(name); !there {
			o.addDir(name)
		}
		return
	}
	if f.Link != "" {
		if at, there := o.base.Find(name); there && at.Dir {
			return
		}
	}
	o.files[name] = f
	o.addDir(path.Dir(name))
	if f.Object != nil {
		o.register(name, f)
	}
}

func (o *overlay) register(name string, f *File) {
	base := path.Base(name)
	for _, lib := range []string{base, f.Object.Soname} {
		if _, known := o.libraries[lib]; !known && lib != "" {
			o.libraries[lib] = f
		}
	}
	if objectKind(f.Object) == Program {
		language := strings.TrimRight(base, "0123456789.")
		o.programs[language] = append(o.programs[language], name)
		if len(f.Object.Exports) > 0 {
			o.hosts = append(o.hosts, name)
		}
	}
}

func (o *overlay) addDir(name string) {
	for name != "/" && !o.dirs[name] {
		o.dirs[name] = true
		name = path.Dir(name)
	}
}

// resolve follows the links of a folder's path, the artifact's and the target's, as the
// kernel does: what comes after .. counts from where a link led to.
func (o *overlay) resolve(dir string, links int) (string, bool) {
	if dir == "/" || dir == "." || dir == "" {
		return "/", true
	}
	if links > maxLinks {
		return "", false
	}
	if known, ok := o.folders.Load(dir); ok {
		name := known.(string)
		return name, name != ""
	}
	name, ok := o.step(dir, links)
	if !ok {
		name = ""
	}
	if o.laid {
		o.folders.Store(dir, name)
	}
	return name, ok
}

func (o *overlay) step(dir string, links int) (string, bool) {
	above, last := split(dir)
	parent, ok := o.resolve(above, links)
	if !ok {
		return "", false
	}
	switch last {
	case "", ".":
		return parent, true
	case "..":
		return path.Dir(parent), true
	}
	name := path.Join(parent, last)
	if f, ok := o.base.Find(name); ok && f.Dir {
		return f.Path, true
	}
	if f := o.files[name]; f != nil {
		if f.Link == "" {
			return "", false
		}
		return o.resolve(join(parent, f.Link), links+1)
	}
	return name, o.dirs[name] || !o.laid // what isn't there yet may come
}

// split parts a path before its last element, and cleans nothing.
func split(name string) (dir, last string) {
	i := strings.LastIndexByte(name, '/')
	if i <= 0 {
		return "/", name[i+1:]
	}
	return name[:i], name[i+1:]
}

// join is where a link in a folder leads to.
func join(dir, link string) string {
	if path.IsAbs(link) {
		return link
	}
	return dir + "/" + link
}

// at finds the artifact's own file at a path; ok is false where the path leads to none.
func (o *overlay) at(name string) (f *File, canonical string, ok bool) {
	for range maxLinks {
		above, last := split(name)
		if last == "" || last == "." || last == ".." {
			dir, there := o.resolve(name, 0)
			if !there {
				dir = ""
			}
			return nil, dir, false
		}
		dir, there := o.resolve(above, 0)
		if !there {
			return nil, "", false
		}
		name = path.Join(dir, last)
		f := o.files[name]
		if f == nil {
			return nil, name, false
		}
		if f.Link == "" {
			return f, name, true
		}
		name = join(dir, f.Link)
	}
	return nil, "", false
}

// Find implements loader.System.
func (o *overlay) Find(name string) (system.File, bool) {
	f, canonical, ok := o.at(name)
	if ok {
		return o.file(f, canonical), true
	}
	if canonical == "" {
		return system.File{}, false
	}
	if found, ok := o.base.Find(canonical); ok && !o.gone(found) {
		// A link of the target may lead to what the artifact replaces.
		if f := o.files[found.Path]; f != nil && f.Link == "" {
			return o.file(f, found.Path), true
		}
		return found, true
	}
	if o.dirs[canonical] {
		return system.File{Path: canonical, Dir: true}, true
	}
	return system.File{}, false
}

// replace has packages take the place of the target's of their names, as package managers
// do: what these brought goes.
func (o *overlay) replace(packages []Package) {
	o.replaced = map[string]string{}
	for _, p := range packages {
		if p.Package != nil && p.Format != content.Wheel {
			o.replaced[p.Name] = p.Architecture
		}
	}
}

// gone tells whether a file of the target goes with the package that brought it.
func (o *overlay) gone(f system.File) bool {
	if f.Dir || f.Package == "" {
		return false
	}
	name, arch, known := strings.Cut(f.Package, ":")
	by, replaced := o.replaced[name]
	return replaced && (!known || by == "" || by == arch)
}

func (o *overlay) file(f *File, name string) system.File {
	return system.File{Path: name, Executable: f.Executable, Script: f.firstLine, Object: func() (*object.Object, error) {
		switch {
		case f.Object != nil:
			return f.Object, nil
		case f.Err != nil:
			return nil, f.Err
		}
		return nil, &object.Error{Reason: object.NotELF}
	}}
}

// firstLine is a script's, as system.File has it.
func (f *File) firstLine() string {
	line, ok := strings.CutPrefix(string(f.Head), "#!")
	if !ok {
		return ""
	}
	line, _, _ = strings.Cut(line[:min(len(line), shebangSize)], "\n")
	line, _, _ = strings.Cut(line, "\x00")
	return strings.Trim(line, " \t") // as systems tell it
}

// Loader implements loader.System.
func (o *overlay) Loader(name string) (*system.Loader, bool) { return o.base.Loader(name) }

// Loaders implements loader.System.
func (o *overlay) Loaders() []*system.Loader { return o.base.Loaders() }
