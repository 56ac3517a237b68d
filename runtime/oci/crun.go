package oci

import (
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// isCrun reports whether an OCI runtime is crun, by its name.
func isCrun(binary string) bool { return strings.HasPrefix(filepath.Base(binary), "crun") }

// shielded is the variable by which crun knows that its own program was made safe from
// what it starts, which could write to it by /proc/self/exe. It believes that only of
// a program on a read-only mount; else it makes one itself and starts anew from it.
const shielded = "_LIBCONTAINER_CLONED_BINARY=1"

// shield makes the program read-only, in the calling thread's mount namespace: to be
// loaded a second time takes crun a quarter of a session's start. It returns what crun is
// told of it.
func shield(binary string) []string {
	if unix.Mount(binary, binary, "", unix.MS_BIND, "") != nil {
		return nil
	}
	if unix.MountSetattr(unix.AT_FDCWD, binary, 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}) != nil {
		return nil // Linux before 5.12
	}
	return []string{shielded}
}
