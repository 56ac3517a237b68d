package pkgdb

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stead-env/stead/snapshot"
)

// db makes a database of files below var/lib/dpkg, or of absolute paths.
func db(files map[string]string) map[string][]byte {
	content := map[string][]byte{}
	for f, s := range files {
		if abs, ok := strings.CutPrefix(f, "/"); ok {
			content[abs] = []byte(s)
		} else {
			content[dpkgDir+f] = []byte(s)
		}
	}
	return content
}

func read(t *testing.T, files map[string]string) *snapshot.Database {
	t.Helper()
	for f := range db(files) {
		if !(Dpkg{}).Wants(f) {
			t.Errorf("%s is not wanted", f)
		}
	}
	got, err := Dpkg{}.Read(db(files))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func find(t *testing.T, d *snapshot.Database, name string) snapshot.Package {
	t.Helper()
	name, arch, _ := strings.Cut(name, ":")
	for _, p := range d.Packages {
		if p.Name == name && (arch == "" || p.Architecture == arch) {
			return p
		}
	}
	t.Fatalf("no package %s", name)
	return snapshot.Package{}
}

func status(name, status string, more ...string) string {
	return "Package: " + name + "\nStatus: " + status + "\nArchitecture: amd64\nVersion: 1.0-1\n" +
		strings.Join(append(more, ""), "\n") + "\n"
}

const ok = "install ok installed"

func TestDpkgStates(t *testing.T) {
	list := "/.\n/usr\n/usr/bin\n/usr/bin/tool\n"
	for _, c := range []struct {
		status             string
		want, state        string
		broken, gone, file bool
	}{
		{status: ok, want: "install", state: "installed", file: true},
		{status: "deinstall ok installed", want: "deinstall", state: "installed", file: true},
		{status: "purge ok half-installed", want: "purge", state: "half-installed", file: true},
		{status: "install ok unpacked", want: "install", state: "unpacked", file: true},
		{status: "install ok half-configured", want: "install", state: "half-configured", file: true},
		{status: "install ok triggers-awaited", want: "install", state: "triggers-awaited", file: true},
		{status: "install ok triggers-pending", want: "install", state: "triggers-pending", file: true},
		{status: "hold ok installed", want: "hold", state: "installed", file: true},
		{status: "install hold installed", want: "hold", state: "installed", file: true},
		{status: "install reinstreq half-installed", want: "install", state: "half-installed", broken: true, file: true},
		{status: "deinstall ok config-files", want: "deinstall", state: "config-files"},
		{status: "purge ok not-installed", gone: true},
	} {
		d := read(t, map[string]string{
			"status":         status("base", ok) + status("a", c.status, "Conffiles:", " /etc/a.conf d41d8cd98f00b204e9800998ecf8427e"),
			"info/a.list":    list,
			"info/a.postrm":  "#!/bin/sh\n",
			"info/base.list": "/.\n",
		})
		if c.gone {
			if len(d.Packages) != 1 {
				t.Errorf("%s: %d packages", c.status, len(d.Packages))
			}
			continue
		}
		p := find(t, d, "a")
		if p.Want != c.want || p.State != c.state || p.Broken != c.broken {
			t.Errorf("%s: %s %s %v", c.status, p.Want, p.State, p.Broken)
		}
		want := []string{"etc/a.conf"}
		if c.file {
			want = []string{"usr", "usr/bin", "usr/bin/tool"}
		}
		if !slices.Equal(p.Files, want) {
			t.Errorf("%s: owns %q, want %q", c.status, p.Files, want)
		}
		if p.Records["postrm"] != "var/lib/dpkg/info/a.postrm" || len(p.Records) != 1 {
			t.Errorf("%s: records %q", c.status, p.Records)
		}
	}
}

func TestDpkgUpdates(t *testing.T) {
	d := read(t, map[string]string{
		"status":        status("a", ok) + status("b", ok) + status("c", ok),
		"updates/0001":  status("a", "install ok unpacked"),
		"updates/0000":  status("a", "install ok half-installed") + status("b", "purge ok not-installed"),
		"updates/0010":  status("d", ok),
		"info/a.list":   "/.\n/a\n",
		"info/x.y.list": "/.\n",
	})
	if s := find(t, d, "a").State; s != "unpacked" {
		t.Errorf("a is %s", s)
	}
	if len(d.Packages) != 3 {
		t.Errorf("%d packages", len(d.Packages))
	}
	for f, want := range map[string]bool{
		"var/lib/dpkg/updates/0001": true, "var/lib/dpkg/updates/tmp.i": false, "var/lib/dpkg/status-old": false,
		"var/lib/dpkg/available": false, "var/lib/apt/lists/x_Packages": false, "var/lib/apt/extended_states": true,
		"var/lib/dpkg/info/deep/er": false, "var/lib/dpkg/lock": false, "var/lib/dpkg/triggers/Lock": false,
	} {
		if got := (Dpkg{}).Wants(f); got != want {
			t.Errorf("Wants(%s) = %v", f, got)
		}
	}
}

func TestDpkgUnincorporatedTriggers(t *testing.T) {
	d := read(t, map[string]string{
		"status":            status("a", ok) + status("b", ok) + status("c", ok) + status("man", ok) + status("x", "deinstall ok config-files"),
		"triggers/Unincorp": "ldconfig a\n/usr/share/man -\n/usr/lib/x b:amd64 -\n",
		"triggers/ldconfig": "c/noawait\nx\n",
		"triggers/File":     "/usr/share/man man/noawait\n",
	})
	for name, want := range map[string]string{"a": "triggers-awaited", "b": "triggers-awaited",
		"c": "triggers-pending", "man": "triggers-pending", "x": "config-files"} {
		if p := find(t, d, name); p.State != want {
			t.Errorf("%s is %s, want %s", name, p.State, want)
		}
	}
}

func TestDpkgMultiArch(t *testing.T) {
	same := "Package: libz\nStatus: install ok installed\nArchitecture: ARCH\nMulti-Arch: same\nVersion: 1\n\n"
	files := map[string]string{
		"status": strings.ReplaceAll(same, "ARCH", "amd64") + strings.ReplaceAll(same, "ARCH", "i386") +
			status("tool.x", ok, "Multi-Arch: foreign") + status("dpkg", ok),
		"arch":                         "amd64\ni386\n",
		"info/format":                  "1\n",
		"info/libz:amd64.list":         "/.\n/usr/lib/x86_64-linux-gnu/libz.so\n",
		"info/libz:amd64.shlibs":       "libz",
		"info/libz:i386.list":          "/.\n/usr/lib/i386-linux-gnu/libz.so\n",
		"info/tool.x.list":             "/.\n/usr/bin/tool\n",
		"info/tool.x.postinst":         "",
		"info/libz.list":               "/wrong\n",
		"/var/lib/apt/extended_states": "Package: libz\nArchitecture: i386\nAuto-Installed: 1\n\nPackage: dpkg\nArchitecture: amd64\nAuto-Installed: 0\n",
	}
	d := read(t, files)
	amd, i386 := find(t, d, "libz:amd64"), find(t, d, "libz:i386")
	if len(amd.Files) != 1 || !strings.Contains(amd.Files[0], "x86_64") || len(i386.Files) != 1 || !strings.Contains(i386.Files[0], "i386") {
		t.Errorf("libz owns %q and %q", amd.Files, i386.Files)
	}
	if amd.Automatic || !i386.Automatic || !amd.MultiArch {
		t.Errorf("libz: %+v %+v", amd, i386)
	}
	if amd.Records["shlibs"] != "var/lib/dpkg/info/libz:amd64.shlibs" || len(i386.Records) != 0 {
		t.Errorf("records are %q, %q", amd.Records, i386.Records)
	}
	if p := find(t, d, "tool.x"); p.Records["postinst"] == "" || p.MultiArch {
		t.Errorf("tool.x: %+v", p)
	}
	delete(files, "info/format")
	if p := find(t, read(t, files), "libz:amd64"); !slices.Equal(p.Files, []string{"wrong"}) {
		t.Errorf("format 0 reads %q", p.Files)
	}
}

func TestDpkgConffiles(t *testing.T) {
	const sum = "d41d8cd98f00b204e9800998ecf8427e"
	d := read(t, map[string]string{"status": status("a", ok, "Conffiles:",
		" /etc/plain "+sum,
		" /etc/with two spaces "+sum+" obsolete",
		" /etc/gone "+sum+" remove-on-upgrade",
		" /etc/both "+sum+" obsolete remove-on-upgrade",
		" /etc/new newconffile",
		" /etc/obsolete "+sum)})
	want := []snapshot.Conffile{
		{Path: "etc/plain", MD5: sum},
		{Path: "etc/with two spaces", MD5: sum, Obsolete: true},
		{Path: "etc/gone", MD5: sum, RemoveOnUpgrade: true},
		{Path: "etc/both", MD5: sum, Obsolete: true, RemoveOnUpgrade: true},
		{Path: "etc/new"},
		{Path: "etc/obsolete", MD5: sum},
	}
	if got := find(t, d, "a").Conffiles; !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestDpkgControl(t *testing.T) {
	d := read(t, map[string]string{"status": `Package: a
Status: hold ok installed
Priority: optional
Architecture: all
source: abc (1.2)
Version: 1:2.0
Config-Version: 1.9
Triggers-Awaited: b
Conffiles:
 /etc/a d41d8cd98f00b204e9800998ecf8427e
Description: short
 long
 .
 more

`})
	p := find(t, d, "a")
	want := "Package: a\nPriority: optional\nArchitecture: all\nsource: abc (1.2)\nVersion: 1:2.0\nDescription: short\n long\n .\n more\n"
	if string(p.Control) != want {
		t.Errorf("control is %q", p.Control)
	}
	if p.Source != "abc" || p.Version != "1:2.0" || p.Want != "hold" {
		t.Errorf("%+v", p)
	}
}

func TestDpkgMD5Sums(t *testing.T) {
	const sum = "d41d8cd98f00b204e9800998ecf8427e"
	d := read(t, map[string]string{
		"status":         status("a", ok) + status("b", ok),
		"info/a.md5sums": sum + "  usr/share/with space\n" + sum + "  ./usr/dot\nnonsense\n" + sum + "  ../up\n",
	})
	want := map[string]string{"usr/share/with space": sum, "usr/dot": sum}
	if p := find(t, d, "a"); !maps.Equal(p.MD5, want) || p.Records["md5sums"] == "" {
		t.Errorf("%q %q", p.MD5, p.Records)
	}
	if p := find(t, d, "b"); p.MD5 != nil {
		t.Errorf("%q", p.MD5)
	}
}

func TestDpkgDiversions(t *testing.T) {
	d := read(t, map[string]string{
		"status":     status("a", ok),
		"diversions": "/bin/sh\n/bin/sh.distrib\ndash\n/usr/bin/x y\n/usr/bin/x y.local\n:\n",
	})
	want := []snapshot.Diversion{
		{From: "bin/sh", To: "bin/sh.distrib", By: "dash"},
		{From: "usr/bin/x y", To: "usr/bin/x y.local"},
	}
	if !slices.Equal(d.Diversions, want) {
		t.Errorf("%+v", d.Diversions)
	}
}

func TestDpkgLibcAndArchitecture(t *testing.T) {
	libc := "Package: libc6\nStatus: install ok installed\nArchitecture: ARCH\nMulti-Arch: same\nVersion: VER\n\n"
	one := func(arch, version string) string {
		return strings.NewReplacer("ARCH", arch, "VER", version).Replace(libc)
	}
	for _, c := range []struct{ status, arch, libc, architecture string }{
		{one("amd64", "2.31-13+deb11u8"), "", "glibc 2.31", "amd64"},
		{one("i386", "2.35-0ubuntu3") + one("amd64", "2.36-9+deb12u7"), "amd64\ni386\n", "glibc 2.36", "amd64"},
		{one("arm64", "1:2.28.1+dfsg-1"), "arm64\n", "glibc 2.28.1", "arm64"},
		{status("dpkg", ok) + one("i386", "2.1-1"), "", "", "amd64"},
	} {
		d := read(t, map[string]string{"status": c.status, "arch": c.arch})
		if d.Libc != c.libc || d.Architecture != c.architecture {
			t.Errorf("%q on %q, want %q on %q", d.Libc, d.Architecture, c.libc, c.architecture)
		}
	}
}

func TestDpkgStatusFolder(t *testing.T) {
	d := read(t, map[string]string{
		"status.d/base":         "Package: base-files\nVersion: 12\nArchitecture: amd64\n",
		"status.d/base.md5sums": "d41d8cd98f00b204e9800998ecf8427e  usr/lib/os-release\n",
	})
	if p := find(t, d, "base-files"); p.State != "installed" || !slices.Equal(p.Files, []string{"usr/lib/os-release"}) {
		t.Errorf("%+v", p)
	}
}

func TestDpkgAbsent(t *testing.T) {
	d, err := Dpkg{}.Read(nil)
	if d != nil || err != nil {
		t.Errorf("%v, %v", d, err)
	}
}

func TestDpkgDamaged(t *testing.T) {
	good := status("a", ok)
	for _, c := range []struct {
		name, file, content, place string
	}{
		{"no field", "status", good + "junk\n", "/var/lib/dpkg/status: line 6:"},
		{"continues nothing", "status", " x\n", "status: line 1:"},
		{"a field twice", "status", "Package: a\nPackage: b\n", "status: line 2:"},
		{"no status", "status", "Package: a\nVersion: 1\nArchitecture: all\n", "status: line 1:"},
		{"unknown state", "status", status("a", "install ok sideways"), "status: line 2:"},
		{"unknown flag", "status", status("a", "install maybe installed"), "status: line 2:"},
		{"unknown want", "status", status("a", "wish ok installed"), "status: line 2:"},
		{"no version", "status", "Package: a\nStatus: install ok installed\nArchitecture: all\n", "status: line 1:"},
		{"a name that leads out", "status", status("../../etc", ok), "status: line 1:"},
		{"a NUL", "status", "Package: a\x00b\n", "status: line 1:"},
		{"cut off", "updates/0000", "Package: a\nStatus: inst", "updates/0000: line 1:"},
		{"no digest", "status", status("a", ok, "Conffiles:", " /etc/x", ""), "status: line 6:"},
		{"a list that climbs", "info/a.list", "/.\n/usr/../../etc\n", "info/a.list: line 2:"},
		{"a relative path", "info/a.list", "/.\nusr\n", "info/a.list: line 2:"},
		{"an empty path", "info/a.list", "/.\n\n/usr\n", "info/a.list: line 2:"},
		{"two lines of three", "diversions", "/a\n/b\n", "diversions: line 2:"},
		{"a relative diversion", "diversions", "/a\nb\n:\n", "diversions: line 2:"},
		{"an unknown format", "info/format", "7\n", "info/format: line 1:"},
		{"a trigger of nobody", "triggers/Unincorp", "ldconfig\n", "triggers/Unincorp: line 1:"},
	} {
		files := map[string]string{"status": good}
		files[c.file] = c.content
		_, err := Dpkg{}.Read(db(files))
		var wrong *ParseError
		if !errors.As(err, &wrong) || !strings.Contains(err.Error(), c.place) || wrong.Hint() == "" {
			t.Errorf("%s: %v, want %s", c.name, err, c.place)
		}
	}
}

func TestCleanPath(t *testing.T) {
	for in, want := range map[string]string{
		"/usr/bin/x": "usr/bin/x", "/.": "", "/": "", "./usr": "usr", "//usr//lib/": "usr/lib", "/usr/./lib": "usr/lib",
		"/usr/.hidden": "usr/.hidden", "/usr/..two": "usr/..two", "/.../a": ".../a", "/.a": ".a", "/usr/lib/.": "usr/lib",
		"/..": "!", "/usr/..": "!", "/../x": "!", "/a/../b": "!",
	} {
		got, ok := cleanPath(in)
		if !ok {
			got = "!"
		}
		if got != want {
			t.Errorf("cleanPath(%q) = %q, want %q", in, got, want)
		}
	}
}

// machine reads the database of the machine that runs the test, if it has one.
func machine(t testing.TB) map[string][]byte {
	content := map[string][]byte{}
	for _, root := range (Dpkg{}).Roots() {
		_ = filepath.WalkDir("/"+root, func(p string, e os.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() && (Dpkg{}).Wants(p[1:]) {
				if b, err := os.ReadFile(p); err == nil {
					content[p[1:]] = b
				}
			}
			return nil
		})
	}
	if len(content[statusFile]) == 0 {
		t.Skip("this machine has no dpkg")
	}
	return content
}

func TestDpkgOfThisMachine(t *testing.T) {
	content := machine(t)
	out, err := exec.Command("dpkg-query", "-W", "-f",
		`${Package} ${Architecture} ${Version} ${db:Status-Want} ${db:Status-Status} ${source:Package}\n`).Output()
	if err != nil {
		t.Skip(err)
	}
	d, err := Dpkg{}.Read(content)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	files := map[string]int{}
	for _, p := range d.Packages {
		source := p.Source
		if source == "" {
			source = p.Name
		}
		got = append(got, strings.Join([]string{p.Name, p.Architecture, p.Version, p.Want, p.State, source}, " "))
		for _, f := range p.Files {
			files[f]++
		}
	}
	want := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%d packages, want %d:\n%s\nwant\n%s", len(got), len(want), strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	p := find(t, d, "base-files")
	out, err = exec.Command("dpkg-query", "-L", "base-files").Output()
	if err != nil {
		t.Fatal(err)
	}
	// dpkg-query -L adds a line for each diverted file; base-files has none.
	if got, want := "/.\n/"+strings.Join(p.Files, "\n/")+"\n", string(out); got != want {
		t.Errorf("base-files owns\n%swant\n%s", got, want)
	}
	if out, err := exec.Command("dpkg", "--print-architecture").Output(); err == nil && strings.TrimSpace(string(out)) != d.Architecture {
		t.Errorf("architecture %s, want %s", d.Architecture, out)
	}
	t.Logf("%d packages, %d paths, %s", len(d.Packages), len(files), d.Libc)
}

func BenchmarkDpkg(b *testing.B) {
	content := machine(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (Dpkg{}).Read(content); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzDpkg(f *testing.F) {
	f.Add(status("a", ok, "Conffiles:", " /etc/a b newconffile"), "/.\n/usr\n", "/a\n/b\n:\n", "ldconfig a\n")
	f.Add("Package: a\n b\n", "//x/./y/\n", "", "x -\n")
	f.Fuzz(func(t *testing.T, status, list, diversions, unincorp string) {
		d, err := Dpkg{}.Read(db(map[string]string{
			"status": status, "updates/0001": status, "info/a.list": list, "info/a.md5sums": list,
			"diversions": diversions, "triggers/Unincorp": unincorp, "triggers/File": list,
		}))
		if err != nil || d == nil {
			return
		}
		for _, p := range d.Packages {
			if !packageName(p.Name) {
				t.Errorf("package %q", p.Name)
			}
			for _, f := range p.Files {
				if f == "" || f[0] == '/' || slices.Contains(strings.Split(f, "/"), "..") {
					t.Errorf("package %q owns %q", p.Name, f)
				}
			}
		}
	})
}

func FuzzStanzas(f *testing.F) {
	f.Add("a: b\n c\n\nd: e")
	f.Fuzz(func(t *testing.T, s string) {
		_ = stanzas("x", []byte(s), func(s stanza) error {
			if len(s.fields) == 0 || s.line == 0 {
				t.Error("a stanza of nothing")
			}
			return nil
		})
	})
}
