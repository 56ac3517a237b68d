package snapshot_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stead-env/stead/snapshot"
	"github.com/stead-env/stead/snapshot/host"
	"github.com/stead-env/stead/snapshot/pkgdb"
	"github.com/stead-env/stead/snapshot/scrub"
)

// plant makes a root of a map: a value is a file's content, "/" makes a folder,
// "-> x" a link, "= x" a hard link.
func plant(t *testing.T, tree map[string]string) string {
	t.Helper()
	root := t.TempDir()
	var names []string
	for name := range tree {
		names = append(names, name)
	}
	slices.Sort(names)
	for pass := range 2 { // hard links last
		for _, name := range names {
			p, v := filepath.Join(root, name), tree[name]
			var err error
			old, hard := strings.CutPrefix(v, "= ")
			if hard != (pass == 1) {
				continue
			}
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				t.Fatal(err)
			}
			switch target, link := strings.CutPrefix(v, "-> "); {
			case hard:
				err = os.Link(filepath.Join(root, old), p)
			case link:
				err = os.Symlink(target, p)
			case v == "/":
				err = os.MkdirAll(p, 0o755)
			default:
				err = os.WriteFile(p, []byte(v), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}

func take(t *testing.T, root string) *snapshot.Inventory {
	t.Helper()
	return takeWith(t, root, nil, nil)
}

func takeWith(t *testing.T, root string, keep, drop []string, skip ...string) *snapshot.Inventory {
	t.Helper()
	h, err := host.Folder(root, skip...)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	rules, err := scrub.New(keep, drop)
	if err != nil {
		t.Fatal(err)
	}
	inv, err := snapshot.Take(t.Context(), h, pkgdb.Readers, rules, nil)
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

const status = `Package: base
Status: install ok installed
Architecture: amd64
Version: 1

Package: dash
Status: install ok installed
Architecture: amd64
Version: 1

`

// server is a small host with a merged /usr, a diversion and data.
func server() map[string]string {
	return map[string]string{
		"bin": "-> usr/bin", "lib": "-> usr/lib", "opt": "-> /data/opt",
		"var/lib/dpkg/status": status,
		"var/lib/dpkg/info/base.list": "/.\n/bin\n/bin/ls\n/bin/sh\n/usr\n/usr/bin\n/usr/lib\n/lib/x.so\n/var\n/var/lib\n/var/log\n" +
			"/boot\n/boot/grub\n/lib/modules\n/lib/modules/6\n/lib/modules/6/x.ko\n/usr/lib/link\n/opt\n/opt/pkg\n/opt/pkg/run\n/etc\n/etc/logs.log\n/usr/lib/m.pyc\n/usr/bin/gone\n/etc/ssl\n/etc/ssl/private\n",
		"var/lib/dpkg/info/dash.list":     "/.\n/bin\n/bin/sh\n",
		"var/lib/dpkg/info/base.postinst": "#!/bin/sh\n",
		"var/lib/dpkg/diversions":         "/bin/sh\n/bin/sh.distrib\ndash\n",
		"var/lib/dpkg/status-old":         "x",
		"usr/bin/ls":                      "ls", "usr/bin/sh": "dash", "usr/bin/sh.distrib": "sh", "usr/bin/mine": "made",
		"usr/bin/sh.local": "x", "usr/lib/x.so": "lib", "usr/lib/m.pyc": "owned", "usr/lib/n.pyc": "noise",
		"usr/lib/__pycache__/a.pyc": "noise", "data/opt/pkg/run": "run", "data/opt/other": "x",
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/shadow": "root:$6$x:1::::::\n", "etc/ssl/private/k.key": "k",
		"etc/alternatives/ls": "-> /bin/ls", "boot/grub": "/", "usr/lib/modules/6/x.ko": "m", "usr/lib/link": "-> /srv/www/db", "srv/www/db": "rows", "srv/www/index.html": "data", "srv/www/ls": "data with a program's name",
		"home/ann/.ssh/id_rsa": "k", "var/log/sys.log": "log", "var/log/app": "/", "var/log/app/deep/x": "log",
		"var/lib/db/1/data": "rows", "usr/lib/one": "linked", "usr/lib/two": "= usr/lib/one", "srv/three": "= usr/lib/one",
		"usr/lib/alone": "linked", "srv/alone": "= usr/lib/alone",
	}
}

func TestTake(t *testing.T) {
	inv := take(t, plant(t, server()))
	want := map[string]snapshot.Class{
		".": "owned", "bin": "owned", "lib": "made", "opt": "owned", "usr": "owned", "usr/bin": "owned", "usr/lib": "owned",
		"usr/bin/ls": "owned", "usr/bin/sh": "owned", "usr/bin/sh.distrib": "owned", "usr/bin/mine": "made", "usr/bin/sh.local": "made",
		"usr/lib/x.so": "owned", "usr/lib/m.pyc": "noise", "usr/lib/link": "owned", "boot": "owned", "boot/grub": "noise", "usr/lib/modules": "owned",
		"usr/lib/modules/6": "noise", "usr/lib/modules/6/x.ko": "noise", "usr/lib/one": "made", "usr/lib/two": "made", "usr/lib/alone": "made",
		"data": "state", "data/opt": "owned", "data/opt/pkg": "owned", "data/opt/pkg/run": "owned",
		"etc": "owned", "etc/passwd": "made", "etc/shadow": "secret", "etc/ssl": "owned", "etc/ssl/private": "owned",
		"etc/alternatives": "made", "etc/alternatives/ls": "made", "srv": "state", "home": "state", "var": "owned",
		"var/lib": "owned", "var/log": "owned", "var/log/app": "state", "var/lib/db": "state", "var/lib/dpkg": "made",
		"var/lib/dpkg/status": "made", "var/lib/dpkg/diversions": "made", "var/lib/dpkg/info": "made",
		"var/lib/dpkg/info/base.list": "made", "var/lib/dpkg/info/base.postinst": "made", "var/lib/dpkg/info/dash.list": "made",
	}
	got := map[string]snapshot.Class{}
	for _, e := range inv.Entries {
		got[e.Path] = e.Class
		if want[e.Path] != e.Class {
			t.Errorf("%s is %q (%s), want %q", e.Path, e.Class, e.Reason, want[e.Path])
		}
	}
	for p := range want {
		if got[p] == "" {
			t.Errorf("%s is missing", p)
		}
	}
	if !slices.IsSortedFunc(inv.Entries, func(a, b snapshot.Entry) int { return strings.Compare(a.Path, b.Path) }) {
		t.Error("the entries are not in order")
	}
	for p, want := range map[string]string{"usr/lib/one": "usr/lib/one", "usr/lib/two": "usr/lib/one", "usr/lib/alone": ""} {
		if e, ok := inv.Lookup(p); !ok || e.Link != want {
			t.Errorf("%s is linked with %q, want %q", p, e.Link, want)
		}
	}
	left := map[string]snapshot.Left{}
	for _, l := range inv.Left {
		left[l.Path+" "+string(l.Class)] = l
	}
	for key, files := range map[string]int64{"home secret": 1, "etc/ssl/private/k.key secret": 1, "srv/www state": 3,
		"srv state": 2, "var/log noise": 1, "var/log/app noise": 1, "var/lib/db state": 1, "usr/lib noise": 1, "usr/lib/__pycache__ noise": 1,
		"data/opt state": 1, "var/lib/dpkg noise": 1} {
		if l := left[key]; l.Files != files || l.Reason == "" {
			t.Errorf("left %s: %+v, want %d files", key, l, files)
		}
	}
	if r := inv.Database.Packages[0].Records["postinst"]; r != "var/lib/dpkg/info/base.postinst" {
		t.Errorf("the postinst is at %q", r)
	}
	if p := snapshot.NewLinks(inv.Links).Locate("opt/pkg/run"); p != "data/opt/pkg/run" {
		t.Errorf("opt/pkg/run is %s", p)
	}
}

func TestTakeKeeps(t *testing.T) {
	inv := takeWith(t, plant(t, server()), []string{"/srv/www/*.html"}, []string{"/usr/bin/mine"})
	for p, want := range map[string]snapshot.Class{"srv/www/index.html": "made", "srv/www": "state", "srv": "state", "srv/www/ls": "", "usr/bin/mine": ""} {
		if e, _ := inv.Lookup(p); e.Class != want {
			t.Errorf("%s is %q, want %q", p, e.Class, want)
		}
	}
}

func TestTakeMovedDatabase(t *testing.T) {
	tree := map[string]string{
		"var": "-> srv/var", "srv/var/lib": "-> /data/../data/lib", "data/lib/dpkg/status": status,
		"data/lib/dpkg/info/base.list": "/usr\n/usr/x\n", "data/lib/dpkg/info/base.prerm": "", "usr/x": "x",
	}
	inv := take(t, plant(t, tree))
	if e, ok := inv.Lookup("usr/x"); !ok || e.Class != snapshot.Owned {
		t.Errorf("usr/x is %q", e.Class)
	}
	if r := inv.Database.Packages[0].Records["prerm"]; r != "data/lib/dpkg/info/base.prerm" {
		t.Errorf("the prerm is at %q", r)
	}
	for _, tree := range []map[string]string{
		{"etc/x": "x"},
		{"var": "-> var"},
		{"var/lib": "-> ../../../../nowhere"},
	} {
		h, err := host.Folder(plant(t, tree))
		if err != nil {
			t.Fatal(err)
		}
		rules, _ := scrub.New(nil, nil)
		_, err = snapshot.Take(t.Context(), h, pkgdb.Readers, rules, nil)
		var none *snapshot.NoDatabaseError
		if err == nil || tree["var"] == "" && (!errors.As(err, &none) || none.Hint() == "") {
			t.Errorf("%v: %v", tree, err)
		}
		h.Close()
	}
}

func TestTakeFacts(t *testing.T) {
	for _, c := range []struct {
		name string
		tree map[string]string
		want snapshot.Facts
	}{
		{"Debian", map[string]string{
			"etc/os-release":               "-> ../usr/lib/os-release",
			"usr/lib/os-release":           "PRETTY_NAME=\"Debian GNU/Linux 11 (bullseye)\"\nVERSION_ID=\"11\"\nVERSION_CODENAME=bullseye\nID=debian\n",
			"etc/login.defs":               "# UMASK 077\nUMASK\t\t022\n",
			"etc/default/locale":           "#  x\nLANG=\"de_DE.UTF-8\"\n",
			"etc/localtime":                "-> /usr/share/zoneinfo/Europe/Berlin",
			"etc/timezone":                 "Etc/UTC\n",
			"etc/security/limits.conf":     "#* soft nofile 1\n* soft nofile 2000\nann soft nofile 3\n* hard nofile 9\n",
			"etc/security/limits.d/b.conf": "* - nofile 4096 # more\n",
			"etc/security/limits.d/a.conf": "* soft nofile 3000\n",
			"etc/security/limits.d/z.txt":  "* soft nofile 7\n",
		}, snapshot.Facts{ID: "debian", Version: "11", Codename: "bullseye", Umask: "0022", Locale: "de_DE.UTF-8",
			Timezone: "Europe/Berlin", NoFile: 4096}},
		{"an old one", map[string]string{
			"etc/os-release":           "ID=debian\nVERSION_ID='8'\nVERSION=\"8 (jessie)\"\n",
			"etc/login.defs":           "UMASK 27\n",
			"etc/locale.conf":          "LANG=C.UTF-8\n",
			"etc/timezone":             "America/New_York\n",
			"etc/security/limits.conf": "* soft nofile unlimited\n",
		}, snapshot.Facts{ID: "debian", Version: "8", Codename: "jessie", Umask: "0027", Locale: "C.UTF-8",
			Timezone: "America/New_York", NoFile: 1 << 20}},
		{"one that says nothing", map[string]string{"etc/localtime": "binary"}, snapshot.Facts{NoFile: 1024}},
	} {
		c.tree["var/lib/dpkg/status"] = status + "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.31-13\n"
		c.want.Architecture, c.want.Libc = "amd64", "glibc 2.31"
		if got := take(t, plant(t, c.tree)).Facts; !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.name, got, c.want)
		}
	}
}

// crowd is a host of many files of data, made up as they are listed.
type crowd struct {
	snapshot.Host
	files int
}

func (c crowd) Files(ctx context.Context, dir string, fn func(snapshot.File, error) error) error {
	if err := c.Host.Files(ctx, dir, fn); err != nil || dir != "." {
		return err
	}
	for i := range c.files {
		n := strconv.Itoa(i)
		for _, f := range []snapshot.File{
			{Path: "srv/" + n + "/" + n, Type: snapshot.Regular, Size: 2},
			{Path: "home/" + n + "/.netrc", Type: snapshot.Regular, Size: 3},
		} {
			if err := fn(f, nil); err != nil {
				return err
			}
		}
		if err := fn(snapshot.File{Path: "srv/shut" + n}, fs.ErrPermission); err != nil {
			return err
		}
	}
	return nil
}

func TestTakeIsBounded(t *testing.T) {
	h, err := host.Folder(plant(t, server()))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	rules, _ := scrub.New(nil, nil)
	const n = 20_000
	inv, err := snapshot.Take(t.Context(), crowd{h, n}, pkgdb.Readers, rules, nil)
	if err != nil {
		t.Fatal(err)
	}
	var files, secrets, shut int64
	for _, l := range inv.Left {
		files += l.Files
		if l.Class == snapshot.Secret {
			secrets += l.Files
		}
	}
	for _, u := range inv.Unreadable {
		shut += u.Files
	}
	if len(inv.Left) > 3000 || len(inv.Entries) > 100 || len(inv.Unreadable) > 10_000 {
		t.Errorf("%d rows, %d entries, %d unreadable", len(inv.Left), len(inv.Entries), len(inv.Unreadable))
	}
	if files < 2*n || secrets != n+2 || shut != n {
		t.Errorf("%d files left, %d secrets, %d unreadable", files, secrets, shut)
	}
}

// watcher tells which files were read.
type watcher struct {
	snapshot.Host
	read []string
}

func (w *watcher) Read(ctx context.Context, paths []string, fn func(string, io.Reader, error) error) error {
	w.read = append(w.read, paths...)
	return w.Host.Read(ctx, paths, fn)
}

func TestTakeReadsNoSecret(t *testing.T) {
	h, err := host.Folder(plant(t, server()))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	rules, _ := scrub.New(nil, nil)
	w := &watcher{Host: h}
	if _, err := snapshot.Take(t.Context(), w, pkgdb.Readers, rules, nil); err != nil {
		t.Fatal(err)
	}
	for _, p := range w.read {
		if class, _ := rules.Path(p, snapshot.Regular); class != "" || !strings.HasPrefix(p, "var/lib/dpkg/") && !strings.HasPrefix(p, "etc/") && p != "usr/lib/os-release" {
			t.Errorf("%s (%s) was read", p, class)
		}
	}
}

func TestTakeStops(t *testing.T) {
	h, err := host.Folder(plant(t, server()))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	rules, _ := scrub.New(nil, nil)
	if _, err := snapshot.Take(ctx, h, pkgdb.Readers, rules, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// projectRoot is the folder around this checkout.
func projectRoot(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestTakeThisMachine reads the machine that runs the test, but for where data
// piles up.
func TestTakeThisMachine(t *testing.T) {
	if _, err := os.Stat("/var/lib/dpkg/status"); err != nil || testing.Short() {
		t.Skip("this machine has no dpkg")
	}
	inv := takeWith(t, "/", nil, nil, "/root", "/home", "/tmp", "/srv", "/var/cache", "/var/tmp", "/var/lib/docker", "/opt", "/usr/local", "/usr/share", projectRoot(t))
	classes := map[snapshot.Class]int{}
	owned := map[string]bool{}
	for _, e := range inv.Entries {
		classes[e.Class]++
		owned[e.Path] = e.Class == snapshot.Owned
		if strings.HasPrefix(e.Path, "proc/") || strings.HasPrefix(e.Path, "home/") && e.Class != snapshot.Owned {
			t.Errorf("%s is %s", e.Path, e.Class)
		}
	}
	for _, p := range []string{"usr/bin/dpkg", "usr/bin/ls", "etc/debian_version", "var/lib/dpkg"} {
		if _, ok := inv.Lookup(p); !ok {
			t.Errorf("%s is missing", p)
		}
	}
	if inv.Facts.Kernel == "" || inv.Facts.ID == "" || inv.Facts.Libc == "" {
		t.Errorf("%+v", inv.Facts)
	}
	t.Logf("%d entries %v, %d rows left, %d unreadable; %+v", len(inv.Entries), classes, len(inv.Left), len(inv.Unreadable), inv.Facts)
}

// shut is a host with a folder that can't be read.
type shut struct {
	snapshot.Host
	dir string
}

func (s shut) Files(ctx context.Context, dir string, fn func(snapshot.File, error) error) error {
	return s.Host.Files(ctx, dir, func(f snapshot.File, err error) error {
		if f.Path != s.dir {
			return fn(f, err)
		}
		if err := fn(f, fs.ErrPermission); err != nil {
			return err
		}
		return fs.SkipDir
	})
}

func TestTakeUnreadable(t *testing.T) {
	tree := server()
	tree["var/lib/apt/lists/partial"] = "/"
	h, err := host.Folder(plant(t, tree))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	rules, _ := scrub.New(nil, nil)
	for dir, fatal := range map[string]bool{"var/lib/dpkg": true, "var/lib/dpkg/info": true, "var/lib/apt/lists/partial": false, "etc/ssl/private": false} {
		inv, err := snapshot.Take(t.Context(), shut{h, dir}, pkgdb.Readers, rules, nil)
		var access *snapshot.AccessError
		if fatal && (!errors.As(err, &access) || !errors.Is(err, fs.ErrPermission) || access.Hint() == "") {
			t.Errorf("%s: %v", dir, err)
		}
		if !fatal && (err != nil || len(inv.Unreadable) != 1 || inv.Unreadable[0].Path != dir) {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func TestTakeHidesHardLinks(t *testing.T) {
	tree := server()
	tree["root/.ssh/id_rsa"], tree["opt2"] = "key", "/"
	tree["usr/local/key"], tree["usr/local/hash"], tree["usr/local/people"] = "= root/.ssh/id_rsa", "= etc/shadow", "= etc/passwd"
	inv := take(t, plant(t, tree))
	for _, e := range inv.Entries {
		if strings.HasPrefix(e.Path, "usr/local/") {
			t.Errorf("%s is kept, a hard link to a file that may not leave", e.Path)
		}
	}
	if e, ok := inv.Lookup("etc/passwd"); !ok || e.Class == snapshot.Secret {
		t.Errorf("etc/passwd itself is %v", e.Class)
	}
}

// No level names people: passwd is asked for who they are where it stays itself.
func TestTakeHidesPeopleAtEachLevel(t *testing.T) {
	tree := server()
	tree["etc/passwd"] += "quimbly:x:1000:1000:Zacharias Quimbly,,,:/home/quimbly:/bin/bash\n"
	for _, p := range []string{"srv/samba/quimbly/x", "export/home/quimbly/x", "var/lib/AccountsService/users/quimbly", "data/opt/quimbly/x", "home/quimbly/x"} {
		tree[p] = "theirs"
	}
	root := plant(t, tree)
	h, err := host.Folder(root)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	standard, err := scrub.New(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, level := range []scrub.Level{scrub.Standard, scrub.Minimal, scrub.Index} {
		rules, err := standard.At(level)
		if err != nil {
			t.Fatal(err)
		}
		inv, err := snapshot.Take(t.Context(), h, pkgdb.Readers, rules, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range append(inv.Left, inv.Unreadable...) {
			if strings.Contains(row.Path+row.Reason, "quimbly") {
				t.Errorf("at %s: %+v", level, row)
			}
		}
	}
}
