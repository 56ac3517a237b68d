package oci

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/stead-env/stead/runtime"
	"golang.org/x/sys/unix"
)

// ground is the user namespace that this process is in.
type ground int

const (
	machine ground = iota // the machine's own, or that of a container with all of its rights
	mapped                // one with root in it
	alone                 // one with the user's own uid and gid, and none else
)

// standsOn finds out once: it doesn't change any more.
var standsOn = sync.OnceValue(func() ground {
	text, err := os.ReadFile("/proc/self/uid_map")
	rows := strings.Split(strings.TrimSpace(string(text)), "\n")
	first := strings.Fields(rows[0])
	switch {
	case err != nil || len(first) != 3 || first[0] == "0" && first[1] == "0" && first[2] == "4294967295":
		return machine
	case first[0] == "0":
		return mapped
	}
	return alone
})

// checkUser reports why a session can't have its user, where there is nobody but the
// one who runs stead.
func checkUser(spec runtime.Spec) error {
	uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
	root := spec.UID == 0 && spec.GID == 0
	if standsOn() != alone || (root || spec.UID == uid && spec.GID == gid) && len(spec.Groups) == 0 {
		return nil
	}
	return &runtime.Error{Op: "starting " + spec.Name, Code: runtime.CodeEngine,
		Err:    fmt.Errorf("without subordinate ids there is only uid %d, or root, and no further group", uid),
		Remedy: "ask for ranges in /etc/subuid and /etc/subgid"}
}

// checkRights reports whether this process may do what the engine needs.
func checkRights() error {
	var data [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&header, &data[0]); err == nil && data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0 {
		return nil
	}
	return &runtime.Error{Op: "checking the embedded engine", Code: runtime.CodeEngine,
		Err: errors.New("it needs root, or a user namespace"), Remedy: "run as root"}
}
