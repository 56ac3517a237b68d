package object_test

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/object/objecttest"
)

// TestSpoiled spoils a library in ways that this machine's loader gives up on, or crashes
// over: it isn't to be read as if nothing were.
func TestSpoiled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lib := objecttest.Build(t, objecttest.Options{Path: filepath.Join(dir, "libthings.so.1"), Versions: libVersions,
		Source: libSource + "extern int puts(const char *);\nint say(void) { return puts(\"\"); }\nint (*kept)(void) = plain;\n",
		Args:   []string{"-shared", "-fPIC", "-Wl,-soname,libthings.so.1", "-Wl,-z,lazy"}})
	program := objecttest.Program(t, filepath.Join(dir, "program"), `
extern int data[3]; extern __thread int local; extern int both(void);
int *volatile a, *volatile b;
int main(int argc, char **argv) { a = data; b = &local; return argc > 5 ? both() : 0; }
`, lib, "-Wl,-rpath,$ORIGIN", "-Wl,--disable-new-dtags")
	run := func() error {
		cmd := exec.Command(program)
		cmd.Env = []string{"LD_BIND_NOW=1"}
		return cmd.Run()
	}
	if err := run(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(lib)
	if err != nil {
		t.Fatal(err)
	}
	file, err := elf.Open(lib)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for name, spoil := range spoils(t, file) {
		if err := os.Remove(lib); err != nil { // what is mapped stays as it is
			t.Fatal(err)
		}
		b := slices.Clone(whole)
		spoil(b)
		if err := os.WriteFile(lib, b, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := run(); err == nil {
			t.Errorf("%s: the program starts", name)
		}
		_, err := read(lib)
		var broken *object.Error
		if !errors.As(err, &broken) || broken.Reason != object.Damaged {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// spoils are ways to spoil a library.
func spoils(t *testing.T, f *elf.File) map[string]func([]byte) {
	le := binary.LittleEndian
	section := func(name string) uint64 {
		s := f.Section(name)
		if s == nil {
			t.Fatalf("it has no %s", name)
		}
		return s.Offset
	}
	header := func(kind elf.ProgType) int {
		i := slices.IndexFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == kind })
		if i < 0 {
			t.Fatalf("it has no %v", kind)
		}
		return 64 + 56*i
	}
	dynamic := func(tag elf.DynTag, to elf.DynTag, add uint64) func([]byte) {
		return func(b []byte) {
			for e := b[section(".dynamic"):]; elf.DynTag(le.Uint64(e)) != elf.DT_NULL; e = e[16:] {
				if elf.DynTag(le.Uint64(e)) == tag {
					le.PutUint64(e, uint64(to))
					le.PutUint64(e[8:], le.Uint64(e[8:])+add)
				}
			}
		}
	}
	put := func(at uint64, value byte) func([]byte) { return func(b []byte) { b[at] ^= value } }
	tls, relro, load := header(elf.PT_TLS), header(elf.PT_GNU_RELRO), header(elf.PT_LOAD)
	return map[string]func([]byte){
		"start elsewhere":          dynamic(elf.DT_INIT, elf.DT_INIT, 1<<40),
		"end elsewhere":            dynamic(elf.DT_FINI, elf.DT_FINI, 1<<40),
		"functions elsewhere":      dynamic(elf.DT_INIT_ARRAY, elf.DT_INIT_ARRAY, 1<<40),
		"more functions":           dynamic(elf.DT_INIT_ARRAYSZ, elf.DT_INIT_ARRAYSZ, 16),
		"no relocations":           dynamic(elf.DT_RELA, 0x6ffffe00, 0),
		"relocations of a kind":    dynamic(elf.DT_PLTREL, elf.DT_PLTREL, 10),
		"relocations of a size":    dynamic(elf.DT_RELAENT, elf.DT_RELAENT, 1),
		"more that are relative":   dynamic(elf.DT_RELACOUNT, elf.DT_RELACOUNT, 100),
		"no strings":               dynamic(elf.DT_STRTAB, 0x6ffffe00, 0),
		"unknown relocation":       put(section(".rela.dyn")+8, 0x60),
		"relocation elsewhere":     put(section(".rela.dyn")+5, 1),
		"function elsewhere":       put(section(".rela.dyn")+21, 1),
		"relocation of no symbol":  put(section(".rela.plt")+14, 0x7f),
		"definitions of a format":  put(section(".gnu.version_d"), 2),
		"requirements of a format": put(section(".gnu.version_r"), 2),
		"requirement's hash":       put(section(".gnu.version_r")+16, 1),
		"no thread-local data":     put(uint64(tls), 0x70),
		"endless data":             put(uint64(tls)+45, 1),
		"protected elsewhere":      put(uint64(relro)+21, 1),
		"nothing to read":          put(uint64(load)+4, byte(elf.PF_R)),
	}
}
