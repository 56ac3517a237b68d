package runtime

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
)

var (
	// procFiles are those below /proc that every OCI runtime lets be covered, for lxcfs.
	procFiles = []string{"cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo", "stat", "swaps", "uptime"}
	// ownDevices are what every session has in /dev, and engines need there.
	ownDevices = []string{"console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "stderr", "stdin", "stdout",
		"tty", "urandom", "zero"}
)

// coverable reports why nothing can be mounted at a place inside, which is free of
// links. What one engine could do beyond that another can't.
func coverable(target string) error {
	if target == "/" {
		return errors.New("the root itself can't be covered")
	}
	for _, dir := range engineDirs {
		dir = path.Join("/", dir)
		rest, below := under(target, dir)
		switch {
		case !below:
			continue
		case rest == "":
			return fmt.Errorf("a session has its own %s, which can't be covered", dir)
		case dir == "/dev" && !within(rest, ownDevices):
			return nil
		case dir == "/proc" && slices.Contains(procFiles, rest):
			return nil
		case dir == "/sys" && !slices.ContainsFunc(maskedPaths, func(p string) bool { _, in := under(target, p); return in }):
			if _, err := os.Lstat(target); err == nil {
				return nil // nothing can be made in it
			}
		}
		return fmt.Errorf("a session has its own %s, and this can't be covered in it", dir)
	}
	return nil
}

// within reports whether a path is one of those names, or below one that is a folder.
func within(p string, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { _, in := under(p, name); return in })
}
