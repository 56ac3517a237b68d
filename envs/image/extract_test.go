package image

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stead-env/stead/envs/store"
)

// What is extracted lies where the root's links lead, with the modes of folders, and
// without the records of a package manager that hasn't run yet.
func TestExtract(t *testing.T) {
	st := testStore(t)
	tmp := dir("./tmp/")
	tmp.Mode = 0o1777
	trees := []Tree{
		tree(t, st, "tool", dir("./bin/"), file("./bin/tool", "tool"), hardlink("./bin/twin", "./bin/tool"), dir("./tmp/")),
		tree(t, st, "libc", symlink("./lib64", "usr/lib64"), dir("./usr/lib64/"), file("./usr/lib64/ld.so", "ld")),
		tree(t, st, "other", dir("./lib64/"), file("./lib64/more", "more"), tmp),
	}
	root := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Extract(context.Background(), trees, map[string]string{"bin": "usr/bin"}, root, store.Owners{}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"usr/bin/tool": "tool", "usr/bin/twin": "tool", "usr/lib64/ld.so": "ld", "usr/lib64/more": "more"} {
		if got, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(got) != want {
			t.Errorf("/%s: %q, %v", name, got, err)
		}
	}
	for name, want := range map[string]string{"bin": "usr/bin", "lib64": "usr/lib64"} {
		if got, err := os.Readlink(filepath.Join(root, name)); err != nil || got != want {
			t.Errorf("/%s leads to %q, %v", name, got, err)
		}
	}
	if fi, err := os.Stat(filepath.Join(root, "tmp")); err != nil || fi.Mode()&os.ModeSticky == 0 || fi.Mode().Perm() != 0o777 {
		t.Errorf("/tmp: %v, %v", fi, err)
	}
	if left, _ := filepath.Glob(filepath.Join(root, "var/lib/dpkg/info/*")); len(left) > 0 {
		t.Errorf("records were extracted: %v", left)
	}
}

func TestControl(t *testing.T) {
	st := testStore(t)
	k := put(t, st, "tool", debOf(t, "tool", tarOf(t, file("./x", "x"))))
	members, err := Control(context.Background(), st, k.Digest())
	if err != nil {
		t.Fatal(err)
	}
	fields, err := ControlFields(members["control"])
	if err != nil || len(fields["Package"]) != 1 || fields["Package"][0] != "tool" || members["md5sums"] == nil {
		t.Errorf("got %v, %v", fields, err)
	}
	bad := put(t, st, "bad", []byte(debMagic))
	if _, err := Control(context.Background(), st, bad.Digest()); err == nil {
		t.Error("a package without control.tar has been read")
	}
}
