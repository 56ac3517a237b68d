package artifact

import (
	"context"
	"debug/elf"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/system"
	"github.com/stead-env/stead/envs/lock"
)

// made is a small system made by hand: what a path leads to, and the loader.
type made struct {
	files  map[string]system.File
	loader *system.Loader
}

func (m made) Find(name string) (system.File, bool) {
	name = path.Clean(name)
	if f, ok := m.files[name]; ok {
		return f, true
	}
	for p := range m.files {
		if strings.HasPrefix(p, name+"/") || name == "/" {
			return system.File{Path: name, Dir: true}, true
		}
	}
	return system.File{}, false
}

func (m made) Cached(string) []system.CacheEntry { return nil }

func (m made) Loader(name string) (*system.Loader, bool) {
	return m.loader, m.loader != nil && name == "/lib64/ld-linux-x86-64.so.2"
}

func (m made) Loaders() []*system.Loader {
	if m.loader == nil {
		return nil
	}
	return []*system.Loader{m.loader}
}

func (m made) Named(prefix string) (found []string) {
	for p := range m.files {
		if strings.HasPrefix(path.Base(p), prefix) {
			found = append(found, p)
		}
	}
	slices.Sort(found)
	return found
}

func (m made) add(name, pkg string, o *object.Object) {
	m.files[name] = system.File{Path: name, Package: pkg, Executable: true, Script: func() string { return "" },
		Object: func() (*object.Object, error) {
			if o == nil {
				return nil, &object.Error{Reason: object.NotELF}
			}
			return o, nil
		}}
}

func (m made) script(name, line string) {
	m.add(name, "", nil)
	f := m.files[name]
	f.Script = func() string { return line }
	m.files[name] = f
}

// elfFile is an object of amd64, to be filled.
func elfFile(change func(o *object.Object)) *object.Object {
	o := &object.Object{Class: elf.ELFCLASS64, Data: elf.ELFDATA2LSB, Type: elf.ET_DYN, Machine: elf.EM_X86_64, Dynamic: true}
	if change != nil {
		change(o)
	}
	slices.SortFunc(o.Imports, func(a, b object.Import) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(o.Exports, func(a, b object.Export) int { return strings.Compare(a.Name, b.Name) })
	return o
}

// programFile needs libc, and what is said.
func programFile(change func(o *object.Object)) *object.Object {
	return elfFile(func(o *object.Object) {
		o.Interp, o.PIE, o.Needed = "/lib64/ld-linux-x86-64.so.2", true, []string{"libc.so.6"}
		if change != nil {
			change(o)
		}
	})
}

func libraryFile(soname string, change func(o *object.Object)) *object.Object {
	return elfFile(func(o *object.Object) {
		o.Soname = soname
		if change != nil {
			change(o)
		}
	})
}

func exported(names ...string) (all []object.Export) {
	for _, n := range names {
		all = append(all, object.Export{Name: n, Type: elf.STT_FUNC})
	}
	return all
}

// acme is a target with glibc 2.31, an old OpenSSL, Python 3.9, Perl, Java 11 and a shell.
func acme() *Target {
	m := made{files: map[string]system.File{}, loader: &system.Loader{Path: "/lib64/ld-linux-x86-64.so.2", Family: system.GLibC,
		Version: "2.31", Class: elf.ELFCLASS64, Machine: elf.EM_X86_64, SystemDirs: []string{"/lib64", "/usr/lib64"},
		Lib: "lib64", Platform: "x86_64"}}
	m.add("/lib64/ld-linux-x86-64.so.2", "libc6", libraryFile("ld-linux-x86-64.so.2", nil))
	m.add("/lib64/libc.so.6", "libc6", libraryFile("libc.so.6", func(o *object.Object) {
		o.Versioned = true
		o.Kernel = [3]uint32{3, 2, 0}
		o.Definitions = []object.Definition{{Name: "libc.so.6", Index: 1, Base: true}, {Name: "GLIBC_2.2.5", Index: 2},
			{Name: "GLIBC_2.30", Index: 3}, {Name: "GLIBC_2.9", Index: 4}}
		o.Exports = []object.Export{{Name: "printf", Version: "GLIBC_2.2.5", Type: elf.STT_FUNC},
			{Name: "dlopen", Version: "GLIBC_2.2.5", Type: elf.STT_FUNC},
			{Name: "stdout", Version: "GLIBC_2.2.5", Type: elf.STT_OBJECT, Size: 8}}
	}))
	m.add("/usr/lib64/libssl.so.1.1", "libssl1.1", libraryFile("libssl.so.1.1", nil))
	m.add("/usr/lib64/libz.so.1", "zlib1g", libraryFile("libz.so.1", func(o *object.Object) { o.Exports = exported("inflate") }))
	m.add("/opt/vendor/libvendor.so.2", "", libraryFile("libvendor.so.2", nil))
	m.add("/usr/bin/python3.9", "python3.9-minimal", programFile(func(o *object.Object) { o.Exports = exported("PyInit_sys", "Py_None") }))
	m.add("/usr/bin/python3", "python3-minimal", nil)
	python := m.files["/usr/bin/python3.9"]
	m.files["/usr/bin/python3"] = python
	m.add("/usr/bin/perl", "perl-base", programFile(func(o *object.Object) { o.Exports = exported("Perl_newXS") }))
	m.add("/bin/sh", "dash", programFile(nil))
	m.add("/usr/bin/env", "coreutils", programFile(nil))
	m.script("/usr/bin/wrapper", "/bin/sh")
	m.script("/usr/bin/round", "/usr/bin/round")
	return &Target{Name: "acme@3", Env: "acme", System: m, Host: lock.Host{Architecture: "amd64", Kernel: "5.10.0-28-amd64", CPU: "x86-64-v2"},
		Facts: system.Facts{
			Packages: []system.Package{
				{Name: "libc6", Version: "2.31-13+deb11u11", Architecture: "amd64"},
				{Name: "libssl1.1", Version: "1.1.1w-0+deb11u1", Architecture: "amd64"},
				{Name: "dpkg", Version: "1.20.13", Architecture: "amd64"},
				{Name: "coreutils", Version: "8.32-4+b1", Architecture: "amd64"},
				{Name: "exim4", Version: "4.94", Architecture: "amd64", Provides: []string{"mail-transport-agent", "perlapi-5.32.1", "mta (= 2)"}},
				{Name: "perl-base", Version: "5.32.1", Architecture: "amd64", Provides: []string{"perlapi-5.32.1"}},
			},
			Interpreters: []system.Interpreter{
				{Language: "python", Path: "/usr/bin/python3.9", Version: "3.9.2", ABI: []string{"cpython-39-x86_64-linux-gnu", "abi3"}},
				{Language: "perl", Path: "/usr/bin/perl", Version: "5.32.1"},
				{Language: "java", Path: "/usr/lib/jvm/java-11/bin/java", Version: "11.0.20"},
			},
			NSS: []string{"files", "ldap"},
		}}
}

// judged is the answer for the first file of a set.
func judged(t *testing.T, target *Target, set *Set) Answer {
	t.Helper()
	all, err := target.Judge(context.Background(), set)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("there is no answer")
	}
	for _, a := range all {
		if a.Verdict == Unproven && !slices.ContainsFunc(a.Reasons, func(r Reason) bool { return r.Verdict == Unproven && r.Text != "" }) {
			t.Errorf("%s: unproven without a reason", a.File)
		}
	}
	return all[0]
}

// alone judges one object in its place.
func alone(t *testing.T, target *Target, name string, o *object.Object) Answer {
	t.Helper()
	return judged(t, target, &Set{Files: []File{{Name: path.Base(name), Path: name, Object: o, Executable: true}}})
}

// expect compares a verdict, and looks for words in what was said for it.
func expect(t *testing.T, a Answer, want Verdict, words ...string) {
	t.Helper()
	var said []string
	for _, r := range a.Reasons {
		said = append(said, string(r.Verdict)+" ["+r.Kind+"] "+r.Text+" | "+strings.Join(r.Ways, " | "))
	}
	text := strings.Join(said, "\n")
	if a.Verdict != want {
		t.Errorf("%s: %s, want %s:\n%s", a.File, a.Verdict, want, text)
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s: nothing says %q:\n%s", a.File, w, text)
		}
	}
}
