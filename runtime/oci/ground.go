package oci

import (
	"errors"
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
	mapped                // one with root and other ids
	alone                 // one with the user's own uid and gid only
)

// standsOn finds out once: it doesn't change any more.
var standsOn = sync.OnceValue(func() ground {
	text, err := os.ReadFile("/proc/self/uid_map")
	rows := strings.Split(strings.TrimSpace(string(text)), "\n")
	first := strings.Fields(rows[0])
	switch {
	case err != nil || len(first) != 3 || first[0] == "0" && first[1] == "0" && first[2] == "4294967295":
		return machine
	case first[0] == "0" && (len(rows) > 1 || first[2] != "1"):
		return mapped
	}
	return alone
})

// checkRights reports whether this process may do what the engine needs.
func checkRights() error {
	var data [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if standsOn() == alone {
		return &runtime.Error{Op: "checking the embedded engine", Code: runtime.CodeEngine,
			Err: errors.New("it needs subordinate ids"), Remedy: "ask for ranges in /etc/subuid and /etc/subgid, or run as root"}
	}
	if err := unix.Capget(&header, &data[0]); err == nil && data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0 {
		return nil
	}
	return &runtime.Error{Op: "checking the embedded engine", Code: runtime.CodeEngine,
		Err: errors.New("it needs root, or a user namespace"), Remedy: "run as root"}
}
