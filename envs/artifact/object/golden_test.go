package object_test

import (
	"debug/elf"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/stead-env/stead/envs/artifact/object"
)

// TestGolden reads records of every version of the format, which locks pin for years.
func TestGolden(t *testing.T) {
	t.Parallel()
	record, err := os.ReadFile(filepath.Join("testdata", "object1"))
	if err != nil {
		t.Fatal(err)
	}
	o, err := object.ParseRecord(record)
	if err != nil {
		t.Fatal(err)
	}
	if string(o.AppendRecord(nil)) != string(record) {
		t.Errorf("it is written again as\n%s", o.AppendRecord(nil))
	}
	want := []object.Export{
		{Name: "apply", Version: "FIRST", Type: elf.STT_FUNC},
		{Name: "both", Version: "FIRST", Hidden: true, Type: elf.STT_FUNC},
		{Name: "both", Version: "SECOND", Type: elf.STT_FUNC},
		{Name: "data", Version: "SECOND", Type: elf.STT_OBJECT, Size: 12},
		{Name: "local", Version: "SECOND", Weak: true, Type: elf.STT_TLS, Size: 4},
		{Name: "more", Version: "SECOND", Weak: true, Type: elf.STT_TLS, Size: 8},
	}
	if !slices.Equal(o.Exports, want) {
		t.Errorf("it exports %+v", o.Exports)
	}
	imports := []object.Import{
		{Name: "close", Version: "GLIBC_2.34", File: "libc.so.6", Lazy: true},
		{Name: "faint", Weak: true},
		{Name: "now", Version: "GLIBC_2.34", File: "libc.so.6"},
		{Name: "open", Version: "GLIBC_2.34", File: "libc.so.6", Lazy: true},
	}
	if !slices.Equal(o.Imports, imports) {
		t.Errorf("it imports %+v", o.Imports)
	}
	if !slices.Equal(o.Needed, []string{"libc.so.6", "lib\\name\n.so"}) || o.Compiler != "rustc version 1.75.0" {
		t.Errorf("it needs %q and is of %q", o.Needed, o.Compiler)
	}
	if o.RPath == nil || len(o.RPath) != 0 || !slices.Equal(o.RunPath, []string{"$ORIGIN/../lib", "/opt/lib"}) {
		t.Errorf("RPATH %q, RUNPATH %q", o.RPath, o.RunPath)
	}
	notes := []object.DlopenNote{{Feature: "tpm", Priority: "recommended", Sonames: []string{"libtss2-esys.so.0", "libtss2.so"}},
		{Sonames: []string{"liblast.so"}}}
	if !reflect.DeepEqual(o.Dlopen, notes) {
		t.Errorf("it may load %+v", o.Dlopen)
	}

	record, err = os.ReadFile(filepath.Join("testdata", "broken1"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = object.ParseRecord(record)
	var broken *object.Error
	if !errors.As(err, &broken) || broken.Reason != object.Damaged || broken.Detail != "it ends within a segment" || broken.Class != elf.ELFCLASS64 {
		t.Errorf("it is broken for %v", err)
	}
}

// TestSpelling has what isn't spelled as records are.
func TestSpelling(t *testing.T) {
	t.Parallel()
	const start = "object1 2 1 0 0 3 62 0\n"
	for name, text := range map[string]string{
		"empty":               "",
		"no end":              start[:len(start)-1],
		"another version":     "object2 2 1 0 0 3 62 0\n",
		"a zero before":       "object1 02 1 0 0 3 62 0\n",
		"a large number":      "object1 256 1 0 0 3 62 0\n",
		"more at the end":     start + "\n",
		"flags out of order":  start + "flags now dynamic\n",
		"an unknown flag":     start + "flags great\n",
		"lines out of order":  start + "soname a\ninterp b\n",
		"an empty line":       start + "soname \n",
		"raw space":           start + "soname a b\n",
		"needless escape":     start + "soname \\41\n",
		"half an escape":      start + "soname a\\4\n",
		"upper case":          start + "soname a\\0A\n",
		"not ASCII":           start + "soname \xc3\xa9\n",
		"symbols of no order": start + "exports 2 1\n2  \nb\na\n",
		"a symbol twice":      start + "exports 2 1\n2  \na\na\n",
		"too few symbols":     start + "exports 3 1\n2  \na\nb\n",
		"no symbols":          start + "exports 0 0\n",
		"kinds not used":      start + "exports 2 2\n2  \n1  \na\nb\n",
		"kinds of no order":   start + "exports 2 2\n2  \n1  \na 1\nb 0\n",
		"a kind twice":        start + "exports 2 2\n2  \n2  \na\nb 1\n",
		"a kind not there":    start + "exports 2 1\n2  \na\nb 1\n",
		"a kind said again":   start + "exports 2 1\n2  \na\nb 0\n",
		"a size of nothing":   start + "exports 1 1\n1  \na = 0\n",
		"a size of an import": start + "imports 1 1\n  \na = 8\n",
		"a type beyond":       start + "exports 1 1\n16  \na\n",
		"a version of nobody": start + "version  GLIBC_2.34\n",
		"exports first":       start + "exports 1 1\n2  \na\nimports 1 1\n  \na\n",
	} {
		if o, err := object.ParseRecord([]byte(text)); err == nil {
			t.Errorf("%s: it is read as %+v", name, o)
		}
	}
}
