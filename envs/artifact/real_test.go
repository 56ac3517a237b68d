package artifact

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/object/objecttest"
	"github.com/stead-env/stead/envs/artifact/system"
	"github.com/stead-env/stead/envs/lock"
)

// realFile reads a file as it lies.
func realFile(t *testing.T, full, name string) File {
	t.Helper()
	r, err := os.Open(full)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	st, err := r.Stat()
	if err != nil {
		t.Fatal(err)
	}
	f := File{Name: name, Path: name, Executable: st.Mode()&0o111 != 0, Head: make([]byte, HeadSize)}
	n, err := r.ReadAt(f.Head, 0)
	if f.Head = f.Head[:n]; n == 0 {
		t.Fatal(err)
	}
	if n >= 4 && string(f.Head[:4]) == "\x7fELF" {
		f.Object, f.Err = object.Read(r, st.Size())
	}
	return f
}

// TestThisMachine holds that nothing fails where it is installed and works.
func TestThisMachine(t *testing.T) {
	live, err := system.OpenLive("/", system.LiveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	set := &Set{Alone: true}
	for _, pattern := range []string{"/usr/bin/*", "/usr/sbin/*"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			real, err := filepath.EvalSymlinks(name)
			if st, err2 := os.Stat(name); err != nil || err2 != nil || real != name || !st.Mode().IsRegular() || st.Size() == 0 {
				continue
			}
			set.Files = append(set.Files, realFile(t, name, name))
		}
	}
	target := &Target{Name: "/", System: live, Facts: live.Facts()}
	answers, err := target.Judge(context.Background(), set)
	if err != nil {
		t.Fatal(err)
	}
	if len(answers) < 100 {
		t.Errorf("only %d of %d files have an answer", len(answers), len(set.Files))
	}
	unproven := 0
	for _, a := range answers {
		switch {
		case a.Verdict == Fails:
			t.Errorf("%s fails: %s", a.File, a.Reasons[0].Text)
		case a.Verdict == Unproven && len(a.Reasons) == 0:
			t.Errorf("%s is unproven without a reason", a.File)
		case a.Verdict == Unproven:
			unproven++
		}
	}
	if unproven*100 > 7*len(answers) {
		t.Errorf("%d of %d are unproven", unproven, len(answers))
	}
}

// TestQtOnRealFiles starts a program that a library loads a plugin for, on a root that has
// the plugin, and on one that lacks it.
func TestQtOnRealFiles(t *testing.T) {
	root := t.TempDir()
	for _, f := range []string{"/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6"} {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Skipf("this machine isn't of amd64: %v", err)
		}
		write(t, root+f, b)
	}
	const libs, application = "/lib/x86_64-linux-gnu/", "_ZN12QApplicationC1ERiPPci"
	platforms := root + libs + "qt5/plugins/platforms"
	must(t, os.MkdirAll(platforms, 0o755))
	objecttest.Library(t, root+libs+"libQt5Gui.so.5", "void "+application+"(void) {}")
	objecttest.Library(t, root+libs+"libxcb.so.1", "void xcb_connect(void) {}")
	objecttest.Library(t, platforms+"/libqxcb.so", "void xcb_connect(void); void plugin(void) { xcb_connect(); }", root+libs+"libxcb.so.1")
	app := filepath.Join(t.TempDir(), "app")
	objecttest.Program(t, app, "void "+application+"(void); int main(void) { "+application+"(); }", root+libs+"libQt5Gui.so.5")
	ask := func() Answer {
		live, err := system.OpenLive(root, system.LiveOptions{})
		must(t, err)
		defer live.Close()
		target := &Target{Name: "acme", System: live, Facts: live.Facts(), Host: lock.Host{Architecture: "amd64"}}
		return judged(t, target, &Set{Files: []File{realFile(t, app, "/opt/app/app")}})
	}
	expect(t, ask(), Starts)
	must(t, os.Rename(root+libs+"libxcb.so.1", root+libs+"libxcb.so.2"))
	expect(t, ask(), Fails, "doesn't load", "libxcb.so.1")
	must(t, os.RemoveAll(platforms))
	expect(t, ask(), Fails, "lacks Qt's platform plugin")
}

func write(t *testing.T, name string, b []byte) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(t, os.WriteFile(name, b, 0o755))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
