package rootlesstest

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/runtime/session"
)

// old is when something without a lock belongs to no test any more.
const old = time.Hour

// folder makes a folder for a test, and clears those of tests that were killed: their
// locks are free.
func folder(t testing.TB, prefix string) string {
	t.Helper()
	stale, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	for _, dir := range stale {
		if dir = strings.TrimSuffix(dir, ".lock"); !owned(dir) {
			clearStale(dir, func() error { return nil })
		}
	}
	dir := filepath.Join(os.TempDir(), prefix+strings.ToLower(rand.Text()[:10]))
	lock, err := session.TakeLock(dir + ".lock")
	must(t, err)
	t.Cleanup(func() {
		os.RemoveAll(dir)
		os.Remove(lock.Name())
		lock.Close()
	})
	must(t, os.Mkdir(dir, 0o700))
	return dir
}

// clearStale removes a folder that no living test has, and first by clear what goes
// with it.
func clearStale(dir string, clear func() error) {
	lock := dir + ".lock"
	if _, err := os.Lstat(lock); errors.Is(err, fs.ErrNotExist) {
		info, err := os.Lstat(dir)
		if err == nil && time.Since(info.ModTime()) < old {
			return
		}
	}
	held, err := session.TakeLock(lock)
	if err != nil {
		return
	}
	defer held.Close()
	if clear() == nil && runtime.RemoveAll(dir) == nil {
		os.Remove(lock)
	}
}

// account is a line of passwd(5) of a user of NewUser's.
var account = regexp.MustCompile(`(?m)^(stead-[a-z2-7]{10}):[^:]*:(\d+):\d+:[^:]*:(/[^:]*/stead-user-[^/:]+):`)

// owned reports whether a folder is the home of a user, which clearUsers removes.
func owned(dir string) bool {
	text, _ := os.ReadFile("/etc/passwd")
	return strings.Contains(string(text), ":"+dir+":")
}

// clearUsers removes users whose test was killed, with all that is theirs.
func clearUsers() {
	text, _ := os.ReadFile("/etc/passwd")
	for _, f := range account.FindAllStringSubmatch(string(text), -1) {
		uid, err := strconv.Atoi(f[2])
		if err != nil || uid == 0 {
			continue
		}
		clearStale(f[3], func() error {
			processes, _ := filepath.Glob("/proc/[0-9]*")
			for _, p := range processes {
				info, err := os.Lstat(p)
				if pid, perr := strconv.Atoi(filepath.Base(p)); err == nil && perr == nil && int(info.Sys().(*syscall.Stat_t).Uid) == uid {
					unix.Kill(pid, unix.SIGKILL) //nolint:errcheck // it may have ended
				}
			}
			return exec.Command("userdel", "--force", f[1]).Run()
		})
	}
}
