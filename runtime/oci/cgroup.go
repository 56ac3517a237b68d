package oci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/stead-env/stead/runtime/session"
	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// trimCgroups leaves of cgroup version 1 the one hierarchy that guards devices, in
// the calling thread's mount namespace. Runtimes make a cgroup in each hierarchy
// they find; a session wants no limits of its own, is better off under the
// caller's, and starts faster. crun before 1.9 also refuses version 2 beside 1.
func trimCgroups() error {
	var st unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &st); err != nil || st.Type != unix.TMPFS_MAGIC {
		return nil // version 2, or none
	}
	devices := filepath.Join(cgroupRoot, "devices")
	fd, err := unix.Open(devices, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // an arrangement that only the runtime can judge
	}
	defer unix.Close(fd)
	tree, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return nil // Linux before 5.2
	}
	defer unix.Close(tree)
	if err := unix.Unmount(cgroupRoot, unix.MNT_DETACH); err != nil {
		return nil // locked by a container around this one
	}
	if err := unix.Mount("tmpfs", cgroupRoot, "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mounting a tmpfs on %s: %w", cgroupRoot, err)
	}
	if err := os.Mkdir(devices, 0o755); err != nil {
		return err
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, devices, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mounting %s: %w", devices, err)
	}
	return nil
}

// removeCgroup removes the cgroups of that name: one where there is version 2
// alone, one in each hierarchy of version 1.
func removeCgroup(name string) error {
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

// sweepCgroups removes empty cgroups of sessions whose folder is gone: a runtime
// that outlived its session by a moment can leave one. A session that is starting
// puts its command into its cgroup within less than a minute.
func sweepCgroups() {
	for _, pattern := range []string{session.Prefix + "*", "*/" + session.Prefix + "*"} {
		paths, _ := filepath.Glob(filepath.Join(cgroupRoot, pattern))
		for _, p := range paths {
			if info, err := os.Stat(p); err == nil && time.Since(info.ModTime()) > time.Minute {
				unix.Rmdir(p) // refused where a process is in it
			}
		}
	}
}
