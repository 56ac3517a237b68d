package loader_test

import (
	"debug/elf"
	"fmt"
	"testing"

	"github.com/stead-env/stead/envs/artifact/loader"
	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/system"
)

func many(n int, format string) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf(format, i))
	}
	return list
}

// bare is a library for the loaders of these tests.
func bare(change func(o *object.Object)) *object.Object {
	o := &object.Object{Class: elf.ELFCLASS64, Data: elf.ELFDATA2LSB, Type: elf.ET_DYN, Machine: elf.EM_X86_64, Dynamic: true}
	change(o)
	return o
}

// What is made to be followed for ever ends, and never as a program that starts.
func TestBounds(t *testing.T) {
	for name, c := range map[string]struct {
		program *object.Object
		libs    int
		needed  []string
	}{
		"many names in many folders": {program: bare(func(o *object.Object) {
			o.Needed, o.RPath = many(1<<15, "none%d"), many(1<<15, "/d%d")
		})},
		"many libraries that need all others": {program: bare(func(o *object.Object) { o.Needed = []string{"l0"} }),
			libs: 5000, needed: many(5000, "l%d")},
		"many names of one file": {program: bare(func(o *object.Object) { o.Needed = many(1<<19, "$ORIGIN/../x%d/l0") }),
			libs: 1},
		"many symbols in many libraries": {program: bare(func(o *object.Object) {
			o.Needed = many(4000, "l%d")
			for _, n := range many(1<<17, "s%d") {
				o.Imports = append(o.Imports, object.Import{Name: n})
			}
		}), libs: 4000},
		"many versions": {program: bare(func(o *object.Object) {
			o.Needed = []string{"l0"}
			r := object.Requirement{File: "l0"}
			for _, n := range many(1<<15, "V%d") {
				r.Versions = append(r.Versions, object.Required{Name: n})
			}
			o.Requirements = append(o.Requirements, r, r, r)
		}), libs: 1},
		"long names": {program: bare(func(o *object.Object) {
			long := ""
			for range 1 << 12 {
				long += "$ORIGIN/"
			}
			o.Needed, o.RPath = []string{long, long + "l0"}, []string{long}
		}), libs: 1},
	} {
		for _, family := range []system.Family{system.GLibC, system.Musl} {
			if family == system.Musl && name == "many versions" {
				continue // it looks at none
			}
			t.Run(name+" "+string(family), func(t *testing.T) {
				t.Parallel()
				l := &system.Loader{Path: "/lib/ld.so", Family: family, Version: "2.36", Class: elf.ELFCLASS64, Machine: elf.EM_X86_64, SystemDirs: []string{"/lib"}}
				sys := &made{l, map[string]func() (*object.Object, error){}}
				var defined []object.Definition
				for _, n := range many(1<<10, "D%d") {
					defined = append(defined, object.Definition{Name: n})
				}
				for i := range c.libs {
					o := bare(func(o *object.Object) { o.Needed, o.Definitions = c.needed, defined })
					sys.objects[fmt.Sprintf("l%d", i)] = func() (*object.Object, error) { return o, nil }
				}
				sys.objects["ld.so"] = func() (*object.Object, error) { return bare(func(*object.Object) {}), nil }
				p := *c.program
				p.Interp = l.Path
				r := loader.NewSession(sys, [3]uint32{}).Load(loader.Program{Path: "/opt/p", Object: &p})
				if r.Loader == nil || told(r) == starts || len(r.Problems) > 20000 {
					t.Errorf("%s, with %d problems", told(r), len(r.Problems))
				}
			})
		}
	}
}
