package loader_test

import (
	"bytes"
	"debug/elf"
	"errors"
	"path"
	"slices"
	"testing"

	"github.com/stead-env/stead/envs/artifact/loader"
	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/system"
)

// made is a system of objects out of nothing: every folder is there, and has all of them.
type made struct {
	loader  *system.Loader
	objects map[string]func() (*object.Object, error)
}

func (s *made) Find(p string) (system.File, bool) {
	if o, ok := s.objects[path.Base(p)]; ok {
		return system.File{Path: path.Join("/lib", path.Base(p)), Object: o, Executable: true}, true
	}
	return system.File{Path: path.Clean(p), Dir: true}, true
}

func (s *made) Cached(name string) []system.CacheEntry {
	return []system.CacheEntry{{Flags: 0x303, Path: "/lib/" + name}, {Flags: 0x303, HWCap: "x86-64-v3", OldHWCap: 1 << 62, Path: name}}
}

func (s *made) Loader(string) (*system.Loader, bool) { return s.loader, true }
func (s *made) Loaders() []*system.Loader            { return []*system.Loader{s.loader} }

// between separates the records of a program and of its libraries.
const between = "\x00\n"

// FuzzLoad follows programs whose records, and those of their libraries, are anything.
func FuzzLoad(f *testing.F) {
	lib := func(name string, change func(o *object.Object)) []byte {
		o := &object.Object{Class: elf.ELFCLASS64, Data: elf.ELFDATA2LSB, Type: elf.ET_DYN, Machine: elf.EM_X86_64, Dynamic: true, Soname: name}
		change(o)
		return o.AppendRecord(nil)
	}
	program := lib("", func(o *object.Object) {
		o.Interp, o.Needed, o.RPath = "/lib/ld.so", []string{"l1", "$ORIGIN/l2", "l3"}, []string{"$ORIGIN/../$LIB", "${PLATFORM}", ""}
		o.Requirements = []object.Requirement{{File: "l1", Versions: []object.Required{{Name: "V1"}, {Name: "V2", Weak: true}}}}
		o.Imports = []object.Import{{Name: "a", Version: "V1", File: "l1"}, {Name: "b", Lazy: true}}
		o.Copies = []object.Copy{{Name: "c", Size: 4}}
	})
	one := lib("l1", func(o *object.Object) {
		o.Needed, o.RunPath, o.Versioned = []string{"l2", "ld.so"}, []string{"$ORIGIN"}, true
		o.Definitions = []object.Definition{{Name: "l1", Index: 1, Base: true}, {Name: "V1", Index: 2}}
		o.Exports = []object.Export{{Name: "a", Version: "V1"}}
		o.RELR = true
	})
	two := lib("l2", func(o *object.Object) {
		o.Needed = []string{"l1", "libc.so"}
		o.Exports = []object.Export{{Name: "c", Size: 8, Type: elf.STT_OBJECT}}
	})
	f.Add(bytes.Join([][]byte{program, one, two}, []byte(between)))
	f.Add(bytes.Join([][]byte{program, one, []byte("text")}, []byte(between)))

	f.Fuzz(func(t *testing.T, data []byte) {
		records := bytes.SplitN(data, []byte(between), 6)
		main, err := object.ParseRecord(records[0])
		if err != nil {
			return
		}
		for _, l := range []system.Loader{
			{Family: system.GLibC, Version: "2.36", HWCaps: []string{"x86-64-v3"}},
			{Family: system.GLibC, Version: "2.17"},
			{Family: system.Musl, Version: "1.2.3"},
		} {
			l.Path, l.Class, l.Machine = "/lib/ld.so", elf.ELFCLASS64, elf.EM_X86_64
			l.SystemDirs, l.Lib, l.Platform, l.Preload = []string{"/lib"}, "lib", "x86_64", []string{"l4"}
			sys := &made{&l, map[string]func() (*object.Object, error){}}
			for i, r := range records[1:] {
				o, err := object.ParseRecord(r)
				if err != nil {
					o, err = nil, &object.Error{Reason: object.NotELF}
				}
				sys.objects["l"+string(rune('1'+i))] = func() (*object.Object, error) { return o, err }
			}
			sys.objects["ld.so"] = func() (*object.Object, error) { return nil, errors.New("unread") }
			followed(t, sys, main)
		}
	})
}

func followed(t *testing.T, sys *made, main *object.Object) {
	s := loader.NewSession(sys, [3]uint32{})
	p := loader.Program{Path: "/opt/p", Object: main}
	first, second := s.Load(p), s.Load(p)
	if len(first.Problems) != len(second.Problems) || told(first) != told(second) {
		t.Errorf("the second time:\n%sthe first:\n%s", list(second), list(first))
	}
	if first.Objects[0].Object != main {
		t.Error("the program isn't the first")
	}
	// What isn't there was said to be missing.
	for _, needed := range main.Needed {
		there := slices.ContainsFunc(first.Objects, func(m *loader.Mapped) bool { return path.Base(m.Name) == needed || m.Object.Soname == needed })
		if told(first) == starts && first.Loader != nil && !there && sys.objects[needed] == nil && sys.loader.Family == system.GLibC && needed != "" && needed[0] == 'l' {
			t.Errorf("it starts without %q", needed)
		}
	}
	p.Into = []string{"/lib/l1"}
	s.Load(p)
}
