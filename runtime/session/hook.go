package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/stead-env/stead/runtime"
	"golang.org/x/sys/unix"
)

// Hook does what an OCI runtime started this program for, where it did. It comes
// first in main, and in the tests of engines.
func Hook(args []string) (code int, ok bool) {
	if len(args) > 4 && args[1] == becomeHook {
		code, err := become(args[2:])
		if err != nil {
			fmt.Fprintln(os.Stderr, "starting the command:", err)
		}
		return code, true
	}
	if len(args) != 2 || args[0] != runtime.KernelHook {
		return 0, false
	}
	if err := showKernel(args[1], os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "showing the target's kernel:", err)
		return runtime.CodeEngine, true
	}
	return 0, true
}

// maxConfig bounds what a hook reads.
const maxConfig = 16 << 20

// showKernel mounts the files of a folder over the ones of the container's /proc. It
// runs in the container's mount namespace before that has its root.
func showKernel(folder string, state io.Reader) error {
	root, err := containerRoot(state)
	if err != nil {
		return err
	}
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening %s: %w", root, err)
	}
	defer unix.Close(dir)
	for _, f := range runtime.KernelFiles {
		if err := showFile(filepath.Join(folder, f.Name), dir, "proc/"+f.Place); err != nil {
			return fmt.Errorf("mounting over /%s: %w", "proc/"+f.Place, err)
		}
	}
	return nil
}

// showFile mounts a file read-only over another one of the proc file system.
func showFile(source string, root int, place string) error {
	from, err := unix.Open(source, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	at, err := openBelow(root, place)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	var fs unix.Statfs_t
	if err := unix.Fstatfs(at, &fs); err != nil {
		return err
	}
	if fs.Type != unix.PROC_SUPER_MAGIC {
		return errors.New("it isn't the kernel's own")
	}
	if err := unix.Mount(byFD(from), byFD(at), "", unix.MS_BIND, ""); err != nil {
		return err
	}
	top, err := openBelow(root, place) // what is there now
	if err != nil {
		return err
	}
	defer unix.Close(top)
	var ours, there unix.Stat_t
	if err := errors.Join(unix.Fstat(from, &ours), unix.Fstat(top, &there)); err != nil {
		return err
	}
	if ours.Dev != there.Dev || ours.Ino != there.Ino {
		return errors.New("another mount covers it")
	}
	const flags = unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	return unix.Mount("", byFD(top), "", flags, "")
}

// openBelow opens a path below a folder that goes through no link.
func openBelow(dir int, place string) (int, error) {
	at, err := unix.Dup(dir)
	for name := range strings.SplitSeq(place, "/") {
		if err != nil {
			return -1, err
		}
		var next int
		next, err = unix.Openat(at, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		unix.Close(at)
		at = next
	}
	return at, err
}

// byFD names an open file for mount(2).
func byFD(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// containerRoot finds the container's root from the state that a hook is told
// (runtime-spec, "state") and the bundle that it names.
func containerRoot(state io.Reader) (string, error) {
	var s struct{ Bundle string }
	if err := json.NewDecoder(io.LimitReader(state, maxConfig)).Decode(&s); err != nil {
		return "", fmt.Errorf("reading the container's state: %w", err)
	}
	f, err := os.Open(filepath.Join(s.Bundle, "config.json"))
	if err != nil {
		return "", err
	}
	defer f.Close()
	var config struct{ Root struct{ Path string } }
	if err := json.NewDecoder(io.LimitReader(f, maxConfig)).Decode(&config); err != nil {
		return "", fmt.Errorf("reading %s: %w", f.Name(), err)
	}
	root := config.Root.Path
	if root == "" {
		return "", errors.New("the container has no root")
	}
	if !filepath.IsAbs(root) {
		root = filepath.Join(s.Bundle, root)
	}
	return root, nil
}
