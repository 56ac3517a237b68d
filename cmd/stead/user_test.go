package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime/rootless/rootlesstest"
)

// idsProgram tells who it is, or does as its first argument says.
const idsProgram = `package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	if len(os.Args) == 3 {
		switch os.Args[1] {
		case "write":
			if err := os.WriteFile(os.Args[2], []byte("made\n"), 0o644); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
		case "exit":
			n, _ := strconv.Atoi(os.Args[2])
			os.Exit(n)
		case "sleep":
			fmt.Println("up")
			time.Sleep(10 * time.Minute)
		}
		return
	}
	text, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(text), "\n") {
		if caps, ok := strings.CutPrefix(line, "CapEff:\t"); ok {
			fmt.Println(os.Getuid(), os.Geteuid(), caps)
		}
	}
}
`

// oddOwners gives the small host what is hard to hold for an ordinary user.
func (s *small) oddOwners() {
	s.write("source/ids.go", idsProgram)
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", s.path("host/opt/acme/ids"), s.path("source/ids.go"))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	s.must(cmd)
	opt := func(name string) string { return s.path("host/opt/acme", name) }
	for _, name := range []string{"setuid", "capable"} {
		s.must(copyTree(opt("ids"), opt(name)))
	}
	s.must(exec.Command("chmod", "4755", opt("setuid")))
	s.must(exec.Command("setcap", "cap_chown+ep", opt("capable")))
	for _, name := range []string{"closed", "acl", "far-acl", "far", "inner/file"} {
		s.write("host/opt/acme/"+name, name+"\n")
	}
	s.must(exec.Command("chmod", "0", opt("closed")))
	s.must(exec.Command("setfacl", "-m", "u:998:rw,g:4:r", opt("acl")))
	s.must(exec.Command("setfacl", "-m", "u:70000:rw", opt("far-acl")))
	s.must(exec.Command("chown", "70000:70000", opt("far")))
	s.must(exec.Command("chown", "-R", "998:998", opt("inner")))
	s.must(exec.Command("chmod", "-R", "u=rwX,go=", opt("inner")))
	s.must(exec.Command("chmod", "2750", opt("inner")))
}

// somebody is an ordinary user with a clone of the fleet and a project.
type somebody struct {
	*rootlesstest.User
	s           *small
	subordinate bool
}

func (s *small) somebody(program string, subordinate bool) *somebody {
	u := &somebody{rootlesstest.NewUser(s.t, subordinate), s, subordinate}
	s.must(copyTree(program, u.path("stead")))
	s.must(copyTree(s.path("reference"), u.path("fleet")))
	s.must(exec.Command("mkdir", u.path("project")))
	toml := "fleet = \"../fleet\"\ntargets = [\"acme\"]\n[build]\ncommand = [\"/opt/acme/ids\", \"write\", \"app\"]\nartifacts = [\"app\"]\n"
	if err := os.WriteFile(u.path("project/stead.toml"), []byte(toml), 0o644); err != nil {
		s.t.Fatal(err)
	}
	s.must(exec.Command("chown", "-R", fmt.Sprintf("%d:%d", u.UID, u.GID), u.path("fleet"), u.path("project")))
	return u
}

func (u *somebody) path(name string) string { return filepath.Join(u.Home, name) }

// stead is a command in the project.
func (u *somebody) stead(args ...string) *exec.Cmd {
	cmd := u.Command(u.s.t, u.path("stead"), args...)
	cmd.Dir = u.path("project")
	return cmd
}

// owner reports who a file in the user's folder belongs to.
func (u *somebody) owner(name string) uint32 {
	u.s.t.Helper()
	info, err := os.Lstat(u.path(name))
	if err != nil {
		u.s.t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Uid
}

// TestUsers is a developer who is nobody special: with subordinate ids, and with none.
func TestUsers(t *testing.T) {
	t.Parallel()
	s := newSmall(t, nil)
	s.oddOwners()
	s.must(s.command("reference", "reference-store", "snapshot", s.host, "acme", "--yes"))
	static := s.path("static")
	program(t, "stead-static", static)
	for name, subordinate := range map[string]bool{"subordinate ids": true, "a single id": false} {
		s.in(t, name, func(s *small) {
			s.t.Parallel()
			u := s.somebody(static, subordinate)
			u.pull()
			u.fsck()
			u.sessions()
			u.build()
			u.signals()
			u.snapshot()
			u.own()
			u.collect()
		})
	}
}

// pull makes the root that root made: its digest is the lock's. A single id is told
// about once.
func (u *somebody) pull() {
	t := u.s.t
	const note = "note: all files in envs are yours"
	for i, command := range [][]string{{"pull", "acme"}, {"run", "acme", "--", "/usr/bin/hello"}} {
		_, stderr, code := result(u.stead(command...))
		if told := strings.Contains(stderr, note); code != 0 || told != (i == 0 && !u.subordinate) {
			t.Errorf("%v: exit code %d, told about ids: %v\n%s", command, code, told, stderr)
		}
	}
	roots, err := filepath.Glob(u.path(".local/share/stead/store/roots/*/root/opt/acme"))
	if err != nil || len(roots) != 1 {
		t.Fatalf("roots: %v, %v", roots, err)
	}
	rel, _ := filepath.Rel(u.Home, roots[0])
	for _, test := range []struct {
		name string
		held bool
	}{{"ids", true}, {"made", true}, {"inner/file", true}, {"closed", true}, {"far", false}} {
		if own := u.owner(filepath.Join(rel, test.name)) == u.UID; own == (test.held && u.subordinate) {
			t.Errorf("/opt/acme/%s is the user's: %v", test.name, own)
		}
	}
	_, err = unix.Getxattr(filepath.Join(roots[0], "capable"), "security.capability", nil)
	if held := err == nil; held != u.subordinate {
		t.Errorf("the capability of a program is on disk: %v", held)
	}
}

// fsck compares what the disk holds, and finds what changed.
func (u *somebody) fsck() {
	t := u.s.t
	check := func(want int) (answers []struct {
		Differences, Unheld, Shut int
		OwnersHeld                bool
	}) {
		t.Helper()
		out, stderr, code := result(u.stead("fsck", "acme", "--json"))
		if err := json.Unmarshal([]byte(out), &answers); err != nil || code != want {
			t.Fatalf("fsck: exit code %d, %v\n%s%s", code, err, out, stderr)
		}
		return answers
	}
	got := check(0)[0]
	unheld := 0
	if u.subordinate {
		unheld = 4 // far and far-acl, in the env and in the delta's tree
	}
	if got.OwnersHeld != u.subordinate || got.Unheld != unheld || got.Shut != 0 {
		t.Errorf("fsck answered %+v", got)
	}
	if !u.subordinate {
		return
	}
	made, _ := filepath.Glob(u.path(".local/share/stead/store/roots/*/root/opt/acme/made"))
	u.s.must(exec.Command("chown", fmt.Sprint(u.UID), made[0]))
	check(exitNegative)
	if _, stderr, code := result(u.stead("fsck", "acme", "--drop")); code != exitNegative {
		t.Errorf("fsck --drop: exit code %d\n%s", code, stderr)
	}
	u.s.must(u.stead("pull", "acme"))
	check(0)
}

// sessions are the user's, and root's, and of programs that become root.
func (u *somebody) sessions() {
	t := u.s.t
	own := fmt.Sprint(u.UID)
	none, all, one := "0000000000000000", "00000000a80425fb", "0000000000000001"
	root := "0 " + all
	setuid, capable := own+" 0 "+all, own+" "+own+" "+one
	if !u.subordinate {
		setuid, capable = own+" "+own+" "+none, own+" "+own+" "+none
	}
	for _, test := range []struct{ args, want string }{
		{"acme -- /opt/acme/ids", own + " " + own + " " + none},
		{"--root acme -- /opt/acme/ids", "0 " + root},
		{"acme -- /opt/acme/setuid", setuid},
		{"acme -- /opt/acme/capable", capable},
		{"--root acme -- /opt/acme/ids write by-root", ""},
		{"acme -- /opt/acme/ids write by-user", ""},
		{"--network none acme -- /opt/acme/ids write by-user-offline", ""},
	} {
		if got := u.s.must(u.stead(append([]string{"run"}, strings.Fields(test.args)...)...)); strings.TrimSpace(got) != test.want {
			t.Errorf("run %s told %q, want %q", test.args, got, test.want)
		}
	}
	for _, name := range []string{"by-root", "by-user", "by-user-offline"} {
		if got := u.owner("project/" + name); got != u.UID {
			t.Errorf("%s belongs to %d, and not to the user", name, got)
		}
	}
	for args, want := range map[string]int{"/opt/acme/ids exit 42": 42, "/opt/acme/nosuch": 127, "/opt/acme/closed": 126} {
		if _, stderr, code := result(u.stead(append([]string{"run", "acme", "--"}, strings.Fields(args)...)...)); code != want {
			t.Errorf("%s: exit code %d, want %d\n%s", args, code, want, stderr)
		}
	}
}

func (u *somebody) build() {
	u.s.must(u.stead("build", "acme"))
	if got := u.owner("project/dist/acme/app"); got != u.UID {
		u.s.t.Errorf("the artifact belongs to %d", got)
	}
}

// signals are passed on to the session, and killing the outer process ends it.
func (u *somebody) signals() {
	t := u.s.t
	for _, test := range []struct {
		signal syscall.Signal
		code   int
	}{{syscall.SIGTERM, 143}, {syscall.SIGINT, 130}, {syscall.SIGKILL, -1}} {
		before := u.processes()
		cmd := u.stead("run", "acme", "--", "/opt/acme/ids", "sleep", "now")
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		if n, err := out.Read(make([]byte, 10)); n != 3 {
			t.Errorf("%v: the session said %d bytes, %v", test.signal, n, err)
		}
		if err := cmd.Process.Signal(test.signal); err != nil {
			t.Error(err)
		}
		cmd.Wait() //nolint:errcheck // its code tells
		if code := cmd.ProcessState.ExitCode(); code != test.code {
			t.Errorf("%v: exit code %d, want %d", test.signal, code, test.code)
		}
		u.alone(test.signal, before)
	}
}

// alone waits until no process of the user's is left but those.
func (u *somebody) alone(after syscall.Signal, before []string) {
	u.s.t.Helper()
	var left []string
	for range 500 {
		left = slices.DeleteFunc(u.processes(), func(p string) bool { return slices.Contains(before, p) })
		if len(left) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	u.s.t.Errorf("left after %v: %v", after, left)
}

// processes are what runs with the user's uid, which may have been somebody else's.
func (u *somebody) processes() (list []string) {
	entries, _ := filepath.Glob("/proc/[0-9]*")
	for _, e := range entries {
		info, err := os.Stat(e)
		stat, _ := os.ReadFile(filepath.Join(e, "stat"))
		name, rest, _ := strings.Cut(string(stat), ") ")
		if err == nil && info.Sys().(*syscall.Stat_t).Uid == u.UID && !strings.HasPrefix(rest, "Z ") {
			list = append(list, name)
		}
	}
	return list
}

// snapshot reads a folder outside of the namespace, as whom it belongs to.
func (u *somebody) snapshot() {
	u.s.must(copyTree(u.s.host, u.path("host")))
	u.s.must(exec.Command("chown", "-R", fmt.Sprintf("%d:%d", u.UID, u.GID), u.path("host")))
	u.s.must(exec.Command("chmod", "-R", "u+rwX", u.path("host")))
	u.s.must(u.stead("snapshot", u.path("host"), "mine", "--yes"))
	lock, err := os.ReadFile(u.path("fleet/mine/1.lock"))
	if err != nil || !strings.Contains(string(lock), `name = "hello"`) {
		u.s.t.Errorf("the lock of a user's snapshot: %v\n%s", err, lock)
	}
	if u.subordinate {
		return
	}
	if err := os.WriteFile(u.path("list"), []byte("ii  base-files  11.1+deb11u11  amd64  Debian 11\n"), 0o644); err != nil {
		u.s.t.Fatal(err)
	}
	if _, stderr, code := result(u.stead("snapshot", "list:"+u.path("list"), "listed", "--yes")); code != exitError ||
		!strings.Contains(stderr, "only your own id can be had here\nhint: ") {
		u.s.t.Errorf("a snapshot of a list: exit code %d\n%s", code, stderr)
	}
}

// own runs the env of the user's own snapshot.
func (u *somebody) own() {
	if got := strings.TrimSpace(u.s.must(u.stead("run", "mine", "--", "/opt/acme/ids"))); !strings.HasPrefix(got, fmt.Sprint(u.UID)) {
		u.s.t.Errorf("in the user's own target: %q", got)
	}
}

// collect removes trees of other owners, and what a killed session left.
func (u *somebody) collect() {
	t := u.s.t
	store := u.path(".local/share/stead/store")
	if left, err := os.ReadDir(filepath.Join(store, "sessions")); err != nil || len(left) > 0 {
		t.Errorf("sessions left: %v, %v", left, err)
	}
	for _, target := range []string{"acme", "mine"} {
		u.s.must(exec.Command("rm", "-r", u.path("fleet/"+target)))
	}
	var items []string
	for _, kind := range []string{"trees", "roots"} {
		found, err := filepath.Glob(filepath.Join(store, kind, "*"))
		if err != nil || len(found) == 0 {
			t.Errorf("%s: %v, %v", kind, found, err)
		}
		items = append(items, found...)
	}
	for _, item := range items {
		old := time.Now().Add(-2 * time.Hour)
		if err := os.Chtimes(item, old, old); err != nil {
			t.Fatal(err)
		}
	}
	u.s.must(u.stead("gc"))
	left := slices.DeleteFunc(items, func(item string) bool {
		_, err := os.Lstat(item)
		return os.IsNotExist(err)
	})
	if len(left) > 0 {
		t.Errorf("gc left %v", left)
	}
	err := filepath.WalkDir(u.Home, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			if info, infoErr := d.Info(); infoErr == nil && info.Sys().(*syscall.Stat_t).Uid > 100000 {
				t.Errorf("%s belongs to a subordinate id", path)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
