package object_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stead-env/stead/envs/artifact/object"
)

// libraries are some of this machine's own objects.
func libraries(t testing.TB) []string {
	t.Helper()
	var paths []string
	for _, pattern := range []string{"/usr/lib/*-linux-gnu/lib[a-f]*.so*", "/usr/bin/[a-f]*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, found...)
	}
	return paths
}

func read(path string) (*object.Object, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return object.Read(f, info.Size())
}

// TestRecord reads this machine's own objects, and their records again.
func TestRecord(t *testing.T) {
	t.Parallel()
	objects := 0
	for _, path := range libraries(t) {
		o, err := read(path)
		var broken *object.Error
		var record []byte
		switch {
		case errors.As(err, &broken):
			if broken.Reason != object.NotELF && broken.Reason != object.TooShort {
				t.Errorf("%s: %v", path, err)
			}
			record = broken.AppendRecord(nil)
		case err != nil:
			t.Fatal(err)
		default:
			objects++
			record = o.AppendRecord(nil)
		}
		again, err := object.ParseRecord(record)
		var same []byte
		switch {
		case errors.As(err, &broken):
			same = broken.AppendRecord(nil)
		case err != nil:
			t.Fatalf("%s: %v\n%s", path, err, record[:min(len(record), 1000)])
		default:
			same = again.AppendRecord(nil)
		}
		if !bytes.Equal(record, same) {
			t.Errorf("%s: the record differs when it is read and written again", path)
		}
	}
	if objects < 50 {
		t.Errorf("there were %d objects to read", objects)
	}
}

func TestLibC(t *testing.T) {
	t.Parallel()
	paths, _ := filepath.Glob("/lib/*/libc.so.6")
	if len(paths) == 0 {
		t.Fatal("there is no libc.so.6")
	}
	o, err := read(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	var versions []string
	for _, e := range o.Named("memcpy") {
		versions = append(versions, e.Version)
	}
	if got := strings.Join(versions, " "); got != "GLIBC_2.14 GLIBC_2.2.5" {
		t.Errorf("memcpy is exported as %q", got)
	}
	if o.Named("no_such_function") != nil {
		t.Error("libc exports what it has not")
	}
}
