package containerd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/runtime/containerd"
	"github.com/stead-env/stead/runtime/containerd/containerdtest"
	"github.com/stead-env/stead/runtime/enginetest"
)

func TestMain(m *testing.M) { enginetest.Main(m, newEngine()) }

// newEngine is an engine for the daemon that the environment names.
func newEngine() *containerd.Engine { return containerd.New(containerd.Options{}) }

func TestConformance(t *testing.T) {
	d := containerdtest.Start(t)
	names := enginetest.Run(t, newEngine(), enginetest.Options{})
	d.Empty(t)
	for _, name := range names { // others have sessions there, too
		if left, err := os.ReadDir(filepath.Join("/run/containerd/runc/stead", name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("runc has left %s with %v, %v", name, left, err)
		}
	}
}

// session is a session of a root under an identity made of one digit.
func session(t testing.TB, root string, digit byte, args ...string) runtime.Spec {
	return runtime.Spec{Name: "acme@3", Root: root, Identity: "sha256:" + strings.Repeat(string(digit), 64), Scratch: t.TempDir(),
		Command: args, Hostname: "acme", Env: []string{"PATH=/bin"}, Umask: 0o022}
}

func run(t testing.TB, spec runtime.Spec) (string, runtime.Result) {
	t.Helper()
	var out, errs bytes.Buffer
	res, err := newEngine().Run(t.Context(), spec, runtime.Stdio{Out: &out, Err: &errs})
	if err != nil {
		t.Fatalf("%q: %v\n%s", spec.Command, err, errs.String())
	}
	return out.String(), res
}

// What containerd's own tool sees of an env, and that it is the env exactly.
func TestImage(t *testing.T) {
	d := containerdtest.Start(t)
	root := enginetest.Root(t)
	decorate(t, root)
	spec := session(t, root, '7', "true")
	if _, res := run(t, spec); len(res.Notes) != 1 {
		t.Errorf("notes %q", res.Notes)
	}
	const name = "localhost/stead/acme:3-777777777777"
	if list := d.Ctr(t, "images", "ls"); !strings.Contains(list, name+" ") || !strings.Contains(list, "stead.target=acme") {
		t.Errorf("images:\n%s", list)
	} else {
		t.Logf("images:\n%s", list)
	}
	snapshots := d.Ctr(t, "snapshots", "ls")
	if !strings.Contains(snapshots, "Committed") {
		t.Errorf("snapshots:\n%s", snapshots)
	}
	t.Logf("snapshots:\n%s", snapshots)
	if out := d.Ctr(t, "images", "check"); !strings.Contains(out, "complete (2/2)") {
		t.Errorf("check:\n%s", out)
	}
	if out := d.Ctr(t, "run", "--rm", name, "by-ctr-"+filepath.Base(d.Dir), "/bin/cat", "/etc/plain"); out != "plain\n" {
		t.Errorf("ctr run wrote %q", out)
	}
	bundle := filepath.Join(t.TempDir(), "image.tar")
	d.Ctr(t, "images", "export", "--local", bundle, name) // else ctr may end before all of it is in the file
	d.Ctr(t, "--namespace", "other", "images", "import", bundle)
	view := d.Path("root/io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs")
	same(t, root, view)
}

// decorate gives a root all that a file can have.
func decorate(t *testing.T, root string) {
	t.Helper()
	file := func(name string) string { return filepath.Join(root, name) }
	must(t, os.WriteFile(file("etc/odd name \xc3\xa9"), []byte("odd"), 0o600))
	must(t, os.WriteFile(file("etc/"+strings.Repeat("long", 40)), nil, 0o644))
	must(t, os.Chown(file("etc/plain"), 123, 456))
	must(t, os.Chmod(file("bin/true"), 0o755|fs.ModeSetuid))
	must(t, os.Symlink("/bin/true", file("bin/also")))
	must(t, os.Lchown(file("bin/also"), 12, 34))
	must(t, unix.Mkfifo(file("run/pipe"), 0o620))
	must(t, os.Chmod(file("tmp"), 0o777|fs.ModeSticky))
	must(t, unix.Setxattr(file("etc/plain"), "user.note", []byte("a\x00b=c"), 0))
	for _, words := range [][]string{
		{"setcap", "cap_net_raw+ep", file("bin/ls")}, {"setfacl", "-m", "u:77:rw", file("etc/passwd")},
		{"setfacl", "-d", "-m", "g:78:rx", file("home")},
		{"touch", file("home/with"), file("home/without")}, {"mkdir", file("home/folder")},
		{"setfacl", "-b", file("home/without"), file("home/folder")},
	} {
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", words, err, out)
		}
	}
	for i, name := range []string{"bin/true", "bin/also", "etc/plain", "run/pipe"} {
		at := unix.NsecToTimespec(time.Date(2009, 2, 3, 4, 5, i, 0, time.UTC).UnixNano())
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, file(name), []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW))
	}
}

// same compares two folders in all but the times of folders.
func same(t *testing.T, want, got string) {
	t.Helper()
	ours, theirs := describe(t, want), describe(t, got)
	for name, line := range ours {
		if theirs[name] != line {
			t.Errorf("%s is\n%s, and should be\n%s", name, theirs[name], line)
		}
		delete(theirs, name)
	}
	for name := range theirs {
		t.Errorf("%s was added", name)
	}
}

func describe(t *testing.T, root string) map[string]string {
	t.Helper()
	lines, inodes := map[string]string{}, map[uint64]string{}
	must(t, filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		var st unix.Stat_t
		must(t, unix.Lstat(p, &st))
		line := fmt.Sprintf("%o %d:%d", st.Mode, st.Uid, st.Gid)
		if !d.IsDir() {
			if inodes[st.Ino] == "" {
				inodes[st.Ino] = rel
			}
			link, _ := os.Readlink(p)
			line += fmt.Sprintf(" size %d at %v first %s to %s", st.Size, st.Mtim, inodes[st.Ino], link)
		}
		for _, name := range []string{"user.note", "security.capability", "system.posix_acl_access", "system.posix_acl_default"} {
			value := make([]byte, 1000)
			if n, err := unix.Lgetxattr(p, name, value); err == nil {
				line += fmt.Sprintf(" %s=%x", name, value[:n])
			}
		}
		lines[rel] = line
		return nil
	}))
	return lines
}

// An env is made once, whoever asks at the same time, and then found without its root.
func TestMadeOnce(t *testing.T) {
	d := containerdtest.Start(t)
	root := enginetest.Root(t)
	var wg sync.WaitGroup
	made := make(chan string, 100)
	for range 6 {
		spec := session(t, root, '8', "cat", "/etc/plain")
		wg.Go(func() {
			var out bytes.Buffer
			res, err := newEngine().Run(t.Context(), spec, runtime.Stdio{Out: &out})
			if err != nil || out.String() != "plain\n" {
				t.Errorf("wrote %q: %v", out.String(), err)
			}
			for _, note := range res.Notes {
				made <- note
			}
		})
	}
	wg.Wait()
	if len(made) != 6 { // each of them waited for it
		t.Logf("%d sessions say that an image was made", len(made))
	}
	if out := d.Ctr(t, "content", "ls", "-q"); strings.Count(out, "\n") != 3 {
		t.Errorf("layer, configuration and manifest, and there is\n%s", out)
	}
	if out := d.Ctr(t, "snapshots", "ls"); strings.Count(out, "Committed") != 1 {
		t.Errorf("snapshots:\n%s", out)
	}
	d.Empty(t)
	spec := session(t, t.TempDir(), '8', "cat", "/etc/plain")
	spec.Name = "acme@4"
	if out, res := run(t, spec); out != "plain\n" || len(res.Notes) != 0 {
		t.Errorf("wrote %q, notes %q", out, res.Notes)
	}
	// Another release of the same identity is the same image under another name.
	if out := d.Ctr(t, "images", "ls", "-q"); out != "localhost/stead/acme:3-888888888888\nlocalhost/stead/acme:4-888888888888\n" {
		t.Errorf("images %q", out)
	}
	removed, err := newEngine().Prune(t.Context(), spec.Scratch, false, func(string) bool { return true })
	if err != nil || len(removed) != 0 {
		t.Errorf("removed %q: %v", removed, err)
	}
	removed, err = newEngine().Prune(t.Context(), spec.Scratch, false, func(string) bool { return false })
	if err != nil || fmt.Sprint(removed) != "[localhost/stead/acme:4-888888888888]" {
		t.Errorf("removed %q: %v", removed, err)
	}
}

// A process that is killed while it makes an image leaves what the next one clears.
func TestKilledMaking(t *testing.T) {
	d := containerdtest.Start(t)
	root := enginetest.Root(t)
	must(t, os.WriteFile(filepath.Join(root, "big"), bytes.Repeat([]byte("0123456789abcdef"), 8<<20), 0o644))
	spec := session(t, root, '9', "cat", "/etc/plain")
	for _, delay := range []time.Duration{30, 80, 150, 250, 400} {
		cmd := enginetest.Helper(t, spec)
		must(t, cmd.Start())
		time.Sleep(delay * time.Millisecond)
		must(t, cmd.Process.Kill())
		cmd.Wait()
	}
	// Told to go, it goes at once.
	cmd := enginetest.Helper(t, spec)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	must(t, cmd.Start())
	time.Sleep(60 * time.Millisecond)
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	cmd.Wait()
	t.Logf("ended with %v: %s", cmd.ProcessState, errs.String())
	must(t, newEngine().Sweep(t.Context(), spec.Scratch))
	for range 50 { // the daemon collects in its own time
		if strings.Count(d.Ctr(t, "content", "active"), "\n") == 1 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if out, _ := run(t, spec); out != "plain\n" {
		t.Errorf("wrote %q", out)
	}
	d.Empty(t)
}

// A session that is ended at any moment of its start leaves nothing, without a Sweep.
func TestCanceledStarts(t *testing.T) {
	d := containerdtest.Start(t)
	spec := session(t, enginetest.Root(t), '1', "sleep", "600")
	run(t, session(t, spec.Root, '1', "true")) // makes the image
	begun := time.Now()
	run(t, session(t, spec.Root, '1', "true"))
	step := time.Since(begun) / 30 // as fast as the machine is now
	var wg sync.WaitGroup
	for i := range 40 {
		if i%4 == 0 {
			wg.Wait()
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*step)
			defer cancel()
			_, err := newEngine().Run(ctx, spec, runtime.Stdio{})
			if !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "clearing") {
				t.Errorf("after %v: %v", time.Duration(i)*step, err)
			}
		})
	}
	wg.Wait()
	if left, _ := os.ReadDir(spec.Scratch); len(left) > 0 {
		t.Errorf("left in the scratch folder: %v", left)
	}
	d.Empty(t)
}

// A snapshotter that has no folder of changes.
func TestNative(t *testing.T) {
	d := containerdtest.Start(t)
	root := enginetest.Root(t)
	spec := session(t, root, '5', "bash", "-c", "echo x >/tmp/a; echo x >>/etc/passwd; rm /etc/group; mkdir /tmp/d")
	run(t, spec) // overlayfs has it first
	t.Setenv("CONTAINERD_SNAPSHOTTER", "native")
	spec.Files = []runtime.File{{Path: "/etc/made/here", Content: []byte("x")}}
	if _, res := run(t, spec); res.Changed != 3 {
		t.Errorf("%d files changed, want 3", res.Changed)
	}
	if out, _ := run(t, session(t, root, '5', "cat", "/etc/plain")); out != "plain\n" {
		t.Errorf("another session sees %q", out)
	}
	spec.Upper = t.TempDir()
	if _, err := newEngine().Run(t.Context(), spec, runtime.Stdio{}); hint(err) == "" {
		t.Errorf("a kept upper folder: %v", err)
	}
	d.Empty(t)
}

func hint(err error) string {
	if e, ok := errors.AsType[*runtime.Error](err); ok {
		return e.Hint()
	}
	return ""
}

// A writer that takes no more is what a closed pipe is to the command.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no more") }

func TestClosedOutput(t *testing.T) {
	containerdtest.Start(t)
	spec := session(t, enginetest.Root(t), '4', "bash", "-c", "while echo x; do :; done")
	res, err := newEngine().Run(t.Context(), spec, runtime.Stdio{Out: full{}})
	if err != nil || res.ExitCode != 128+int(unix.SIGPIPE) {
		t.Errorf("exit code %d, %v", res.ExitCode, err)
	}
}

// A session outlives a daemon that is started anew. The exit code of one that ends while
// there is none is lost: the daemon that comes next clears it.
func TestRestart(t *testing.T) {
	d := containerdtest.Start(t)
	spec := session(t, enginetest.Root(t), '3', "bash", "-c", "read x; echo got $x; exit 9")
	in, w, err := os.Pipe()
	must(t, err)
	defer w.Close()
	var out bytes.Buffer
	done := make(chan struct{})
	var res runtime.Result
	go func() {
		defer close(done)
		res, err = newEngine().Run(t.Context(), spec, runtime.Stdio{In: in, Out: &out})
	}()
	for !strings.Contains(d.Ctr(t, "tasks", "ls"), "RUNNING") {
		time.Sleep(20 * time.Millisecond)
	}
	d.Stop(t)
	d.Start(t)
	w.WriteString("word\n")
	<-done
	if err != nil || res.ExitCode != 9 || out.String() != "got word\n" {
		t.Errorf("exit code %d, wrote %q: %v", res.ExitCode, out.String(), err)
	}
	d.Empty(t)
}

// What is wrong is told, and what to do about it.
func TestCheck(t *testing.T) {
	d := containerdtest.Start(t)
	for _, test := range []struct {
		name    string
		options containerd.Options
		want    []string
	}{
		{"good", containerd.Options{}, nil},
		{"no socket", containerd.Options{Address: "/nonexistent/c.sock"}, []string{"no such socket", "systemctl start containerd"}},
		{"nobody", containerd.Options{Address: deaf(t)}, []string{"nobody listens", "systemctl start containerd"}},
		{"no snapshotter", containerd.Options{Snapshotter: "nosuch"}, []string{"no snapshotter nosuch", "native"}},
		{"not built in", containerd.Options{Snapshotter: "devmapper"}, []string{"no snapshotter devmapper", "overlayfs"}},
	} {
		err := containerd.New(test.options).Check(t.Context())
		if test.want == nil {
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			continue
		}
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error()+"\n"+hint(err), want) {
				t.Errorf("%s: %v; hint: %s", test.name, err, hint(err))
			}
		}
	}
	for _, test := range []struct {
		folder, socket fs.FileMode
		want           string
	}{{0o700, 0o600, "permission denied"}, {0o711, 0o666, "needs root"}} {
		must(t, os.Chmod(d.Dir, test.folder))
		must(t, os.Chmod(d.Socket, test.socket))
		if out := asNobody(t, session(t, "/", '2', "true")); !strings.Contains(out, test.want) {
			t.Errorf("as another user: %s", out)
		}
	}
	// Run says the same.
	spec := session(t, enginetest.Root(t), '2', "true")
	_, err := containerd.New(containerd.Options{Snapshotter: "nosuch"}).Run(t.Context(), spec, runtime.Stdio{})
	if err == nil || !strings.Contains(err.Error(), "no snapshotter nosuch") || runtime.ExitCode(err) != 125 {
		t.Errorf("Run with no snapshotter: %v", err)
	}
	d.Empty(t)
}

// asNobody runs a session as an ordinary user, and returns what is said.
func asNobody(t *testing.T, spec runtime.Spec) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "stead-test-")
	must(t, err)
	defer os.RemoveAll(dir)
	must(t, os.Chmod(dir, 0o755))
	cmd := enginetest.Helper(t, spec)
	program, err := os.ReadFile(cmd.Path)
	must(t, err)
	cmd.Path = filepath.Join(dir, "test")
	must(t, os.WriteFile(cmd.Path, program, 0o755))
	cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 125 {
		t.Errorf("as another user: %v", err)
	}
	return string(out)
}

// deaf is a socket that nobody listens on.
func deaf(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: path}))
	return path
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
