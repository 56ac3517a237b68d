// Package objecttest makes small ELF files on the spot, with this machine's compiler and
// linker, and spoils them byte by byte: for tests of what loaders make of them.
package objecttest

import (
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Options say what to make.
type Options struct {
	// Path is where it is to be, below folders that are made: "" is a new temporary file.
	Path string
	// Source is in C, or in assembler where Assembler says so.
	Source    string
	Assembler bool
	// Versions is a version script for the linker.
	Versions string
	// Args are for gcc, after all others: libraries are looked for in their order.
	Args []string
	// Triple makes it for another machine, "s390x-linux-gnu": out of assembler alone, and
	// with Args for its linker.
	Triple string
}

// Build makes a file and gives its path.
func Build(t testing.TB, o Options) string {
	t.Helper()
	dir := t.TempDir()
	if o.Path == "" {
		o.Path = filepath.Join(dir, "out")
	}
	if err := os.MkdirAll(filepath.Dir(o.Path), 0o755); err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(dir, "source.c")
	if o.Assembler || o.Triple != "" {
		source = filepath.Join(dir, "source.s")
	}
	write(t, source, o.Source)
	script := ""
	if o.Versions != "" {
		script = filepath.Join(dir, "versions")
		write(t, script, o.Versions)
	}
	if o.Triple != "" {
		object := filepath.Join(dir, "source.o")
		run(t, o.Triple+"-as", "-o", object, source)
		args := []string{"-o", o.Path, object}
		if script != "" {
			args = append(args, "--version-script="+script)
		}
		run(t, o.Triple+"-ld", append(args, o.Args...)...)
		return o.Path
	}
	args := []string{"-w", "-O1", "-o", o.Path, source}
	if script != "" {
		args = append(args, "-Wl,--version-script="+script)
	}
	run(t, "gcc", append(args, o.Args...)...)
	return o.Path
}

// Library makes a shared library whose soname is its file's name.
func Library(t testing.TB, path, source string, args ...string) string {
	t.Helper()
	return Build(t, Options{Path: path, Source: source, Args: append([]string{"-shared", "-fPIC",
		"-Wl,-soname," + filepath.Base(path)}, args...)})
}

// Program makes a program.
func Program(t testing.TB, path, source string, args ...string) string {
	t.Helper()
	return Build(t, Options{Path: path, Source: source, Args: args})
}

// Patch rewrites a file.
func Patch(t testing.TB, path string, change func(b []byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(b), 0o755); err != nil {
		t.Fatal(err)
	}
}

// DropSections takes a file's section headers away, as strippers do that need none.
func DropSections(t testing.TB, path string) {
	t.Helper()
	Patch(t, path, func(b []byte) []byte {
		if elf.Class(b[elf.EI_CLASS]) == elf.ELFCLASS64 {
			clear(b[40:48])
			clear(b[58:64])
		} else {
			clear(b[32:36])
			clear(b[46:52])
		}
		return b
	})
}

// SetDynamic changes each entry of PT_DYNAMIC that has a tag, in a file of this machine's
// own class and byte order.
func SetDynamic(t testing.TB, path string, tag elf.DynTag, change func(tag elf.DynTag, value uint64) (elf.DynTag, uint64)) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var off, size uint64
	for _, p := range f.Progs {
		if p.Type == elf.PT_DYNAMIC {
			off, size = p.Off, p.Filesz
		}
	}
	found := false
	Patch(t, path, func(b []byte) []byte {
		for e := b[off : off+size]; len(e) >= 16; e = e[16:] {
			if elf.DynTag(binary.LittleEndian.Uint64(e)) != tag {
				continue
			}
			found = true
			to, value := change(tag, binary.LittleEndian.Uint64(e[8:]))
			binary.LittleEndian.PutUint64(e, uint64(to))
			binary.LittleEndian.PutUint64(e[8:], value)
		}
		return b
	})
	if !found {
		t.Fatalf("%s has no %v", path, tag)
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}
