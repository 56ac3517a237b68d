package toolstest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// busy are two packages that do all that packages do, and some that they shouldn't.
func (w *world) busy() []lock.Package {
	return []lock.Package{
		w.build(deb{name: "busy", control: "Pre-Depends: early\nDepends: libc-bin\n",
			files: map[string]string{"/usr/bin/busy": "#!/bin/sh\necho busy\n", "/usr/share/busy/table": "table\n", "/etc/busy.conf": "busy = no\n",
				"/usr/share/doc/busy/removed": "x\n", "/usr/share/busy/edited": "x\n", "/var/lib/busy/": "", "/lib/busy/one": "1\n", "/usr/share/busy/touched": "x\n"},
			modes:  map[string]os.FileMode{"/usr/bin/busy": 0o755, "/var/lib/busy": 0o700, "/usr/share/busy/table": fs.ModeSetgid | 0o755},
			links:  map[string]string{"/usr/share/busy/twin": "/usr/share/busy/table"},
			points: map[string]string{"/usr/share/busy/link": "table"}, conf: []string{"/etc/busy.conf"},
			scripts: map[string]string{"preinst": "test -f /usr/share/early/configured\n", "postinst": busyScript}}),
		w.build(deb{name: "early", files: map[string]string{"/usr/share/early/data": "data\n"},
			scripts: map[string]string{"postinst": "echo yes >/usr/share/early/configured\n"}}),
	}
}

const busyScript = `
mkdir -p /usr/lib/made/__pycache__ /var/cache/busy /usr/lib/closed
echo made >/usr/lib/made/file
ln /usr/lib/made/file /usr/lib/made/same
ln -s file /usr/lib/made/link
mkfifo /usr/lib/made/pipe
chmod 2775 /usr/lib/closed
chgrp staff /usr/lib/closed
touch /usr/lib/made/__pycache__/a.pyc /usr/lib/made/b.pyc /var/cache/busy/x /var/log/busy.log
date >/tmp/now
echo more >>/usr/share/busy/edited
rm /usr/share/doc/busy/removed
touch /usr/share/busy/touched
chmod 700 /usr/bin/busy
update-alternatives --install /usr/bin/pager pager /usr/bin/busy 1000
update-alternatives --install /usr/bin/busiest busiest /usr/bin/busy 10
useradd --system busybody
chown busybody /usr/lib/made/pipe
echo '# edited' >>/etc/nanorc
rm /etc/logrotate.conf
mkdir -p /etc/ssh
echo key >/etc/ssh/ssh_host_ed25519_key
touch /usr/share/mime/mime.cache
invoke-rc.d cron start || true
ldconfig
`

func TestMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	packages := w.busy()
	tools, err := w.make(packages...)
	if err != nil {
		t.Fatal(err)
	}
	layer := w.layer(tools)
	if layer.Made {
		t.Error("the layer was made twice")
	}
	w.looks(layer, tools)
	w.told()
	got := w.must(layer, `stat -c '%n %a %U:%G %Y' /usr/bin/busy /usr/lib/closed /usr/lib/made/file /var/lib/busy /usr/share/busy/table /usr/share/busy/touched
		cat /usr/lib/made/file /usr/share/busy/edited /etc/busy.conf; readlink /etc/alternatives/pager /usr/bin/busiest /usr/lib/made/link
		grep -c edited /etc/nanorc || true; ls /etc/logrotate.conf; dpkg-query -W -f '${Status}\n' busy early; dpkg --verify busy early nano; id busybody 2>&1 || true; test -e /usr/share/doc/busy/removed || echo removed
		dpkg -S /usr/share/early/data; test /usr/share/busy/twin -ef /usr/share/busy/table; test /usr/lib/made/same -ef /usr/lib/made/file; cat /usr/lib/busy/one`)
	want := `/usr/bin/busy 700 root:root 1725098628
/usr/lib/closed 2775 root:staff *
/usr/lib/made/file 644 root:root 1725098628
/var/lib/busy 700 root:root *
/usr/share/busy/table 2755 root:root 1725098628
/usr/share/busy/touched 644 root:root 1725098628
made
x
more
busy = no
/usr/bin/busy
/etc/alternatives/busiest
file
0
/etc/logrotate.conf
install ok installed
install ok installed
??5??????   /usr/share/busy/edited
??5??????   /usr/share/doc/busy/removed
id: 'busybody': no such user
removed
early: /usr/share/early/data
1
`
	if !alike(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	// The same again, elsewhere: by scripts, and without.
	again := newWorld(t)
	if twice, err := again.make(again.busy()...); err != nil || twice.Digest != tools.Digest || twice.Delta != tools.Delta {
		t.Errorf("made twice: %v\n%+v, want\n%+v", err, twice, tools)
	}
	w.elsewhere(tools)
}

// alike compares line by line; a star stands for the rest of a line.
func alike(got, want string) bool {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	return slices.EqualFunc(g, w, func(g, w string) bool {
		start, ok := strings.CutSuffix(w, "*")
		return g == w || ok && strings.HasPrefix(g, start)
	})
}

// looks reads a layer as it lies.
func (w *world) looks(layer *envs.ToolsLayer, tools *envs.Tools) {
	t := w.t
	t.Helper()
	if want := []string{"etc/alternatives/pager", "var/lib/dpkg/alternatives/pager", "var/lib/dpkg/status"}; !slices.Equal(tools.Shadows, want) {
		t.Errorf("the layer shadows %q", tools.Shadows)
	}
	base, err := store.Item{Dir: filepath.Dir(w.base.Path)}.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	m, err := store.Item{Dir: filepath.Dir(layer.Path)}.Manifest()
	if err != nil || m.Digest() != tools.Digest {
		t.Fatalf("the layer is %s instead of %s: %v", m.Digest(), tools.Digest, err)
	}
	for _, f := range m {
		old, there := base.Lookup(f.Path)
		if there && f.Type == snapshot.Dir && !f.Same(old) {
			t.Errorf("folder /%s is another one than the release's", f.Path)
		}
		if there && f.Type != snapshot.Dir && !slices.Contains(tools.Shadows, f.Path) {
			t.Errorf("/%s is shadowed", f.Path)
		}
		if strings.HasPrefix(filepath.Base(f.Path), ".wh.") || f.Type == snapshot.Char {
			t.Errorf("/%s takes something away", f.Path)
		}
		if strings.HasSuffix(f.Path, ".pyc") || strings.HasPrefix(f.Path, "var/log/") || strings.HasPrefix(f.Path, "tmp") ||
			strings.HasPrefix(f.Path, "run") || strings.HasSuffix(f.Path, "-old") || strings.Contains(f.Path, "ssh_host") || strings.Contains(f.Path, "policy-rc") {
			t.Errorf("/%s is in the layer", f.Path)
		}
	}
	// Package files are those of the trees.
	name := func(p string) uint64 {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		return inode(info)
	}
	for _, p := range tools.Packages {
		tree, _ := w.cfg.Store.Find(store.Trees, image.TreeName(p))
		for _, file := range []string{"usr/share/busy/table", "usr/share/early/data", "var/lib/dpkg/info/busy.postinst"} {
			from := filepath.Join(tree.Root(), file)
			if _, err := os.Stat(from); err == nil && name(from) != name(filepath.Join(layer.Path, file)) {
				t.Errorf("/%s is a copy", file)
			}
		}
	}
}

// told is what people are told.
func (w *world) told() {
	w.t.Helper()
	notes := w.notes.String()
	for _, want := range []string{"scripts of tools changed what stays as the release has it: /etc/logrotate.conf, /etc/nanorc",
		"scripts of tools made users and groups that aren't added: busybody", "belong to ids without a name in the release: ",
		"it is left out: /etc/ssh/ssh_host_ed25519_key"} {
		if !strings.Contains(notes, want) {
			w.t.Errorf("nobody is told that %s; but\n%s", want, notes)
		}
	}
}

// elsewhere makes tools in a store that never ran a script.
func (w *world) elsewhere(tools *envs.Tools) {
	t := w.t
	other := newWorld(t)
	for _, p := range tools.Packages { // which no archive has
		blob(t, w.cfg.Store, other.cfg.Store, p.Digest())
	}
	_, err := envs.PullTools(t.Context(), other.cfg, other.base, tools)
	var missing *envs.MissingBlobError
	if !errors.As(err, &missing) || missing.Digest != tools.Delta.Digest() || !strings.Contains(missing.Hint(), "stead push") {
		t.Errorf("without the delta: %v", err)
	}
	if !w.cfg.Store.IsSole(tools.Delta.Digest()) {
		t.Error("nobody knows that the delta exists only here")
	}
	if done, err := envs.PushTools(t.Context(), w.cfg, w.base.Release, tools); err != nil || done.Blobs != 4 {
		t.Errorf("pushed %+v: %v", done, err)
	}
	if w.cfg.Store.IsSole(tools.Delta.Digest()) {
		t.Error("the delta was pushed, and is said to exist only here")
	}
	other.cfg.Fleet = w.cfg.Fleet
	wrong := *tools
	wrong.Digest = "tree1:" + string(digest.FromString("another"))
	var differs *image.RootfsError
	if _, err := envs.PullTools(t.Context(), other.cfg, other.base, &wrong); !errors.As(err, &differs) || !strings.Contains(err.Error(), "the tools layer came out as") {
		t.Errorf("with another digest: %v", err)
	}
	m, err := store.Item{Dir: filepath.Dir(w.layer(tools).Path)}.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(m, func(f snapshot.File) bool { return f.Path == "usr/lib/made/file" })
	m[i].Mode = 0o600
	if wrong.Digest, err = image.SaveManifest(t.Context(), other.cfg.Store, m); err != nil {
		t.Fatal(err)
	}
	if _, err := envs.PullTools(t.Context(), other.cfg, other.base, &wrong); !errors.As(err, &differs) || differs.Path != "usr/lib/made/file" {
		t.Errorf("with another mode: %v", err)
	}
	layer, err := envs.PullTools(t.Context(), other.cfg, other.base, tools)
	if err != nil || !layer.Made {
		t.Fatalf("made %+v: %v", layer, err)
	}
	again, err := store.Item{Dir: filepath.Dir(layer.Path)}.Manifest()
	if err != nil || again.Digest() != tools.Digest {
		t.Errorf("the layer is %s instead of %s: %v", again.Digest(), tools.Digest, err)
	}
	if got := other.must(layer, "cat /usr/lib/made/file"); got != "made\n" {
		t.Errorf("got %q", got)
	}
}

// blob copies a blob from one store to another.
func blob(t testing.TB, from, to *store.Store, d digest.Digest) {
	t.Helper()
	r, err := from.OpenBlob(d)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := to.PutBlob(t.Context(), d, 1<<30, r); err != nil {
		t.Fatal(err)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, test := range []struct {
		what string
		deb  deb
		want string
	}{
		{"a path of the release's", deb{name: "bad", files: map[string]string{"/usr/bin/../bin/nano": "x"}}, "bad 1.0-1 brings /usr/bin/nano, which is of the release's own package nano"},
		{"through a link", deb{name: "bad", files: map[string]string{"/bin/nano": "x", "/bin/ls": "x"}}, "brings /usr/bin/ls, which is of the release's own package coreutils, and 1 more like it"},
		{"with Replaces", deb{name: "bad", control: "Replaces: nano\n", files: map[string]string{"/usr/bin/nano": "x"}}, "brings /usr/bin/nano"},
		{"a configuration file", deb{name: "bad", files: map[string]string{"/etc/nanorc": "x"}, conf: []string{"/etc/nanorc"}}, "brings /etc/nanorc"},
		{"a diversion", deb{name: "bad", files: map[string]string{"/usr/bin/bad": "x"}, scripts: map[string]string{
			"preinst": "dpkg-divert --package bad --rename --add /usr/bin/nano\n"}}, "bad 1.0-1 diverts /usr/bin/nano, which is of the release's own package nano"},
		{"another version of the release's", deb{name: "nano", files: map[string]string{"/usr/bin/other": "x"}}, "nano is one of the release's own packages"},
	} {
		_, err := w.make(w.build(test.deb))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", test.what, err, test.want)
		}
		if hint, ok := errors.AsType[*envs.TakesError](err); ok && !strings.Contains(hint.Hint(), "leave out the tool") {
			t.Errorf("%s: hint %q", test.what, hint.Hint())
		}
	}
	w.nothingLeft()
}

// nothingLeft holds that nothing of an attempt stays.
func (w *world) nothingLeft() {
	w.t.Helper()
	for _, pattern := range []string{"layers/*", "work/*/*", "sessions/*"} {
		if left, err := filepath.Glob(filepath.Join(w.cfg.Store.Dir(), pattern)); err != nil || len(left) > 0 {
			w.t.Errorf("%v is left: %v", left, err)
		}
	}
}

func TestFailing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.make(w.build(deb{name: "needy", control: "Depends: broken\n", files: map[string]string{"/usr/share/needy/x": "x"}}),
		w.build(deb{name: "broken", files: map[string]string{"/usr/share/broken/x": "x"}, scripts: map[string]string{"postinst": "seq 100; echo no luck today >&2; exit 7\n"}}))
	var failed *envs.InstallError
	if !errors.As(err, &failed) || failed.What != "package broken" || !strings.Contains(err.Error(), "no luck today") ||
		!strings.Contains(err.Error(), "exit status 7") || strings.Contains(strings.Join(failed.Last, "\n"), "needy") || failed.Log == "" {
		t.Fatalf("got %v", err)
	}
	if log, err := os.ReadFile(failed.Log); err != nil || !strings.Contains(string(log), "\n42\n") || !strings.Contains(string(log), "needy") {
		t.Errorf("the log is %s: %v", log, err)
	}
	if _, err := w.make(w.build(deb{name: "lonely", control: "Depends: nobody\n", files: map[string]string{"/usr/share/lonely/x": "x"}})); err == nil ||
		!strings.Contains(err.Error(), "package lonely") {
		t.Errorf("a package that lacks another: %v", err)
	}
	w.nothingLeft()
}
