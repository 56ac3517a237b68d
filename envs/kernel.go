package envs

import (
	"fmt"
	goruntime "runtime"
	"slices"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/snapshot"
)

// KernelError says why a session can't be shown its target's kernel.
type KernelError struct {
	Release Release
	Text    string
	Remedy  string
}

func (e *KernelError) Error() string {
	return fmt.Sprintf("showing the kernel of %s: %s", e.Release, e.Text)
}

// Hint says how to go on.
func (e *KernelError) Hint() string { return e.Remedy }

// kernel shows the session its target's kernel, where that was asked for.
func (s *sessionPlan) kernel() error {
	if s.Kernel != OfTarget {
		return nil
	}
	host := s.env.Host
	if !native(host.Architecture) {
		return &KernelError{Release: s.env.Release, Text: "this machine runs its programs, for " + host.Architecture +
			", through QEMU, which makes system calls of its own", Remedy: "do without it: --kernel own"}
	}
	known, err := s.env.Header.Kernel()
	if err != nil {
		return fmt.Errorf("%s: %w", s.env.Release, err)
	}
	k := &runtime.Kernel{Release: host.Kernel}
	if known != nil {
		k.Version, k.Syscalls = known.Version, known.SystemCalls
	}
	guessed := len(k.Syscalls) == 0
	if guessed {
		k.Syscalls = snapshot.CallsOfRelease(host.Kernel, host.Architecture)
	}
	if k.Release == "" || len(k.Syscalls) == 0 {
		return &KernelError{Release: s.env.Release, Text: "its snapshot wasn't of a running system, and names no kernel",
			Remedy: "take a new snapshot of the running host, or do without: --kernel own"}
	}
	if guessed {
		s.Progress.Note("kernel", fmt.Sprintf("%s doesn't say what system calls its kernel has: those of the Linux that %s is named "+
			"after are taken, without what its distribution added; a new snapshot of the running host tells", s.env.Release, host.Kernel))
	}
	s.spec.Kernel = k
	return nil
}

// native reports whether this machine's kernel itself runs programs of an architecture, by
// Debian's name. One that isn't known is this machine's: its programs run, or don't.
func native(architecture string) bool {
	with := map[string][]string{"amd64": {"i386"}, "arm64": {"armhf", "armel"}, "arm": {"armhf", "armel"}, "386": {"i386"},
		"ppc64le": {"ppc64el"}}
	return architecture == "" || architecture == goruntime.GOARCH || slices.Contains(with[goruntime.GOARCH], architecture)
}
