package host

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"reflect"
	"strconv"
	"syscall"
	"testing"

	"github.com/stead-env/stead/snapshot"
	"github.com/stead-env/stead/snapshot/host/hosttest"
)

// ordinary makes a user, who may become root by sudo or not.
func ordinary(t testing.TB, sudo bool) *user.User {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("making a user takes root")
	}
	for _, program := range []string{"sudo", "useradd"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%v: see .ci/setup", err)
		}
	}
	name := "stead-test-" + strconv.Itoa(os.Getpid())
	run(t, "useradd", "--no-create-home", "--shell", "/bin/sh", "--home-dir", "/nonexistent", "--password", "*", name)
	t.Cleanup(func() { run(t, "userdel", name) })
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	if sudo {
		rule := filepath.Join("/etc/sudoers.d", name)
		write(t, rule, name+" ALL=(root) NOPASSWD: ALL\n")
		t.Cleanup(func() { os.Remove(rule) })
		if err := os.Chmod(rule, 0o440); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

// as runs commands as that user.
func as(t testing.TB, u *user.User) *syscall.SysProcAttr {
	t.Helper()
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}

func TestSudoConforms(t *testing.T) {
	u := ordinary(t, true)
	hosttest.Run(t, func(t *testing.T, root string) snapshot.Host {
		if err := os.Chmod(root, 0o700); err != nil {
			t.Fatal(err)
		}
		s, err := bySudo(t.Context(), &sudoConnection{root: root, as: as(t, u)}, Options{Temp: t.TempDir(), Progress: logged(t)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		if !s.tools.root || !reflect.DeepEqual(s.live, snapshot.Live{}) {
			t.Errorf("%+v", s.probed)
		}
		return s
	})
}

func TestSudoSkips(t *testing.T) {
	root := t.TempDir()
	run(t, "mkdir", "-p", filepath.Join(root, "var/lib/st*re/trees"), filepath.Join(root, "var/lib/stored"))
	s, err := bySudo(t.Context(), &sudoConnection{root: root, as: as(t, ordinary(t, true))},
		Options{Skip: []string{filepath.Join(root, "var/lib/st*re"), "/elsewhere"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := all(t, s, "."); len(got) != 4 || got["var/lib/stored"].Type != snapshot.Dir {
		t.Errorf("got %v", got)
	}
}

func TestSudoAsks(t *testing.T) {
	s, err := bySudo(t.Context(), &sudoConnection{root: t.TempDir(), as: as(t, ordinary(t, false))}, Options{})
	if err == nil {
		s.Close()
		t.Fatal("whoever may not become root did")
	}
	t.Log(err)
}

// An ordinary user of the host reads through its sudo; without it, what can't be read is
// reported by name.
func TestSSHOrdinary(t *testing.T) {
	for _, sudo := range []bool{true, false} {
		t.Run("sudo "+strconv.FormatBool(sudo), func(t *testing.T) { testOrdinary(t, sudo) })
	}
}

func testOrdinary(t *testing.T, sudo bool) {
	u := ordinary(t, sudo)
	d := hosttest.StartSSHD(t)
	if err := errors.Join(os.Chmod(d.Dir, 0o755), os.Chmod(filepath.Dir(d.Dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	s := openSSH(t, "ssh://"+u.Username+"@127.0.0.1:"+d.Port, Options{Temp: t.TempDir()})
	if s.tools.root != sudo || s.tools.sudo != sudo {
		t.Fatalf("root %v, sudo %v", s.tools.root, s.tools.sudo)
	}
	// The whole machine would take long: what is asked is asked of some folders.
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	run(t, "sh", "-c", "cd '"+dir+"' && mkdir shut in && touch shut/x in/secret in/open && chmod 700 shut && chmod 600 in/secret && mkdir \"in/od\nd\" && chmod 700 in/o*d")
	s.have["mounts"], s.mounts = true, []mount{} // nothing is left out below
	got := map[string]error{}
	l := narrow(t, s, dir)
	err := l.Files(t.Context(), ".", func(f snapshot.File, err error) error {
		got[f.Path] = err
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	rel := dir[1:]
	for _, p := range []string{rel + "/shut", rel + "/in/od\nd"} {
		if failed := got[p]; errors.Is(failed, fs.ErrPermission) == sudo || (failed == nil) != sudo {
			t.Errorf("%q: %v", p, failed)
		}
	}
	if _, ok := got[rel+"/shut/x"]; ok != sudo {
		t.Errorf("what is in a shut folder is listed: %v", ok)
	}
	if _, err := readOne(t.Context(), s, rel+"/in/open"); err != nil {
		t.Error(err)
	}
	if _, err := readOne(t.Context(), s, rel+"/in/secret"); errors.Is(err, fs.ErrPermission) == sudo || (err == nil) != sudo {
		t.Errorf("in/secret: %v", err)
	}
}

// narrow lists a folder and those around it alone.
func narrow(t testing.TB, s *Shell, dir string) *listing {
	t.Helper()
	s.skip = map[string]bool{}
	for at := dir; at != "/"; at = filepath.Dir(at) {
		entries, err := os.ReadDir(filepath.Dir(at))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if p := filepath.Join(filepath.Dir(at), e.Name()); p != at && e.IsDir() {
				s.skip[p[1:]] = true
			}
		}
	}
	l, err := s.listing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return l
}
