package chroot

import (
	"bufio"
	"bytes"
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
		root, err := os.Readlink(fmt.Sprintf("/proc/%d/root", pid))
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
			if root, err := rootOfOther(pid); err == nil && ours(root) {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids, err
}

// rootOfOther is the root of another user's process, which root without
// CAP_SYS_PTRACE sees only as that user: ptrace(2). The thread ends afterwards.
func rootOfOther(pid int) (string, error) {
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
	return os.Readlink(fmt.Sprintf("/proc/%d/root", pid))
}
