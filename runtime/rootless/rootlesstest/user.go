// Package rootlesstest lets tests that run as root do things as an ordinary user of
// this machine, with subordinate ids or without.
package rootlesstest

import (
	"crypto/rand"
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// User is an ordinary user, who lives as long as the test.
type User struct {
	Name     string
	UID, GID uint32
	Home     string // a folder for tests; others can't enter it
}

// NewUser makes a user. The test is skipped for whoever isn't root.
func NewUser(t testing.TB, subordinate bool) *User {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making a user takes root")
	}
	clearUsers()
	home := folder(t, "stead-user-")
	u := &User{Name: "stead-" + strings.ToLower(rand.Text()[:10]), Home: home}
	run(t, "useradd", "--no-create-home", "--home-dir", home, "--shell", "/bin/sh", u.Name)
	t.Cleanup(func() { run(t, "userdel", u.Name) }) // and the ranges
	account, err := user.Lookup(u.Name)
	must(t, err)
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	must(t, err)
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	must(t, err)
	u.UID, u.GID = uint32(uid), uint32(gid)
	must(t, os.Chown(home, int(uid), int(gid)))
	u.setRanges(t, subordinate)
	return u
}

// setRanges gives the user subordinate ids, or takes those that useradd gave.
func (u *User) setRanges(t testing.TB, subordinate bool) {
	t.Helper()
	for file, flag := range map[string]string{"/etc/subuid": "subuids", "/etc/subgid": "subgids"} {
		text, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		free, has := uint64(100000), false
		for line := range strings.Lines(string(text)) {
			f := strings.Split(strings.TrimSpace(line), ":")
			if len(f) != 3 {
				continue
			}
			first, err1 := strconv.ParseUint(f[1], 10, 32)
			count, err2 := strconv.ParseUint(f[2], 10, 32)
			must(t, errors.Join(err1, err2))
			free = max(free, first+count)
			if f[0] != u.Name {
				continue
			}
			has = true
			if !subordinate {
				run(t, "usermod", "--del-"+flag, f[1]+"-"+strconv.FormatUint(first+count-1, 10), u.Name)
			}
		}
		if subordinate && !has {
			run(t, "usermod", "--add-"+flag, strconv.FormatUint(free, 10)+"-"+strconv.FormatUint(free+65535, 10), u.Name)
		}
	}
}

// Command is a command of the user's, in their folder, with little else of an
// environment, and away from the terminal of whoever runs the tests.
func (u *User) Command(t testing.TB, path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir = u.Home
	cmd.Env = []string{"HOME=" + u.Home, "USER=" + u.Name, "TMPDIR=" + u.Home, "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: u.UID, Gid: u.GID}}
	return cmd
}

// Program copies this test program to where everybody can start it, linked with no
// library, as stead is.
func Program(t testing.TB) string {
	t.Helper()
	dir := folder(t, "stead-program-")
	must(t, os.Chmod(dir, 0o755))
	self, err := os.Executable()
	must(t, err)
	to := filepath.Join(dir, filepath.Base(self))
	if dynamic(t, self) {
		cmd := exec.Command("go", "test", "-c", "-o", to, ".")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("linking a test program: %v\n%s", err, out)
		}
		return to
	}
	in, err := os.Open(self)
	must(t, err)
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	must(t, err)
	_, err = io.Copy(out, in)
	must(t, errors.Join(err, out.Close()))
	return to
}

func dynamic(t testing.TB, program string) bool {
	t.Helper()
	f, err := elf.Open(program)
	must(t, err)
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return true
		}
	}
	return false
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
