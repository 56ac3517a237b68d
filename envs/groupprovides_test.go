package envs

import (
	"debug/elf"
	"testing"

	"github.com/stead-env/stead/envs/artifact"
	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/system"
)

// oneLoader is a system that has a loader, under the name of its file and of a link.
type oneLoader struct {
	l    system.Loader
	link string
}

func (s oneLoader) Find(name string) (system.File, bool) {
	return system.File{Path: s.l.Path, Object: func() (*object.Object, error) {
		return &object.Object{Soname: "ld-linux-x86-64.so.2"}, nil
	}}, name == s.l.Path || name == s.link
}
func (s oneLoader) Loader(name string) (*system.Loader, bool) {
	return &s.l, name == s.l.Path || name == s.link
}
func (s oneLoader) Loaders() []*system.Loader         { return []*system.Loader{&s.l} }
func (s oneLoader) Cached(string) []system.CacheEntry { return nil }

func TestStartedBy(t *testing.T) {
	for _, link := range []string{"/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-x86-64.so.2"} {
		s := oneLoader{system.Loader{Path: "/usr/lib/x86_64-linux-gnu/ld-2.31.so", Machine: elf.EM_X86_64}, link}
		if got := startedBy(&artifact.Target{System: s}, &s.l); got != link {
			t.Errorf("got %s, want %s", got, link)
		}
	}
	s := oneLoader{l: system.Loader{Path: "/opt/ld.so"}}
	if got := startedBy(&artifact.Target{System: s}, &s.l); got != s.l.Path {
		t.Errorf("got %s", got)
	}
}

func TestLessLeavesOutWhatIsPrivate(t *testing.T) {
	a := &object.Object{Exports: []object.Export{{Name: "__own", Version: private}, {Name: "open", Version: "GLIBC_2.2.5"}}}
	b := &object.Object{Exports: []object.Export{{Name: "open", Version: "GLIBC_2.2.5"}}}
	if text := less("libc.so.6", a, b, nil); text != "" {
		t.Error(text)
	}
	if text := less("libc.so.6", a, &object.Object{}, nil); text != "libc.so.6 has no open@GLIBC_2.2.5" {
		t.Error(text)
	}
}
