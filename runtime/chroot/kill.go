package chroot

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime/session"
)

// killInside kills every process whose root is in a session's folder, until there
// is none: what is left when the guard was killed, too.
func killInside(dir string) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		pids, err := inside(dir)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			unix.Kill(pid, unix.SIGKILL)
		}
		time.Sleep(pause)
	}
}

// inside are the processes whose root is dir or below it.
func inside(dir string) (pids []int, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("looking for a session's processes: %w", err)
	}
	// A root that was removed under a process is shown so.
	ours := func(root string) bool {
		root = strings.TrimSuffix(root, " (deleted)")
		return root == dir || strings.HasPrefix(root, dir+"/")
	}
	var others []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		root, err := rootOf(pid, dir)
		switch {
		case err == nil && ours(root):
			pids = append(pids, pid)
		case os.IsPermission(err):
			others = append(others, pid)
		}
	}
	if len(others) == 0 {
		return pids, nil
	}
	err = session.OnThread(func() error {
		for _, pid := range others {
			if root, err := rootOfOther(pid, dir); err == nil && ours(root) {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids, err
}

// rootOfOther is the root of another user's process, which root without
// CAP_SYS_PTRACE sees only as that user: ptrace(2). The thread ends afterwards.
func rootOfOther(pid int, dir string) (string, error) {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return "", err
	}
	ids := map[string]int{}
	for lines := bufio.NewScanner(bytes.NewReader(status)); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), ":")
		if fields := strings.Fields(value); (key == "Uid" || key == "Gid") && len(fields) == 4 {
			if ids[key], err = strconv.Atoi(fields[1]); err != nil {
				return "", err
			}
		}
	}
	unix.SetfsuidRetUid(ids["Uid"])
	unix.SetfsgidRetGid(ids["Gid"])
	defer unix.SetfsuidRetUid(0)
	defer unix.SetfsgidRetGid(0)
	return rootOf(pid, dir)
}

// rootOf is the root of a process. One that is too deep for a path is dir where it
// lies below that.
func rootOf(pid int, dir string) (string, error) {
	link := fmt.Sprintf("/proc/%d/root", pid)
	root, err := os.Readlink(link)
	if !errors.Is(err, unix.ENAMETOOLONG) {
		return root, err
	}
	var top, last unix.Stat_t
	if err := unix.Lstat(dir, &top); err != nil {
		return "", err
	}
	at, err := unix.Open(link, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for err == nil {
		var st unix.Stat_t
		unix.Fstat(at, &st) //nolint:errcheck // it is open
		if found := st.Dev == top.Dev && st.Ino == top.Ino; found || st.Dev == last.Dev && st.Ino == last.Ino {
			unix.Close(at)
			if found {
				return dir, nil
			}
			return "/", nil
		}
		last = st
		var above int
		above, err = unix.Openat(at, "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		unix.Close(at)
		at = above
	}
	return "", err
}
