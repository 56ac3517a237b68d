package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/envs/lock"
)

// oddPackages are what a package database can be in the middle of.
func oddPackages() []debPackage {
	same := map[string]string{"/usr/share/same/both": "the same for all architectures\n"}
	with := func(path string) map[string]string {
		return map[string]string{path: "for one of them\n", "/usr/share/same/both": same["/usr/share/same/both"]}
	}
	return []debPackage{
		{name: "half", later: true, files: map[string]string{"/usr/bin/half": "half\n"}, postinst: "#!/no/such/shell\n"},
		{name: "held", files: map[string]string{"/usr/bin/held": "held\n"}},
		{name: "removed", files: map[string]string{"/usr/bin/removed": "removed\n", "/etc/removed.conf": "stays\n"},
			conf: []string{"/etc/removed.conf"}},
		{name: "same", files: with("/usr/lib/x86_64-linux-gnu/libsame.so"), control: "Multi-Arch: same\n"},
		{name: "same", arch: "i386", later: true, files: with("/usr/lib/i386-linux-gnu/libsame.so"), control: "Multi-Arch: same\n"},
		{name: "foreign", arch: "i386", later: true, files: map[string]string{"/usr/bin/foreign": "foreign\n"}},
		{name: "pushed", files: map[string]string{"/usr/bin/pushed": "pushed aside\n", "/usr/bin/owned": "to be owned\n"}},
		{name: "pushes", later: true, files: map[string]string{"/usr/bin/pushed": "in its place\n"}},
	}
}

// TestOddStates makes a host of all that a host can be, and wants each of it back, or
// a word about it.
func TestOddStates(t *testing.T) {
	t.Parallel()
	s := newSmall(t, oddPackages())
	s.exact = s.path("exact")
	program(t, "exact", s.exact)
	s.oddPackageStates()
	s.oddFiles()
	reported := s.unspeakable()
	busy := s.busy()
	_, stderr, code := result(s.command("fleet", "store", "snapshot", s.host, "acme", "--yes"))
	busy.stop()
	s.works("a snapshot of an odd host", stderr, code)
	s.checkOddLock()

	var review struct {
		Decisions, Left, Unreadable []struct{ Path, Action, Reason string }
	}
	s.answer(s.command("fleet", "store", "show", "acme", "--delta", "--json"), &review)
	told := map[string]string{}
	for _, d := range review.Decisions {
		if d.Action == "left" {
			told[d.Path] = d.Reason
		}
	}
	for _, u := range append(review.Left, review.Unreadable...) {
		told[u.Path] = u.Reason
	}
	for _, p := range reported {
		if told[p] == "" {
			t.Errorf("nothing is said of %.60q", p)
		}
	}
	root := s.pull("elsewhere")
	s.must(s.command("fleet", "elsewhere", "fsck", "acme"))
	busy.check(root, told)
	for _, p := range []string{"opt/busy", "opt/long", "opt/odd/.wh.white"} { // what can't be compared any more
		s.must(exec.Command("rm", "-rf", s.path("host", p), filepath.Join(root, p)))
	}
	// From within the env: its longest path is longer than the kernel takes at once.
	compare := exec.Command(s.exact, s.host, ".")
	compare.Dir = root
	report, _, code := result(compare)
	t.Log(report)
	if code != 0 {
		t.Errorf("the env isn't the host: exit code %d", code)
	}
	host, env := s.must(audit(s.host)), s.must(audit(root))
	if host != env || !strings.Contains(host, "half") {
		t.Errorf("dpkg --audit says\n%sof the host, and of the env\n%s", host, env)
	}
}

// audit runs dpkg --audit, which ends with 1 where it has something to say.
func audit(root string) *exec.Cmd {
	return exec.Command("sh", "-c", `dpkg --root="$1" --audit || test $? = 1`, "sh", root)
}

func (s *small) dpkg(args ...string) *exec.Cmd {
	return exec.Command("dpkg", append([]string{"--root=" + s.host, "--force-unsafe-io", "--force-architecture", "--force-script-chrootless"}, args...)...)
}

// oddPackageStates brings packages into states that dpkg really makes.
func (s *small) oddPackageStates() {
	deb := func(p debPackage) string { return s.path("archive", p.path()) }
	s.must(s.dpkg("--add-architecture", "i386"))
	s.must(exec.Command("dpkg-divert", "--root="+s.host, "--package", "pushes", "--rename", "--divert", "/usr/bin/pushed.aside", "--add", "/usr/bin/pushed"))
	for _, p := range oddPackages() {
		if p.later && p.name != "half" {
			s.must(s.dpkg("--install", deb(p)))
		}
	}
	if out, _, code := result(s.dpkg("--install", deb(debPackage{name: "half"}))); code == 0 {
		s.t.Fatalf("a package with a broken script was configured:\n%s", out)
	}
	s.must(s.dpkg("--remove", "removed"))
	hold := s.dpkg("--set-selections")
	hold.Stdin = strings.NewReader("held hold\n")
	s.must(hold)
	s.must(exec.Command("dpkg-statoverride", "--root="+s.host, "--force-all", "--update", "--add", "#998", "#70000", "2750", "/usr/bin/owned"))
}

// checkOddLock looks for the states in the lock.
func (s *small) checkOddLock() {
	states := map[string]lock.Package{}
	for _, p := range s.release("fleet").Packages {
		states[p.Name+":"+p.Architecture] = p
		if p.Proof != lock.Exact && p.Name != "acme-agent" && p.Name != "removed" {
			s.t.Errorf("%s is %s", p.Name, p.Proof)
		}
	}
	if p := states["half:amd64"]; p.State != "half-configured" {
		s.t.Errorf("half is %q", p.State)
	}
	if p := states["held:amd64"]; p.Want != "hold" {
		s.t.Errorf("held is wanted as %q", p.Want)
	}
	if p := states["removed:amd64"]; p.State != "config-files" || p.Proof != lock.Listed {
		s.t.Errorf("removed is locked as %+v", p)
	}
	for _, name := range []string{"same:amd64", "same:i386", "foreign:i386"} {
		if states[name].Name == "" {
			s.t.Errorf("%s isn't locked", name)
		}
	}
}

// oddFiles makes what comes back.
func (s *small) oddFiles() {
	check := func(errs ...error) {
		s.t.Helper()
		if err := errors.Join(errs...); err != nil {
			s.t.Fatal(err)
		}
	}
	at := func(name string) string { return s.path("host/opt/odd", name) }
	s.write("host/etc/shadow", "root:*:19000:0:99999:7:::\n")
	s.write("host/etc/machine-id", "0123456789abcdef0123456789abcdef\n")
	for _, name := range []string{"acl", "cap", "one", "two\nlines", "caf\xe9", "\xff\xfe\x01", " ", "-rf", "old", "far", "future", "owned", "user", "suid", "'\"\\$*"} {
		s.write("host/opt/odd/"+name, fmt.Sprintf("of %q\n", name))
	}
	check(os.Link(at("one"), at("another")), os.Link(at("one"), s.path("host/usr/local/share/third")))
	check(os.Mkdir(at("folder"), 0o755), os.Chmod(at("folder"), 0o1777), unix.Chmod(at("suid"), 0o6711))
	for name, sec := range map[string]int64{"old": -1_000_000_000, "far": 1 << 32, "future": 7_258_118_400} {
		check(unix.UtimesNanoAt(unix.AT_FDCWD, at(name), []unix.Timespec{{Sec: sec}, {Sec: sec, Nsec: 999_999_999}}, 0))
	}
	check(os.Symlink(strings.Repeat("x/", 2000)+"\xff\n", at("link")), os.Symlink("/", at("root")), os.Symlink("link-to-itself", at("link-to-itself")))
	check(unix.UtimesNanoAt(unix.AT_FDCWD, at("link"), []unix.Timespec{{Sec: -5}, {Sec: -5, Nsec: 1}}, unix.AT_SYMLINK_NOFOLLOW))
	check(unix.Lchown(at("link"), 100_000, 3_000_000_001), os.Chown(at("owned"), 4_294_967_294, 65_536), os.Chown(at("folder"), 70_000, 70_001))
	check(unix.Mkfifo(at("pipe"), 0o640), unix.Setxattr(at("user"), "user.odd = name", []byte("a\x00b\xff"), 0))
	s.must(exec.Command("setfacl", "-m", "u:70000:rw,g:998:r,m::rwx", at("acl")))
	s.must(exec.Command("setfacl", "-m", "d:u:70000:rwx,u:998:rx", at("folder")))
	s.must(exec.Command("setcap", "cap_net_bind_service,cap_chown+ep", at("cap")))
	s.deep("deep", 4000)
}

// deep makes a file whose path below the host's root has so many bytes, step by step.
func (s *small) deep(top string, length int) (file string) {
	dir, err := unix.Open(s.path("host/opt"), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { unix.Close(dir) }()
	path, name := "opt", top
	for len(path)+1+250+2 < length {
		path += "/" + name
		err := unix.Mkdirat(dir, name, 0o755)
		next, err2 := unix.Openat(dir, name, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err := errors.Join(err, err2); err != nil {
			s.t.Fatal(err)
		}
		unix.Close(dir)
		dir, name = next, strings.Repeat("n", 240)
	}
	name = strings.Repeat("f", length-len(path)-1)
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT, 0o644)
	if err != nil {
		s.t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte("deep down\n")); err != nil {
		s.t.Fatal(err)
	}
	return path + "/" + name
}

// unspeakable makes what can't come back, and returns the paths.
func (s *small) unspeakable() []string {
	s.write("host/opt/odd/.wh.white", "a layer takes this for a whiteout\n")
	for name, mode := range map[string]uint32{"node": unix.S_IFCHR, "socket": unix.S_IFSOCK} {
		if err := unix.Mknod(s.path("host/opt/odd", name), mode|0o600, 0x103); err != nil {
			s.t.Fatal(err)
		}
	}
	return []string{"opt/odd/.wh.white", "opt/odd/node", "opt/odd/socket", tooLong(s.deep("long", 5000))}
}

// tooLong cuts a path after the first folder that no path of the kernel's can name.
func tooLong(p string) string {
	end := 4096 + strings.IndexByte(p[4096:], '/')
	return p[:end]
}

// busy are files that are written to all the time.
type busy struct {
	s    *small
	end  chan struct{}
	done sync.WaitGroup
}

const busyFiles = 7

// busy starts to write: files in place, of one size; files that grow; files that come
// and go.
func (s *small) busy() *busy {
	b := &busy{s: s, end: make(chan struct{})}
	dir := s.path("host/opt/busy")
	if err := os.Mkdir(dir, 0o755); err != nil {
		s.t.Fatal(err)
	}
	step := func(i, n int) {
		page := bytes.Repeat([]byte{'a' + byte(n%26)}, 1<<20)
		err := errors.Join(overwrite(filepath.Join(dir, fmt.Sprint("same-", i)), page),
			os.WriteFile(filepath.Join(dir, fmt.Sprint("new-", i, "-", n)), page[:4096], 0o600),
			appendTo(filepath.Join(dir, fmt.Sprint("grows-", i)), page[:1024]))
		if err != nil {
			s.t.Error(err)
		}
		if err := os.Remove(filepath.Join(dir, fmt.Sprint("new-", i, "-", n-8))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.t.Error(err)
		}
	}
	for i := range busyFiles {
		step(i, 0)
	}
	for i := range busyFiles {
		b.done.Go(func() {
			for n := 1; ; n++ {
				select {
				case <-b.end:
					return
				case <-time.After(time.Millisecond << (2 * i)):
					step(i, n)
				}
			}
		})
	}
	return b
}

// overwrite writes a file in place, a part at a time: whoever reads meanwhile sees two
// versions at once.
func overwrite(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	for part := 0; part < len(content) && err == nil; part += 64 << 10 {
		_, err = f.Write(content[part : part+64<<10])
	}
	return errors.Join(err, f.Close())
}

func appendTo(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

func (b *busy) stop() {
	close(b.end)
	b.done.Wait()
}

// check wants each file that the env has to be whole, and the others reported.
func (b *busy) check(root string, told map[string]string) {
	kept, changed := 0, 0
	for i := range busyFiles {
		for _, name := range []string{fmt.Sprint("opt/busy/same-", i), fmt.Sprint("opt/busy/grows-", i)} {
			content, err := os.ReadFile(filepath.Join(root, name))
			switch {
			case errors.Is(err, fs.ErrNotExist) && told[name] == "":
				b.s.t.Errorf("%s is missing, and nothing is said of it", name)
			case errors.Is(err, fs.ErrNotExist):
				changed++
			case err != nil:
				b.s.t.Error(err)
			default:
				kept++
				if strings.Contains(name, "same") && bytes.Count(content, content[:1]) != len(content) {
					b.s.t.Errorf("%s is two versions at once", name)
				}
			}
		}
	}
	vanished := 0
	for p := range told {
		if strings.HasPrefix(p, "opt/busy/new-") {
			vanished++
		}
	}
	b.s.t.Logf("of %d files that were written to, %d came whole and %d were reported; %d that came and went were reported",
		2*busyFiles, kept, changed, vanished)
	if changed == 0 {
		b.s.t.Error("no file changed while it was read: this showed nothing")
	}
}
