package session

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// RemoveCgroup removes the cgroups of that name: one where there is version 2
// alone, one in each hierarchy of version 1.
func RemoveCgroup(name string) error {
	paths := []string{filepath.Join(cgroupRoot, name)}
	more, _ := filepath.Glob(filepath.Join(cgroupRoot, "*", name))
	for _, p := range append(paths, more...) {
		var err error
		// Busy for a moment after the last process in it ended.
		for range 100 {
			if err = unix.Rmdir(p); err != unix.EBUSY {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing %s: %w", p, err)
		}
	}
	return nil
}

// SweepCgroups removes empty cgroups of sessions whose folder is gone: a runtime
// that outlived its session by a moment can leave one. A session that is starting
// puts its command into its cgroup within less than a minute.
func SweepCgroups() {
	for _, pattern := range []string{Prefix + "*", "*/" + Prefix + "*"} {
		paths, _ := filepath.Glob(filepath.Join(cgroupRoot, pattern))
		for _, p := range paths {
			if info, err := os.Stat(p); err == nil && time.Since(info.ModTime()) > time.Minute {
				unix.Rmdir(p) // refused where a process is in it
			}
		}
	}
}
