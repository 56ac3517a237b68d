package object_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/object/objecttest"
)

// small are objects of few bytes that have nearly all there is to read.
func small(f *testing.F) [][]byte {
	dir := f.TempDir()
	var all [][]byte
	compact := []string{"-Wl,-z,noseparate-code", "-Wl,-s", "-nostdlib"}
	for name, args := range map[string][]string{
		"gnu.so":  {"-shared", "-fPIC", "-Wl,-soname,libthings.so.1,--hash-style=gnu"},
		"sysv.so": {"-shared", "-fPIC", "-Wl,-rpath,$ORIGIN,--hash-style=sysv", "-Wl,-z,now"},
	} {
		path := objecttest.Build(f, objecttest.Options{Path: filepath.Join(dir, name), Source: libSource, Versions: libVersions, Args: append(args, compact...)})
		all = append(all, readFile(f, path))
	}
	source := "extern int data[3]; extern int both(void), plain(void);\nint (*p)(void) = plain;\nint _start(void) { return data[1] + both(); }\n"
	for name, arg := range map[string]string{"pie": "-pie", "no-pie": "-no-pie"} {
		path := objecttest.Program(f, filepath.Join(dir, name), source, append([]string{arg, filepath.Join(dir, "gnu.so")}, compact...)...)
		all = append(all, readFile(f, path))
	}
	for _, triple := range []string{"s390x-linux-gnu", "powerpc-linux-gnu", "mips-linux-gnu"} {
		path := objecttest.Build(f, objecttest.Options{Triple: triple, Source: ".globl first\nfirst: .long second\n", Args: []string{"-shared", "-s"}})
		all = append(all, readFile(f, path))
	}
	return all
}

func readFile(f *testing.F, path string) []byte {
	b, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	return b
}

func FuzzRead(f *testing.F) {
	for _, b := range small(f) {
		f.Add(b)
	}
	f.Add([]byte("INPUT(libother.so)"))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := object.Read(bytes.NewReader(b), int64(len(b)))
		var record []byte
		if err != nil {
			var broken *object.Error
			if !errors.As(err, &broken) || o != nil {
				t.Fatalf("%v, %v", o, err)
			}
			record = broken.AppendRecord(nil)
		} else {
			record = o.AppendRecord(nil)
			for _, e := range o.Exports {
				if len(o.Named(e.Name)) == 0 {
					t.Fatalf("%q isn't found", e.Name)
				}
			}
		}
		same(t, record)
	})
}

// same reads a record and writes it again, where it is one.
func same(t *testing.T, record []byte) {
	o, err := object.ParseRecord(record)
	var broken *object.Error
	var again []byte
	switch {
	case errors.As(err, &broken):
		again = broken.AppendRecord(nil)
	case err != nil:
		t.Fatalf("%v:\n%s", err, record)
	default:
		again = o.AppendRecord(nil)
	}
	if !bytes.Equal(record, again) {
		t.Fatalf("the record\n%s\nis written again as\n%s", record, again)
	}
}

func FuzzParseRecord(f *testing.F) {
	for _, b := range small(f) {
		o, err := object.Read(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(o.AppendRecord(nil))
	}
	f.Add((&object.Error{Reason: object.Damaged, Detail: "its end is missing"}).AppendRecord(nil))
	f.Add([]byte("object1 2 1 0 0 3 62 0\nrpath \ndlopen a required lib\\20a.so\nimports 1 1\n  \nf\nexports 2 2\n1  V\n2 hw \na\nb 1 5\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := object.ParseRecord(b)
		var broken *object.Error
		if err == nil || errors.As(err, &broken) {
			same(t, b)
		}
	})
}
