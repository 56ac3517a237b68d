package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
)

// outcome is what a command came to.
type outcome struct {
	stdout, stderr string
	code           int
}

// atOnce runs commands at the same time.
func atOnce(cmds ...*exec.Cmd) []outcome {
	out := make([]outcome, len(cmds))
	var all sync.WaitGroup
	for i, cmd := range cmds {
		all.Go(func() { out[i].stdout, out[i].stderr, out[i].code = result(cmd) })
	}
	all.Wait()
	return out
}

// copyTree copies a folder as it is.
func copyTree(from, to string) *exec.Cmd { return exec.Command("cp", "-a", from, to) }

// testRaces lets several processes do the same thing, in one store or one fleet.
func testRaces(s *small) {
	s.mirror.set(nil)
	for range 3 {
		for i, o := range atOnce(s.command("reference", "one", "pull", "acme"), s.command("reference", "one", "pull", "acme")) {
			s.works(fmt.Sprint("pull ", i, " of 2"), o.stderr, o.code)
		}
		if n := s.mirror.gets(libDeb); n != 1 {
			s.t.Errorf("two pulls fetched one package %d times", n)
		}
		s.mirror.set(nil)
		s.must(s.command("reference", "one", "fsck", "acme"))
		s.sound("reference", "one")
		s.clean("reference", "one")
		s.remove("one")
	}
	if _, err := exec.LookPath("runc"); err == nil {
		var cmds []*exec.Cmd
		for range 8 {
			cmds = append(cmds, s.command("reference", "one", "run", "acme", "--", "/usr/bin/hello"))
		}
		for i, o := range atOnce(cmds...) {
			s.works(fmt.Sprint("run ", i, " of 8"), o.stderr, o.code)
			if !strings.Contains(o.stderr, "hello") {
				s.t.Errorf("run %d of 8 wrote %q", i, o.stderr)
			}
		}
		s.must(s.command("reference", "one", "fsck", "acme"))
		s.clean("reference", "one")
	}
	s.racingSnapshots()
}

// Two leads take a snapshot of one host into one fleet, with one store or two, then
// of two hosts that differ.
func (s *small) racingSnapshots() {
	want := s.identities("reference")
	for _, stores := range [][2]string{{"a", "a"}, {"a", "b"}} {
		for i, o := range atOnce(s.command("fleet", stores[0], "snapshot", s.host, "acme", "--yes"),
			s.command("fleet", stores[1], "snapshot", s.host, "acme", "--yes")) {
			s.works(fmt.Sprint("snapshot ", i, " of 2"), o.stderr, o.code)
		}
		if got := s.identities("fleet"); len(got) != 1 || got[0] != want[0] {
			s.t.Errorf("two snapshots of one host made the releases %v instead of %v", got, want)
		}
		for _, store := range stores {
			s.sound("fleet", store)
			s.clean("fleet", store)
		}
		s.remove("fleet", "a", "b")
	}
	s.must(copyTree(s.host, s.path("host-2")))
	s.write("host-2/opt/acme/other", "this host has another file\n")
	for i, o := range atOnce(s.command("fleet", "a", "snapshot", s.host, "acme", "--yes"),
		s.command("fleet", "a", "snapshot", s.path("host-2"), "acme", "--yes")) {
		s.works(fmt.Sprint("snapshot of host ", i), o.stderr, o.code)
	}
	got := s.identities("fleet")
	if len(got) != 2 || got[0] == got[1] || got[0] != want[0] && got[1] != want[0] {
		s.t.Errorf("two snapshots of two hosts made the releases %v", got)
	}
	s.sound("fleet", "a")
	s.clean("fleet", "a")
	s.must(s.command("fleet", "c", "pull", "acme@1"))
	s.must(s.command("fleet", "c", "pull", "acme@2"))
	s.remove("fleet", "a", "c", "host-2")
}

// testEditedLocks edits a lock, and merges two badly.
func testEditedLocks(s *small) {
	s.must(copyTree(s.path("reference"), s.path("edited")))
	name := s.path("edited/acme/1.lock")
	text, err := os.ReadFile(name)
	if err != nil {
		s.t.Fatal(err)
	}
	line := func(before []byte) string { return fmt.Sprint("line ", bytes.Count(before, []byte("\n"))+1) }
	at := bytes.Index(text, []byte("name = \"lib07\""))
	last := bytes.LastIndex(text, []byte("sha256 = "))
	edits := []struct {
		name, line string
		text       []byte
	}{
		{"a comment", line(text[:at]), bytes.Join([][]byte{text[:at], text[at:]}, []byte("# mine\n"))},
		{"a blank", line(text[:at]), bytes.Join([][]byte{text[:at], text[at+len("name = "):]}, []byte("name  = "))},
		{"merge markers", line(text[:at]), bytes.Join([][]byte{text[:at], text[at:]}, []byte("<<<<<<< HEAD\n"))},
		{"merge markers before [host]", "line ", bytes.Replace(text, []byte("[host]\n"), []byte("=======\n[host]\n"), 1)},
		{"cut off", "is no digest", text[:last]},
		{"empty", "", nil},
		{"no last line end", "line ", bytes.TrimRight(text, "\n")},
	}
	for _, edit := range edits {
		if err := os.WriteFile(name, edit.text, 0o644); err != nil {
			s.t.Fatal(err)
		}
		for _, args := range [][]string{{"pull", "acme"}, {"fsck", "acme"}, {"snapshot", s.host, "acme", "--yes"}} {
			_, errs, code := result(s.command("edited", "store-e", args...))
			s.fails(args[0]+" with "+edit.name, []string{name, edit.line}, errs, code)
			if roots := s.list("store-e", "roots"); len(roots) > 0 {
				s.t.Errorf("%s with %s made an env", args[0], edit.name)
			}
			if _, err := os.Lstat(s.path("edited/acme/2.lock")); err == nil {
				s.t.Errorf("%s with %s made a release", args[0], edit.name)
			}
		}
	}
	if err := os.WriteFile(name, text, 0o644); err != nil {
		s.t.Fatal(err)
	}
	s.must(s.command("edited", "store-e", "pull", "acme"))
	s.remove("edited", "store-e")
}

// testReach tries root's store as somebody else: the programs in it are old, and
// some are setuid.
func testReach(s *small) {
	root := s.pullFrom("reference", "lead")
	setuid := root + "/usr/bin/hello"
	if err := os.Chmod(setuid, 0o755|os.ModeSetuid); err != nil {
		s.t.Fatal(err)
	}
	outside, err := os.MkdirTemp("", "stead-reach-") // everybody may go there
	if err != nil {
		s.t.Fatal(err)
	}
	defer os.RemoveAll(outside)
	if err := errors.Join(os.Chmod(outside, 0o755), os.Rename(s.path("lead"), s.path("moved"))); err != nil {
		s.t.Fatal(err)
	}
	s.must(copyTree(s.path("moved"), outside+"/store"))
	setuid = outside + "/store" + strings.TrimPrefix(setuid, s.path("lead"))
	if fi, err := os.Stat(setuid); err != nil || fi.Mode()&os.ModeSetuid == 0 {
		s.t.Fatalf("there is no setuid program to try: %v", err)
	}
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	for _, args := range [][]string{{"stat", setuid}, {"cat", setuid}, {"ls", outside + "/store"}, {setuid}, {"ln", setuid, outside + "/mine"}} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir, cmd.SysProcAttr = outside, nobody
		_, errs, code := result(cmd)
		if code == 0 || !strings.Contains(strings.ToLower(errs), "permission denied") {
			s.t.Errorf("%v as nobody: exit code %d, %q", args, code, errs)
		}
	}
	if err := os.Chmod(outside+"/store", 0o755); err != nil {
		s.t.Fatal(err)
	}
	cmd := s.command("reference", "any", "pull", "acme")
	cmd.Env = append(cmd.Env, "STEAD_STORE="+outside+"/store")
	_, errs, code := result(cmd)
	s.fails("a store that others can enter", []string{outside + "/store", "0755", "hint: chmod 0700 " + outside + "/store"}, errs, code)
	s.remove("moved")
}
