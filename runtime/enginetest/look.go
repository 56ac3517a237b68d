package enginetest

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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

// sessions notes the names of all that is ever made in a scratch folder: whatever
// else runs on this machine has sessions too.
type sessions struct {
	events *os.File
	names  []string
}

func watch(t testing.TB, scratch string) *sessions {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	must(t, err)
	w := &sessions{events: os.NewFile(uintptr(fd), "inotify")}
	t.Cleanup(func() { w.events.Close() })
	_, err = unix.InotifyAddWatch(fd, scratch, unix.IN_CREATE)
	must(t, err)
	return w
}

// seen are the names so far.
func (w *sessions) seen(t testing.TB) []string {
	t.Helper()
	buf := make([]byte, 1<<16)
	for {
		must(t, w.events.SetReadDeadline(time.Now().Add(time.Millisecond)))
		n, err := w.events.Read(buf)
		if err != nil {
			return w.names
		}
		for rest := buf[:n]; len(rest) >= unix.SizeofInotifyEvent; {
			size := binary.NativeEndian.Uint32(rest[12:])
			name, _, _ := strings.Cut(string(rest[unix.SizeofInotifyEvent:][:size]), "\x00")
			w.names = append(w.names, name)
			rest = rest[unix.SizeofInotifyEvent+size:]
		}
	}
}

// nothingLeft reports what sessions of the suite left on this machine. What others
// have there is theirs: engines are tested beside each other.
func (s *suite) nothingLeft(t testing.TB) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	for _, name := range append(s.sessions.seen(t), s.scratch) {
		for line := range strings.Lines(string(mounts)) {
			if strings.Contains(line, name) {
				t.Errorf("mount left: %s", line)
			}
		}
		for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/", "/sys/fs/cgroup/*/*/", "/sys/fs/cgroup/*/*/*/"} {
			if left, _ := filepath.Glob(pattern + name); len(left) > 0 {
				t.Errorf("cgroup left: %s", left)
			}
		}
	}
	left, err := os.ReadDir(s.scratch)
	must(t, err)
	for _, e := range left {
		t.Errorf("left in the scratch folder: %s", e.Name())
	}
	noProcess(t, s.scratch)
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
