package host

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stead-env/stead/snapshot"
	"github.com/stead-env/stead/snapshot/host/hosttest"
)

// logged logs notes.
func logged(t testing.TB) snapshot.Progress {
	return func(e snapshot.Event) {
		if e.Note != "" {
			t.Log(e.Note)
		}
	}
}

func openSSH(t testing.TB, address string, o Options) *Shell {
	t.Helper()
	if o.Progress == nil {
		o.Progress = logged(t)
	}
	s, err := SSH(t.Context(), address, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// gnu are the programs of a usual host.
const gnu = "sh find tar xargs stat getfattr getcap sha256sum nice ionice gzip sed uname id env sudo"

// equip puts programs and their libraries into a root, where nothing else is in the way.
func equip(t testing.TB, root string, programs ...string) {
	t.Helper()
	copyFile := func(from, to string) {
		t.Helper()
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(to), 0o755)
		}
		if err == nil {
			err = os.WriteFile(to, b, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	device(t, root)
	for _, p := range programs {
		from, err := exec.LookPath(p)
		if err != nil && p == "sudo" {
			continue
		}
		if err != nil {
			t.Skip(err)
		}
		copyFile(from, filepath.Join(root, "tools", p))
		for word := range strings.FieldsSeq(run(t, "ldd", from)) {
			if strings.HasPrefix(word, "/") {
				copyFile(word, filepath.Join(root, word))
			}
		}
	}
}

// device makes what no system lacks.
func device(t testing.TB, root string) {
	t.Helper()
	run(t, "mkdir", "-p", filepath.Join(root, "dev"))
	run(t, "mknod", "-m", "666", filepath.Join(root, "dev/null"), "c", "1", "3")
}

// equipBusybox puts busybox there and nothing else; those in less are missing.
func equipBusybox(t testing.TB, root string, less ...string) {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skipf("%v: see .ci/setup", err)
	}
	device(t, root)
	content, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "tools"), 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(root, "tools", "busybox")
	write(t, program, string(content))
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	for name := range strings.FieldsSeq(run(t, busybox, "--list")) {
		if name == "busybox" || strings.Contains(" "+strings.Join(less, " ")+" ", " "+name+" ") {
			continue
		}
		if err := os.Symlink("busybox", filepath.Join(root, "tools", name)); err != nil {
			t.Fatal(err)
		}
	}
}

// serveRoot starts a server for which root is the root of its machine.
func serveRoot(t testing.TB, root string) *hosttest.SSHD {
	t.Helper()
	script := filepath.Join(t.TempDir(), "command")
	write(t, script, "#!/bin/sh\necho a word of the shell itself\nexec chroot '"+root+"' /tools/env -i PATH=/tools /tools/sh -c \"$SSH_ORIGINAL_COMMAND\"\n")
	if err := os.Chmod(script, 0o755); err != nil {
		t.Fatal(err)
	}
	return hosttest.StartSSHD(t, "ForceCommand "+script)
}

func TestSSHConforms(t *testing.T) {
	hosttest.Run(t, func(t *testing.T, root string) snapshot.Host {
		equip(t, root, strings.Fields(gnu)...)
		return openSSH(t, serveRoot(t, root).Address(), Options{})
	})
}

func TestSSHConformsByGetcap(t *testing.T) {
	root := t.TempDir()
	equip(t, root, strings.Fields(strings.ReplaceAll(gnu, "getfattr", ""))...)
	for name, caps := range map[string]string{"a": "cap_net_raw,cap_sys_admin=ep", "b c": "all=eip", "d =ep": "cap_kill=ei cap_kill+p"} {
		write(t, filepath.Join(root, name), "")
		run(t, "setcap", caps, filepath.Join(root, name))
	}
	run(t, "sh", "-c", "cd '"+root+"' && mkdir acl && setfacl -m u:5:rx,d:g:7:r acl && setfattr -n user.x -v y acl")
	want := openedXattrs(t, open(t, root))
	if got := openedXattrs(t, openSSH(t, serveRoot(t, root).Address(), Options{})); got != want || strings.Count(got, "|") != 6 {
		t.Errorf("got %q, want %q", got, want)
	}
}

func openedXattrs(t *testing.T, h snapshot.Host) string {
	t.Helper()
	var b strings.Builder
	for _, p := range []string{"a", "acl", "b c", "d =ep", "tools"} {
		err := h.Files(t.Context(), p, func(f snapshot.File, err error) error {
			for _, name := range slices.Sorted(maps.Keys(f.Xattrs)) {
				b.WriteString(p + name + f.Xattrs[name] + "|")
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func TestSSHConformsByBusybox(t *testing.T) {
	hosttest.Run(t, func(t *testing.T, root string) snapshot.Host {
		equipBusybox(t, root, "getfattr")
		for _, p := range []string{"etc/hello", "usr/bin/tool"} {
			_ = exec.Command("setfattr", "-x", "user.note", filepath.Join(root, p)).Run()
			_ = exec.Command("setfattr", "-x", "security.capability", filepath.Join(root, p)).Run()
		}
		return openSSH(t, serveRoot(t, root).Address(), Options{})
	})
}

// TestSSHIsTheFolder compares with what the folder itself tells, stamps too.
func TestSSHIsTheFolder(t *testing.T) {
	root := t.TempDir()
	equip(t, root, strings.Fields(gnu)...)
	run(t, "cp", "-a", "/etc", "/var/lib/dpkg", root)
	over, here := openSSH(t, serveRoot(t, root).Address(), Options{}), open(t, root)
	got, want := all(t, over, "."), all(t, here, ".")
	if len(got) != len(want) || len(got) < 1000 {
		t.Errorf("%d entries, want %d", len(got), len(want))
	}
	for p, w := range want {
		g := got[p]
		w.Link, g.Link = "", "" // the order of folders is find's
		if !g.Same(w) || g.Change != w.Change {
			t.Fatalf("%q: got %+v, want %+v", p, g, w)
		}
	}
	sent, received := over.Traffic()
	t.Logf("%d entries; %d bytes sent, %d received", len(got), sent, received)
}

// The machine itself is reached by what the user's configuration calls it; what the kernel
// makes up isn't entered.
func TestSSHMachine(t *testing.T) {
	hosttest.StartSSHD(t)
	s := openSSH(t, "ssh://prod", Options{})
	a, err1 := s.Live(t.Context())
	b, err2 := open(t, "/").Live(t.Context())
	if err := errors.Join(err1, err2); err != nil || !reflect.DeepEqual(a, b) || showsSymbols() != (len(a.SystemCalls) > 200) {
		t.Errorf("live facts %+v and %+v, %v", a, b, err)
	}
	if away := strings.Join(s.away(), " "); !strings.Contains(away, "proc") || !strings.Contains(away, "sys") {
		t.Errorf("%s are left out", away)
	}
}

func all(t *testing.T, h snapshot.Host, dir string) map[string]snapshot.File {
	t.Helper()
	m := map[string]snapshot.File{}
	err := h.Files(t.Context(), dir, func(f snapshot.File, err error) error {
		m[f.Path] = f
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A file that isn't as it was listed is an error, whatever became of it.
func TestSSHChanges(t *testing.T) {
	root := t.TempDir()
	equip(t, root, strings.Fields(gnu)...)
	run(t, "mkdir", "-p", filepath.Join(root, "d"), filepath.Join(root, "other"))
	for _, name := range []string{"same", "grown", "gone", "link", "folder", "d/below", "other/below"} {
		write(t, filepath.Join(root, name), "content\n")
	}
	s := openSSH(t, serveRoot(t, root).Address(), Options{Temp: t.TempDir()})
	if _, err := s.listing(t.Context()); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "grown"), "content and more\n")
	run(t, "sh", "-c", "cd '"+root+"' && rm gone link folder && ln -s same link && mkdir folder && touch folder/x && mv d e && ln -s other d")
	for name, want := range map[string]error{"same": nil, "grown": errChanged, "gone": fs.ErrNotExist, "link": errNotRegular,
		"folder": errNotRegular, "d/below": errChanged} {
		text, err := readOne(t.Context(), s, name)
		if !errors.Is(err, want) || (err == nil) != (want == nil) || err == nil && text != "content\n" {
			t.Errorf("%s: %q, %v, want %v", name, text, err, want)
		}
	}
}

func readOne(ctx context.Context, h snapshot.Host, p string) (string, error) {
	var text string
	var failed error
	err := h.Read(ctx, []string{p}, func(_ string, r io.Reader, err error) error {
		if err != nil {
			failed = err
			return nil
		}
		b, err := io.ReadAll(r)
		text = string(b)
		return err
	})
	return text, errors.Join(err, failed)
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func write(t testing.TB, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
