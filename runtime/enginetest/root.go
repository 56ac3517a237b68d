// Package enginetest is the conformance suite of engines. A driver's own test
// hands its engine to Run; the suite makes a root filesystem from this machine's
// own shell and tools and needs no network.
package enginetest

import (
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// programs are what the suite runs inside.
var programs = []string{
	"bash", "sh", "cat", "chmod", "chown", "dd", "env", "false", "grep", "head", "id", "kill", "ln", "ls", "mkdir", "mkfifo", "mknod",
	"mount", "pwd", "rm", "seq", "setsid", "sleep", "stat", "stty", "touch", "tr", "true", "umount", "unshare", "wc",
}

// Root makes a small root filesystem of programs of this machine and their
// libraries.
func Root(t testing.TB) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	for _, dir := range []string{"bin", "dev", "etc", "home", "proc", "root", "sys", "tmp", "run", "usr/bin"} {
		must(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	must(t, os.Chmod(root, 0o755))
	must(t, os.Chmod(filepath.Join(root, "tmp"), 0o1777))
	write(t, filepath.Join(root, "etc/passwd"), "root:x:0:0::/root:/bin/sh\n")
	write(t, filepath.Join(root, "etc/group"), "root:x:0:\n")
	write(t, filepath.Join(root, "etc/plain"), "plain\n")
	write(t, filepath.Join(root, "etc/garbage"), "\x00\x01garbage\n")
	must(t, os.Chmod(filepath.Join(root, "etc/garbage"), 0o755))
	must(t, os.Link(filepath.Join(root, "etc/plain"), filepath.Join(root, "etc/linked")))
	libs := map[string]bool{}
	for _, name := range programs {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Skipf("this machine has no %s to make a root filesystem of", name)
		}
		copyFile(t, path, filepath.Join(root, "bin", name))
		for _, lib := range libraries(t, path) {
			libs[lib] = true
		}
	}
	for lib := range libs {
		copyFile(t, lib, filepath.Join(root, lib))
	}
	return root
}

// twin makes a second root of hard links to the files of the first, as envs that
// share packages have them.
func twin(t testing.TB, root string) string {
	t.Helper()
	other := filepath.Join(t.TempDir(), "root")
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(other, strings.TrimPrefix(path, root))
		if !d.IsDir() {
			return os.Link(path, to)
		}
		info, err := d.Info()
		must(t, err)
		must(t, os.MkdirAll(to, 0o755))
		return os.Chmod(to, info.Mode())
	}))
	return other
}

// libraries are the shared objects that ldd(1) names for a program.
func libraries(t testing.TB, program string) []string {
	t.Helper()
	out, err := exec.Command("ldd", program).Output()
	if err != nil {
		return nil // static
	}
	var libs []string
	for _, word := range strings.Fields(string(out)) {
		if strings.HasPrefix(word, "/") {
			libs = append(libs, word)
		}
	}
	return libs
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(to), 0o755))
	in, err := os.Open(from)
	must(t, err)
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	must(t, err)
	_, err = io.Copy(out, in)
	must(t, err)
	must(t, out.Close())
	must(t, os.Chmod(to, 0o755))
}

func write(t testing.TB, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o644))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
