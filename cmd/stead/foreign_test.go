package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// binfmt is where handlers of programs are registered.
const binfmt = "/proc/sys/fs/binfmt_misc"

// Hosts of another architecture, or of two, are read, locked and made as all others;
// running them takes a handler, and stead says so.
func TestForeign(t *testing.T) {
	t.Parallel()
	r := realTools(t)
	r.made = strings.TrimSpace(r.must(exec.Command("../../testdata/hosts/cached", "foreign-host")))
	roots := map[string]string{"acme": filepath.Join(r.made, "host"), "mixed": filepath.Join(r.made, "mixed")}
	for target, want := range map[string]string{"acme": "arm64", "mixed": "amd64"} {
		var answer struct{ Packages map[string]int }
		r.answer(r.command("fleet", "lead", "snapshot", roots[target], target, "--yes", "--json"), &answer)
		if answer.Packages["exact"] < 20 || len(answer.Packages) != 1 {
			t.Errorf("%s: all packages are in the archive, and got %v", target, answer.Packages)
		}
		lock, err := os.ReadFile(r.path("fleet", target, "1.lock"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(lock), "architecture = \""+want+"\"") ||
			strings.Contains(string(lock), `architecture = "i386"`) != (target == "mixed") {
			t.Errorf("%s: the lock says\n%s", target, lock)
		}
		var made []struct{ Root string }
		r.answer(r.command("fleet", "one", "pull", target, "--json"), &made)
		r.must(exec.Command(r.exact, roots[target], made[0].Root))
	}
	run := func(target string, command ...string) (stdout, stderr string, code int) {
		return result(r.command("fleet", "one", append([]string{"run", target, "--"}, command...)...))
	}
	if out, errs, code := run("mixed", "hello"); code != 0 || !strings.Contains(out, "Hello, world!") {
		t.Errorf("an i386 program: %q, %q, %d", out, errs, code)
	}
	if entries, _ := filepath.Glob(binfmt + "/qemu-aarch64*"); len(entries) == 0 {
		_, errs, code := run("acme", "uname", "-m")
		if code != 126 || !strings.Contains(errs, "error: starting acme@1: running programs for arm64: this machine is ") ||
			!strings.Contains(errs, "hint: ") || !strings.Contains(errs, "qemu-") || !strings.Contains(errs, "sudo ") {
			t.Errorf("without a handler: %q, %d", errs, code)
		}
		register(t, "")
		_, errs, code = run("acme", "uname", "-m")
		if code != 126 || !strings.Contains(errs, "without the flag F") || !strings.Contains(errs, "hint: ") {
			t.Errorf("with a handler that isn't inside: %q, %d", errs, code)
		}
		unregister(t)
		register(t, "F")
	}
	for _, c := range []struct {
		command []string
		code    int
		out     string
	}{
		{[]string{"uname", "-m"}, 0, "aarch64\n"},
		{[]string{"sh", "-c", "echo $(uname -m); exit 7"}, 7, "aarch64\n"},
		{[]string{"no-such-program"}, 127, ""},
	} {
		if out, errs, code := run("acme", c.command...); code != c.code || out != c.out {
			t.Errorf("%q: %q, %q, %d", c.command, out, errs, code)
		}
	}
}

// handlerName is the tests' own.
const handlerName = "stead-test-aarch64"

// register makes this machine run arm64 programs until the test ends.
func register(t *testing.T, flags string) {
	t.Helper()
	if _, err := os.Stat(binfmt + "/register"); err != nil {
		if err := unix.Mount("binfmt_misc", binfmt, "binfmt_misc", 0, ""); err != nil {
			t.Skipf("mounting binfmt_misc: %v", err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(binfmt, 0); err != nil {
				t.Error(err)
			}
		})
	}
	qemu, err := exec.LookPath("qemu-aarch64-static")
	if err != nil {
		t.Skipf("%v: see .ci/setup", err)
	}
	const magic = `\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00`
	const mask = `\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff`
	if flags == "" { // one that is on this machine, and in no env
		copied := filepath.Join(t.TempDir(), "qemu")
		if err := os.Symlink(qemu, copied); err != nil {
			t.Fatal(err)
		}
		qemu = copied
	}
	line := fmt.Sprintf(":%s:M::%s:%s:%s:%s", handlerName, magic, mask, qemu, flags)
	if err := os.WriteFile(binfmt+"/register", []byte(line), 0); err != nil {
		t.Skipf("registering a handler: %v", err)
	}
	t.Cleanup(func() { unregister(t) })
}

func unregister(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(binfmt, handlerName)); err != nil {
		return
	}
	if err := os.WriteFile(filepath.Join(binfmt, handlerName), []byte("-1"), 0); err != nil {
		t.Error(err)
	}
}
