package enginetest

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// manifest describes every entry below root: what a write would change.
func manifest(t testing.TB, root string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		sum := ""
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum = fmt.Sprintf("%x", sha256.Sum256(content))
		}
		fmt.Fprintf(&b, "%s %v %d:%d %d %d.%d %d.%d %s\n", path, info.Mode(), st.Uid, st.Gid, st.Nlink,
			st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec, sum)
		return nil
	}))
	return b.String()
}

// differ returns the lines that only one of two texts has.
func differ(before, after string) string {
	count := map[string]int{}
	for _, line := range strings.Split(before, "\n") {
		count["- "+line]++
	}
	for _, line := range strings.Split(after, "\n") {
		if count["- "+line] > 0 {
			count["- "+line]--
			continue
		}
		count["+ "+line]++
	}
	var out []string
	for line, n := range count {
		if n > 0 {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

// state is what sessions could leave behind on this machine.
type state struct {
	mounts  string
	cgroups map[string]bool
}

func look(t testing.TB) state {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	return state{mounts: string(mounts), cgroups: cgroups()}
}

// cgroups are all cgroups but those of version 1's per-controller copies deeper
// than a container engine makes them.
func cgroups() map[string]bool {
	found := map[string]bool{}
	for _, pattern := range []string{"/sys/fs/cgroup/*", "/sys/fs/cgroup/*/*", "/sys/fs/cgroup/*/*/*"} {
		paths, _ := filepath.Glob(pattern)
		for _, p := range paths {
			if info, err := os.Stat(p); err == nil && info.IsDir() {
				found[p] = true
			}
		}
	}
	return found
}

// nothingLeft reports what there is now and wasn't before.
func (s state) nothingLeft(t testing.TB, scratch string) {
	t.Helper()
	now := look(t)
	if now.mounts != s.mounts {
		t.Errorf("mounts changed:\n%s", differ(s.mounts, now.mounts))
	}
	for p := range now.cgroups {
		if !s.cgroups[p] && strings.Contains(p, "stead") {
			t.Errorf("cgroup left: %s", p)
		}
	}
	left, err := os.ReadDir(scratch)
	must(t, err)
	for _, e := range left {
		t.Errorf("left in the scratch folder: %s", e.Name())
	}
	noProcess(t, scratch)
}

// noProcess waits a moment and reports processes that have a scratch folder in
// their mounts, or their root in it: those of sessions, and runtimes.
func noProcess(t testing.TB, scratch string) {
	t.Helper()
	var left []string
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		left = left[:0]
		tables, _ := filepath.Glob("/proc/[0-9]*/mountinfo")
		for _, table := range tables {
			text, _ := os.ReadFile(table)
			root, _ := os.Readlink(filepath.Join(filepath.Dir(table), "root"))
			if strings.Contains(string(text), scratch) || strings.HasPrefix(root, scratch) {
				comm, _ := os.ReadFile(filepath.Join(filepath.Dir(table), "comm"))
				left = append(left, filepath.Dir(table)+" "+strings.TrimSpace(string(comm)))
			}
		}
		if len(left) == 0 {
			return
		}
	}
	t.Errorf("processes left: %v", left)
}
