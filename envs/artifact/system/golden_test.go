package system

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stead-env/stead/envs/artifact/object/objecttest"
)

var update = flag.Bool("update", false, "write the golden files")

// An index that a lock pins stays readable for as long as the lock does: testdata/1.index
// isn't made again.
func TestGolden(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("testdata/1.index"); *update && err != nil {
		writeGolden(t)
	}
	text, err := os.ReadFile("testdata/1.index")
	if err != nil {
		t.Fatal(err)
	}
	load := func(digest string) ([]byte, error) { return os.ReadFile("testdata/" + digest + ".records") }
	x, err := Open(text, "x86-64-v2", load)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%+v\n%+v\n%+v\n", *x.Loaders()[0], x.Facts(), x.Cached("libone.so.1"))
	for _, p := range []string{"/lib/libone.so.1", "/bin/program", "/lib/libtext.so", "/bin/script", "/lib"} {
		f, ok := x.Find(p)
		got += fmt.Sprintf("%s: %v %s %v %v %q\n", p, ok, f.Path, f.Dir, f.Executable, f.Package)
		if f.Dir {
			continue
		}
		o, err := f.Object()
		if err != nil {
			got += fmt.Sprintf("%v, %q\n", err, f.Script())
			continue
		}
		got += fmt.Sprintf("%v %v %q needs %q and", o.Type, o.Machine, o.Soname, o.Needed)
		for _, i := range o.Imports {
			got += fmt.Sprintf(" %s@%s", i.Name, i.Version)
		}
		got += ", has"
		for _, e := range o.Exports {
			got += fmt.Sprintf(" %s@%s", e.Name, e.Version)
		}
		got += "\n"
	}
	if *update {
		write(t, "testdata/1.golden", got, 0o644)
	}
	want, err := os.ReadFile("testdata/1.golden")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("an old index tells\n%s\ninstead of\n%s", got, want)
	}
}

func write(t testing.TB, p, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// writeGolden makes a small system, and its index.
func writeGolden(t *testing.T) {
	root := t.TempDir()
	at := func(p string) string { return filepath.Join(root, p) }
	objecttest.Build(t, objecttest.Options{Path: at("usr/lib/ld-linux-x86-64.so.2"), Source: `const char dirs[] = "/lib64/\0/usr/lib64/";
		const char caps[] = "x86-64-v4:x86-64-v3:x86-64-v2"; const char version[] = "ld.so (GNU libc) stable release version 2.40.\n";`,
		Args: []string{"-shared", "-fPIC", "-nostdlib", "-Wl,-soname,ld-linux-x86-64.so.2"}})
	objecttest.Build(t, objecttest.Options{Path: at("usr/lib/libone.so.1"), Source: "int one(void) { return 1; } int data = 2;",
		Versions: "ONE_1.0 { global: one; }; ONE_2.0 { global: data; local: *; };", Args: []string{"-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libone.so.1"}})
	objecttest.Program(t, at("usr/bin/program"), "int one(void); void _start(void) { one(); }", "-nostdlib", at("usr/lib/libone.so.1"))
	write(t, at("usr/lib/libtext.so"), "INPUT(-lone) and a line that is long enough not to be short.\n", 0o644)
	write(t, at("usr/bin/script"), "#!/usr/bin/env -S program\n", 0o755)
	write(t, at("etc/nsswitch.conf"), "passwd: files\n", 0o644)
	write(t, at("etc/ld.so.preload"), "/lib/libone.so.1\n", 0o644)
	write(t, at("etc/ld.so.cache"), string(makeCache(false, true, byteOrders[0], "libone.so.1", "/lib/libone.so.1")), 0o644)
	objecttest.Program(t, at("usr/bin/python3.11"), "void _start(void) {}", "-nostdlib", "-static")
	write(t, at("usr/lib/python3.11/lib-dynload/_x.cpython-311-x86_64-linux-gnu.so"), "", 0o644)
	for name, target := range map[string]string{"lib": "usr/lib", "bin": "usr/bin"} {
		if err := os.Symlink(target, at(name)); err != nil {
			t.Fatal(err)
		}
	}
	src := folderSource(t, root)
	src.Packages = []Package{{Name: "one", Version: "1:1.0-2", Architecture: "amd64", Provides: []string{"uno (= 1)"}}}
	src.Owner = func(p string) string { return map[bool]string{true: "one"}[strings.Contains(p, "one")] }
	text, err := Build(t.Context(), src, nil, func(digest string, chunk []byte) error {
		write(t, "testdata/"+digest+".records", string(chunk), 0o644)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	write(t, "testdata/1.index", string(text), 0o644)
}
