package artifact

import (
	"strings"
	"testing"

	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/system"
)

func TestOverlayFollowsLinksOfBoth(t *testing.T) {
	base := made{files: map[string]system.File{}}
	base.add("/usr/lib/libz.so.1.2", "zlib1g", libraryFile("libz.so.1", nil))
	base.files["/lib"] = system.File{Path: "/usr/lib", Dir: true} // a link
	base.files["/usr/lib/libz.so.1"] = base.files["/usr/lib/libz.so.1.2"]
	own := libraryFile("libz.so.1", nil)
	o := lay(base, []File{
		{Name: "a", Path: "/lib/liba.so.1.0", Object: libraryFile("liba.so.1", nil)},
		{Name: "b", Path: "/usr/lib/liba.so.1", Link: "liba.so.1.0"},
		{Name: "c", Path: "/opt/app/current", Link: "v2"},
		{Name: "d", Path: "/opt/app/v2/libd.so", Object: libraryFile("libd.so", nil)},
		{Name: "e", Path: "/opt/app/current/libe.so", Object: libraryFile("libe.so", nil)},
		{Name: "f", Path: "/opt/app/z.so", Link: "/lib/libz.so.1"},
		{Name: "g", Path: "/opt/loop", Link: "loop/x"},
		{Name: "h", Path: "/opt/self", Link: "self"},
		{Name: "i", Path: "/usr/lib/libz.so.1.2", Object: own},
		{Name: "j", Path: "/lib", Link: "/opt"}, // what is a folder stays one
		{Name: "k", Path: "/opt/up", Link: "../../../../usr/lib"},
	}, false)
	for name, want := range map[string]string{
		"/usr/lib/liba.so.1":             "/usr/lib/liba.so.1.0",
		"/lib/liba.so.1":                 "/usr/lib/liba.so.1.0",
		"/opt/app/current/libd.so":       "/opt/app/v2/libd.so",
		"/opt/app/v2/libe.so":            "/opt/app/v2/libe.so",
		"/opt/app/z.so":                  "/usr/lib/libz.so.1.2",
		"/opt/up/../lib/libz.so.1":       "/usr/lib/libz.so.1.2",
		"/opt/up/libz.so.1":              "/usr/lib/libz.so.1.2",
		"/opt/app":                       "/opt/app",
		"/opt/app/current":               "/opt/app/v2",
		"/opt/loop":                      "",
		"/opt/loop/x":                    "",
		"/opt/self":                      "",
		"/opt/app/v2/libd.so/x":          "",
		"/nowhere":                       "",
		"/" + strings.Repeat("a/", 5000): "",
	} {
		f, ok := o.Find(name)
		if f.Path != want || ok != (want != "") {
			t.Errorf("%.40s leads to %q (%v), want %q", name, f.Path, ok, want)
		}
	}
	f, _ := o.Find("/lib/libz.so.1")
	if got, err := f.Object(); err != nil || got != own {
		t.Error("a link of the target doesn't lead to what the artifact replaces")
	}
	f, _ = o.Find("/usr/lib/liba.so.1")
	if _, err := f.Object(); err != nil {
		t.Error(err)
	}
	text := lay(base, []File{{Path: "/usr/lib/libt.so", Head: []byte("INPUT(-lz)")}}, false)
	f, _ = text.Find("/usr/lib/libt.so")
	if _, err := f.Object(); err == nil || err.(*object.Error).Reason != object.NotELF {
		t.Errorf("a text file is %v", err)
	}
}

func TestPackagesHaveTheirLibrariesCached(t *testing.T) {
	app := File{Name: "app", Path: "/usr/bin/app", Executable: true, Object: programFile(func(o *object.Object) { o.Needed = append(o.Needed, "libown.so.1") })}
	set := &Set{Files: []File{app,
		{Name: "libown.so.1.0", Path: "/opt/app/lib/libown.so.1.0", Object: libraryFile("libown.so.1", nil)},
		{Name: "app.conf", Path: "/etc/ld.so.conf.d/app.conf", Head: []byte("# ours\n/opt/app/lib\n")}}}
	expect(t, judged(t, acme(), set), Fails, "nothing leads it to /opt/app/lib/libown.so.1.0")
	set.Packages = []Package{{File: "app.deb"}}
	expect(t, judged(t, acme(), set), Starts)
}
