package object_test

import (
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/object/objecttest"
)

func mustRead(t *testing.T, path string) *object.Object {
	t.Helper()
	o, err := read(path)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return o
}

// imported finds an import by its name.
func imported(o *object.Object, name string) *object.Import {
	i := slices.IndexFunc(o.Imports, func(s object.Import) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return &o.Imports[i]
}

const libSource = `
int data[3] = {1, 2, 3};
__thread int local = 4;
int old(void) { return 1; }
int new(void) { return 2; }
__asm__(".symver old,both@FIRST");
__asm__(".symver new,both@@SECOND");
int plain(void) { return 3; }
__attribute__((weak)) int faint(void) { return 4; }
__attribute__((visibility("protected"))) int guarded(void) { return 5; }
__attribute__((visibility("hidden"))) int unseen(void) { return 6; }
static int chosen(void) { return 7; }
static void *choose(void) { return chosen; }
int indirect(void) __attribute__((ifunc("choose")));
`

const libVersions = "FIRST { global: data; plain; faint; guarded; indirect; local; both; local: *; }; SECOND { global: both; } FIRST;\n"

// TestLibrary reads a library with all kinds of exports, with each kind of hash table,
// with and without section headers.
func TestLibrary(t *testing.T) {
	t.Parallel()
	want := map[string]object.Export{
		"data":     {Version: "FIRST", Type: elf.STT_OBJECT, Size: 12},
		"local":    {Version: "FIRST", Type: elf.STT_TLS, Size: 4},
		"plain":    {Version: "FIRST", Type: elf.STT_FUNC},
		"faint":    {Version: "FIRST", Type: elf.STT_FUNC, Weak: true},
		"guarded":  {Version: "FIRST", Type: elf.STT_FUNC},
		"indirect": {Version: "FIRST", Type: elf.STT_GNU_IFUNC},
	}
	for _, style := range []string{"gnu", "sysv", "both"} {
		t.Run(style, func(t *testing.T) {
			t.Parallel()
			path := objecttest.Build(t, objecttest.Options{Path: filepath.Join(t.TempDir(), "libthings.so.1"), Source: libSource,
				Versions: libVersions, Args: []string{"-shared", "-fPIC", "-Wl,-soname,libthings.so.1", "-Wl,--hash-style=" + style}})
			with := mustRead(t, path).AppendRecord(nil)
			objecttest.DropSections(t, path)
			o := mustRead(t, path)
			if string(with) != string(o.AppendRecord(nil)) {
				t.Error("without section headers it is another")
			}
			if o.Soname != "libthings.so.1" || !o.Dynamic || o.Interp != "" {
				t.Errorf("soname %q, interp %q, needed %q", o.Soname, o.Interp, o.Needed)
			}
			for name, e := range want {
				e.Name = name
				if got := o.Named(name); !slices.Equal(got, []object.Export{e}) {
					t.Errorf("%s is exported as %+v, want %+v", name, got, e)
				}
			}
			both := o.Named("both")
			if len(both) != 2 || both[0].Version != "FIRST" || !both[0].Hidden || both[1].Version != "SECOND" || both[1].Hidden {
				t.Errorf("both is exported as %+v", both)
			}
			if got := o.Named("unseen"); got != nil {
				t.Errorf("unseen is exported as %+v", got)
			}
			defs := []object.Definition{{Name: "libthings.so.1", Index: 1, Base: true}, {Name: "FIRST", Index: 2}, {Name: "SECOND", Index: 3}}
			if !slices.Equal(o.Definitions, defs) {
				t.Errorf("it defines %+v", o.Definitions)
			}
		})
	}
}

// TestProgram reads what a program takes from a library, and how.
func TestProgram(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	objecttest.Build(t, objecttest.Options{Path: filepath.Join(dir, "libthings.so.1"), Source: libSource,
		Versions: libVersions, Args: []string{"-shared", "-fPIC", "-Wl,-soname,libthings.so.1"}})
	lib := filepath.Join(dir, "libthings.so.1")
	source := `
extern int data[3]; extern int both(void), plain(void), faint(void) __attribute__((weak));
int (*pointer)(void) = plain;
int main(void) { return data[1] + both() + pointer() + (faint ? faint() : 0); }
`
	for name, test := range map[string]struct {
		args []string
		look func(t *testing.T, o *object.Object)
	}{
		"pie":    {[]string{"-fPIE", "-pie", "-Wl,-z,lazy"}, func(t *testing.T, o *object.Object) { lazy(t, o, true) }},
		"now":    {[]string{"-fPIE", "-pie", "-Wl,-z,now"}, func(t *testing.T, o *object.Object) { lazy(t, o, !o.BindNow) }},
		"no-pie": {[]string{"-no-pie", "-fno-pie", "-Wl,-z,lazy"}, func(t *testing.T, o *object.Object) { copied(t, o) }},
		"paths": {[]string{"-Wl,--enable-new-dtags,-rpath,$ORIGIN/../lib:/opt/lib,-z,nodefaultlib"}, func(t *testing.T, o *object.Object) {
			if !slices.Equal(o.RunPath, []string{"$ORIGIN/../lib", "/opt/lib"}) || o.RPath != nil || !o.NoDefaultLibs {
				t.Errorf("RPATH %q, RUNPATH %q, nodeflib %v", o.RPath, o.RunPath, o.NoDefaultLibs)
			}
		}},
		"old paths": {[]string{"-Wl,--disable-new-dtags,-rpath,/opt/lib"}, func(t *testing.T, o *object.Object) {
			if !slices.Equal(o.RPath, []string{"/opt/lib"}) || o.RunPath != nil {
				t.Errorf("RPATH %q, RUNPATH %q", o.RPath, o.RunPath)
			}
		}},
		"stack": {[]string{"-Wl,-z,execstack"}, func(t *testing.T, o *object.Object) {
			if !o.ExecStack {
				t.Error("its stack isn't executable")
			}
		}},
		"relr": {[]string{"-fPIE", "-pie", "-Wl,-z,pack-relative-relocs"}, func(t *testing.T, o *object.Object) {
			var versions []string
			for _, r := range o.Requirements {
				for _, v := range r.Versions {
					versions = append(versions, v.Name)
				}
			}
			if !o.RELR || !slices.Contains(versions, "GLIBC_ABI_DT_RELR") {
				t.Errorf("RELR %v, versions %q", o.RELR, versions)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := objecttest.Program(t, filepath.Join(t.TempDir(), "program"), source, append(test.args, lib)...)
			with := mustRead(t, path)
			objecttest.DropSections(t, path)
			o := mustRead(t, path)
			if string(with.AppendRecord(nil)) != string(o.AppendRecord(nil)) {
				t.Error("without section headers it is another")
			}
			if o.Interp == "" || o.Type == elf.ET_DYN != o.PIE || !strings.HasSuffix(o.Needed[0], "libthings.so.1") {
				t.Errorf("interp %q, type %v, PIE %v, needed %q", o.Interp, o.Type, o.PIE, o.Needed)
			}
			if o.ExecStack != (name == "stack") {
				t.Errorf("executable stack: %v", o.ExecStack)
			}
			test.look(t, o)
		})
	}
}

// lazy holds a program's imports against what it was built from.
func lazy(t *testing.T, o *object.Object, lazily bool) {
	t.Helper()
	for name, want := range map[string]object.Import{
		"both":  {Version: "SECOND", Lazy: lazily},
		"plain": {Version: "FIRST"},
		"faint": {Version: "FIRST", Weak: true},
	} {
		want.Name, want.File = name, "libthings.so.1"
		got := imported(o, name)
		if got == nil || *got != want && (lazily || name != "both") {
			t.Errorf("%s is imported as %+v, want %+v", name, got, want)
		}
	}
	if len(o.Copies) != 0 && !o.PIE {
		t.Errorf("it copies %+v", o.Copies)
	}
}

func copied(t *testing.T, o *object.Object) {
	t.Helper()
	if !slices.Equal(o.Copies, []object.Copy{{Name: "data", Version: "FIRST", File: "libthings.so.1", Size: 12}}) {
		t.Errorf("it copies %+v", o.Copies)
	}
}

// TestClasses reads what is made for other machines.
func TestClasses(t *testing.T) {
	t.Parallel()
	source := ".globl first\n.type first, %function\nfirst: .long 1\n.size first, 4\n" +
		".data\n.globl second\n.type second, %object\nsecond: .long third\n.size second, 4\n"
	wide := strings.ReplaceAll(source, ".long third", ".quad third")
	for name, test := range map[string]struct {
		options objecttest.Options
		class   elf.Class
		data    elf.Data
		machine elf.Machine
	}{
		"i386": {objecttest.Options{Source: source, Assembler: true, Args: []string{"-m32", "-shared", "-nostdlib"}},
			elf.ELFCLASS32, elf.ELFDATA2LSB, elf.EM_386},
		"x32": {objecttest.Options{Source: source, Assembler: true, Args: []string{"-mx32", "-shared", "-nostdlib"}},
			elf.ELFCLASS32, elf.ELFDATA2LSB, elf.EM_X86_64},
		"s390x": {objecttest.Options{Source: wide, Triple: "s390x-linux-gnu", Args: []string{"-shared", "--hash-style=gnu"}},
			elf.ELFCLASS64, elf.ELFDATA2MSB, elf.EM_S390},
		"s390x sysv": {objecttest.Options{Source: wide, Triple: "s390x-linux-gnu", Args: []string{"-shared", "--hash-style=sysv"}},
			elf.ELFCLASS64, elf.ELFDATA2MSB, elf.EM_S390},
		"powerpc": {objecttest.Options{Source: source, Triple: "powerpc-linux-gnu", Args: []string{"-shared"}},
			elf.ELFCLASS32, elf.ELFDATA2MSB, elf.EM_PPC},
		"mips": {objecttest.Options{Source: source, Triple: "mips-linux-gnu", Args: []string{"-shared"}},
			elf.ELFCLASS32, elf.ELFDATA2MSB, elf.EM_MIPS},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.options.Versions = "ONE { global: first; second; local: *; };\n"
			o := mustRead(t, objecttest.Build(t, test.options))
			if o.Class != test.class || o.Data != test.data || o.Machine != test.machine {
				t.Errorf("it is %v %v %v", o.Class, o.Data, o.Machine)
			}
			if got := o.Named("first"); len(got) != 1 || got[0].Version != "ONE" || got[0].Type != elf.STT_FUNC {
				t.Errorf("first is exported as %+v", got)
			}
			if got := o.Named("second"); len(got) != 1 || got[0].Version != "ONE" || got[0].Size != 4 {
				t.Errorf("second is exported as %+v", got)
			}
			if third := imported(o, "third"); third == nil || third.Lazy {
				t.Errorf("it imports %+v", o.Imports)
			}
		})
	}
}

// TestStatic tells static programs from those that a loader has to do with.
func TestStatic(t *testing.T) {
	t.Parallel()
	for name, arg := range map[string]string{"static": "-static", "static-pie": "-static-pie"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := mustRead(t, objecttest.Program(t, "", "int main(void) { return 0; }", arg))
			if o.Interp != "" || o.Dynamic != (name == "static-pie") || len(o.Needed) != 0 {
				t.Errorf("interp %q, dynamic %v, needed %q", o.Interp, o.Dynamic, o.Needed)
			}
			if o.Kernel[0] == 0 {
				t.Error("its oldest kernel isn't known")
			}
		})
	}
}

// TestBroken gives what loaders turn down.
func TestBroken(t *testing.T) {
	t.Parallel()
	whole := objecttest.Library(t, filepath.Join(t.TempDir(), "lib.so"), "int f(void) { return 1; }", "-nostdlib")
	b, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func([]byte) []byte
		reason object.Reason
	}{
		"empty":     {func(b []byte) []byte { return nil }, object.TooShort},
		"cut":       {func(b []byte) []byte { return b[:60] }, object.TooShort},
		"text":      {func(b []byte) []byte { return []byte(strings.Repeat("INPUT(libother.so)\n", 10)) }, object.NotELF},
		"class":     {func(b []byte) []byte { b[4] = 7; return b }, object.Damaged},
		"order":     {func(b []byte) []byte { b[5] = 3; return b }, object.ByteOrder},
		"type":      {func(b []byte) []byte { b[16] = 1; return b }, object.NotLoadable},
		"truncated": {func(b []byte) []byte { return b[:len(b)/8] }, object.Damaged},
		"headers":   {func(b []byte) []byte { b[54] = 55; return b }, object.Damaged},
		"no loads":  {func(b []byte) []byte { b[56], b[57] = 0, 0; return b }, object.Damaged},
	} {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, test.change(slices.Clone(b)), 0o644); err != nil {
			t.Fatal(err)
		}
		o, err := read(path)
		var broken *object.Error
		if !errors.As(err, &broken) || broken.Reason != test.reason || o != nil {
			t.Errorf("%s: %v, %v", name, o, err)
		}
	}
}

// TestIdentification has marks where zeros are to be: as AppImages do, which start.
func TestIdentification(t *testing.T) {
	t.Parallel()
	path := objecttest.Program(t, "", "int main(void) { return 0; }")
	objecttest.Patch(t, path, func(b []byte) []byte { copy(b[8:], "AI\x02"); return b })
	if err := exec.Command(path).Run(); err != nil {
		t.Fatal(err)
	}
	if o := mustRead(t, path); !o.OddIdent || o.ABIVersion != 'A' || o.NoEntry {
		t.Errorf("odd %v, ABI version %d, no entry %v", o.OddIdent, o.ABIVersion, o.NoEntry)
	}
	objecttest.Patch(t, path, func(b []byte) []byte { clear(b[24:32]); return b })
	if err := exec.Command(path).Run(); err == nil {
		t.Error("it starts at nothing")
	}
	if o := mustRead(t, path); !o.NoEntry {
		t.Error("it has an entry")
	}
}
